"""Conditions of playbooks: comparisons of variables in the words of STIX patterning, joined by AND or by OR.

``__exposed__:value = 'yes' AND __level__:value >= 3``. Nothing else of the grammar is taken; nothing is evaluated
that isn't one of these comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import MalformedError

VARIABLE: Final = re.compile(r"__([a-z][a-z0-9_-]{0,62}?)__")
_TERM: Final = re.compile(
    r"__(?P<name>[a-z][a-z0-9_-]{0,62}?)__:value (?P<sign>=|!=|<=|>=|<|>) (?P<value>'[^'\\]{0,128}'|[0-9]{1,15})"
)
_ORDERED: Final = frozenset({"<", "<=", ">", ">="})
MAX_TERMS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One comparison of a variable with a text or a whole number."""

    variable: str
    sign: str
    value: str | int

    def holds(self, values: Mapping[str, str]) -> bool:
        """Return whether it holds. A variable that isn't a number is never in order with one: the term is false."""
        found = values.get(self.variable, "")
        if isinstance(self.value, int):
            return bool(re.fullmatch(r"[0-9]{1,15}", found)) and _in_order(int(found), self.sign, self.value)
        return (found == self.value) is (self.sign == "=")


def _in_order(left: int, sign: str, right: int) -> bool:
    return {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[sign]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Terms, all of which must hold, or any of them."""

    terms: tuple[Term, ...]
    any_of: bool

    def holds(self, values: Mapping[str, str]) -> bool:
        """Return whether the condition holds for these variables."""
        return (any if self.any_of else all)(term.holds(values) for term in self.terms)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that it reads."""
        return tuple(term.variable for term in self.terms)


def read_condition(text: str) -> Condition:
    """Read a condition.

    :raises MalformedError: anything but at most eight comparisons, joined all by AND or all by OR.
    """
    joints = set(re.findall(r" (AND|OR) ", re.sub(r"'[^']*'", "''", text)))
    if len(joints) > 1:
        raise MalformedError("a condition joins its comparisons by AND or by OR, not by both")
    parts = re.split(r" (?:AND|OR) (?=__)", text)
    if len(parts) > MAX_TERMS:
        raise MalformedError(f"a condition has at most {MAX_TERMS} comparisons")
    return Condition(terms=tuple(_term(part) for part in parts), any_of=joints == {"OR"})


def _term(text: str) -> Term:
    found = _TERM.fullmatch(text)
    if found is None:
        raise MalformedError("a comparison is written `__name__:value = 'text'`, or with a whole number")
    value = found["value"]
    if value.startswith("'") and found["sign"] in _ORDERED:
        raise MalformedError("texts are compared by `=` and `!=` only")
    return Term(variable=found["name"], sign=found["sign"], value=value[1:-1] if value[0] == "'" else int(value))


def variable_of(written: str) -> str:
    """Return a variable's name without its underscores.

    :raises MalformedError: it isn't written ``__name__``.
    """
    found = VARIABLE.fullmatch(written)
    if found is None:
        raise MalformedError("a variable is written `__name__`, in lower case")
    return found[1]
