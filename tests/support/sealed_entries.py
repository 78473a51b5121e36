"""Every way into a sealed model's plaintext, for tests that say: by none of them does a wrong byte come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from strongroom.sealing.adapters.directory import write_file
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.plan import Part
from strongroom.sealing.source import BytesSource, PositionalSource

_STEP = 50_021


def _chunks(model: OpenedModel, name: str) -> bytes:
    return b"".join(map(bytes, model.chunks(name)))


def _ranges(model: OpenedModel, name: str) -> bytes:
    reader = model.reader(name)
    buffer = bytearray(reader.plain_size)
    view = memoryview(buffer)
    for begin in range(0, len(buffer), _STEP):
        reader.read_into(begin, view[begin : begin + _STEP])
    return bytes(buffer)


def _whole(model: OpenedModel, name: str) -> bytes:
    buffer = bytearray(model.file(name).size)
    half = len(buffer) // 2
    view = memoryview(buffer)
    try:
        model.read_parts_of_whole(name, [Part(half, view[half:]), Part(0, view[:half])])
    except BaseException:
        assert not any(buffer), "a failed read left plaintext behind"
        raise
    return bytes(buffer)


def _memory_file(model: OpenedModel, name: str) -> bytes:
    fd = os.memfd_create("plain")
    try:
        try:
            write_file(model, name, fd)
        except BaseException:
            assert os.fstat(fd).st_size == 0, "a failed write left plaintext behind"
            raise
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


WAYS: dict[str, Callable[[OpenedModel, str], bytes]] = {
    "chunks": _chunks,
    "ranges": _ranges,
    "whole": _whole,
    "memory file": _memory_file,
}
WHOLE_WAYS = [way for way in WAYS if way != "ranges"]
"""Those that do step 9; a reader of ranges trusts every holder of the data key."""


class MemoryStore:
    """A sealed model in a dictionary, which a test changes as a hostile storage would."""

    place = "memory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def names(self) -> set[str]:
        return set(self.files)

    def _get(self, name: str) -> bytes:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def document(self, name: str, *, most: int) -> bytes:
        return self._get(name)[:most]

    @contextmanager
    def source(self, name: str) -> Iterator[PositionalSource]:
        yield BytesSource(self._get(name))

    @contextmanager
    def shared_source(self, name: str) -> Iterator[PositionalSource]:
        yield BytesSource(self._get(name))


class MemoryTarget:
    """A sealed model being written to a dictionary; ``files`` is filled when it is published."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._objects: dict[str, bytearray] = {}

    @contextmanager
    def create(self, name: str, *, size: int | None) -> Iterator[MemorySink]:
        sink = MemorySink(size)
        yield sink
        self._objects[name] = sink.data

    def publish(self, documents: dict[str, bytes]) -> None:
        self.files = {name: bytes(data) for name, data in self._objects.items()} | documents


class MemorySink:
    """One object of a :class:`MemoryTarget`."""

    def __init__(self, size: int | None) -> None:
        self.data = bytearray(size or 0)

    def put(self, offset: int, data: memoryview) -> None:
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data

    def finish(self, size: int) -> None:
        assert len(self.data) == size
