"""The one deterministic encoding: RFC 8785 (JCS) restricted to what signed objects may hold.

Objects, arrays, strings, booleans, null and integers within +-(2^53 - 1). No floats: a number that two parsers read
differently is a signature that two people understand differently.
"""

from __future__ import annotations

import json
from typing import Final

import rfc8785

from strongroom.core.errors import MalformedError

MAX_DEPTH: Final = 32
MAX_BYTES: Final = 1 << 20
MAX_INTEGER: Final = 2**53 - 1
# Nothing is nested in itself: that was refused as too deep before anything is written.
_PLAIN: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)

Json = dict[str, "Json"] | list["Json"] | str | int | bool | None


def encode(value: Json) -> bytes:
    """Serialise ``value`` to canonical bytes.

    :raises MalformedError: a float, a foreign type, an integer out of range or too deep a nesting.
    """
    return _write(value, plain=_check(value))


def _write(value: Json, *, plain: bool) -> bytes:
    try:
        if plain:
            # Equal to RFC 8785 and ten times faster: without floats only the order of names could differ, and ASCII
            # names sort alike by code point and by UTF-16 unit. A property test compares both encoders.
            return _PLAIN.encode(value).encode()
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise MalformedError("the value can't be written as canonical JSON (RFC 8785)") from None


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> Json:
    """Parse canonical bytes; anything that isn't already in canonical form is refused.

    Refusing other spellings means that what was signed, stored, shown and hashed is one sequence of bytes.

    :raises MalformedError: too long, not JSON, a duplicate name, a float, too deep, or not canonical.
    """
    value, plain = _parse(data, max_bytes)
    if _write(value, plain=plain) != data:
        raise MalformedError("the JSON text isn't in canonical form (RFC 8785)")
    return value


def parse(data: bytes, *, max_bytes: int = MAX_BYTES) -> Json:
    """Parse JSON text under the same limits as :func:`decode`, in any spelling.

    :raises MalformedError: too long, not JSON, a duplicate name, a float, half of a surrogate pair, or too deep.
    """
    return _parse(data, max_bytes)[0]


def _parse(data: bytes, max_bytes: int) -> tuple[Json, bool]:
    if len(data) > max_bytes:
        raise MalformedError(f"the JSON text has {len(data)} bytes; at most {max_bytes} are read")
    try:
        value: Json = _DECODER.decode(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError):
        raise MalformedError("the bytes aren't JSON text") from None
    plain = _check(value)
    if b"\\u" in data:
        _require_unicode(value)
    return value, plain


def _require_unicode(value: Json) -> None:
    # An escape can write half of a surrogate pair: text without an encoding, on which whoever encodes it would fail.
    try:
        _PLAIN.encode(value).encode()
    except UnicodeEncodeError:
        raise MalformedError("the JSON text holds half of a surrogate pair") from None


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    # Two members of one name let two readers see two objects under one signature.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedError("a JSON object has the same name twice")
    return result


def _refuse_number(_text: str) -> Json:
    raise MalformedError("a signed object holds integers only, no floats")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_refuse_number, parse_constant=_refuse_number)


def _check(value: Json) -> bool:
    """Check a value, one level of nesting after the other; returns whether every name in it is ASCII."""
    plain = True
    level: list[Json] = [value]
    for _depth in range(MAX_DEPTH):
        below: list[Json] = []
        for item in level:
            if isinstance(item, (str, bool)) or item is None:
                continue
            if isinstance(item, dict):
                for name in item:
                    if not isinstance(name, str):
                        raise MalformedError("a JSON object's names are strings")
                    plain = plain and name.isascii()
                below += item.values()
            elif isinstance(item, list):
                below += item
            else:
                _check_integer(item)
        if not below:
            return plain
        level = below
    raise MalformedError(f"the JSON value is nested deeper than {MAX_DEPTH}")


def _check_integer(value: object) -> None:
    if not isinstance(value, int):
        raise MalformedError(f"`{type(value).__name__}` has no canonical JSON form")
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise MalformedError("an integer is outside +-(2^53 - 1)")
