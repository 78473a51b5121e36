"""The little CBOR (RFC 8949) that attestation documents need, read within bounds.

The library reads more than is safe for hostile bytes: its tags build dates, patterns and messages, and share objects.
Here every tag is refused, a name may stand in a map once, nesting is bounded and nothing may follow the item. No length
is a danger: the library reads at most what is there. Indefinite lengths are read: real documents begin with one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need

MAX_DEPTH: Final = 4


class _EveryTag(Mapping[int, Any]):
    """Answers each tag's number with a decoder that refuses it."""

    def __getitem__(self, tag: int) -> Any:
        return _refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _refuse(*_item: object) -> NoReturn:
    raise MalformedError("a CBOR tag stands where none belongs")


_EVERY_TAG: Final = _EveryTag()


def decode(data: bytes, where: str, *, max_bytes: int) -> object:
    """Read exactly one item: None, booleans, integers, floats, bytes, text, lists and dictionaries.

    The caller checks types with ``type(x) is``: in Python, true equals 1.

    :raises MalformedError: too long, cut, a tag, a name twice in a map, nested deeper than 4, or bytes after the item.
    :raises MissingExtraError: the CBOR library isn't installed.
    """
    if len(data) > max_bytes:
        raise MalformedError(f"`{where}` has {len(data)} bytes; at most {max_bytes} are read")
    cbor2 = need("cbor2", extra="nitro")
    stream = io.BytesIO(data)
    decoder = cbor2.CBORDecoder(
        stream,
        tag_hook=_refuse,
        semantic_decoders=_EVERY_TAG,
        max_depth=MAX_DEPTH,
        allow_duplicate_keys=False,
    )
    try:
        item: object = decoder.decode()
    except cbor2.CBORError:
        raise MalformedError(f"`{where}` isn't CBOR that this version reads") from None
    if stream.tell() != len(data):
        raise MalformedError(f"`{where}` has {len(data) - stream.tell()} bytes after its end")
    return item


def encode(item: object) -> bytes:
    """Write one item with shortest lengths."""
    written: bytes = need("cbor2", extra="nitro").dumps(item)
    return written
