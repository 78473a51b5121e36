"""More attempts to get out: system calls one by one, and ways around the view and Landlock.

Runs as the command inside, or outside for comparison, together with those of ``escape_attempts.py``. A *call* is made
with arguments that the kernel itself judges (a bad address, a wrong number), so that it does no harm where it isn't
refused: the filter must answer before the kernel looks at them, with EPERM.
"""

# ruff: noqa: PTH123, PTH208 - attempts use the plainest call there is
from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

if __name__ == "__main__":
    # Started by path inside, where the folder above may not be listed: what stands there is found by its name.
    sys.modules["support"] = ModuleType("support")
    sys.modules["support"].__path__ = [str(Path(__file__).resolve().parent)]

from strongroom.attacks.inside.escape_attempts import FACTS, LIBC, X86, attempt, call, main

BAD = -1
"""No address."""
CALLS: dict[str, tuple[int, int, tuple[object, ...]]] = {
    # name: number on x86-64, number on arm64, arguments
    "accept": (43, 202, (BAD, 0, 0)),
    "acct": (163, 89, (BAD,)),
    "add_key": (248, 217, (BAD, BAD, 0, 0, 0)),
    "bind": (49, 200, (BAD, 0, 0)),
    "chroot": (161, 51, (BAD,)),
    "clock_adjtime": (305, 266, (0, BAD)),
    "clock_settime": (227, 112, (0, BAD)),
    "connect": (42, 203, (BAD, 0, 0)),
    "delete_module": (176, 106, (BAD, 0)),
    "execveat": (322, 281, (BAD, BAD, 0, 0, 0x1000)),
    "fanotify_init": (300, 262, (0xFFFFFFFF, 0)),
    "fsconfig": (431, 431, (BAD, 99, 0, 0, 0)),
    "fsmount": (432, 432, (BAD, 0, 0)),
    "fsopen": (430, 430, (BAD, 0)),
    "fspick": (433, 433, (-100, BAD, 0)),
    "getxattr": (191, 8, (BAD, BAD, 0, 0)),
    "init_module": (175, 105, (0, 0, BAD)),
    "inotify_init1": (294, 26, (0xFFFF,)),
    "io_destroy": (207, 1, (0,)),
    "io_setup": (206, 0, (1, 0)),
    "io_uring_enter": (426, 426, (BAD, 0, 0, 0, 0, 0)),
    "io_uring_register": (427, 427, (BAD, 0, 0, 0)),
    "kcmp": (312, 272, (99999999, 99999999, 99, 0, 0)),
    "kexec_load": (246, 104, (0, 99, BAD, 0)),
    "landlock_create_ruleset": (444, 444, (BAD, 1, 0)),
    "link": (86, -1, (BAD, BAD)),
    "linkat": (265, 37, (-100, BAD, -100, BAD, 0)),
    "listen": (50, 201, (BAD, 0)),
    "listmount": (458, 458, (BAD, 0, 0, 0)),
    "mknodat": (259, 33, (-100, BAD, stat.S_IFCHR | 0o600, 0x101)),
    "mount_setattr": (442, 442, (BAD, 0, 0, 0, 99)),
    "move_mount": (429, 429, (BAD, BAD, BAD, BAD, 0)),
    "mq_open": (240, 180, (BAD, 0, 0, 0)),
    "msgget": (68, 186, (0x5EED, 0)),
    "name_to_handle_at": (303, 264, (-100, BAD, BAD, BAD, 0)),
    "open_tree": (428, 428, (-100, BAD, 1)),
    "openat2": (437, 437, (-100, BAD, BAD, 24)),
    "personality": (135, 92, (0xFFFFFFFF,)),
    "pidfd_open": (434, 434, (BAD, 0)),
    "pidfd_send_signal": (424, 424, (BAD, 0, 0, 0)),
    "pivot_root": (155, 41, (BAD, BAD)),
    "pkey_alloc": (330, 289, (99, 0)),
    "pkey_mprotect": (329, 288, (1, 4096, 7, BAD)),
    "process_madvise": (440, 440, (BAD, 0, 0, 0, 0)),
    "process_mrelease": (448, 448, (BAD, 0)),
    "process_vm_writev": (311, 271, (1, BAD, 1, BAD, 1, 0)),
    "ptrace a thread": (101, 117, (0x4206, 99999999, 0, 0)),
    "quotactl": (179, 60, (BAD, BAD, 0, 0)),
    "reboot": (169, 142, (0, 0, 0, 0)),
    "recvmmsg": (299, 243, (BAD, 0, 0, 0, 0)),
    "remap_file_pages": (216, 234, (1, 0, 0, 0, 0)),
    "request_key": (249, 218, (BAD, BAD, 0, 0)),
    "rt_sigqueueinfo": (129, 138, (99999999, 10, BAD)),
    "sched_setattr": (314, 274, (0, BAD, 0)),
    "sched_setscheduler": (144, 119, (0, 99, BAD)),
    "seccomp": (317, 277, (99, 0, 0)),
    "semget": (64, 190, (0, -5, 0)),
    "sendmmsg": (307, 269, (BAD, 0, 0, 0)),
    "set_mempolicy_home_node": (450, 450, (1, 0, 0, 0)),
    "setdomainname": (171, 162, (BAD, 1)),
    "sethostname": (170, 161, (BAD, 1)),
    "setns": (308, 268, (BAD, 0)),
    "setpriority": (141, 140, (99, 0, 0)),
    "setxattr": (188, 5, (BAD, BAD, 0, 0, 0)),
    "shmat": (30, 196, (BAD, 0, 0)),
    "shmget": (29, 194, (0, 0, 0)),
    "splice": (275, 76, (BAD, 0, BAD, 0, 1, 0)),
    "statmount": (457, 457, (BAD, BAD, 0, 0)),
    "swapoff": (168, 225, (BAD,)),
    "swapon": (167, 224, (BAD, 0)),
    "symlinkat": (266, 36, (BAD, -100, BAD)),
    "syslog": (103, 116, (99, 0, 0)),
    "timer_create": (222, 107, (99, BAD, BAD)),
    "tkill": (200, 130, (99999999, 10)),
    "truncate": (76, 45, (BAD, 0)),
    "umount2": (166, 39, (BAD, 0xFFFF)),
    "utimensat": (280, 88, (-100, BAD, 0, 0xFFFF)),
    "vmsplice": (278, 75, (BAD, 0, 0, 0)),
    # Calls that the list allows, with arguments that it doesn't.
    "clone a process": (56, 220, (0x800, 0, 0, 0, 0)),
    "clone a user namespace": (56, 220, (0x10000000 | 0x00010000, 0, 0, 0, 0)),
    "fcntl F_NOTIFY": (72, 25, (BAD, 1026, 1)),
    "fcntl F_SETLEASE": (72, 25, (BAD, 1024, 0)),
    "fcntl F_SETOWN_EX": (72, 25, (BAD, 15, BAD)),
    "fcntl F_SETSIG": (72, 25, (BAD, 10, 10)),
    "prctl PR_CAP_AMBIENT": (157, 167, (47, 99, 0, 0, 0)),
    "prctl PR_SCHED_CORE": (157, 167, (62, 99, 0, 0, 0)),
    "prctl PR_SET_CHILD_SUBREAPER": (157, 167, (36, 0, 0, 0, 0)),
    "prctl PR_SET_MDWE": (157, 167, (65, 99, 0, 0, 0)),
    "prctl PR_SET_MM": (157, 167, (35, 99, 0, 0, 0)),
    "prctl PR_SET_PDEATHSIG": (157, 167, (1, 9999, 0, 0, 0)),
    "prctl PR_SET_PTRACER": (157, 167, (0x59616D61, 99999999, 0, 0, 0)),
    "prctl PR_SET_SECCOMP": (157, 167, (22, 99, 0, 0, 0)),
    "prctl PR_SET_SPECULATION_CTRL": (157, 167, (53, 99, 0, 0, 0)),
    "prctl PR_SET_SYSCALL_USER_DISPATCH": (157, 167, (59, 99, 0, 0, 0)),
    "socketpair of another family": (53, 199, (2, 1, 0, BAD)),
    # Doors of x86-64 alone.
    "ioperm": (173, -1, (0x60, 1, 1)),
    "iopl": (172, -1, (99,)),
    "modify_ldt": (154, -1, (99, 0, 0)),
    "uselib": (134, -1, (BAD,)),
}
NEEDS_MORE = ("prctl PR_SET_MM",)
"""Refused with EPERM by kernels themselves to a root without all of its capabilities."""
FAMILIES = {"alg": 38, "bluetooth": 31, "inet6": 10, "key": 15, "tipc": 30, "vsock": 40, "xdp": 44}


