"""RAND's framework is shipped whole, and every reference in it leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.framework.catalogue import DATA_FILE, Catalogue, load, parse
from strongroom.framework.ids import MEASURE_FORM, category_id, measure_id, vector_id
from strongroom.framework.levels import OperationalCapacity, SecurityLevel
from strongroom.framework.measures import MeasureCategory

CHECKOUT = Path(__file__).resolve().parents[2]
LEVEL_COUNTS = {"SL1": 26, "SL2": 40, "SL3": 45, "SL4": 41, "SL5": 17}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def test_the_counts_are_the_reports(catalogue: Catalogue) -> None:
    assert len(catalogue.measures) == 169
    assert len(catalogue.vectors) == 38
    assert len(catalogue.categories) == 9
    assert Counter(measure.level.value for measure in catalogue.measures.values()) == LEVEL_COUNTS
    assert {level.value: profile.measure_count for level, profile in catalogue.levels.items()} == LEVEL_COUNTS
    assert sum(len(catalogue.measures_in(category)) for category in MeasureCategory) == 169
    assert list(catalogue.levels) == list(SecurityLevel)
    assert list(catalogue.capacities) == list(OperationalCapacity)
    assert len(catalogue.sl5_controls) == 43


def test_a_measures_id_begins_with_its_level(catalogue: Catalogue) -> None:
    assert [m.id for m in catalogue.measures.values() if not m.id.startswith(f"{m.level}-")] == []


def test_every_reference_to_a_measure_exists(catalogue: Catalogue) -> None:
    referred = {
        *(name for vector in catalogue.vectors.values() for name in vector.mitigations),
        *(name for rungs in catalogue.ladders.values() for name in rungs),
        *(name for entry in (*catalogue.near_term, *catalogue.long_term) for name in entry.measures),
        *(name for control in catalogue.sl5_controls for name in control.related_measures),
        *(name for mitigation in catalogue.atlas_mitigations for name in mitigation.related_measures),
        *(name for asked in catalogue.external_requirements for name in asked.related_measures),
    }
    assert referred - set(catalogue.measures) == set()


def test_measures_and_vectors_agree_on_what_counters_what(catalogue: Catalogue) -> None:
    forward = {(m.id, vector) for m in catalogue.measures.values() for vector in m.counters}
    backward = {(name, v.id) for v in catalogue.vectors.values() for name in v.mitigations}
    assert forward == backward
    assert {vector for _, vector in forward} <= set(catalogue.vectors)


def test_categories_and_vectors_agree(catalogue: Catalogue) -> None:
    listed = {(category.id, name) for category in catalogue.categories.values() for name in category.vectors}
    assert listed == {(vector.category, vector.id) for vector in catalogue.vectors.values()}


def test_ladders_climb_and_are_known_to_their_rungs(catalogue: Catalogue) -> None:
    for name, rungs in catalogue.ladders.items():
        ranks = [catalogue.measures[rung].level.rank for rung in rungs]
        assert ranks == sorted(set(ranks)), name
    listed = {(name, rung) for name, rungs in catalogue.ladders.items() for rung in rungs}
    assert listed == {(m.ladder, m.id) for m in catalogue.measures.values() if m.ladder}


def test_prerequisites_are_all_the_levels_below(catalogue: Catalogue) -> None:
    assert {(p.level, p.requires) for p in catalogue.prerequisites} == {
        (level, level.up_to()[:-1]) for level in SecurityLevel if level.rank > 1
    }


def test_atlas_links_exist(catalogue: Catalogue) -> None:
    # Vectors also name techniques that are described in ATLAS alone; those are checked for form only.
    techniques = {technique.id for technique in catalogue.atlas_techniques}
    mitigations = {mitigation.id for mitigation in catalogue.atlas_mitigations}
    assert {name for m in catalogue.atlas_mitigations for name in m.atlas_links} <= techniques
    assert {name for m in catalogue.measures.values() for name in m.atlas_mitigations} <= mitigations
    for name in (name for v in catalogue.vectors.values() for name in v.atlas_techniques):
        assert re.fullmatch(r"AML\.T\d{4}(\.\d{3})?", name), name


def test_feasibility_figures_follow_from_the_scores(catalogue: Catalogue) -> None:
    for vector in catalogue.vectors.values():
        first = next(oc for oc in OperationalCapacity if vector.feasibility.score(oc) > 1)
        likely = next((oc for oc in OperationalCapacity if vector.feasibility.score(oc) >= 4), None)
        assert (vector.first_feasible_oc, vector.likely_success_from_oc) == (first, likely), vector.id
        assert vector.addressed_from_level.rank == first.rank, vector.id


def test_levels_are_cumulative(catalogue: Catalogue) -> None:
    assert len(catalogue.measures_of(SecurityLevel.SL3)) == 45
    assert len(catalogue.measures_of(SecurityLevel.SL3, cumulative=True)) == 26 + 40 + 45
    assert len(catalogue.measures_of(SecurityLevel.SL5, cumulative=True)) == 169


def test_queries_answer_with_the_entries_themselves(catalogue: Catalogue) -> None:
    storage = catalogue.measure("sl2-wst-02")
    assert storage is catalogue.measures[measure_id("SL2-WST-02")]
    assert {figure.name: figure.value for figure in storage.parameters}["encryption_min_bits"] == 256
    assert storage in catalogue.measures_in(MeasureCategory.WEIGHT_SECURITY)
    assert [v.id for v in catalogue.vectors_in(category_id("RUC"))] == ["RUC-1", "RUC-2", "RUC-3", "RUC-4"]
    assert measure_id("SL1-NSW-01") in catalogue.vector(vector_id("RUC-1")).mitigations
    assert "EU-COP-4.2.4" in {asked.id for asked in catalogue.requirements_for(storage.id)}


def test_an_unknown_id_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(NotFoundError, match="no measure `SL3-WPI-77`") as caught:
        catalogue.measure("SL3-WPI-77")
    assert "`SL3-WPI-01`" in caught.value.remedy
    with pytest.raises(NotFoundError) as caught:
        catalogue.vector("RUC-9")
    assert "`RUC-" in caught.value.remedy
    with pytest.raises(NotFoundError):
        catalogue.category("ZZZ")
    with pytest.raises(NotFoundError):
        catalogue.level("SL6")


def test_the_catalogue_cannot_be_changed(catalogue: Catalogue) -> None:
    with pytest.raises(TypeError):
        catalogue.measures[measure_id("SL1-WST-01")] = catalogue.measure("SL2-WST-02")  # type: ignore[index]
    assert load() is catalogue


def test_damaged_data_is_refused() -> None:
    text = files("strongroom.framework").joinpath(DATA_FILE).read_text(encoding="utf-8")
    with pytest.raises(MalformedError, match="isn't YAML"):
        parse(b"a: [")
    with pytest.raises(MalformedError, match="closed choice"):
        parse(text.replace("automation: [attest, verify]", "automation: [guess]", 1).encode())
    whole = yaml.safe_load(text)
    for damage in ("extra", "missing", "twice"):
        measures = [dict(entry) for entry in whole["measures"][:2]]
        if damage == "extra":
            measures[0]["surprise"] = 1
        elif damage == "missing":
            del measures[0]["name"]
        else:
            measures[1] = measures[0]
        with pytest.raises(MalformedError):
            parse(yaml.safe_dump({**whole, "measures": measures}).encode())


def test_every_measure_named_in_code_and_docs_exists(catalogue: Catalogue) -> None:
    named: dict[str, str] = {}
    for folder in ("src", "docs"):
        for path in sorted((CHECKOUT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".yaml", ".json", ".cedar", ".html"}:
                for name in re.findall(rf"(?<![\w-]){MEASURE_FORM.pattern}(?![\w-])", path.read_text(encoding="utf-8")):
                    named.setdefault(name, str(path.relative_to(CHECKOUT)))
    assert len(named) >= 169
    assert {name: where for name, where in named.items() if name not in catalogue.measures} == {}
