"""Whether a compiled file is what this Python compiles from a source.

Python runs `__pycache__/x.cpython-311.pyc` in place of `x.py`, and looks at its header alone: whoever changes the
compiled file runs their own code beside a source that nobody touched.

A compiled file's bytes are marshal data. Equal code has different bytes there: marshal marks what it met twice, and
that depends on the process. So both sides are read into the same plain values and these compared. `marshal.loads`
isn't used on the file: it may not be given hostile bytes.
"""

from __future__ import annotations

import importlib.util
import marshal
import re
import warnings
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

MAX_COMPILED: Final = 32 << 20
_HEADER: Final = 16
_DEPTH: Final = 150
_VALUES: Final = 5_000_000
_MARKED: Final = 0x80
_ALONE: Final = frozenset(b"NTFS.")
_SIZES: Final = {ord("i"): 4, ord("g"): 8, ord("y"): 16}
_TEXTS: Final = {kind[0]: (kind[1:], 4) for kind in (b"ss", b"uu", b"tu", b"aa", b"Aa")} | dict.fromkeys(
    b"zZ", (b"a", 1)
)
"""A text's kind -> what it is read as, and bytes of its length. That Python interned it is left aside."""
_NAMES: Final = (b"u", b"a")
_ROWS: Final = {ord("("): 4, ord(")"): 1, ord(">"): 4}
"""Tuples and frozen sets: bytes of their length."""
# How CPython 3.11 to 3.13 write code: five numbers; its instructions, constants, names and two of its local variables;
# the file's name; two names; the first line; two tables. Others can't be read, and then nothing is said to be equal.
_NUMBERS: Final = 5 * 4
_BEFORE_FILE_NAME: Final = 5
_CACHED: Final = re.compile(
    r"(?P<folder>(?:.*/)?)__pycache__/(?P<name>[^/.]+)\.(?P<tag>[^./]+)(?:\.opt-(?P<level>[12]))?\.pyc"
)

Plain = tuple[object, ...]


def source_of(path: str, cache_tag: str) -> tuple[str, int] | None:
    """Return which source Python would run a compiled file for, and the level of optimisation; None where for none."""
    found = _CACHED.fullmatch(path)
    if found is None or found["tag"] != cache_tag:
        return None
    return f"{found['folder']}{found['name']}.py", int(found["level"] or 0)


def is_compiled_from(source: bytes, compiled: bytes, *, level: int) -> bool:
    """Tell whether a compiled file holds just what this Python compiles from ``source``; its header is left aside.

    The file's name that the code carries may differ: it says where the source lay, and decides nothing.
    """
    if compiled[:4] != importlib.util.MAGIC_NUMBER:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, "source", "exec", dont_inherit=True, optimize=level)
    except (SyntaxError, ValueError, RecursionError):
        return False
    try:
        return _plain(marshal.dumps(code)) == _plain(compiled[_HEADER:])
    except (MalformedError, RecursionError):
        return False


def _plain(data: bytes) -> Plain:
    reading = _Marshal(data)
    value = reading.value(0)
    reading.reader.end()
    return value


@dataclass(frozen=True, slots=True)
class _Met:
    """A value that may come again: how deep it is, and of how many values."""

    value: Plain
    height: int
    values: int


class _Marshal:
    """Marshal data (version 4, CPython's `Python/marshal.c`) read into tuples. Nothing of it is made or run."""

    def __init__(self, data: bytes) -> None:
        self.reader = Reader(data, "compiled code", max_bytes=MAX_COMPILED, order="little")
        self._marked: list[_Met | None] = []
        self._deepest = self._values = 0

    def value(self, depth: int) -> Plain:
        """Read one value; what was met before is the same tuple again, and counts again.

        :raises MalformedError: not marshal data of code, too deep, too many values, or one that holds itself.
        """
        head = self.reader.integer(1)
        kind = head & ~_MARKED
        if kind == ord("r"):
            return self._met_before(depth)
        self._count(depth, 1)
        if not head & _MARKED:
            return self._fresh(kind, depth)
        place, before, above = len(self._marked), self._values, self._deepest
        self._marked.append(None)
        self._deepest = depth
        found = self._fresh(kind, depth)
        self._marked[place] = _Met(found, self._deepest - depth, self._values - before + 1)
        self._deepest = max(above, self._deepest)
        return found

    def _count(self, depth: int, values: int) -> None:
        # Few bytes can say: twice what was said before. Comparing that would take for ever, or all of the stack.
        self._deepest, self._values = max(self._deepest, depth), self._values + values
        if self._deepest > _DEPTH or self._values > _VALUES:
            raise MalformedError("compiled code that is nested too deeply, or has too many values")

    def _met_before(self, depth: int) -> Plain:
        place = self.reader.integer(4)
        met = self._marked[place] if place < len(self._marked) else None
        if met is None:
            raise MalformedError("compiled code that holds itself")
        self._count(depth + met.height, met.values)
        return met.value

    def _fresh(self, kind: int, depth: int) -> Plain:
        take = self.reader
        if kind in _ALONE:
            return (kind,)
        if kind in _SIZES:
            return kind, take.take(_SIZES[kind])
        if kind in _TEXTS:
            name, size = _TEXTS[kind]
            return name, take.counted(size, MAX_COMPILED)
        if kind in _ROWS:
            items = [self.value(depth + 1) for _ in range(take.integer(_ROWS[kind]))]
            # A set's order depends on the process, too. A short tuple is a tuple.
            return (ord(">"), frozenset(items)) if kind == ord(">") else (ord("("), *items)
        if kind == ord("l"):
            digits = take.take(4)
            return kind, digits, take.take(2 * abs(int.from_bytes(digits, "little", signed=True)))
        if kind == ord("c"):
            return self._code(depth + 1)
        raise MalformedError("compiled code with a kind of value that no code has")

    def _code(self, depth: int) -> Plain:
        numbers = self.reader.take(_NUMBERS)
        before = tuple(self.value(depth) for _ in range(_BEFORE_FILE_NAME))
        if self.value(depth)[0] not in _NAMES:
            raise MalformedError("compiled code whose file's name isn't a text")
        names = self.value(depth), self.value(depth)
        line = self.reader.take(4)
        return ord("c"), numbers, before, names, line, self.value(depth), self.value(depth)
