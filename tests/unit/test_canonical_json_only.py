"""One value has one spelling, and no other spelling is read back (RFC 8785, integers only)."""

from __future__ import annotations

from typing import cast

import pytest

from strongroom.core.canonical import MAX_BYTES, MAX_DEPTH, MAX_INTEGER, Json, decode, encode, parse
from strongroom.core.errors import MalformedError


def nested(depth: int) -> Json:
    value: Json = 0
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        ({"b": [], "a": {}}, b'{"a":{},"b":[]}'),
        (["\u00e9", '"', "\n", "\\", "/"], '["\u00e9","\\"","\\n","\\\\","/"]'.encode()),
        ([MAX_INTEGER, -MAX_INTEGER, 0], b"[9007199254740991,-9007199254740991,0]"),
        # RFC 8785 section 3.2.3: names are sorted by UTF-16 code units, so U+1F600 stands before U+FB33.
        (
            {"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3, "\r": 4},
            '{"\\r":4,"\u20ac":3,"\U0001f600":2,"\ufb33":1}'.encode(),
        ),
    ],
)
def test_a_value_has_its_one_spelling(value: Json, text: bytes) -> None:
    assert encode(value) == text
    assert decode(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":"\\u0062"}',
        b'["\\/"]',
        b"[-0]",
        b'["\\u00e9"]',
    ],
)
def test_another_spelling_parses_but_is_not_canonical(text: bytes) -> None:
    parse(text)
    with pytest.raises(MalformedError, match="canonical"):
        decode(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{'a':1}",
        b"[1,]",
        b"nul",
        b"[1] [2]",
        b"\xff",
        b"\xef\xbb\xbf{}",
        "[1]".encode("utf-16"),
        b"01",
        b'["\n"]',
        b'["\\ud800"]',
        b"1.0",
        b"1e3",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a":1,"a":1}',
        b'[{"a":{"b":1,"b":2}}]',
        b"9007199254740992",
        b"-9007199254740992",
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 40 + b"]" * 40,
    ],
)
def test_what_is_not_plain_json_of_integers_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(text)


@pytest.mark.parametrize(
    "value", [1.0, {"a": 0.5}, {1: "a"}, ["\ud800"], {"\udfff": 1}, b"a", (1, 2), {1}, 2**53, object()]
)
def test_a_foreign_value_is_not_written(value: object) -> None:
    with pytest.raises(MalformedError):
        encode(cast("Json", value))


def test_booleans_are_not_integers() -> None:
    assert encode([True, 1]) == b"[true,1]"
    assert decode(b"[true,1]") == [True, 1]


def test_nesting_is_bounded() -> None:
    assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(MalformedError, match="nested"):
        encode(nested(MAX_DEPTH + 1))


def test_length_is_bounded() -> None:
    with pytest.raises(MalformedError, match="at most"):
        decode(b'"' + b"a" * MAX_BYTES + b'"')
    with pytest.raises(MalformedError, match="at most 4"):
        decode(b"[1,2]", max_bytes=4)
    assert decode(b"[1,2]", max_bytes=5) == [1, 2]


@pytest.mark.parametrize("text", [b'["\\ud800"]', b'{"\\uDFFF":1}', b'{"a":[{"b":"\\ud83d\\ud83d\\ude00"}]}'])
def test_half_a_surrogate_pair_is_refused_where_it_is_read(text: bytes) -> None:
    with pytest.raises(MalformedError, match="surrogate"):
        parse(text)
    with pytest.raises(MalformedError):
        decode(text)
    assert parse(b'["\\ud83d\\ude00"]') == ["\U0001f600"]
