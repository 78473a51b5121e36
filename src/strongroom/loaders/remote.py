"""Sealed models in object stores, through fsspec: S3, GCS, Azure, SFTP and whatever else it has a file system for.

A storage is believed in nothing. What it lists, how large it says that something is and what it hands out are checked
here for their form, and by the readers of :mod:`strongroom.sealing` for what they mean. Its errors become ours by kind
and number only: their texts may hold signed addresses or keys.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.extras import MissingExtraError, need
from strongroom.sealing.adapters.local_store import local_store
from strongroom.sealing.errors import NoSpaceError, StorageError
from strongroom.sealing.source import PositionalSource
from strongroom.sealing.store import SealedStore

STRIDE: Final = 8 << 20
"""Bytes in one request: large enough that a store's delay before the first byte doesn't count."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_USER: Final = re.compile(r"://[^/@]*@")

_options: ContextVar[Mapping[str, Any]] = ContextVar("options", default=MappingProxyType({}))


@contextmanager
def use_storage_options(options: Mapping[str, Any]) -> Iterator[None]:
    """Open addresses in the block with these of fsspec's options (endpoint, credentials), in this thread or task."""
    token = _options.set(dict(options))
    try:
        yield
    finally:
        _options.reset(token)


@contextmanager
def remote_store(address: str) -> Iterator[SealedStore]:
    """Reach the sealed model at an address: ``s3://bucket/atlas.sealed``, ``memory://``, ``file://``.

    :raises UsageError: an address that fsspec doesn't know.
    :raises MissingExtraError: fsspec, or its file system for this kind of address, isn't installed.
    :raises StorageError: the storage refused.
    """
    prefix = resolve(address)
    if prefix.is_local:
        # Mapped memory, direct reads and refused links: what files on this machine deserve.
        with local_store(Path(prefix.base)) as local:
            yield local
    else:
        yield RemoteStore(prefix)


def resolve(address: str) -> Prefix:
    """Find the file system for an address, and the folder in it.

    :raises StrongroomError: as :func:`remote_store`.
    """
    core, local = need("fsspec.core", extra="fsspec"), need("fsspec.implementations.local", extra="fsspec")
    scheme = ascii(address.partition("://")[0][:40])[1:-1]
    try:
        fs, path = core.url_to_fs(address, **_options.get())
        prefix = Prefix(fs, str(path).rstrip("/"), is_local=isinstance(fs, local.LocalFileSystem))
    except ImportError as error:
        raise MissingExtraError(
            f"fsspec's file system for `{scheme}://` can't be imported: {type(error).__name__}",
            remedy="install what fsspec asks for: s3fs, gcsfs, adlfs and so on",
        ) from None
    except Exception as error:  # noqa: BLE001 - any file system's own
        # Its text may repeat the whole address, with a password in it.
        raise UsageError(
            f"fsspec can't use this `{scheme}://` address or its options: {type(error).__name__}"
        ) from None
    if not prefix.base:
        raise UsageError("the address names a whole storage, and no folder in it")
    return prefix


