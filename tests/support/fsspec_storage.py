"""A storage in memory, for fsspec ``storage://``, that counts what is read and does as a test tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strongroom.core.extras import need
from strongroom.loaders import seal_to
from support.sealed import content
from support.sealed_access import publishing

fsspec: Any = need("fsspec", extra="fsspec")
_memory: Any = need("fsspec.implementations.memory", extra="fsspec")

BIG = content((5 << 20) + 4321)
FILES = {"config.json": b'{"a": 1}', "empty": b"", "encoder/weights.bin": BIG}
PLACE = "storage://bucket/atlas.sealed"
BASE = "/bucket/atlas.sealed"
SECRET = "AKIA-SECRET-IN-MESSAGE"


class Storage(_memory.MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A storage in memory that counts what is read, and does what a test tells it."""

    protocol = "storage"
    store: dict[str, Any] = {}  # noqa: RUF012 - as its parent's
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    read: list[tuple[str, int]] = []  # noqa: RUF012
    calls: list[tuple[str, str]] = []  # noqa: RUF012
    fail: dict[str, Exception] = {}  # noqa: RUF012
    lies: dict[str, Any] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        found: str = super()._strip_protocol(str(path).removeprefix("storage:/"))
        return found

    def _told(self, doing: str, path: str) -> None:
        self.calls.append((doing, path.removeprefix(f"{BASE}/")))
        for key, error in self.fail.items():
            if key == doing or path.endswith(key):
                raise error

    def find(self, path: str, **options: Any) -> Any:
        self._told("find", path)
        return self.lies.get("find", super().find(path, **options))

    def info(self, path: str, **options: Any) -> Any:
        return self.lies.get("info", super().info(path, **options))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self._told("read", path)
        data: bytes = super().cat_file(path, start, end, **options)
        data = self.lies.get("read", lambda found: found)(data)
        self.read.append((path, len(data)))
        return data

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._told("write", path)
        super().pipe_file(path, value, mode=mode, **options)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "w" in mode and "data" not in options:
            self._told("upload", path)
        return super()._open(path, mode, **options)

    def _rm(self, path: str) -> None:
        self._told("delete", path)
        super()._rm(path)


@contextmanager
def empty_storage() -> Iterator[Any]:
    """Give the storage, empty and obedient; it's emptied again."""
    fsspec.register_implementation("storage", Storage, clobber=True)
    kept = (Storage.store, Storage.read, Storage.calls, Storage.fail, Storage.lies)
    try:
        for each in kept:
            each.clear()
        Storage.pseudo_dirs[:] = [""]
        Storage.clear_instance_cache()
        yield fsspec.filesystem("storage")
    finally:
        for each in kept:
            each.clear()


def seal(root: Path, place: str = PLACE, *, replace: bool = False, files: dict[str, bytes] = FILES) -> str:
    with seal_to(place, publishing(root), replace=replace) as output:
        for name, data in files.items():
            output.write(name, data)
    return place


def names(storage: Any) -> set[str]:
    return {name.removeprefix(f"{BASE}/") for name in storage.store}
