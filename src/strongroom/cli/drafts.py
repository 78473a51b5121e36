"""Drafts of documents that the root quorum signs: a file holds the payload alone, until it is signed."""

from __future__ import annotations

from pathlib import Path

from strongroom.cli.session import read_file
from strongroom.core.canonical import encode, parse
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import MalformedError


def read_document(file: Path) -> bytes:
    """Return the payload of a draft, or of a signed document.

    :raises MalformedError: not JSON, or no envelope where it says that it is one.
    """
    return _payload(_read(file))


def read_draft(file: Path, *, begin: str) -> bytes:
    """Return the payload of a draft that is to be changed; ``begin`` is the command that begins the next one.

    :raises MalformedError: as :func:`read_document`, or it is signed.
    """
    data = _read(file)
    if _signed(data):
        raise MalformedError(
            f"`{file.name}` is signed already; a change would make the signatures worthless",
            remedy=f"begin the next one: {begin}",
        )
    return _payload(data)


def _read(file: Path) -> bytes:
    return read_file(file, most=2 * MAX_PAYLOAD)


def _signed(data: bytes) -> bool:
    value = parse(data, max_bytes=2 * MAX_PAYLOAD)
    return isinstance(value, dict) and "payloadType" in value


def _payload(data: bytes) -> bytes:
    return Envelope.parse(data).payload if _signed(data) else encode(parse(data, max_bytes=2 * MAX_PAYLOAD))
