"""What keeps the digest of a drop from telling what is in it. Pure.

The launcher sees a drop's digest before the drop is charged, and everybody sees it in the log. Code that drops a few
bytes of weights beside known padding would so tell its partner, who tries all of them, around charge and review. So an
archive carries two numbers that follow from the model's data key, the request and its own content: the same content
under the same request still makes the same archive, and nobody without the key knows a digest beforehand.
"""

from __future__ import annotations

import hmac
from typing import Final

from strongroom.core.digest import Digest

_PURPOSE: Final = b"strongroom/drop-blinding/v1\x00"
_NAMES: Final = ("blind-a", "blind-b")
_BYTES: Final = 6
"""Of each number: an archive's facts have up to 53 bits."""


def blinding_key(data_key: bytes | bytearray | memoryview, request: Digest) -> bytes:
    """Return a request's key, 32 bytes, of the data key that was released for it. It says nothing of the data key."""
    return hmac.digest(data_key, _PURPOSE + str(request).encode(), "sha256")


def blinding_facts(key: bytes, content: Digest) -> dict[str, int]:
    """Return the facts to put into the archive whose digest is ``content`` without them."""
    tag = hmac.digest(key, str(content).encode(), "sha256")
    return {name: int.from_bytes(tag[at * _BYTES : (at + 1) * _BYTES], "big") for at, name in enumerate(_NAMES)}
