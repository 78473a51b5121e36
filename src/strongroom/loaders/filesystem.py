"""fsspec's view of a sealed model: a file system, ``sealed``, of its plaintext files, whatever storage it lies in.

    fsspec.open("sealed://config.json::s3://bucket/atlas.sealed")        # chained
    fsspec.open("sealed:///models/atlas.sealed/config.json")             # a path on this machine

Reading decrypts the segments that a read touches. Writing makes a new model, in a transaction that publishes it whole:

    files = SealedFileSystem("s3://bucket/atlas.sealed", publishing=...)
    with files.transaction:
        files.pipe_file("config.json", b"{}")
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from os import PathLike
from typing import Any, Final, Self, TypeVar

from strongroom.core.errors import UsageError
from strongroom.core.extras import need
from strongroom.loaders.access import Access
from strongroom.loaders.file_objects import Held, RawReader, SealedReader, SealedWriter, fail
from strongroom.loaders.opening import SealedModel, open_sealed, split
from strongroom.loaders.remote import use_storage_options
from strongroom.loaders.saving import Publishing, SealedOutput, seal_to
from strongroom.sealing.errors import IncompleteSealError, StorageError, UnfinishedFileError
from strongroom.sealing.index import SealedFile
from strongroom.sealing.plan import Part

PROTOCOL: Final = "sealed"
_T = TypeVar("_T")
_BUFFER: Final = 1 << 20
"""A segment: smaller reads would decrypt it again and again."""

_spec: Any = need("fsspec.spec", extra="fsspec")
_transaction: Any = need("fsspec.transaction", extra="fsspec")


class NoTransactionError(UsageError):
    """A file was to be written outside of a transaction: half a model would become visible."""

    code = "no-transaction"


class SealedTransaction(_transaction.Transaction):  # type: ignore[misc] # fsspec has no types
    """What is written from its beginning to its end becomes one new sealed model, or nothing does."""

    fs: Any

    def __init__(self, fs: SealedFileSystem, **options: Any) -> None:
        super().__init__(fs, **options)
        self._stack = ExitStack()
        self._place: str | None = None
        self._output: SealedOutput | None = None
        self._writers: list[SealedWriter] = []
        self._lock = threading.Lock()

    def create(self, place: str, name: str, publishing: Publishing, *, replace: bool) -> SealedWriter:
        """Begin a file.

        :raises UsageError: of another model than the files before it.
        :raises StrongroomError: what :func:`~strongroom.loaders.saving.seal_to` refuses.
        """
        with self._lock:
            if self._output is None:
                self._output = self._stack.enter_context(seal_to(place, publishing, replace=replace))
                self._place = place
            if place != self._place:
                raise UsageError("one transaction writes one sealed model", remedy="begin another transaction")
            writer = SealedWriter(self._output, name)
            self._writers.append(writer)
            return writer

    def complete(self, commit: bool = True) -> None:  # noqa: FBT001, FBT002 - fsspec's signature
        """Publish the model, or let go of it.

        :raises UnfinishedFileError: a file failed or is still open; nothing was published.
        :raises StrongroomError: publishing failed; nothing was published.
        """
        fs, stack, writers = self.fs, self._stack, self._writers
        # Also when it fails: a transaction that stays in force would take up what is written later.
        fs._intrans, fs._transaction, self.fs = False, None, None  # noqa: SLF001 - as fsspec's own class does
        self.files.clear()
        unfinished = [writer for writer in writers if not writer.finished]
        self._stack, self._writers, self._output, self._place = ExitStack(), [], None, None
        if commit and not unfinished:
            stack.close()
            fs.invalidate_cache()
            return
        for writer in unfinished:
            writer.abandon()
        fail(stack)
        if commit:
            raise UnfinishedFileError(
                f"{len(unfinished)} files of the transaction failed or are still open; nothing was published",
                remedy="close each file before the transaction ends, and write the model again",
            )


class SealedFileSystem(_spec.AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """The plaintext files of sealed models. ``fo`` is one model's path or address; without it, paths say which one.

    ``target_protocol`` and ``target_options`` say how to reach it, as for fsspec's archives. ``access`` says how to
    open it, else the keyring does that is in force where this is made. To write, give ``publishing``, and ``replace``
    if a model may be there. Files are never written in place: only :attr:`transaction` writes, and makes a new model.

    Opened at the first use, and checked then: manifest, listing, headers and index. It isn't cached between calls as
    other file systems are: who has another keyring gets another file system. What keeps copies of files (``get``,
    fsspec's ``simplecache`` and ``filecache``) would keep plaintext: use it in memory only.
    """

    protocol = PROTOCOL
    cachable = False
    root_marker = ""
    transaction_type = SealedTransaction

    def __init__(
        self,
        fo: str | PathLike[str] | None = None,
        *,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        access: Access | None = None,
        publishing: Publishing | None = None,
        replace: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._place = None if fo is None else _address(str(fo), target_protocol)
        self._target_options = target_options
        # What is in force here and now counts at the first use too, in whichever thread that is.
        self._context = copy_context()
        self._access, self._publishing, self._replace = access, publishing, replace
        self._lock = threading.Lock()
        self._open_models: dict[str, Held] = {}

    def _located(self, path: str) -> tuple[str, str, str]:
        """Return which model is meant, what its files' paths begin with here, and the name in it."""
        path = self._strip_protocol(path)
        if self._place is not None:
            return self._place, "", path.strip("/")
        place, name = split(path)
        return place, f"{place}/", name

    def _run(self, function: Callable[[], _T]) -> _T:
        def with_options() -> _T:
            if self._target_options is None:
                return function()
            with use_storage_options(self._target_options):
                return function()

        return self._context.copy().run(with_options)

    def _held(self, place: str) -> Held:
        with self._lock:
            if place not in self._open_models:
                self._open_models[place] = self._run(lambda: Held(_opened(place, self._access)))
            return self._open_models[place]

    def _file(self, path: str) -> tuple[Held, SealedFile]:
        place, _, name = self._located(path)
        held = self._held(place)
        if name not in held.files:
            raise IsADirectoryError(path) if name in held.folders else FileNotFoundError(path)
        return held, held.files[name]

    def invalidate_cache(self, path: str | None = None) -> None:
        """Open models again at their next use; files that are open keep theirs."""
        with self._lock:
            self._open_models.clear()
        super().invalidate_cache(path)

    close = invalidate_cache

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Return a file's or folder's name, type and size.

        :raises FileNotFoundError: it isn't there.
        :raises StrongroomError: the model can't be opened.
        """
        place, begin, name = self._located(path)
        return _entry(self._held(place), begin, name, path)

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:  # noqa: FBT001, FBT002 - fsspec's
        """List a folder.

        :raises FileNotFoundError: it isn't there.
        """
        place, begin, name = self._located(path)
        held = self._held(place)
        found = [_entry(held, begin, name, path)]
        if found[0]["type"] == "directory":
            below = f"{name}/" if name else ""
            names = sorted(
                each
                for each in (*held.files, *held.folders)
                if each and each.startswith(below) and "/" not in each[len(below) :]
            )
            found = [_entry(held, begin, each, path) for each in names]
        return found if detail else [each["name"] for each in found]

    def exists(self, path: str, **_options: Any) -> bool:
        """Tell whether a file or folder is there. A model that can't be opened is an error, and not its absence."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def isfile(self, path: str) -> bool:
        """Tell whether it's a file."""
        return self.exists(path) and bool(self.info(path)["type"] == "file")

    def isdir(self, path: str) -> bool:
        """Tell whether it's a folder."""
        return self.exists(path) and bool(self.info(path)["type"] == "directory")

    def ukey(self, path: str) -> str:
        """Return what differs between two versions of a file."""
        held, file = self._file(path)
        return f"{held.model.manifest.digest}/{file.object_id.hex()}"

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,  # noqa: FBT001, FBT002 - fsspec's signature
        **_options: Any,
    ) -> SealedReader | SealedWriter:
        if mode == "rb":
            held, file = self._file(path)
            size = block_size if isinstance(block_size, int) and block_size > 0 else _BUFFER
            return SealedReader(self, path, RawReader(held, file), size)
        if mode not in {"wb", "xb"}:
            raise UsageError("a sealed file is read, or written anew: it isn't changed", reason="sealed-file-mode")
        if autocommit or not self._intrans:
            raise NoTransactionError(
                "a file of a sealed model is written in a transaction only: half a model must never be visible",
                remedy="with filesystem.transaction: ..., or strongroom.loaders.seal_to",
            )
        if self._publishing is None:
            raise UsageError("it isn't said as what and for whom to seal", remedy="SealedFileSystem(publishing=...)")
        place, _, name = self._located(path)
        publishing, transaction = self._publishing, self.transaction
        writer: SealedWriter = self._run(lambda: transaction.create(place, name, publishing, replace=self._replace))
        return writer

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        """Return a file, or a range of it; negative positions count from the end.

        :raises FileNotFoundError: it isn't there.
        :raises StrongroomError: it isn't what was sealed.
        """
        held, file = self._file(path)
        begin, stop, _ = slice(start, end).indices(file.size)
        buffer = bytearray(max(0, stop - begin))
        held.model.read_parts(file.name, [Part(begin, memoryview(buffer))])
        return bytes(buffer)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,  # noqa: ARG002 - fsspec's signature; neighbours are fetched together anyhow
        on_error: str = "return",
        **_options: Any,
    ) -> list[Any]:
        """Return many ranges; each segment that they touch is read once.

        :raises ValueError: not as many starts and ends as paths.
        :raises StrongroomError: ``on_error`` is "raise", and something isn't there or isn't what was sealed.
        """
        starts, ends = (each if isinstance(each, list) else [each] * len(paths) for each in (starts, ends))
        found: list[Any] = [b""] * len(paths)
        wanted: dict[str, list[int]] = {}
        for at, (path, _start, _end) in enumerate(zip(paths, starts, ends, strict=True)):
            wanted.setdefault(path, []).append(at)
        for path, places in wanted.items():
            try:
                held, file = self._file(path)
                ranges = [slice(starts[at], ends[at]).indices(file.size) for at in places]
                buffers = [bytearray(max(0, stop - begin)) for begin, stop, _ in ranges]
                parts = [Part(one[0], memoryview(buffer)) for one, buffer in zip(ranges, buffers, strict=True)]
                held.model.read_parts(file.name, parts)
                results: list[Any] = [bytes(buffer) for buffer in buffers]
            except Exception as error:
                if on_error == "raise":
                    raise
                results = [error] * len(places)
            for at, result in zip(places, results, strict=True):
                found[at] = result
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _opened(place: str, access: Access | None) -> SealedModel:
    try:
        return open_sealed(place, access=access)
    except IncompleteSealError:
        raise FileNotFoundError(place) from None
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise FileNotFoundError(place) from None
        raise


def _address(target: str, protocol: str | None) -> str:
    if protocol is None or protocol in {"file", "local"} or "://" in target:
        return target
    return f"{protocol}://{target}"


def _entry(held: Held, begin: str, name: str, path: str) -> dict[str, Any]:
    if name in held.files:
        file = held.files[name]
        mode = stat.S_IFREG | file.mode
        return {"name": begin + name, "type": "file", "size": file.size, "mode": mode}
    if name in held.folders:
        return {"name": (begin + name).rstrip("/"), "type": "directory", "size": 0}
    raise FileNotFoundError(path)
