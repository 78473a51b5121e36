"""Other frameworks and obligations that touch the same ground, each linked to RAND's measures (our reading)."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.core.fields import Fields
from strongroom.framework.ids import MeasureId, measure_id
from strongroom.framework.levels import SecurityLevel
from strongroom.framework.provenance import LONG, Confidence, Provenance, optional_text


def _measures(f: Fields, name: str) -> tuple[MeasureId, ...]:
    return tuple(measure_id(text) for text in f.texts(name, most=64))


@dataclass(frozen=True, slots=True)
class AtlasTechnique:
    """A MITRE ATLAS technique that matters to weight theft."""

    id: str
    name: str
    relevance: str
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> AtlasTechnique:
        """Read one entry of ``atlas.techniques``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(f.text("id"), f.text("name"), f.text("relevance", max_length=LONG), Provenance.read(f))


@dataclass(frozen=True, slots=True)
class AtlasMitigation:
    """A MITRE ATLAS mitigation, and the measures that are nearest to it."""

    id: str
    name: str
    atlas_links: tuple[str, ...]
    related_measures: tuple[MeasureId, ...]
    related_measures_confidence: Confidence
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> AtlasMitigation:
        """Read one entry of ``atlas.mitigations``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(
            id=f.text("id"),
            name=f.text("name"),
            atlas_links=f.texts("atlas_links", most=32),
            related_measures=_measures(f, "related_measures"),
            related_measures_confidence=f.parsed("related_measures_confidence", Confidence),
            provenance=Provenance.read(f),
        )


@dataclass(frozen=True, slots=True)
class SL5Control:
    """A control of the SL5 Task Force's overlay on SP 800-53."""

    id: str
    oscal_id: str
    title: str
    gist: str
    parameter_values: str
    kind: str
    related_measures: tuple[MeasureId, ...]
    related_measures_confidence: Confidence
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> SL5Control:
        """Read one entry of ``sl5_standard.controls``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(
            id=f.text("id"),
            oscal_id=f.text("oscal_id"),
            title=f.text("title"),
            gist=f.text("gist", max_length=LONG),
            parameter_values=optional_text(f, "parameter_values"),
            kind=f.text("kind"),
            related_measures=_measures(f, "related_measures"),
            related_measures_confidence=f.parsed("related_measures_confidence", Confidence),
            provenance=Provenance.read(f),
        )


@dataclass(frozen=True, slots=True)
class ExternalRequirement:
    """What a law, a code, a guideline or a laboratory's own policy asks. ``status`` says how binding it is."""

    id: str
    issuer: str
    instrument: str
    reference: str
    requirement: str
    status: str
    related_measures: tuple[MeasureId, ...]
    level: SecurityLevel | None
    source_url: str
    url_seen: bool
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> ExternalRequirement:
        """Read one entry of ``external_requirements``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        named = f.optional("rand_level")
        return cls(
            id=f.text("id"),
            issuer=f.text("issuer"),
            instrument=f.text("instrument"),
            reference=f.text("reference"),
            requirement=f.text("requirement", max_length=LONG),
            status=f.text("status"),
            related_measures=_measures(f, "related_measures"),
            level=f.parsed("rand_level", SecurityLevel) if named else None,
            source_url=f.text("source_url"),
            url_seen=f.boolean("url_seen"),
            provenance=Provenance.read(f),
        )


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Something the report says to begin with."""

    id: str
    what: str
    measures: tuple[MeasureId, ...]
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> Recommendation:
        """Read one entry of ``priority_recommendations``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(f.text("id"), f.text("what"), _measures(f, "measures"), Provenance.read(f))