def _register_call(name: str, x86: int, arm: int, arguments: tuple[object, ...]) -> None:
    def tried() -> object:
        return call(x86, arm, *arguments)

    tried.__name__ = f"call {name}"
    attempt(tried)


def _register_family(name: str, number: int) -> None:
    def tried() -> object:
        with socket.socket(number, socket.SOCK_SEQPACKET if name == "alg" else socket.SOCK_STREAM):
            return "opened"

    tried.__name__ = f"socket {name}"
    attempt(tried)


for _name, (_x86, _arm, _arguments) in CALLS.items():
    if (_x86 if X86 else _arm) >= 0:
        _register_call(_name, _x86, _arm, _arguments)
for _name, _number in FAMILIES.items():
    _register_family(_name, _number)


@attempt
def write_own_code_by_proc() -> object:
    # The kernel writes there past the protection of pages: data would become code without any page that is both.
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(ctypes.cast(LIBC.getpid, ctypes.c_void_p).value or 0)
        code = memory.read(1)
        memory.seek(-1, 1)
        return memory.write(code)


@attempt
def write_own_code_by_thread_entry() -> object:
    with open(f"/proc/self/task/{threading.get_native_id()}/mem", "r+b", buffering=0) as memory:
        return memory.fileno()


@attempt
def change_how_much_a_core_holds() -> object:
    return Path("/proc/self/coredump_filter").write_text("0x7f")


