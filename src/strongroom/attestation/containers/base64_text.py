"""Base64 as vendors' tools write it: either alphabet, padded or not, in lines or not. Strict in the bytes all the same.

``base64.b64decode`` drops what it doesn't know unless told otherwise, and then reads other bytes than were written.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError


def read_base64(text: bytes, where: str) -> bytes:
    """Read base64 (RFC 4648, section 4 or 5) with line breaks and surrounding blanks allowed.

    :raises MalformedError: foreign characters, two alphabets in one text, wrong padding, or bits after the last byte.
    """
    joined = text.strip().replace(b"\r\n", b"").replace(b"\n", b"")
    bare = joined.rstrip(b"=")
    padded = bare + b"=" * (-len(bare) % 4)
    altchars = b"-_" if b"-" in bare or b"_" in bare else b"+/"
    try:
        data = base64.b64decode(padded, altchars=altchars, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"`{where}` isn't base64") from None
    # Every spelling that reads as these bytes but isn't theirs: two alphabets, other padding, bits that are left over.
    if joined not in {bare, padded} or base64.b64encode(data, altchars=altchars) != padded:
        raise MalformedError(f"`{where}` isn't base64 in its one canonical spelling")
    return data


def blob(whole: Mapping[str, Json], name: str) -> bytes:
    """Take a member of a JSON object that holds base64; nothing where it is absent or null.

    :raises MalformedError: it holds something else.
    """
    text = whole.get(name)
    if text is None:
        return b""
    if not isinstance(text, str) or not text.isascii():
        raise MalformedError(f"`{name}` isn't base64")
    return read_base64(text.encode("ascii"), name)
