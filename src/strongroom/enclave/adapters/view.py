"""The private view of the file system: read-only copies of the roots, two memory-only folders, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from strongroom.enclave.sandbox import MODEL_PATH, SCRATCH_PATH, SandboxError, SandboxProfile
from strongroom.walls.adapters import syscalls

DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
CPU_FACTS: Final = "/sys/devices/system/cpu"
"""Which processors there are: numeric libraries choose their kernels by it. Read-only, and it exists on any host."""
_STAGING: Final = ("/mnt", "/tmp", "/run", "/")  # noqa: S108 - only a place to mount over, in a private namespace
_PROC_COPIES: Final = ("cpuinfo", "meminfo")
MEMORY_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


@contextmanager
def step(name: str, *, remedy: str = "") -> Iterator[None]:
    """Turn a kernel refusal in this block into a :class:`SandboxError` that names the step."""
    try:
        yield
    except OSError as error:
        raise SandboxError(f"the sandbox can't {name}: {error.strerror or error}", remedy=remedy) from None


@dataclass(frozen=True, slots=True)
class ViewFacts:
    """What the kernel granted."""

    swap_excluded: bool
    private_proc: bool


def build_view(profile: SandboxProfile, *, owner: int) -> ViewFacts:
    """Replace the caller's whole file system with the profile's view. ``owner`` owns the memory-only folders.

    The caller is alone in a fresh mount namespace and may mount there.

    :raises SandboxError: a root is missing, or the kernel refuses a step.
    """
    with step("make its mounts private"):
        syscalls.mount("none", "/", kind=None, flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    bound = (*profile.readable_roots, *profile.agent_roots, *DEVICES, CPU_FACTS)
    # Copies are taken first: once the new root is mounted it may hide where a root came from.
    trees = [(path, *_copy(path)) for path in bound if path != CPU_FACTS or Path(path).is_dir()]
    staging = next(path for path in _STAGING if Path(path).is_dir())
    os.umask(0o022)  # the launcher's own may hide the view's folders from the uid that is used inside
    with step("mount its root"):
        syscalls.mount(
            "strongroom", staging, kind="tmpfs", flags=MEMORY_FLAGS, data="size=16m,nr_inodes=4096,mode=0755"
        )
        os.chdir(staging)
    for path, tree, is_folder in trees:
        _attach(path, tree, is_folder=is_folder, executable=_executable(profile, path))
    for name, target in profile.links:
        inner = _inner(name)
        inner.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            inner.symlink_to(target)
    excluded = _memory_folder(MODEL_PATH, size=profile.model_bytes, owner=owner)
    excluded &= _memory_folder(SCRATCH_PATH, size=max(profile.scratch_bytes, 4096), owner=owner)
    private_proc = _own_proc()
    with step("leave the host's file system"):
        syscalls.pivot_root(".", ".")
        syscalls.detach(".")
        os.chdir("/")
    with step("make its root read-only"):
        flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | MEMORY_FLAGS
        syscalls.mount("none", "/", kind=None, flags=flags)
    return ViewFacts(swap_excluded=excluded, private_proc=private_proc)


def close_model_folder() -> None:
    """Make the weights' folder read-only for everybody in the view; what opens it for writing again is given up next.

    :raises SandboxError: the kernel refuses.
    """
    with step("make the weights' folder read-only"):
        syscalls.mount(
            "none",
            MODEL_PATH,
            kind=None,
            flags=syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | MEMORY_FLAGS,
        )


def _inner(path: str) -> Path:
    return Path(PurePosixPath(path).relative_to("/"))


def _executable(profile: SandboxProfile, path: str) -> bool:
    # A readable root that holds an executable one must not be mounted noexec; Landlock draws the finer line.
    return any(
        PurePosixPath(path).is_relative_to(root) or PurePosixPath(root).is_relative_to(path)
        for root in profile.executable_roots
    )


def _copy(path: str) -> tuple[int, bool]:
    with step(f"reach the root `{path}`", remedy="name only folders and files that exist and that you can reach"):
        # A root is what its name says now: a link's target is a root only if it is named itself.
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise SandboxError(f"the root `{path}` is a symbolic link", remedy="name the folder that it points to")
        return syscalls.open_tree(path), stat.S_ISDIR(mode)


def _attach(path: str, tree: int, *, is_folder: bool, executable: bool) -> None:
    inner = _inner(path)
    with step(f"mount the root `{path}`"):
        if is_folder:
            inner.mkdir(parents=True, exist_ok=True)
        else:
            inner.parent.mkdir(parents=True, exist_ok=True)
            inner.touch(mode=0o444)
        syscalls.move_mount(tree, str(inner))
        os.close(tree)
        attributes = syscalls.MOUNT_ATTR_NOSUID
        if path not in DEVICES:
            attributes |= syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NODEV
        if not executable:
            attributes |= syscalls.MOUNT_ATTR_NOEXEC
        syscalls.set_mount_attributes(str(inner), attributes)


def _memory_folder(path: str, *, size: int, owner: int) -> bool:
    inner = _inner(path)
    data = f"size={size},nr_inodes=65536,mode=0700,uid={owner},gid={owner}"
    with step(f"mount the memory-only folder `{path}`"):
        inner.mkdir()
        try:
            syscalls.mount("strongroom", str(inner), kind="tmpfs", flags=MEMORY_FLAGS, data=data + ",noswap")
        except OSError:
            # Before Linux 6.4, and inside a user namespace, pages of a tmpfs can't be kept out of swap.
            # Whether that matters (is there swap?) is a fact about the host; the doctor reports it.
            syscalls.mount("strongroom", str(inner), kind="tmpfs", flags=MEMORY_FLAGS, data=data)
            return False
    return True


def _own_proc() -> bool:
    """Make a /proc that shows processors, memory size and the reader itself, and neither other processes nor settings.

    A whole one would hold /proc/sys and every process inside. Numeric libraries need to see which instructions the
    processors have, so two files are copied, as they stand now, from the host's.
    """
    with step("make its own /proc"):
        Path("proc/pids").mkdir(parents=True)
        for name in _PROC_COPIES:
            Path(f"proc/{name}").write_bytes(Path(f"/proc/{name}").read_bytes())
        for name in ("self", "thread-self"):
            Path(f"proc/{name}").symlink_to(f"pids/{name}")
        try:
            syscalls.mount(
                "strongroom",
                "proc/pids",
                kind="proc",
                flags=MEMORY_FLAGS | syscalls.MS_RDONLY,
                data="subset=pid,hidepid=ptraceable",
            )
        except OSError:
            # Where an outer container masks parts of /proc the kernel refuses a fresh one; then there is none at all.
            return False
    return True