@attempt
def change_who_is_killed_when_memory_ends() -> object:
    return Path("/proc/self/oom_score_adj").write_text("1")


@attempt
def map_more_users() -> object:
    return Path("/proc/self/uid_map").write_text("0 0 1")


@attempt
def learn_physical_addresses() -> object:
    page = mmap.mmap(-1, 4096)
    page.write(b"x")
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // 4096 * 8)
        frame = struct.unpack("<Q", pagemap.read(8))[0] & (1 << 55) - 1
    if not frame:
        raise PermissionError(1, "hidden")
    return frame


@attempt
def read_kernel_addresses() -> object:
    lines = Path("/proc/kallsyms").read_text().splitlines()
    return next(line for line in lines if not line.startswith("0000000000000000"))


@attempt
def press_the_kernels_keys() -> object:
    with open("/proc/sysrq-trigger", "w") as keys:
        return keys.fileno()


@attempt
def list_the_machines_hardware() -> object:
    return os.listdir("/sys/class")


@attempt
def open_a_device() -> object:
    names = ("kmsg", "mem", "kvm", "fuse", "net/tun", "tty", "ptmx", "tpmrm0", "vhost-vsock", "vsock", "userfaultfd")
    opened = []
    for name in names:
        try:
            opened.append(os.open(f"/dev/{name}", os.O_RDWR | os.O_NOCTTY))
        except OSError as error:
            last = error
    if not opened:
        raise last
    return names


@attempt
def use_shared_memory_folder() -> object:
    Path("/dev/shm/escaped").write_text("out")  # noqa: S108 - the point
    Path("/dev/shm/escaped").unlink()  # noqa: S108 - the point
    return "written"


def _scratch(name: str) -> Path:
    return Path(os.environ.get("TMPDIR", FACTS["tmp"]), name)


@attempt
def reach_a_file_through_a_link() -> object:
    link = _scratch("link")
    link.symlink_to("/etc/passwd")
    return len(link.read_bytes())


@attempt
def link_weights_into_scratch() -> object:
    folder = os.environ["STRONGROOM_MODEL"]
    os.link(Path(folder, os.listdir(folder)[0]), _scratch("weights"))
    return "linked"


@attempt
def move_weights_into_scratch() -> object:
    folder = os.environ["STRONGROOM_MODEL"]
    source, target = Path(folder, os.listdir(folder)[0]), _scratch("weights-moved")
    source.rename(target)
    target.rename(source)
    return "moved"


