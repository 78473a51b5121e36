"""The kernel calls that Python doesn't wrap, one thin function each. Every failure is an OSError that names the call.

Numbers come from Linux's ``include/uapi`` headers; each constant carries its kernel name.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

from strongroom.walls.syscall_numbers import Machine, number

# for clone(2), unshare(2):
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
# for mount(2):
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 2
# for open_tree(2), move_mount(2), mount_setattr(2):
AT_FDCWD: Final = -100
AT_RECURSIVE: Final = 0x8000
OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
# for prctl(2):
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
PR_SET_MDWE: Final = 65
PR_GET_MDWE: Final = 66
PR_MDWE_REFUSE_EXEC_GAIN: Final = 1
# for capabilities(7):
CAP_SYS_ADMIN: Final = 21
_CAPABILITY_VERSION_3: Final = 0x20080522
# for seccomp(2):
SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_TSYNC: Final = 1
# for mmap(2), madvise(2):
PROT_READ: Final = 1
PROT_WRITE: Final = 2
MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MADV_DONTFORK: Final = 10
MADV_DONTDUMP: Final = 16
MADV_WIPEONFORK: Final = 18

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]


def machine() -> Machine:
    """Return the machine that this kernel runs on.

    :raises UnavailableError: no filter is known for it.
    """
    return Machine.named(platform.machine())


def _check(result: int, name: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def _call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    found = number(machine(), name)
    if found is None:
        raise OSError(38, f"{name}: no such call on this machine")
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(found), *wide)
    return _check(result, name)


def unshare(flags: int) -> None:
    """Move the caller into new namespaces (unshare(2))."""
    _check(_LIBC.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, *, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount or remount (mount(2))."""
    _check(
        _LIBC.mount(
            source.encode(),
            target.encode(),
            None if kind is None else kind.encode(),
            ctypes.c_ulong(flags),
            None if data is None else data.encode(),
        ),
        "mount",
    )


def detach(target: str) -> None:
    """Take a mount out of view at once; it goes when its last user does (umount2(2), MNT_DETACH)."""
    _check(_LIBC.umount2(target.encode(), MNT_DETACH), "umount2")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root of this mount namespace (pivot_root(2))."""
    _call("pivot_root", new_root.encode(), put_old.encode())


def open_tree(path: str) -> int:
    """Return a descriptor of a private copy of the mounts at ``path`` and below (open_tree(2))."""
    return _call("open_tree", AT_FDCWD, path.encode(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)


def move_mount(tree: int, target: str) -> None:
    """Attach the mounts that :func:`open_tree` copied (move_mount(2))."""
    _call("move_mount", tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)


def set_mount_attributes(target: str, attributes: int) -> None:
    """Set ``attributes`` on the mount at ``target`` and on all below it (mount_setattr(2), Linux 5.12)."""
    buffer = ctypes.create_string_buffer(attributes.to_bytes(8, "little") + bytes(24), 32)
    _call("mount_setattr", AT_FDCWD, target.encode(), AT_RECURSIVE, buffer, 32)


def prctl(option: int, second: int = 0, third: int = 0) -> int:
    """Ask for one of the process's own properties to change (prctl(2))."""
    return _check(
        _LIBC.prctl(
            ctypes.c_int(option), ctypes.c_ulong(second), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0)
        ),
        "prctl",
    )


def drop_bounding_set() -> None:
    """Drop every capability from the bounding set, so that no later program can gain one."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_READ, capability)
        except OSError:
            return  # past the last capability that this kernel knows
        prctl(PR_CAPBSET_DROP, capability)


def set_capabilities(*kept: int) -> None:
    """Hold exactly the capabilities ``kept`` (permitted, effective, inheritable), all below number 32."""
    bits = sum(1 << capability for capability in kept)
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4), 8)
    low = bits.to_bytes(4, "little") * 3
    _call("capset", header, ctypes.create_string_buffer(low + bytes(12), 24))


def load_filter(program: bytes) -> None:
    """Install a seccomp filter on every thread of the process (seccomp(2), TSYNC)."""
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    wrapped = Program(len(program) // 8, ctypes.addressof(code))
    found = number(machine(), "seccomp")
    result = _LIBC.syscall(
        ctypes.c_long(found or -1),
        ctypes.c_long(SECCOMP_SET_MODE_FILTER),
        ctypes.c_long(SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.byref(wrapped),
    )
    _check(result, "seccomp")
    if result > 0:
        # TSYNC names the thread that couldn't follow by returning its id.
        raise OSError(11, "seccomp: one thread of the process didn't take the filter")


def memfd_secret() -> int:
    """Return a descriptor of memory that the kernel itself doesn't map (memfd_secret(2), Linux 5.14)."""
    return _call("memfd_secret", os.O_CLOEXEC)


def map_memory(size: int, *, flags: int, descriptor: int = -1, at: int = 0, protection: int = 3) -> int:
    """Map ``size`` bytes, readable and writable unless told otherwise, and return the address (mmap(2))."""
    address = _LIBC.mmap(at or None, size, protection, flags, descriptor, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        _check(-1, "mmap")
    return int(address)


def advise(address: int, size: int, advice: int) -> None:
    """Tell the kernel how mapped memory is to be treated (madvise(2))."""
    _check(_LIBC.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(advice)), "madvise")


def lock_memory(address: int, size: int) -> None:
    """Keep mapped memory out of swap (mlock(2))."""
    _check(_LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)), "mlock")


def landlock_version() -> int:
    """Return the Landlock ABI version (landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION)."""
    return _call("landlock_create_ruleset", None, 0, 1)


def landlock_ruleset(attributes: bytes) -> int:
    """Return a descriptor of a new Landlock ruleset."""
    return _call(
        "landlock_create_ruleset", ctypes.create_string_buffer(attributes, len(attributes)), len(attributes), 0
    )


def landlock_allow_beneath(ruleset: int, *, access: int, directory: int) -> None:
    """Allow ``access`` beneath ``directory`` (a descriptor)."""
    packed = access.to_bytes(8, "little") + directory.to_bytes(4, "little", signed=True)
    _call("landlock_add_rule", ruleset, 1, ctypes.create_string_buffer(packed, 12), 0)


def landlock_enforce(ruleset: int) -> None:
    """Restrict the caller and all that it starts to ``ruleset``, for good."""
    _call("landlock_restrict_self", ruleset, 0)
