"""The certificate table that a host hands its guest with a report (AMD 56421, section 4.1.8.1; configfs ``auxblob``).

Rows of 24 bytes - GUID as printed, offset and length little-endian - end with a row of zeros; the certificates follow.
It comes from the host and is believed as little as the rest.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader


def _guid(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


VCEK: Final = _guid("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = _guid("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = _guid("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK: Final = _guid("c0b406a4-a803-4952-9743-3fb6014cd0ae")
MAX_TABLE: Final = 64 * 1024
"""Four times what Linux hands out."""
MAX_ROWS: Final = 32
_ROW: Final = 24
_MOST_BLOCKS: Final = 8
_BLOCK: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]{1,16384})-----END CERTIFICATE-----\s*"
)


@dataclass(frozen=True, slots=True)
class CertificateTable:
    """The rows: GUID (16 bytes) and contents, in their order."""

    rows: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def parse(cls, data: bytes) -> CertificateTable:
        """Read a table; no bytes at all are an empty one.

        :raises MalformedError: too long, no end, too many rows, or contents outside the table, in its head, or shared.
        """
        if not data:
            return cls(())
        reader = Reader(data, "SEV-SNP certificate table", max_bytes=MAX_TABLE, order="little")
        spans: list[tuple[bytes, int, int]] = []
        while any((row := reader.take(_ROW))[:16]):
            if len(spans) == MAX_ROWS:
                raise MalformedError(f"`{reader.where}` has more than {MAX_ROWS} rows")
            at, size = int.from_bytes(row[16:20], "little"), int.from_bytes(row[20:], "little")
            spans.append((row[:16], at, at + size))
        if any(row):
            raise MalformedError(f"`{reader.where}` has a row without a GUID")
        spans = [span for span in spans if span[1] != span[2]]  # a certificate that the host doesn't have
        by_place = sorted(spans, key=lambda span: span[1])
        if by_place and (by_place[0][1] < reader.at or max(end for _, _, end in by_place) > len(data)):
            raise MalformedError(f"`{reader.where}` has a row that points outside its contents")
        # Contents that two rows share would be read as two things.
        if any(before[2] > after[1] for before, after in pairwise(by_place)):
            raise MalformedError(f"`{reader.where}` has rows that overlap")
        return cls(tuple((guid, data[at:end]) for guid, at, end in spans))

    def to_bytes(self) -> bytes:
        """Return the table, without padding."""
        at = _ROW * (len(self.rows) + 1)
        head = b""
        for guid, contents in self.rows:
            head += guid + at.to_bytes(4, "little") + len(contents).to_bytes(4, "little")
            at += len(contents)
        return head + bytes(_ROW) + b"".join(contents for _, contents in self.rows)

    def certificates(self, *guids: bytes) -> tuple[bytes, ...]:
        """Return the DER certificates of these rows. They aren't parsed.

        :raises MalformedError: a row holds PEM that can't be read.
        """
        return tuple(der for guid, contents in self.rows if guid in guids for der in ders_in(contents))


def ders_in(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates in ``data``: up to eight blocks of PEM, or what must then be DER.

    :raises MalformedError: broken PEM, or something between or after its blocks.
    """
    if not data.startswith(b"-----BEGIN"):
        return (data,)
    found: list[bytes] = []
    at = 0
    while at < len(data):
        block = _BLOCK.match(data, at)
        if block is None or len(found) == _MOST_BLOCKS:
            raise MalformedError(f"the bytes aren't 1 to {_MOST_BLOCKS} certificates in PEM and nothing else")
        found.append(_unfolded(block[1]))
        at = block.end()
    return tuple(found)


def table_of(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write a table of rows, GUID and contents."""
    return CertificateTable(tuple(rows)).to_bytes()


def _unfolded(lines: bytes) -> bytes:
    try:
        return base64.b64decode(lines.replace(b"\r", b"").replace(b"\n", b""), validate=True)
    except binascii.Error:
        raise MalformedError("a certificate in PEM isn't base64") from None
