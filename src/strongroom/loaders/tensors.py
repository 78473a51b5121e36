"""Tensors of a sealed safetensors file, as bytes in memory: what the torch, numpy and jax loaders share."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from strongroom.core.safetensors_header import (
    LENGTH_BYTES,
    SafetensorsHeader,
    TensorEntry,
    header_length,
    make_header,
    parse_header,
)
from strongroom.loaders.access import Access, Checking
from strongroom.loaders.opening import SealedModel, open_file
from strongroom.loaders.saving import Publishing, SealedOutput, seal_to
from strongroom.sealing.adapters.memory import plaintext_buffer
from strongroom.sealing.plan import Part

_FIRST: Final = 64 << 10


@contextmanager
def many_objects() -> Iterator[None]:
    """Make very many objects without the cyclic garbage collector looking through all of them again and again.

    None of them is part of a cycle. With 16,384 tensors it costs more than decrypting them. Threads that do this at the
    same time may find it on again early; then they are slower, and nothing else.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class RawTensor(NamedTuple):
    """One tensor's type (safetensors' name for it), shape and bytes, flat."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class TensorFile:
    """A safetensors file in an open sealed model: its header is read and checked, its tensors come when asked for."""

    def __init__(self, model: SealedModel, name: str) -> None:
        self._model, self._name = model, name
        self.size = model.file(name).size
        self._text: memoryview | None = None
        with many_objects():
            self.header = self._read_header()

    def _read_header(self) -> SafetensorsHeader:
        if self._model.checking is Checking.WHOLE:
            # Nothing of the file is believed before all of it was checked, so all of it is read once, here.
            self._text = self._model.read_buffer(self._name)
            length = header_length(self._text, file_size=self.size)
            return parse_header(self._text[LENGTH_BYTES : LENGTH_BYTES + length], file_size=self.size)
        first = self._model.read_range(self._name, 0, min(_FIRST, self.size))
        length = header_length(first, file_size=self.size)
        text = first[LENGTH_BYTES : LENGTH_BYTES + length]
        if len(text) < length:
            text = self._model.read_range(self._name, LENGTH_BYTES, length)
        return parse_header(text, file_size=self.size)

    def read_parts(self, parts: list[tuple[TensorEntry, int, memoryview]]) -> None:
        """Fill buffers: (tensor, bytes to skip in it, buffer) each."""
        start = self.header.data_start
        if self._text is not None:
            for entry, skip, buffer in parts:
                begin = start + entry.begin + skip
                buffer[:] = self._text[begin : begin + len(buffer)]
            return
        self._model.read_parts(self._name, [Part(start + entry.begin + skip, buffer) for entry, skip, buffer in parts])

    def tensor(self, name: str) -> RawTensor:
        """Read one tensor into memory of its own."""
        entry = self.header.tensors[name]
        buffer = plaintext_buffer(entry.size)
        self.read_parts([(entry, 0, buffer)])
        return RawTensor(entry.dtype, entry.shape, buffer)

    def rows(self, name: str, begin: int, end: int) -> RawTensor:
        """Read rows ``begin`` to ``end`` of a tensor (of its first dimension): only the segments that hold them."""
        entry = self.header.tensors[name]
        row = entry.size // entry.shape[0] if entry.shape[0] else 0
        buffer = plaintext_buffer((end - begin) * row)
        self.read_parts([(entry, begin * row, buffer)])
        return RawTensor(entry.dtype, (end - begin, *entry.shape[1:]), buffer)

    def all(self) -> dict[str, RawTensor]:
        """Read all tensors into one stretch of memory, which lives as long as any of them."""
        start = self.header.data_start
        if self._text is not None:
            data = self._text[start:]
        else:
            data = plaintext_buffer(self.size - start)
            self._model.read_parts(self._name, [Part(start, data)])
        return {
            name: RawTensor(entry.dtype, entry.shape, data[entry.begin : entry.end])
            for name, entry in self.header.tensors.items()
        }


@contextmanager
def open_tensors(place: str | Path, *, access: Access | None = None) -> Iterator[TensorFile]:
    """Open the safetensors file at ``place`` (``MODEL.sealed/FILE``, or ``MODEL.sealed`` if it has only one).

    :raises StrongroomError: what doesn't fit, and what to do.
    """
    with open_file(place, ending=".safetensors", access=access) as (model, name):
        yield TensorFile(model, name)


def write_tensors(
    output: SealedOutput, name: str, tensors: Mapping[str, RawTensor], metadata: Mapping[str, str] | None
) -> None:
    """Seal tensors as one safetensors file; their memory is read where it is, and must not change meanwhile."""
    head, order = make_header(((key, one.dtype, one.shape, len(one.data)) for key, one in tensors.items()), metadata)
    size = len(head) + sum(len(one.data) for one in tensors.values())
    with output.file(name, size=size) as sealer:
        sealer.write(head)
        for key in order:
            sealer.lend(tensors[key].data)


def save_tensors(
    tensors: Mapping[str, RawTensor],
    place: str | Path,
    metadata: Mapping[str, str] | None,
    publishing: Publishing,
    *,
    name: str,
) -> None:
    """Seal tensors as a model of one file."""
    with seal_to(place, publishing) as output:
        write_tensors(output, name, tensors, metadata)
