"""RAND's attack vectors: ways to steal weights, and how feasible each is for each class of attacker."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.core.fields import Fields
from strongroom.framework.ids import CategoryId, MeasureId, VectorId, category_id, measure_id, vector_id
from strongroom.framework.levels import OperationalCapacity, SecurityLevel
from strongroom.framework.provenance import LONG, Confidence, Provenance, optional_text, optional_texts


@dataclass(frozen=True, slots=True)
class VectorCategory:
    """A category of attack vectors."""

    id: CategoryId
    name: str
    description: str
    vectors: tuple[VectorId, ...]
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> VectorCategory:
        """Read one entry of ``attack_vector_categories``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        return cls(
            id=f.parsed("id", category_id),
            name=f.text("name"),
            description=f.text("description", max_length=LONG),
            vectors=tuple(vector_id(text) for text in f.texts("vectors", most=32)),
            provenance=Provenance.read(f),
        )


@dataclass(frozen=True, slots=True)
class Feasibility:
    """Expert scores, 1 (up to 20 percent chance) to 5 (above 80 percent), for OC1 to OC5 in that order."""

    scores: tuple[int, int, int, int, int]

    def score(self, capacity: OperationalCapacity) -> int:
        """Return the score, 1 to 5, for one class of attacker."""
        return self.scores[capacity.rank - 1]

    @classmethod
    def read(cls, f: Fields) -> Feasibility:
        """Read the five scores.

        :raises MalformedError: one is missing or outside 1 to 5.
        """
        one, two, three, four, five = (f.integer(oc.value, least=1, most=5) for oc in OperationalCapacity)
        return cls((one, two, three, four, five))


@dataclass(frozen=True, slots=True)
class AttackVector:
    """One way to the weights.

    ``mitigations`` are the measures that work against it; the report has no such table, so that is our reading, with
    the confidence given beside it.
    """

    id: VectorId
    category: CategoryId
    name: str
    description: str
    feasibility: Feasibility
    may_change_rapidly: bool
    first_feasible_oc: OperationalCapacity
    addressed_from_level: SecurityLevel
    likely_success_from_oc: OperationalCapacity | None
    mitigations: tuple[MeasureId, ...]
    mitigations_confidence: Confidence
    mitigation_note: str
    atlas_techniques: tuple[str, ...]
    provenance: Provenance

    @classmethod
    def read(cls, f: Fields) -> AttackVector:
        """Read one entry of ``attack_vectors``.

        :raises MalformedError: a missing, unknown or wrongly typed member.
        """
        likely = f.optional("likely_success_from_oc")
        with f.child("feasibility") as scores:
            feasibility = Feasibility.read(scores)
        return cls(
            id=f.parsed("id", vector_id),
            category=f.parsed("category", category_id),
            name=f.text("name"),
            description=f.text("description", max_length=LONG),
            feasibility=feasibility,
            may_change_rapidly=f.boolean("may_change_rapidly"),
            first_feasible_oc=f.parsed("first_feasible_oc", OperationalCapacity),
            addressed_from_level=f.parsed("addressed_from_level", SecurityLevel),
            likely_success_from_oc=f.parsed("likely_success_from_oc", OperationalCapacity) if likely else None,
            mitigations=tuple(measure_id(text) for text in f.texts("mitigations", most=64)),
            mitigations_confidence=f.parsed("mitigations_confidence", Confidence),
            mitigation_note=optional_text(f, "mitigation_note"),
            atlas_techniques=optional_texts(f, "atlas_techniques"),
            provenance=Provenance.read(f),
        )
