"""Security levels SL1 to SL5 and the operational capacities OC1 to OC5 that they are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.core.fields import Fields
from strongroom.framework.provenance import LONG, Provenance, optional_text


class SecurityLevel(StrEnum):
    """A RAND security level. Levels are cumulative: each needs every measure of the levels below it."""

    SL1 = "SL1"
    SL2 = "SL2"
    SL3 = "SL3"
    SL4 = "SL4"
    SL5 = "SL5"

    @property
    def rank(self) -> int:
        """1 to 5. Compare ranks: the names would compare as text."""
        return int(self.value[2:])

    def up_to(self) -> tuple[SecurityLevel, ...]:
        """Return the levels whose measures this one needs, SL1 first, itself last."""
        return tuple(level for level in SecurityLevel if level.rank <= self.rank)


class OperationalCapacity(StrEnum):
    """A RAND class of attacker, by what it can spend on one operation."""

    OC1 = "OC1"
    OC2 = "OC2"
    OC3 = "OC3"
    OC4 = "OC4"
    OC5 = "OC5"

    @property
    def rank(self) -> int:
        """1 to 5."""
        return int(self.value[2:])


@dataclass(frozen=True, slots=True)
class CapacityProfile:
    """What an attacker of one class brings. ``budget_usd_max`` is in US dollars; ``people`` is a rough head count."""

    id: OperationalCapacity
    title: str
    summary: str
    people: int
    skill: str
    duration: str
    budget_usd_max: int
    prior_infrastructure: str
    prior_access: str
    example_actors: tuple[str, ...]
    tempo: str
    note: str
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> CapacityProfile:
        """Read one entry of ``operational_capacities``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(
            id=f.parsed("id", OperationalCapacity),
            title=f.text("title"),
            summary=f.text("summary", max_length=LONG),
            people=f.integer("people", least=1),
            skill=f.text("skill"),
            duration=f.text("duration"),
            budget_usd_max=f.integer("budget_usd_max", least=1),
            prior_infrastructure=f.text("prior_infrastructure"),
            prior_access=f.text("prior_access"),
            example_actors=f.texts("example_actors", most=16),
            tempo=optional_text(f, "tempo"),
            note=optional_text(f, "note"),
            provenance=Provenance.read(f),
        )


@dataclass(frozen=True, slots=True)
class LevelProfile:
    """What one security level is for, and how many measures it adds to those below it."""

    id: SecurityLevel
    capacity: OperationalCapacity
    assurance: str
    goal: str
    key_themes: tuple[str, ...]
    measure_count: int
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> LevelProfile:
        """Read one entry of ``security_levels``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(
            id=f.parsed("id", SecurityLevel),
            capacity=f.parsed("oc", OperationalCapacity),
            assurance=f.text("assurance"),
            goal=f.text("goal"),
            key_themes=f.texts("key_themes", most=16),
            measure_count=f.integer("measure_count", least=1),
            provenance=Provenance.read(f),
        )


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """What holding a level takes besides its own measures."""

    level: SecurityLevel
    requires: tuple[SecurityLevel, ...]
    rule: str
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> Prerequisite:
        """Read one entry of ``level_prerequisites``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(
            level=f.parsed("level", SecurityLevel),
            requires=tuple(SecurityLevel(name) for name in f.texts("requires", most=4)),
            rule=f.text("rule"),
            provenance=Provenance.read(f),
        )


@dataclass(frozen=True, slots=True)
class AssessmentRule:
    """A rule of the report about judging which level is held."""

    id: str
    rule: str
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> AssessmentRule:
        """Read one entry of ``assessment_rules``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(id=f.text("id"), rule=f.text("rule", max_length=LONG), provenance=Provenance.read(f))
