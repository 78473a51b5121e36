"""Strict base64 (RFC 4648 section 4): one spelling for each byte string, so that equal bytes have equal text."""

from __future__ import annotations

import base64
import binascii

from strongroom.core.errors import MalformedError


def to_base64(data: bytes) -> str:
    """Write ``data`` as padded base64."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes:
    """Read padded base64.

    :raises MalformedError: foreign characters, wrong padding, or non-zero trailing bits.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("the text isn't base64 (RFC 4648 section 4)") from None
    if to_base64(data) != text:
        raise MalformedError("the base64 text isn't in its one canonical spelling")
    return data
