"""Protocol buffers written out as text, put back on the wire: as much of the text format as Go's tools write.

``name: value`` and ``name: { ... }``; strings in C's escapes, integers, and names of enumerations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import MalformedError

_TOKEN: Final = re.compile(
    rb'\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<number>\d{1,20})|(?P<mark>[:{}]))'
)
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))")
_SHORT: Final = {
    b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v",
    b"\\": b"\\", b'"': b'"', b"'": b"'", b"?": b"?",
}  # fmt: skip
_MAX_DEPTH: Final = 16


@dataclass(frozen=True, slots=True)
class Form:
    """A message's fields by name: their numbers, the forms of nested ones, and what enumerations' names stand for.

    A field whose number is 0 is read and left out.
    """

    numbers: Mapping[str, int]
    nested: Mapping[str, Form]
    named: Mapping[str, int]


NOTHING: Final = Form({}, {}, {})
"""A message of which nothing is kept, whatever it holds."""


def to_wire(text: bytes, form: Form, where: str) -> bytes:
    """Return the wire form of a message that is written as text.

    :raises MalformedError: another form, a field that the message hasn't, or messages nested deeper than 16.
    """
    tokens = _Tokens(text, where)
    written = _message(tokens, form, 0)
    if tokens.kind:
        raise tokens.wrong()
    return written


class _Tokens:
    """The tokens of a text, one at a time."""

    def __init__(self, text: bytes, where: str) -> None:
        self._text = text
        self._at = 0
        self.where = where
        self.kind = ""
        self.value = b""
        self.next()

    def next(self) -> tuple[str, bytes]:
        """Step on; returns what was passed."""
        passed = (self.kind, self.value)
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            if self._text[self._at :].strip():
                raise self.wrong()
            self.kind, self.value = "", b""
            return passed
        self._at = found.end()
        self.kind = found.lastgroup or ""
        self.value = found[self.kind]
        return passed

    def take(self, mark: bytes) -> bool:
        """Step over a mark, if it is there."""
        there = (self.kind, self.value) == ("mark", mark)
        if there:
            self.next()
        return there

    def wrong(self) -> MalformedError:
        """Return the error that names the place."""
        return MalformedError(f"`{self.where}` isn't a protocol buffer in text at offset {self._at}")


def _message(tokens: _Tokens, form: Form, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise MalformedError(f"`{tokens.where}` is nested deeper than {_MAX_DEPTH}")
    written = bytearray()
    while tokens.kind == "name":
        name = tokens.next()[1].decode("ascii")
        number = form.numbers.get(name, 0)
        if form is not NOTHING and name not in form.numbers:
            raise MalformedError(f"`{tokens.where}` has a field that this message hasn't")
        colon = tokens.take(b":")
        if tokens.take(b"{"):
            inner = _message(tokens, form.nested.get(name, NOTHING), depth + 1)
            if not tokens.take(b"}"):
                raise tokens.wrong()
            value: int | bytes = inner
        elif colon:
            value = _scalar(tokens, form)
        else:
            raise tokens.wrong()
        written += _field(number, value) if number else b""
    return bytes(written)


def _scalar(tokens: _Tokens, form: Form) -> int | bytes:
    kind, value = tokens.next()
    match kind:
        case "text":
            return _unescaped(value[1:-1], tokens)
        case "number":
            return int(value)
        case "name":
            return form.named.get(value.decode("ascii"), 0)
        case _:
            raise tokens.wrong()


def _unescaped(text: bytes, tokens: _Tokens) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        octal, hexadecimal, short = found.groups()
        if short is not None:
            if short not in _SHORT:
                raise tokens.wrong()
            return _SHORT[short]
        value = int(octal, 8) if octal else int(hexadecimal, 16)
        if value > 0xFF:
            raise tokens.wrong()
        return bytes([value])

    return _ESCAPE.sub(one, text)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
