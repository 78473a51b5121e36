"""Rules as packs hold them: what to look for, how sure a match is, which threats it answers, and what it may start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.detection.expressions import MAX_FIELD_NAME, Expression, expression_json, read_expression

MAX_TAGS: Final = 32
MAX_REFERENCED: Final = 32
MAX_TIMESPAN: Final = 400 * 86400
"""Seconds: a year and a month, so that baselines over months have room."""
MAX_KEPT: Final = 4096
"""Events that one group may hold at a time. A count above it can't be asked for."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,94}[a-z0-9])?")
_TAG: Final = re.compile(r"[a-z0-9_]+\.[a-z0-9_.-]{1,60}")


class Severity(StrEnum):
    """Sigma's levels."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Certainty(StrEnum):
    """What a match may start by itself."""

    SURE = "sure"
    """No benign cause exists: may start containment without asking anybody."""
    LIKELY = "likely"
    """Tells somebody, who decides."""
    HINT = "hint"
    """Stands in the record, where it is seen beside others; rules that count hints may be more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is said of a rule, for people and for coverage: none of it is matched."""

    title: str
    severity: Severity
    certainty: Certainty
    tags: tuple[str, ...]
    """``rand.v5-4``, ``atlas.aml.t0024.002``, ``attack.t1567``: vectors and techniques that the rule answers."""
    playbook: str
    """The playbook that a match starts; empty for none."""

    @classmethod
    def read(cls, fields: Fields) -> About:
        """Read the JSON form."""
        return cls(
            title=fields.text("title", max_length=256),
            severity=fields.parsed("severity", Severity),
            certainty=fields.parsed("certainty", Certainty),
            tags=tuple(_matching(_TAG, tag, "a tag") for tag in fields.texts("tags", most=MAX_TAGS, max_length=80)),
            playbook=fields.text("playbook", max_length=96),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "title": self.title,
            "severity": self.severity.value,
            "certainty": self.certainty.value,
            "tags": list(self.tags),
            "playbook": self.playbook,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule about single events. ``silent``: only the correlations that name it report it."""

    id: str
    about: About
    expression: Expression
    silent: bool = False

    @classmethod
    def read(cls, fields: Fields) -> Rule:
        """Read the JSON form."""
        with fields.child("about") as about, fields.child("expression") as expression:
            return cls(
                id=rule_name(fields.text("id", max_length=96)),
                about=About.read(about),
                expression=read_expression(expression),
                silent=fields.boolean("silent"),
            )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "about": self.about.to_json(),
            "expression": expression_json(self.expression),
            "silent": self.silent,
        }


class CorrelationKind(StrEnum):
    """Sigma's correlation types (correlation specification 2.1)."""

    EVENT_COUNT = "event_count"
    VALUE_COUNT = "value_count"
    VALUE_SUM = "value_sum"
    VALUE_AVG = "value_avg"
    VALUE_MEDIAN = "value_median"
    VALUE_PERCENTILE = "value_percentile"
    TEMPORAL = "temporal"
    TEMPORAL_ORDERED = "temporal_ordered"


TEMPORAL: Final = frozenset({CorrelationKind.TEMPORAL, CorrelationKind.TEMPORAL_ORDERED})


