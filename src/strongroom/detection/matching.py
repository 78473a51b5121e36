"""Expressions compiled to closures: built once for a pack, called for each event.

An event comes in two views: ``low``, with text in lower case, and ``raw``, as it was said. Both hold the same fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Protocol

from strongroom.detection.expressions import NUMERIC, All, Any, Expression, Match, Not, Test, number

LARGEST: Final = 1 << 53
"""The largest number: up to here those that are whole are added up without a loss, also as floats."""
Scalar = str | int | float | bool | None
Value = Scalar | tuple[Scalar, ...]
View = Mapping[str, Value]
Predicate = Callable[[View, View], bool]


class Pattern(Protocol):
    """A compiled regular expression."""

    def search(self, text: str, /) -> object | None:
        """Look for the expression anywhere in ``text``."""
        ...


RegexCompiler = Callable[[str], Pattern]
"""Makes a pattern whose search takes time linear in the text; raises MalformedError for syntax that has none."""


def compile_expression(expression: Expression, regex: RegexCompiler) -> Predicate:
    """Return a function of (event in lower case, event as it was said) that tells whether the expression matches.

    :raises MalformedError: a regular expression isn't one.
    """
    match expression:
        case All(parts=parts):
            return _all([compile_expression(part, regex) for part in parts])
        case Any(parts=parts):
            equal = _equal_to_one_of(parts)
            return equal or _any([compile_expression(part, regex) for part in parts])
        case Not(part=part):
            inner = compile_expression(part, regex)
            return lambda low, raw: not inner(low, raw)
        case Test():
            return _test(expression, regex)


def _all(parts: Sequence[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        first, second = parts
        return lambda low, raw: first(low, raw) and second(low, raw)
    fixed = tuple(parts)

    def every(low: View, raw: View) -> bool:
        for part in fixed:  # noqa: SIM110 - a generator costs twice the time, and this runs for every event
            if not part(low, raw):
                return False
        return True

    return every


def _any(parts: Sequence[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]
    fixed = tuple(parts)

    def some(low: View, raw: View) -> bool:
        for part in fixed:  # noqa: SIM110 - as above
            if part(low, raw):
                return True
        return False

    return some


def _equal_to_one_of(parts: Sequence[Expression]) -> Predicate | None:
    """Return one look into a set where every part is an equality of the same field."""
    tests = [part for part in parts if isinstance(part, Test) and part.match is Match.EQUALS and not part.cased]
    names = {test.field for test in tests}
    if len(tests) != len(parts) or len(names) != 1 or "" in names:
        return None
    field, wanted = names.pop(), frozenset(test.value.lower() for test in tests)

    def one_of(low: View, _raw: View) -> bool:
        value = low.get(field)
        if value.__class__ is str:
            return value in wanted
        return value is not None and any(text in wanted for text in texts_of(value))

    return one_of


def texts_of(value: Value) -> tuple[str, ...]:
    """Return a field's values as text. Numbers are text too where Sigma compares them with text."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, tuple):
        return tuple(text for item in value for text in texts_of(item))
    if value is None:
        return ()
    return (str(value).lower(),) if isinstance(value, bool) else (str(value),)


def _test(test: Test, regex: RegexCompiler) -> Predicate:
    if not test.field:
        return _keyword(_text_match(test, regex), cased=_as_said(test))
    if test.match in _WHOLE:
        return _WHOLE[test.match](test.field)
    if test.match in _ONE_FIELD:
        return _ONE_FIELD[test.match](test)
    if test.match is Match.EQUALS and not test.cased:
        return _equals(test.field, test.value.lower())
    return _on_text(test.field, _text_match(test, regex), cased=_as_said(test))


def _as_said(test: Test) -> bool:
    return test.cased or test.match is Match.REGEX


def _equals(field: str, wanted: str) -> Predicate:
    def equals(low: View, _raw: View) -> bool:
        value = low.get(field)
        if value.__class__ is str:
            return value == wanted
        return value is not None and wanted in texts_of(value)

    return equals


def _on_text(field: str, matches: Callable[[str], bool], *, cased: bool) -> Predicate:
    def lowered(low: View, _raw: View) -> bool:
        value = low.get(field)
        if isinstance(value, str):
            return matches(value)
        return value is not None and any(matches(text) for text in texts_of(value))

    def as_said(_low: View, raw: View) -> bool:
        return lowered(raw, raw)

    return as_said if cased else lowered


def _keyword(matches: Callable[[str], bool], *, cased: bool) -> Predicate:
    def anywhere(view: View) -> bool:
        return any(matches(text) for value in view.values() for text in texts_of(value))

    return (lambda _low, raw: anywhere(raw)) if cased else (lambda low, _raw: anywhere(low))


def _text_match(test: Test, regex: RegexCompiler) -> Callable[[str], bool]:
    value = test.value if _as_said(test) else test.value.lower()
    match test.match:
        case Match.STARTS:
            return lambda text: text.startswith(value)
        case Match.ENDS:
            return lambda text: text.endswith(value)
        case Match.CONTAINS:
            return lambda text: value in text
        case Match.LIKE:
            return like(value)
        case Match.REGEX:
            search = regex(value).search
            return lambda text: search(text) is not None
        case _:
            return lambda text: text == value


