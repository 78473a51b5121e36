"""The whole framework, loaded once from the package's own data, indexed, and asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, TypeVar

import yaml

from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.framework.ids import CategoryId, MeasureId, VectorId, measure_id
from strongroom.framework.levels import (
    AssessmentRule,
    CapacityProfile,
    LevelProfile,
    OperationalCapacity,
    Prerequisite,
    SecurityLevel,
)
from strongroom.framework.mappings import (
    AtlasMitigation,
    AtlasTechnique,
    ExternalRequirement,
    Recommendation,
    SL5Control,
)
from strongroom.framework.measures import Measure, MeasureCategory
from strongroom.framework.provenance import LONG
from strongroom.framework.vectors import AttackVector, VectorCategory

DATA_FILE: Final = "rand-framework.yaml"

K = TypeVar("K", bound=str)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Citation:
    """The report that the facts come from."""

    report: str
    authors: tuple[str, ...]
    published: str
    url: str
    doi: str

    def line(self) -> str:
        """Return the credit in one line."""
        return (
            f"Source: RAND Corporation, {self.report} ({self.published[:4]}), {self.url}. Wording and links are ours."
        )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """RAND's framework. Mappings keep the order of the report and can't be changed."""

    citation: Citation
    caution: str
    levels: Mapping[SecurityLevel, LevelProfile]
    capacities: Mapping[OperationalCapacity, CapacityProfile]
    prerequisites: tuple[Prerequisite, ...]
    rules: tuple[AssessmentRule, ...]
    categories: Mapping[CategoryId, VectorCategory]
    vectors: Mapping[VectorId, AttackVector]
    measures: Mapping[MeasureId, Measure]
    ladders: Mapping[str, tuple[MeasureId, ...]]
    near_term: tuple[Recommendation, ...]
    long_term: tuple[Recommendation, ...]
    atlas_techniques: tuple[AtlasTechnique, ...]
    atlas_mitigations: tuple[AtlasMitigation, ...]
    sl5_controls: tuple[SL5Control, ...]
    external_requirements: tuple[ExternalRequirement, ...]

    def measure(self, name: str) -> Measure:
        """Return one measure, by id in either case.

        :raises NotFoundError: no such measure; the remedy names the nearest ids.
        """
        return _find(self.measures, name, "measure")

    def vector(self, name: str) -> AttackVector:
        """Return one attack vector, by id in either case.

        :raises NotFoundError: no such vector; the remedy names the nearest ids.
        """
        return _find(self.vectors, name, "attack vector")

    def category(self, name: str) -> VectorCategory:
        """Return one category of vectors, by id in either case.

        :raises NotFoundError: no such category; the remedy names the nearest ids.
        """
        return _find(self.categories, name, "vector category")

    def level(self, name: str) -> LevelProfile:
        """Return one security level, by id in either case.

        :raises NotFoundError: no such level; the remedy names the nearest ids.
        """
        return _find(self.levels, name, "security level")

    def measures_of(self, level: SecurityLevel, *, cumulative: bool = False) -> tuple[Measure, ...]:
        """Return what ``level`` adds or, cumulatively, all that holding it takes."""
        wanted = frozenset(level.up_to() if cumulative else (level,))
        return tuple(measure for measure in self.measures.values() if measure.level in wanted)

    def measures_in(self, category: MeasureCategory) -> tuple[Measure, ...]:
        """Return the measures of one of the report's categories, at all levels."""
        return tuple(measure for measure in self.measures.values() if measure.category is category)

    def vectors_in(self, category: CategoryId) -> tuple[AttackVector, ...]:
        """Return the attack vectors of one category.

        :raises NotFoundError: no such category.
        """
        return tuple(self.vectors[name] for name in self.category(category).vectors)

    def requirements_for(self, measure: MeasureId) -> tuple[ExternalRequirement, ...]:
        """Return the outside obligations that one measure helps to meet."""
        return tuple(asked for asked in self.external_requirements if measure in asked.related_measures)


