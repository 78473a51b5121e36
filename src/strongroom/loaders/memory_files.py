"""Files in memory for programs that open paths only (llama.cpp and others): no disk, gone with the process.

Each is an anonymous memory file (memfd_create) that is sealed against change, reached as ``/proc/self/fd/N`` by this
process and by children that inherit it. What to know before using it: processes of the same user can read it through
``/proc``, as they can read this process's memory; an enclave's own confinement is what keeps them out.

Libraries that want a folder get :func:`memory_folder`, links to such files under the files' own names, to read from;
and :func:`memory_scratch`, a private folder on a file system in memory, to write into.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

from strongroom.core.errors import UnavailableError
from strongroom.sealing.adapters.directory import write_file
from strongroom.sealing.model import OpenedModel

_FROZEN: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@contextmanager
def memory_files(model: OpenedModel, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Open files of ``model`` into memory, each checked whole; gives their paths by name, good until the block ends.

    :raises StrongroomError: a file isn't there, or isn't what was sealed.
    """
    with ExitStack() as open_files:
        paths = {}
        for name in names:
            # The file's own name stays out of /proc.
            fd = os.memfd_create("weights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            open_files.callback(os.close, fd)
            write_file(model, name, fd)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _FROZEN)
            paths[name] = Path(f"/proc/self/fd/{fd}")
        yield paths


class HasMemoryFiles(Protocol):
    """What gives a sealed model's files as files in memory (:class:`~strongroom.loaders.opening.SealedModel`)."""

    def memory_files(self, names: Sequence[str]) -> AbstractContextManager[dict[str, Path]]:
        """Give the paths of files in memory, by name."""
        ...


@contextmanager
def memory_folder(model: HasMemoryFiles, names: Sequence[str], *, under: str = "") -> Iterator[Path]:
    """Give a folder that holds ``names``, each under its name without the leading ``under``; good until the block ends.

    The folder is private to this user, and holds links to ``/proc/PID/fd/N`` of memory files, so that children find
    them too while this process lives. Where no file system in memory is to be had, the links, and so the names, lie
    on disk; content never does. A process that is killed leaves the links behind, and they lead nowhere.

    :raises StrongroomError: a file isn't there, or isn't what was sealed.
    """
    prefix = f"{under.strip('/')}/" if under.strip("/") else ""
    with _private_folder(_in_memory()) as folder, model.memory_files(names) as files:
        for name, path in files.items():
            link = folder / name.removeprefix(prefix)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/proc/{os.getpid()}/fd/{path.name}")
        yield folder


@contextmanager
def memory_scratch() -> Iterator[Path]:
    """Give an empty folder, private to this user, on a file system in memory; it is removed when the block ends.

    Unlike a memory file, what is in it outlasts a process that is killed, until the machine is switched off; so
    weights don't belong here. As all memory that isn't locked, it can be swapped.

    :raises UnavailableError: there is no file system in memory that this user can write to.
    """
    base = _in_memory()
    if base is None:
        raise UnavailableError(
            "there is no file system in memory to write to", remedy="mount a tmpfs at /dev/shm, or at XDG_RUNTIME_DIR"
        )
    with _private_folder(base) as folder:
        yield folder


@contextmanager
def _private_folder(base: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="strongroom-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _in_memory() -> Path | None:
    kinds = _mounted_kinds()
    for candidate in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"):  # noqa: S108 - a private folder is made in it
        try:
            device = Path(candidate).stat().st_dev
        except OSError:
            continue
        # What its file system says counts, not where it lies: a container may have put a disk there.
        if kinds.get((os.major(device), os.minor(device))) == "tmpfs" and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    return None


def _mounted_kinds() -> dict[tuple[int, int], str]:
    """Return the kinds of the file systems that are mounted, by device (proc(5), ``/proc/PID/mountinfo``)."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        mount, _, system = line.partition(" - ")
        major, minor = mount.split(" ")[2].split(":")
        found[int(major), int(minor)] = system.split(" ")[0]
    return found
