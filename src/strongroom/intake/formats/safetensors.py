"""Safetensors files: the header as the defining library reads it, or stricter, and smaller than that library allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.safetensors_header import LENGTH_BYTES, SafetensorsError, header_length, parse_header
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import Source

MAX_HEADER: Final = 25_000_000
"""A quarter of the library's limit, enough for some 200,000 tensors: parsing takes ten times as much memory."""
MAX_METADATA: Final = 1 << 20
"""Characters of all metadata."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """How many tensors a file has, and how many bytes they take."""

    tensors: int
    data_bytes: int


def check_safetensors(source: Source, where: str) -> TensorFacts:
    """Judge a safetensors file by its header: the tensors tile the rest of the file exactly.

    :raises IntakeRefusedError: safetensors.
    """
    try:
        length = header_length(source.read(0, min(LENGTH_BYTES, source.size)), file_size=source.size)
        if length > MAX_HEADER:
            raise IntakeRefusedError(
                Rule.SAFETENSORS, f"{where}: a header of {length} bytes; at most {MAX_HEADER} are read"
            )
        header = parse_header(source.read(LENGTH_BYTES, length), file_size=source.size)
    except SafetensorsError as error:
        raise IntakeRefusedError(Rule.SAFETENSORS, f"{where}: {error.message}") from None
    if sum(len(name) + len(value) for name, value in header.metadata.items()) > MAX_METADATA:
        raise IntakeRefusedError(Rule.SAFETENSORS, f"{where}: more than {MAX_METADATA} characters of metadata")
    return TensorFacts(len(header.tensors), source.size - header.data_start)