class Comparison(StrEnum):
    """How a correlation's figure is compared with its threshold."""

    AT_LEAST = "gte"
    ABOVE = "gt"
    AT_MOST = "lte"
    BELOW = "lt"
    EQUAL = "eq"
    OTHER = "neq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What a figure must reach. ``fields`` is what values are taken from; ``percentile`` is 0 to 100."""

    comparison: Comparison
    count: int
    fields: tuple[str, ...] = ()
    percentile: int = 50

    @classmethod
    def read(cls, fields: Fields) -> Threshold:
        """Read the JSON form."""
        return cls(
            comparison=fields.parsed("comparison", Comparison),
            count=fields.integer("count"),
            fields=fields.texts("fields", most=8, max_length=MAX_FIELD_NAME),
            percentile=fields.integer("percentile", most=100),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "comparison": self.comparison.value,
            "count": self.count,
            "fields": list(self.fields),
            "percentile": self.percentile,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupField:
    """One field that events are grouped by; ``other`` names it for rules whose events call it otherwise."""

    name: str
    other: tuple[tuple[str, str], ...] = ()
    """Pairs of rule id and field name."""

    @classmethod
    def read(cls, fields: Fields) -> GroupField:
        """Read the JSON form."""
        return cls(
            name=fields.text("name", max_length=MAX_FIELD_NAME),
            other=fields.objects("other", _alias, most=MAX_REFERENCED),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {"name": self.name, "other": [{"rule": rule, "field": field} for rule, field in self.other]}

    def of(self, rule: str) -> str:
        """Return what the events of ``rule`` call this field."""
        return dict(self.other).get(rule, self.name)


def _alias(fields: Fields) -> tuple[str, str]:
    return rule_name(fields.text("rule", max_length=96)), fields.text("field", max_length=MAX_FIELD_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """A rule about several matches of other rules within ``timespan`` seconds, for each group of field values."""

    id: str
    about: About
    kind: CorrelationKind
    rules: tuple[str, ...]
    group_by: tuple[GroupField, ...]
    timespan: int
    threshold: Threshold
    without: tuple[str, ...] = ()
    """For temporal kinds: rules none of which may have matched in the same time."""
    silent: bool = False

    @classmethod
    def read(cls, fields: Fields) -> Correlation:
        """Read the JSON form.

        :raises MalformedError: another form, or a threshold that its kind can't have.
        """
        with fields.child("about") as about, fields.child("threshold") as threshold:
            read = cls(
                id=rule_name(fields.text("id", max_length=96)),
                about=About.read(about),
                kind=fields.parsed("kind", CorrelationKind),
                rules=_names(fields.texts("rules", most=MAX_REFERENCED)),
                group_by=fields.objects("group_by", GroupField.read, most=8),
                timespan=fields.integer("timespan", least=1, most=MAX_TIMESPAN),
                threshold=Threshold.read(threshold),
                without=_names(fields.texts("without", most=MAX_REFERENCED)),
                silent=fields.boolean("silent"),
            )
        read.check()
        return read

    def check(self) -> None:
        """Check that the members fit each other.

        :raises MalformedError: they don't.
        """
        counts = self.kind in {CorrelationKind.EVENT_COUNT, CorrelationKind.VALUE_COUNT}
        needs_field = self.kind not in TEMPORAL and self.kind is not CorrelationKind.EVENT_COUNT
        if not self.rules:
            raise MalformedError(f"correlation `{self.id}` names no rule")
        if counts and self.threshold.count >= MAX_KEPT:
            raise MalformedError(f"correlation `{self.id}` counts to {MAX_KEPT} or more: that many events aren't kept")
        if needs_field != bool(self.threshold.fields):
            raise MalformedError(f"correlation `{self.id}` of kind `{self.kind}`: which fields are its values?")
        if self.without and self.kind not in TEMPORAL:
            raise MalformedError(f"correlation `{self.id}`: only temporal kinds know `without`")

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "about": self.about.to_json(),
            "kind": self.kind.value,
            "rules": list(self.rules),
            "group_by": [field.to_json() for field in self.group_by],
            "timespan": self.timespan,
            "threshold": self.threshold.to_json(),
            "without": list(self.without),
            "silent": self.silent,
        }


def rule_name(text: str) -> str:
    """Check a rule's id.

    :raises MalformedError: it isn't lower-case letters, digits, `-` and `_`.
    """
    return _matching(_NAME, text, "a rule's id")


def _names(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(rule_name(text) for text in texts)


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise MalformedError(f"{what} isn't of the form `{pattern.pattern}`")
    return text
