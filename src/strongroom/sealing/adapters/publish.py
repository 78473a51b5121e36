"""A directory that appears whole or not at all: built under a temporary name, made durable, renamed in one step."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from strongroom.sealing.adapters.files import SYMLINKS_REFUSED, folder, new_file, storage, write_all
from strongroom.sealing.adapters.sinks import FileSink
from strongroom.sealing.errors import DestinationBusyError, DestinationExistsError
from strongroom.sealing.journal import JOURNAL_NAME
from strongroom.sealing.store import MANIFEST_NAME, OBJECTS_NAME

_NOREPLACE: Final = 1
_EXCHANGE: Final = 2


class LocalTarget:
    """A sealed directory being built beside its destination, in ``.NAME.partial``. Made by :func:`local_target`.

    Interrupted at any point, even by a power cut, the destination is what it was before or the whole new directory.
    What is left under the temporary name is there for a later call to go on with, or to clear.
    """

    def __init__(self, destination: Path, fd: int, *, replace: bool) -> None:
        self._destination, self._replace = destination, replace
        self._building = partial_of(destination)
        self.fd = fd

    @contextmanager
    def create(self, name: str, *, size: int | None) -> Iterator[FileSink]:
        """Begin an object in a new file; ``size`` is reserved for it."""
        with storage("sealing", self._destination), new_file(name, within=self.fd) as fd:
            sink = FileSink(fd, size=size)
            try:
                yield sink
            finally:
                sink.close()

    @contextmanager
    def reopen(self, name: str, *, size: int | None) -> Iterator[tuple[FileSink, int]]:
        """Go on with an object; also gives its descriptor.

        :raises FileNotFoundError: it isn't there.
        """
        fd = os.open(name, os.O_RDWR | SYMLINKS_REFUSED, dir_fd=self.fd)
        with storage("sealing", self._destination):
            try:
                sink = FileSink(fd, size=size)
                try:
                    yield sink, fd
                finally:
                    sink.close()
            finally:
                os.close(fd)

    def publish(self, documents: dict[str, bytes]) -> None:
        """Write ``documents``, the manifest last, and give the directory its name.

        :raises DestinationExistsError: something appeared there meanwhile, and it isn't to be replaced.
        """
        with storage("publishing the sealed directory", self._destination):
            for name in sorted(documents, key=lambda name: name == MANIFEST_NAME):
                with new_file(name, within=self.fd) as fd:
                    write_all(fd, memoryview(documents[name]))
            with folder(OBJECTS_NAME, within=self.fd) as objects:
                os.fsync(objects)
            # Only now: a full disk or a kill while the documents are written must not cost what was sealed.
            self.remove(JOURNAL_NAME)
            os.fsync(self.fd)
            _move(self._building, self._destination, replace=self._replace)
            with folder(self._destination.parent) as parent:
                os.fsync(parent)
            self._remove_old()

    def _remove_old(self) -> None:
        """Remove the old version, which an exchange left under the temporary name; not if another builds there."""
        with suppress(OSError), folder(self._building) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self._building, ignore_errors=True)

    def remove(self, *names: str) -> None:
        """Remove files that may be there."""
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.fd)

    def clear(self) -> None:
        """Remove what an earlier call left, and begin anew."""
        with storage("clearing an unfinished directory", self._destination):
            with os.scandir(self.fd) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for name, is_folder in found:
                if is_folder:
                    shutil.rmtree(name, dir_fd=self.fd)
                else:
                    os.unlink(name, dir_fd=self.fd)
            os.mkdir(OBJECTS_NAME, dir_fd=self.fd)

    def discard(self) -> None:
        """Remove the unfinished directory: nobody could go on with it."""
        shutil.rmtree(self._building, ignore_errors=True)


def partial_of(destination: Path) -> Path:
    """Return where the directory is built before it gets its name."""
    return destination.parent / f".{destination.name}.partial"


@contextmanager
def local_target(destination: Path, *, replace: bool) -> Iterator[LocalTarget]:
    """Begin a sealed directory, or go on with one: what is under the temporary name stays until it is cleared.

    :raises DestinationExistsError: ``destination`` is there and ``replace`` is False.
    :raises DestinationBusyError: another process is sealing to the same place, or somebody else began to.
    """
    if not replace and os.path.lexists(destination):
        raise _exists(destination)
    building = partial_of(destination)
    with storage("sealing", destination):
        building.mkdir(mode=0o700, exist_ok=True)
        with folder(building) as fd:
            if os.fstat(fd).st_uid != os.geteuid():
                # Made by somebody else in a shared folder: they could exchange what is built until the last moment.
                raise DestinationBusyError(
                    f"`{building}` belongs to somebody else", remedy="remove it, or choose a folder of your own"
                )
            _lock(fd, building, destination)
            yield LocalTarget(destination, fd, replace=replace)


def _lock(fd: int, building: Path, destination: Path) -> None:
    try:
        # The kernel drops this lock if the process dies.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held the lock before may have published this very folder: what lies there isn't ours to clear.
        ours = os.path.samestat(os.fstat(fd), building.lstat())
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:
        raise DestinationBusyError(
            f"another process is sealing to `{destination}`", remedy="wait for it, or choose another name"
        )


def _exists(destination: Path) -> DestinationExistsError:
    return DestinationExistsError(
        f"`{destination}` is already there", remedy="choose another name, or say that it may be replaced"
    )


def _move(building: Path, destination: Path, *, replace: bool) -> None:
    building.chmod(0o755)
    swap = replace and os.path.lexists(destination)
    failure = _renameat2(building, destination, _EXCHANGE if swap else _NOREPLACE)
    if failure == errno.EEXIST:
        raise _exists(destination)
    if failure in {errno.EINVAL, errno.ENOSYS} and not swap:
        # A file system without the flag (some network ones). rename(2) refuses a directory that isn't empty.
        building.rename(destination)
    elif failure:
        raise OSError(failure, os.strerror(failure))


def _renameat2(old: Path, new: Path, flags: int) -> int:
    """Call renameat2(2), which Python doesn't offer; returns 0 or the error number."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return errno.ENOSYS
    at_cwd = -100
    done = function(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), ctypes.c_uint(flags))
    return 0 if done == 0 else ctypes.get_errno()
