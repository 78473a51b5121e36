"""What one rule asks of one event, as data: tests joined by all, any and not. The compiled form of a Sigma condition.

A test names a field and a way to match. Text is compared without regard to case unless the test says otherwise
(Sigma specification 2.1, "String matching"); a field that holds several values matches if one of them does. A test
without a field looks at every value of the event (Sigma's keywords).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_VALUE: Final = 4096
MAX_FIELD_NAME: Final = 128
MAX_BRANCHES: Final = 4096
MAX_EXPRESSION_DEPTH: Final = 12
"""Of nested all, any and not: a pack is JSON, which may be nested 32 deep, two of them for each."""


class Match(StrEnum):
    """How a value is compared with a field."""

    EQUALS = "equals"
    STARTS = "starts"
    ENDS = "ends"
    CONTAINS = "contains"
    LIKE = "like"
    """Text with ``*`` (any characters) and ``?`` (one); a backslash takes the next one as it is."""
    REGEX = "regex"
    """RE2 syntax: matching takes time linear in the text, whatever an attacker writes into it."""
    CIDR = "cidr"
    NUMBER = "number"
    """A number, or text that is one, equal to the value."""
    BELOW = "below"
    AT_MOST = "at-most"
    ABOVE = "above"
    AT_LEAST = "at-least"
    TRUE = "true"
    FALSE = "false"
    NULL = "null"
    """The field is null or isn't there."""
    PRESENT = "present"
    ABSENT = "absent"
    SAME = "same"
    """Equal to the field that the value names; STARTS and ENDS of it are the next two."""
    SAME_START = "same-start"
    SAME_END = "same-end"


NUMERIC: Final = frozenset({Match.NUMBER, Match.BELOW, Match.AT_MOST, Match.ABOVE, Match.AT_LEAST})
WITHOUT_VALUE: Final = frozenset({Match.TRUE, Match.FALSE, Match.NULL, Match.PRESENT, Match.ABSENT})
KEYWORD: Final = frozenset({Match.EQUALS, Match.CONTAINS, Match.STARTS, Match.ENDS, Match.LIKE, Match.REGEX})
_CASED: Final = frozenset({Match.EQUALS, Match.STARTS, Match.ENDS, Match.CONTAINS, Match.LIKE, Match.SAME})


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison. ``field`` is empty for keywords, ``value`` for matches that need none."""

    __test__ = False

    field: str
    match: Match
    value: str = ""
    cased: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """Every part must match."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part must match."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part must not match."""

    part: Expression


Expression = Test | All | Any | Not


def number(text: str) -> int | float:
    """Return the number that a test's value is.

    :raises MalformedError: it isn't one, or isn't finite.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise MalformedError("a numeric test's value must be a number")
    return value


def read_expression(fields: Fields, depth: int = 0) -> Expression:
    """Read the JSON form: an object with one of ``all``, ``any``, ``not``, or a test's members.

    :raises MalformedError: another form, nested too deep, or a value that doesn't fit the match.
    """
    if depth > MAX_EXPRESSION_DEPTH:
        raise MalformedError(f"`{fields.where}` is nested deeper than {MAX_EXPRESSION_DEPTH}")
    joined = fields.text("is", max_length=4)
    if joined == "not":
        with fields.child("part") as child:
            return Not(read_expression(child, depth + 1))
    if joined in {"all", "any"}:
        parts = fields.objects("parts", lambda part: read_expression(part, depth + 1), most=MAX_BRANCHES)
        if not parts:
            raise MalformedError(f"`{fields.where}.parts` is empty: it would match everything or nothing")
        return All(parts) if joined == "all" else Any(parts)
    if joined != "test":
        raise MalformedError(f"`{fields.where}.is` must be `all`, `any`, `not` or `test`")
    test = Test(
        field=fields.text("field", max_length=MAX_FIELD_NAME),
        match=fields.parsed("match", Match),
        value=fields.text("value", max_length=MAX_VALUE),
        cased=fields.boolean("cased"),
    )
    check_test(test)
    return test


def check_test(test: Test) -> None:
    """Check that a test's members fit each other.

    :raises MalformedError: they don't.
    """
    if not test.field and test.match not in KEYWORD:
        raise MalformedError(f"a keyword can't be matched by `{test.match}`")
    if test.cased and test.match not in _CASED:
        raise MalformedError(f"`{test.match}` knows no case")
    if test.match in WITHOUT_VALUE and test.value:
        raise MalformedError(f"`{test.match}` takes no value")
    if test.match in NUMERIC:
        number(test.value)
    if test.match is Match.CIDR:
        try:
            ip_network(test.value)
        except ValueError:
            raise MalformedError("a test's value must be an IP network") from None


def expression_json(expression: Expression) -> dict[str, Json]:
    """Return the JSON form."""
    match expression:
        case Test(field=field, match=how, value=value, cased=cased):
            return {"is": "test", "field": field, "match": how.value, "value": value, "cased": cased}
        case All(parts=parts):
            return {"is": "all", "parts": [expression_json(part) for part in parts]}
        case Any(parts=parts):
            return {"is": "any", "parts": [expression_json(part) for part in parts]}
        case Not(part=part):
            return {"is": "not", "part": expression_json(part)}


def anchors(expression: Expression, field: str) -> frozenset[str] | None:
    """Return the values of ``field``, in lower case, outside of which the expression can't match; None if any might.

    What :mod:`~strongroom.detection.engine` finds rules by, so that an event is compared only with rules about it.
    """
    match expression:
        case Test(field=named, match=Match.EQUALS, value=value) if named == field:
            return frozenset({value.lower()})
        case All(parts=parts):
            found = [values for part in parts if (values := anchors(part, field)) is not None]
            return frozenset.intersection(*found) if found else None
        case Any(parts=parts):
            each = [anchors(part, field) for part in parts]
            return None if None in each else frozenset().union(*(values for values in each if values is not None))
        case _:
            return None


ANYTHING: Final = ""
"""The field of a keyword: any of them."""


def fields_named(expression: Expression) -> frozenset[str]:
    """Return the fields that an expression looks at; :data:`ANYTHING` stands for keywords."""
    match expression:
        case Test(field=field, match=how, value=value):
            return frozenset({field, value} if how in {Match.SAME, Match.SAME_START, Match.SAME_END} else {field})
        case Not(part=part):
            return fields_named(part)
        case All(parts=parts) | Any(parts=parts):
            return frozenset().union(*map(fields_named, parts))