@attempt
def exchange_weights_with_scratch() -> object:
    folder = os.environ["STRONGROOM_MODEL"]
    ours, theirs = str(_scratch("mine")).encode(), str(Path(folder, os.listdir(folder)[0])).encode()
    Path(ours.decode()).write_text("mine")
    call(316, 276, -100, ours, -100, theirs, 2)  # RENAME_EXCHANGE
    call(316, 276, -100, ours, -100, theirs, 2)
    return "exchanged"


@attempt
def reopen_weights_writable() -> object:
    folder = os.environ["STRONGROOM_MODEL"]
    with (
        open(Path(folder, os.listdir(folder)[0]), "rb") as stream,
        open(f"/proc/self/fd/{stream.fileno()}", "r+b") as same,
    ):
        return same.write(b"p")


@attempt
def map_weights_writable() -> object:
    folder = os.environ["STRONGROOM_MODEL"]
    with open(Path(folder, os.listdir(folder)[0]), "r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        return len(mapped)


@attempt
def make_a_nameless_file_beside_weights() -> object:
    return os.open(os.environ["STRONGROOM_MODEL"], os.O_TMPFILE | os.O_RDWR, 0o600)


@attempt
def make_a_pipe_with_a_name() -> object:
    os.mkfifo(_scratch("pipe"))
    return "made"


@attempt
def make_a_program_of_another_user() -> object:
    path = _scratch("program-suid")
    path.write_bytes(b"")
    os.chmod(path, 0o4755)  # noqa: PTH101, S103 - the point
    return "made"


@attempt
def load_a_library_from_scratch() -> object:
    path = _scratch("library.so")
    with open("/proc/self/maps") as lines:
        libc = next(line.split()[-1] for line in lines if "libc.so" in line or "libc-2" in line)
    path.write_bytes(Path(libc).read_bytes())
    try:
        return ctypes.CDLL(str(path))._name
    except OSError as error:  # the loader's own, without a number
        raise PermissionError(1, str(error)) from None


@attempt
def send_to_a_named_socket_by_a_nameless_one() -> object:
    # A pair's end may send to any address that it can name: no socket and no connect is needed for that.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        return ours.sendto(b"out", FACTS["socket"] + "-datagram")


@attempt
def send_to_an_abstract_socket_by_a_nameless_one() -> object:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        return ours.sendto(b"out", "\0" + FACTS["abstract"] + "-datagram")


@attempt
def learn_where_the_parents_locks_are() -> object:
    head, size = ctypes.c_ulong(), ctypes.c_ulong()
    call(274, 100, os.getppid(), ctypes.byref(head), ctypes.byref(size))
    return head.value


@attempt
def queue_a_signal_to_the_parent() -> object:
    information = ctypes.create_string_buffer(struct.pack("<iii", int(signal.SIGCONT), 0, -1), 128)
    return call(129, 138, os.getppid(), int(signal.SIGCONT), information)


# --- signals to whoever looks from outside ----------------------------------------------------------------------------


@attempt
def lock_a_measured_file() -> object:
    # Seen by everybody on the host, and in every other enclave, who may open the same file.
    with open(__file__, "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return "locked"


@attempt
def drop_a_measured_file_from_the_page_cache() -> object:
    with open(__file__, "rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return "dropped"


@attempt
def rename_itself() -> object:
    # Fifteen bytes at a time, for everybody on the host who may list processes.
    return call(157, 167, 15, b"escape_calls", 0, 0, 0)


@attempt
def tie_the_parent_to_a_processor() -> object:
    own = os.sched_getaffinity(os.getppid())
    os.sched_setaffinity(os.getppid(), own)
    return own


# --- what isn't blocked -----------------------------------------------------------------------------------------------
# It succeeds inside, and is in the documents as a way that a budget doesn't count.


OPEN: dict[str, Callable[[], object]] = {}


def known(function: Callable[[], object]) -> Callable[[], object]:
    OPEN[function.__name__] = function
    return attempt(function)


@known
def read_how_busy_the_host_is() -> object:
    return os.getloadavg()


if __name__ == "__main__":
    main()