class Prefix:
    """A folder in some storage: fsspec's calls with their answers checked and their errors turned into ours."""

    def __init__(self, fs: Any, base: str, *, is_local: bool = False) -> None:
        self.fs, self.base, self.is_local = fs, base, is_local
        self.place = ascii(_USER.sub("://", str(fs.unstrip_protocol(base))).partition("?")[0][:200])[1:-1]
        # What runs on an event loop may be called from any thread; of the others nobody knows.
        self._turn: AbstractContextManager[Any] = (
            nullcontext() if getattr(fs, "async_impl", False) else threading.RLock()
        )

    def path(self, name: str) -> str:
        """Return fsspec's path of a file in the folder."""
        return f"{self.base}/{name}"

    @contextmanager
    def asking(self, doing: str, *, may_miss: bool = False) -> Iterator[None]:
        """Turn errors into ours while ``doing`` something. Only calls to the storage belong into the block.

        :raises FileNotFoundError: it isn't there, and ``may_miss``.
        :raises NoSpaceError: full, or over quota.
        :raises StorageError: any other refusal.
        """
        try:
            with self._turn:
                yield
        except StrongroomError:
            raise
        except Exception as error:  # noqa: BLE001 - each storage library has errors of its own, many without a root
            if may_miss and isinstance(error, FileNotFoundError):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
            self._refused(doing, error)

    def _refused(self, doing: str, error: Exception) -> NoReturn:
        number = error.errno if isinstance(error, OSError) else None
        why = os.strerror(number) if isinstance(number, int) else type(error).__name__
        if number in _FULL:
            raise NoSpaceError(f"no room while {doing}: {why}", remedy=f"make room at `{self.place}`") from None
        raise StorageError(
            f"the storage refused while {doing}: {why}", remedy=f"look at `{self.place}`, and who may use it"
        ) from None

    def sizes(self) -> dict[str, int | None]:
        """Return the names of all files below, and how large the storage says that they are.

        :raises StorageError: it refused, or listed what can't lie there.
        """
        with self.asking("listing"):
            # Others' changes must show: what fsspec remembers may be as old as the process.
            self.fs.invalidate_cache()
            try:
                found = self.fs.find(self.base, detail=True)
            except FileNotFoundError:
                found = {}
            return {self._name(key): _size(info) for key, info in found.items() if not _is_marker(key, info)}

    def _name(self, entry: object) -> str:
        below = f"{self.base}/"
        if isinstance(entry, str) and entry.startswith(below):
            name = entry[len(below) :]
            if not {"", ".", ".."} & set(name.split("/")):
                return name
        raise StorageError(
            "the storage listed a name that can't lie in the folder that was listed",
            remedy=f"look at what serves `{self.place}`",
        )

    def size(self, name: str) -> int:
        """Return how many bytes the storage says that a file has.

        :raises FileNotFoundError: it isn't there.
        :raises StorageError: it refused, or doesn't say.
        """
        with self.asking("asking for a size", may_miss=True):
            info = self.fs.info(self.path(name))
            if _is_folder(info):
                raise FileNotFoundError
            size = _size(info)
        if size is None:
            raise StorageError(f"the storage doesn't say how large `{ascii(name)[1:-1]}` is", remedy="use another one")
        return size

    def get(self, name: str, start: int, end: int) -> bytes:
        """Return a range, or less at the end.

        :raises FileNotFoundError: it isn't there.
        :raises StorageError: it refused, or gave something else than a range.
        """
        with self.asking("reading", may_miss=True):
            data = self.fs.cat_file(self.path(name), start=start, end=end)
        if not isinstance(data, bytes) or len(data) > end - start:
            raise StorageError(
                "the storage gave more than the range that was asked for", remedy="it must serve ranges: use another"
            )
        return data

    def put(self, name: str, data: bytes) -> None:
        """Write a small file."""
        with self.asking("writing"):
            self.make_folder(name)
            self.fs.pipe_file(self.path(name), data)

    def put_new(self, name: str, data: bytes) -> None:
        """Write a small file that mustn't be there, in one step where the storage can.

        :raises FileExistsError: it is there.
        """
        with suppress(StorageError):
            with self.asking("writing"), suppress(FileExistsError):
                self.make_folder(name)
                self.fs.pipe_file(self.path(name), data, mode="create")
                return
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        # Not every storage has conditional writes, or says why one failed.
        if name in self.sizes():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.put(name, data)

    def make_folder(self, name: str) -> None:
        """Make the folder that ``name`` lies in, where folders are more than a part of names."""
        if not getattr(self.fs, "async_impl", False):
            # Those on an event loop are object stores, where this could make a bucket out of a mistyped name.
            self.fs.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files that are there."""
        paths = [self.path(name) for name in names]
        if paths:
            with self.asking("deleting"):
                self.fs.rm(paths)


def _is_folder(info: object) -> bool:
    return isinstance(info, Mapping) and info.get("type") == "directory"


def _is_marker(key: object, info: object) -> bool:
    # Consoles of object stores make empty objects that end with a slash and stand for a folder.
    return _is_folder(info) or (isinstance(key, str) and key.endswith("/") and _size(info) == 0)


def _size(info: object) -> int | None:
    size = info.get("size") if isinstance(info, Mapping) else None
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None


class RemoteStore:
    """A sealed model in a storage. Made by :func:`remote_store`."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self._listed: dict[str, int | None] = {}

    @property
    def place(self) -> str:
        """Its address, without a user's name, password or signature."""
        return self._prefix.place

    def names(self) -> set[str]:
        """Return the names of all files."""
        self._listed = self._prefix.sizes()
        return set(self._listed)

    def document(self, name: str, *, most: int) -> bytes:
        """Return a small file, cut off after ``most`` bytes."""
        return self._prefix.get(name, 0, most)

    @contextmanager
    def source(self, name: str) -> Iterator[PositionalSource]:
        """Open an object; its pieces are copies."""
        listed = self._listed.get(name)
        yield RemoteSource(self._prefix, name, self._prefix.size(name) if listed is None else listed)

    shared_source = source


class RemoteSource:
    """One object, read by ranges. Threads share one."""

    stride = STRIDE
    depth = 8

    def __init__(self, prefix: Prefix, name: str, size: int) -> None:
        self._prefix, self._name, self.size = prefix, name, size

    def piece(self, offset: int, length: int) -> memoryview:
        """Fetch a range.

        :raises StorageError: the storage refused, or the object vanished.
        """
        end = min(offset + length, self.size)
        if end <= offset:
            return memoryview(b"")
        try:
            return memoryview(self._prefix.get(self._name, offset, end))
        except FileNotFoundError:
            raise StorageError(
                f"`{self._name}` vanished while it was read", remedy="open the model again: a new version replaced it"
            ) from None