@cache
def load() -> Catalogue:
    """Read the package's data, once for each process.

    :raises MalformedError: the shipped file is damaged: a missing, unknown or wrongly typed member, or an id twice.
    """
    return parse(files(__package__ or "strongroom.framework").joinpath(DATA_FILE).read_bytes())


def parse(data: bytes) -> Catalogue:
    """Read a catalogue from YAML text.

    :raises MalformedError: as for :func:`load`.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        value = yaml.load(data, Loader=loader)  # noqa: S506 - one of the two safe loaders, the C one where it was built
    except yaml.YAMLError:
        raise MalformedError("the framework's data isn't YAML") from None
    try:
        # The sections that explain the data to its editors (scoring, environments, inconsistencies) stay in the file.
        return _read(Fields(value, "framework"))
    except ValueError:
        raise MalformedError("the framework's data holds a name outside a closed choice") from None


def _read(f: Fields) -> Catalogue:
    meta, plan, atlas, sl5 = (f.child(n) for n in ("meta", "priority_recommendations", "atlas", "sl5_standard"))
    return Catalogue(
        citation=_citation(meta.child("primary_source")),
        caution=meta.text("caution", max_length=LONG),
        levels=_index("levels", ((e.id, e) for e in f.objects("security_levels", LevelProfile.read, most=5))),
        capacities=_index(
            "capacities", ((e.id, e) for e in f.objects("operational_capacities", CapacityProfile.read, most=5))
        ),
        prerequisites=f.objects("level_prerequisites", Prerequisite.read, most=5),
        rules=f.objects("assessment_rules", AssessmentRule.read, most=32),
        categories=_index(
            "categories", ((e.id, e) for e in f.objects("attack_vector_categories", VectorCategory.read, most=32))
        ),
        vectors=_index("vectors", ((e.id, e) for e in f.objects("attack_vectors", AttackVector.read, most=128))),
        measures=_index("measures", ((e.id, e) for e in f.objects("measures", Measure.read, most=512))),
        ladders=_ladders(f),
        near_term=plan.objects("near_term", Recommendation.read, most=32),
        long_term=plan.objects("long_term", Recommendation.read, most=32),
        atlas_techniques=atlas.objects("techniques", AtlasTechnique.read, most=64),
        atlas_mitigations=atlas.objects("mitigations", AtlasMitigation.read, most=64),
        sl5_controls=sl5.objects("controls", SL5Control.read, most=128),
        external_requirements=f.objects("external_requirements", ExternalRequirement.read, most=256),
    )


def _citation(f: Fields) -> Citation:
    return Citation(
        report=f.text("report"),
        authors=f.texts("authors", most=16),
        published=f.text("published"),
        url=f.text("url"),
        doi=f.text("doi"),
    )


def _ladders(f: Fields) -> Mapping[str, tuple[MeasureId, ...]]:
    value = f.value("ladders")
    if not isinstance(value, dict):
        raise MalformedError("`framework.ladders` must be an object")
    rungs = Fields(value, "framework.ladders")
    return _index("ladders", ((name, tuple(map(measure_id, rungs.texts(name, most=8)))) for name in value))


def _index(what: str, pairs: Iterable[tuple[K, V]]) -> Mapping[K, V]:
    # Two entries of one id would let a look-up answer with either.
    index: dict[K, V] = {}
    for name, entry in pairs:
        if name in index:
            raise MalformedError(f"`framework.{what}` has `{name}` twice")
        index[name] = entry
    return MappingProxyType(index)


def _find(index: Mapping[K, V], name: str, kind: str) -> V:
    wanted = name.strip().upper()
    for known, entry in index.items():
        if known == wanted:
            return entry
    near = get_close_matches(wanted, [str(known) for known in index], n=3, cutoff=0.3)
    remedy = f"the nearest are {', '.join(f'`{known}`' for known in near)}" if near else ""
    raise NotFoundError(f"RAND's framework has no {kind} `{name[:32]}`", remedy=remedy)
