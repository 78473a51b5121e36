"""The arguments of a pickle's opcodes, each read within bounds: texts of names, counts, and what is passed over."""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.intake.source import Cursor

MAX_LINE: Final = 4096
MAX_INTEGER: Final = 4096
KEPT_TEXT: Final = 256
"""Longer texts are passed over: no name that is allowed is as long."""
_DECIMAL: Final = re.compile(rb"-?[0-9]{1,1000}")
_SHORT_DECIMAL: Final = re.compile(rb"-?[0-9]{1,18}")
_FLOAT: Final = re.compile(rb"-?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?(?:e[+-]?[0-9]{1,4})?|inf|nan)")
_QUOTES: Final = frozenset(b"'\"")

Argument = str | int | tuple[str, str] | None
"""A short text, a number, a module and a name, or something that is passed over."""


@dataclass(frozen=True, slots=True)
class Opcode:
    """One opcode: its name, how its argument is read, and the protocol that it came with."""

    name: str
    read: Callable[[Cursor], Argument]
    protocol: int


def _nothing(_cursor: Cursor) -> None:
    return None


def _unsigned(size: int) -> Callable[[Cursor], int]:
    return lambda cursor: cursor.integer(size)


def _signed4(cursor: Cursor) -> int:
    return int.from_bytes(cursor.take(4), "little", signed=True)


def _length4(cursor: Cursor) -> int:
    length = _signed4(cursor)
    if length < 0:
        raise cursor.refuse("a negative length")
    return length


def _passed_over(length: Callable[[Cursor], int]) -> Callable[[Cursor], None]:
    def read(cursor: Cursor) -> None:
        cursor.skip(length(cursor))

    return read


def _text(size: int) -> Callable[[Cursor], str | None]:
    def read(cursor: Cursor) -> str | None:
        length = cursor.integer(size)
        if length > KEPT_TEXT:
            cursor.skip(length)
            return None
        try:
            return cursor.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise cursor.refuse("a text that isn't UTF-8") from None

    return read


def _long(length: Callable[[Cursor], int]) -> Callable[[Cursor], int | None]:
    def read(cursor: Cursor) -> int | None:
        data = cursor.take(length(cursor), most=MAX_INTEGER)
        return int.from_bytes(data, "little", signed=True) if len(data) <= 8 else None

    return read


def _integer_line(cursor: Cursor) -> int | None:
    line = cursor.line(most=MAX_LINE)
    if line in {b"00", b"01"}:  # False and True, in the oldest protocol
        return None
    return _decimal(cursor, line)


def _long_line(cursor: Cursor) -> int | None:
    return _decimal(cursor, cursor.line(most=MAX_LINE).removesuffix(b"L"))


def _decimal(cursor: Cursor, line: bytes) -> int | None:
    if not _DECIMAL.fullmatch(line):
        raise cursor.refuse("a number that isn't one")
    return int(line) if _SHORT_DECIMAL.fullmatch(line) else None


def _float_line(cursor: Cursor) -> None:
    if not _FLOAT.fullmatch(cursor.line(most=MAX_LINE)):
        raise cursor.refuse("a number that isn't one")


def _quoted_line(cursor: Cursor) -> None:
    line = cursor.line(most=MAX_LINE)
    if len(line) < 2 or line[0] not in _QUOTES or line[-1] != line[0]:
        raise cursor.refuse("a text without quotes")


def _unquoted_line(cursor: Cursor) -> str | None:
    line = cursor.line(most=MAX_LINE)
    # With escapes in it, it means another text than it shows: kept by nobody, and so no part of a name.
    plain = len(line) <= KEPT_TEXT and line.isascii() and b"\\" not in line
    return line.decode("ascii") if plain else None


def _names(cursor: Cursor) -> tuple[str, str]:
    # What isn't ASCII is refused with its global: none that is allowed has such a name.
    module, name = (cursor.line(most=KEPT_TEXT).decode("utf-8", "replace") for _ in range(2))
    return module, name


_READERS: Final[Mapping[str, Callable[[Cursor], Argument]]] = MappingProxyType(
    {
        "uint1": _unsigned(1),
        "uint2": _unsigned(2),
        "uint4": _unsigned(4),
        "uint8": _unsigned(8),
        "int4": _signed4,
        "float8": _passed_over(lambda _cursor: 8),
        "string1": _passed_over(_unsigned(1)),
        "string4": _passed_over(_length4),
        "bytes1": _passed_over(_unsigned(1)),
        "bytes4": _passed_over(_unsigned(4)),
        "bytes8": _passed_over(_unsigned(8)),
        "bytearray8": _passed_over(_unsigned(8)),
        "unicodestring1": _text(1),
        "unicodestring4": _text(4),
        "unicodestring8": _text(8),
        "long1": _long(_unsigned(1)),
        "long4": _long(_length4),
        "decimalnl_short": _integer_line,
        "decimalnl_long": _long_line,
        "floatnl": _float_line,
        "stringnl": _quoted_line,
        "stringnl_noescape": _unquoted_line,
        "unicodestringnl": _unquoted_line,
        "stringnl_noescape_pair": _names,
    }
)

OPCODES: Final[Mapping[int, Opcode]] = MappingProxyType(
    {
        ord(one.code): Opcode(one.name, _READERS[one.arg.name] if one.arg else _nothing, one.proto)
        for one in pickletools.opcodes
    }
)
"""Every opcode of the standard library's table. An argument of a kind that isn't known here fails at import."""