def like(pattern: str) -> Callable[[str], bool]:
    """Return a matcher of whole texts for ``*`` and ``?``. Takes no longer than text times pattern, in any case."""
    pieces = _pieces(pattern)
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return lambda text: len(text) == len(first) and _fits(first, text, 0)
    middle, edges = pieces[1:-1], len(first) + len(last)

    def matches(text: str) -> bool:
        end = len(text) - len(last)
        if len(text) < edges or not _fits(first, text, 0) or not _fits(last, text, end):
            return False
        at = len(first)
        for piece in middle:
            found = _find(piece, text, at, end)
            if found is None:
                return False
            at = found + len(piece)
        return True

    return matches


_ONE: Final = None
"""Stands for a `?` in a piece."""
_Piece = tuple[str | None, ...]


def _pieces(pattern: str) -> list[_Piece]:
    pieces: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            pieces[-1].append(next(characters, "\\"))
        elif character == "*":
            pieces.append([])
        else:
            pieces[-1].append(_ONE if character == "?" else character)
    return [tuple(piece) for piece in pieces]


def _fits(piece: _Piece, text: str, at: int) -> bool:
    if at < 0 or at + len(piece) > len(text):
        return False
    return all(wanted is _ONE or text[at + offset] == wanted for offset, wanted in enumerate(piece))


def _find(piece: _Piece, text: str, at: int, end: int) -> int | None:
    plain = "".join(character for character in piece if character is not _ONE)
    if len(plain) == len(piece):
        found = text.find(plain, at, end)
        return None if found < 0 else found
    return next((start for start in range(at, end - len(piece) + 1) if _fits(piece, text, start)), None)


def _numeric(test: Test) -> Predicate:
    wanted, field = number(test.value), test.field
    compare: Mapping[Match, Callable[[int | float], bool]] = {
        Match.NUMBER: lambda value: value == wanted,
        Match.BELOW: lambda value: value < wanted,
        Match.AT_MOST: lambda value: value <= wanted,
        Match.ABOVE: lambda value: value > wanted,
        Match.AT_LEAST: lambda value: value >= wanted,
    }
    holds = compare[test.match]

    def numeric(low: View, _raw: View) -> bool:
        return any(holds(value) for value in numbers_of(low.get(field)))

    return numeric


def numbers_of(value: Value) -> tuple[int | float, ...]:
    """Return the numbers that a field holds; text counts where it is one, booleans don't.

    What is larger than :data:`LARGEST` counts as that.
    """
    if isinstance(value, tuple):
        return tuple(found for item in value for found in numbers_of(item))
    if isinstance(value, str):
        found = _number_in(value)
        return () if found is None else (found,)
    if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isnan(value)):
        return ()
    return (_bounded(value),)


def _bounded(number: float) -> int | float:
    # In a sum, what is much larger would swallow all the others; what isn't finite would stay for ever.
    return number if abs(number) <= LARGEST else (LARGEST if number > 0 else -LARGEST)


def _number_in(text: str) -> int | float | None:
    # No number of ours is longer, and int() takes the square of a text's length in time.
    if len(text) > 64:
        return None
    for parse in (int, float):
        try:
            found = parse(text)
        except ValueError:
            continue
        return _bounded(found) if abs(found) < float("inf") else None
    return None


def _cidr(test: Test) -> Predicate:
    field, network = test.field, ip_network(test.value)

    def inside(low: View, _raw: View) -> bool:
        return any(_is_in(text, network) for text in texts_of(low.get(field)))

    return inside


def _is_in(text: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return address.version == network.version and address in network


def _same(test: Test) -> Predicate:
    field, other, cased = test.field, test.value, test.cased
    how: Mapping[Match, Callable[[str, str], bool]] = {
        Match.SAME: str.__eq__,
        Match.SAME_START: str.startswith,
        Match.SAME_END: str.endswith,
    }
    compare = how[test.match]

    def same(low: View, raw: View) -> bool:
        view = raw if cased else low
        others = texts_of(view.get(other))
        return any(compare(text, wanted) for text in texts_of(view.get(field)) for wanted in others)

    return same


_WHOLE: Final[Mapping[Match, Callable[[str], Predicate]]] = {
    Match.PRESENT: lambda field: lambda low, _raw: field in low,
    Match.ABSENT: lambda field: lambda low, _raw: field not in low,
    Match.NULL: lambda field: lambda low, _raw: low.get(field) is None,
    Match.TRUE: lambda field: lambda low, _raw: low.get(field) is True or low.get(field) == "true",
    Match.FALSE: lambda field: lambda low, _raw: low.get(field) is False or low.get(field) == "false",
}
_ONE_FIELD: Final[Mapping[Match, Callable[[Test], Predicate]]] = {
    **dict.fromkeys(NUMERIC, _numeric),
    **dict.fromkeys((Match.SAME, Match.SAME_START, Match.SAME_END), _same),
    Match.CIDR: _cidr,
}
