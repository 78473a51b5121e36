"""RAND's benchmark measures: what each security level adds to the one below it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.framework.ids import MeasureId, VectorId, measure_id, vector_id
from strongroom.framework.levels import SecurityLevel
from strongroom.framework.provenance import LONG, Provenance, optional_text, optional_texts


class MeasureCategory(StrEnum):
    """The report's categories of measures."""

    WEIGHT_SECURITY = "Weight Security"
    OTHER_ASSETS = "Security of Network and Other (Nonweight) Sensitive Assets"
    PERSONNEL_SECURITY = "Personnel Security"
    ASSURANCE_AND_TESTING = "Security Assurance and Testing"
    TEAM_CAPACITY = "Security Team Capacity"
    MAINTENANCE = "Maintenance"
    MODEL_RESILIENCE = "AI Model Resilience"
    DETECTION_AND_RESPONSE = "Threat Detection and Response"
    OTHER_POLICIES = "Other Organization Policies"


class Automation(StrEnum):
    """What software can do about a measure (our reading)."""

    ENFORCE = "enforce"
    VERIFY = "verify"
    ATTEST = "attest"


class MappingBasis(StrEnum):
    """Why a measure is mapped to its SP 800-53 controls."""

    READING = "reading"
    SL5_STANDARD = "sl5-standard"
    BOTH = "reading+sl5-standard"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A figure of the report. One whose name ends with ``_example`` is offered as an example, not as a threshold.

    The unit is the end of the name: ``_days``, ``_seconds``, ``_bits``, ``_fraction_per_year`` and so on.
    """

    name: str
    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the report's benchmark.

    ``counters`` and ``nist_800_53`` are our reading; ``nist_csf_1_1`` is the report's own. ``ladder`` names the series
    in which a measure of a higher level replaces this one in strength.
    """

    id: MeasureId
    level: SecurityLevel
    category: MeasureCategory
    subcategory: str
    name: str
    description: str
    automation: tuple[Automation, ...]
    counters: tuple[VectorId, ...]
    nist_csf_1_1: str
    nist_800_53: tuple[str, ...]
    nist_800_53_basis: MappingBasis | None
    parameters: tuple[Parameter, ...]
    sub_requirements: tuple[str, ...]
    ladder: str
    group: str
    reliability: str
    atlas_mitigations: tuple[str, ...]
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> Measure:
        """Read one entry of ``measures``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        based = f.optional("nist_800_53_basis")
        return cls(
            id=f.parsed("id", measure_id),
            level=f.parsed("level", SecurityLevel),
            category=f.parsed("category", MeasureCategory),
            subcategory=optional_text(f, "subcategory"),
            name=f.text("name"),
            description=f.text("description", max_length=LONG),
            automation=tuple(Automation(text) for text in f.texts("automation", most=3)),
            counters=tuple(vector_id(text) for text in f.texts("counters", most=38)),
            nist_csf_1_1=f.text("nist_csf_1_1"),
            nist_800_53=f.texts("nist_800_53", most=32),
            nist_800_53_basis=f.parsed("nist_800_53_basis", MappingBasis) if based else None,
            parameters=_parameters(f),
            sub_requirements=optional_texts(f, "sub_requirements"),
            ladder=optional_text(f, "ladder"),
            group=optional_text(f, "group"),
            reliability=optional_text(f, "reliability"),
            atlas_mitigations=optional_texts(f, "atlas_mitigations"),
            provenance=Provenance.read(f),
        )


def _parameters(f: Fields) -> tuple[Parameter, ...]:
    if not f.optional("parameters"):
        return ()
    value = f.value("parameters")
    if not isinstance(value, dict):
        raise MalformedError(f"`{f.where}.parameters` must be an object")
    found = []
    for name, figure in value.items():
        if not isinstance(figure, str | int | float | bool):
            raise MalformedError(f"`{f.where}.parameters.{name}` must be a text, a number, true or false")
        found.append(Parameter(name, figure))
    return tuple(found)
