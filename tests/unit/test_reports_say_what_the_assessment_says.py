"""Reports add nothing to an assessment and hide nothing of it, in whatever form."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
import yaml

from strongroom.assurance.attack_results import Outcome
from strongroom.assurance.findings import State
from strongroom.assurance.levels import count
from strongroom.assurance.reports import ciso, html, matrix, oscal, served
from strongroom.assurance.reports.oscal_references import DanglingReferenceError, check_references
from strongroom.framework.catalogue import load
from strongroom.framework.ids import VectorId
from strongroom.framework.levels import OperationalCapacity, SecurityLevel
from support.ciso_rules import broken
from support.reported import assessment

CATALOGUE = load()


def documents() -> dict[str, dict[str, object]]:
    return {name: json.loads(data) for name, data in oscal.as_oscal(assessment(), CATALOGUE).items()}


def page() -> str:
    return html.as_html(assessment(), CATALOGUE)["assessment.html"].decode()


def test_the_page_names_every_measure_vector_attack_and_speaker() -> None:
    text, made = page(), assessment()
    assert made.attacks is not None
    names = [*CATALOGUE.measures, *CATALOGUE.vectors, *(one.attack for one in made.attacks.results)]
    names += [name for one in made.statements for name in one.signers]
    assert [name for name in names if name not in text] == []
    assert CATALOGUE.citation.line() in text
    assert "holds no RAND Security Level" in text


def test_the_page_gives_the_gaps_in_the_order_of_the_assessment() -> None:
    part = re.search(r'<section id="gaps".*?</section>', page(), re.DOTALL)
    assert part is not None
    gaps = assessment().gaps(CATALOGUE)
    assert re.findall(r"<code>(SL\d-\w+-\d\d)</code>", part[0]) == [gap.measure for gap in gaps]
    assert all(gap.step is None or gap.step.command in part[0] for gap in gaps)


def test_a_cell_is_as_weak_as_its_weakest_measure() -> None:
    made = assessment()
    for vector in CATALOGUE.vectors.values():
        for cell in matrix.row(vector, made, CATALOGUE):
            states = {made.findings[name].state for name in cell.measures}
            assert (cell.state is None) is (not states)
            if cell.state in {State.MET, State.NOT_APPLICABLE}:
                assert all(state.holds for state in states)
                assert cell.open == ()
            assert all(CATALOGUE.measures[name].level.rank <= cell.capacity.rank for name in cell.measures)


def test_an_attack_that_got_through_is_seen_in_the_cell_whatever_the_measures_say() -> None:
    made, vector = assessment(), CATALOGUE.vectors[VectorId("RUC-2")]
    assert made.attacks is not None
    weak, *strong = matrix.row(vector, made, CATALOGUE)
    assert weak.attacks == ()
    assert all(cell.got_through for cell in strong), "what OC2 can, every greater class can"
    blocked = tuple(replace(one, outcome=Outcome.BLOCKED) for one in made.attacks.results)
    quiet = replace(made, attacks=replace(made.attacks, results=blocked))
    assert not any(cell.got_through for cell in matrix.row(vector, quiet, CATALOGUE))
    without = html.as_html(quiet, CATALOGUE)["assessment.html"].decode()
    assert ("<b>got through</b>" in page(), "<b>got through</b>" in without) == (True, False)


def test_no_level_above_the_one_held_is_called_held() -> None:
    made = replace(assessment(), held=SecurityLevel.SL2)
    text = html.as_html(made, CATALOGUE)["assessment.html"].decode()
    rungs = re.findall(r'<li class="([\w-]+)(?: goal)?"><b>SL\d</b>', text)
    assert rungs == ["met", "met", "not-met", "not-met", "nothing"]


def test_what_no_measure_serves_is_never_called_met() -> None:
    asked = served.served(assessment(), CATALOGUE)
    for one in asked:
        assert (one.state is None) is (not one.measures)
        assert one.state is not State.MET or one.holding == len(one.measures)
    frameworks = {one.framework for one in asked}
    assert {"NIST SP 800-53", "NIST CSF 1.1", "SL5 Standard v0.1", "MITRE ATLAS"} <= frameworks
    assert sum(one.framework == "SL5 Standard v0.1" for one in asked) == 43
    for word in ("EU GPAI Code of Practice", "SB 53", "RAISE"):
        assert any(word in name for name in frameworks), word


def test_a_sheet_runs_nothing() -> None:
    rows = list(csv.reader(io.StringIO(served.as_csv(assessment(), CATALOGUE)["mappings.csv"].decode())))
    assert len(rows) == len(served.served(assessment(), CATALOGUE)) + 1
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


def test_oscal_calls_satisfied_what_is_met_and_nothing_else() -> None:
    result = documents()[oscal.RESULTS]["assessment-results"]["results"][0]  # type: ignore[index]
    made = assessment()
    found = {one["target"]["target-id"]: one["target"]["status"]["state"] for one in result["findings"]}
    for name, finding in made.findings.items():
        state = found.get(f"{name.lower()}_smt")
        if finding.state in {State.NOT_ASSESSED, State.NOT_APPLICABLE}:
            assert state is None
        else:
            assert state == ("satisfied" if finding.state is State.MET else "not-satisfied")
    (selection,) = result["reviewed-controls"]["control-selections"]
    counts = count(made.findings.values())
    assert len(selection["exclude-controls"]) == counts[State.NOT_ASSESSED] + counts[State.NOT_APPLICABLE]


def test_each_profile_takes_its_level_and_all_below() -> None:
    sizes = [
        len(documents()[f"oscal-profile-sl{n}.json"]["profile"]["imports"][0]["include-controls"][0]["with-ids"])  # type: ignore[index]
        for n in range(1, 6)
    ]
    assert sizes == [26, 66, 111, 152, 169]


def test_the_plan_of_action_has_the_gaps_in_order_and_is_left_out_where_there_are_none() -> None:
    items = documents()[oscal.PLAN]["plan-of-action-and-milestones"]["poam-items"]  # type: ignore[index]
    assert [one["title"].split()[0] for one in items] == [gap.measure for gap in assessment().gaps(CATALOGUE)]
    met = {name: replace(one, state=State.MET) for name, one in assessment().findings.items()}
    assert oscal.PLAN not in oscal.as_oscal(replace(assessment(), findings=met), CATALOGUE)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("observation-uuid", "00000000-0000-4000-8000-000000000000"),
        ("subject-uuid", "00000000-0000-4000-8000-000000000000"),
        ("actor-uuid", "00000000-0000-4000-8000-000000000000"),
        ("target-id", "sl1-xyz-01_smt"),
        ("control-id", "sl1-xyz-01"),
        ("risk-uuid", "00000000-0000-4000-8000-000000000000"),
        ("href", "oscal-elsewhere.json"),
        ("source", "oscal-elsewhere.json"),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(member: str, value: str) -> None:
    made = documents()
    text = json.dumps(made)
    changed = re.sub(rf'"{member}": "[^"]*"', f'"{member}": "{value}"', text, count=1)
    assert changed != text
    check_references(json.loads(text))
    with pytest.raises(DanglingReferenceError, match="which isn't there"):
        check_references(json.loads(changed))


def test_one_id_for_two_things_is_found() -> None:
    with pytest.raises(DanglingReferenceError, match="two things"):
        check_references({"a": {"uuid": "x"}, "b": [{"uuid": "x"}]})


def test_the_same_assessment_makes_the_same_documents_and_another_one_others() -> None:
    assert oscal.as_oscal(assessment(), CATALOGUE) == oscal.as_oscal(assessment(), CATALOGUE)
    other = oscal.as_oscal(replace(assessment(), deployment="other"), CATALOGUE)
    ids = [json.loads(each[oscal.RESULTS])["assessment-results"]["uuid"] for each in (other, documents_as_bytes())]
    assert ids[0] != ids[1]


def documents_as_bytes() -> dict[str, bytes]:
    return dict(oscal.as_oscal(assessment(), CATALOGUE))


def test_the_library_has_every_measure_in_the_groups_of_its_level_and_above() -> None:
    library = yaml.safe_load(ciso.as_ciso(assessment(), CATALOGUE)[ciso.FILE])
    framework = library["objects"]["framework"]
    nodes = {node["urn"]: node for node in framework["requirement_nodes"]}
    assert len(nodes) == len(framework["requirement_nodes"])
    asked = {node["ref_id"]: node for node in nodes.values() if node["assessable"]}
    assert asked.keys() == CATALOGUE.measures.keys()
    assert all(node["parent_urn"] in nodes for node in asked.values())
    assert asked["SL3-WAC-01"]["implementation_groups"] == ["SL3", "SL4", "SL5"]
    groups = [one["ref_id"] for one in framework["implementation_groups_definition"]]
    assert groups == [level.value for level in SecurityLevel]
    assert "not assessed" in asked["SL1-ARA-01"]["annotation"]


def test_the_library_keeps_the_importers_rules_and_each_one_is_newer() -> None:
    made = assessment()
    (data,) = ciso.as_ciso(made, CATALOGUE).values()
    assert [*broken(data)] == []
    later = yaml.safe_load(ciso.as_ciso(replace(made, at=made.at + 60), CATALOGUE)[ciso.FILE])
    assert later["version"] == yaml.safe_load(data)["version"] + 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (("version: ", "version: 99999999999"), "31 bits"),
        (("urn: urn:strongroom:risk:library:", "urn: nothing "), "its URN"),
        (("assessable: true", "assessable: perhaps"), "assessable"),
        (("  - SL5\n", "  - SL9\n"), "group"),
        (("locale: en\n", ""), "without"),
        (("ref_id: RAND-SL\n", f"ref_id: {'x' * 101}\n"), "at most 100"),
    ],
)
def test_a_library_that_breaks_a_rule_is_found(change: tuple[str, str], rule: str) -> None:
    (data,) = ciso.as_ciso(assessment(), CATALOGUE).values()
    text = data.decode()
    assert change[0] in text
    assert any(rule in one for one in broken(text.replace(*change).encode()))


def test_the_map_covers_all_vectors_by_all_classes() -> None:
    cells = re.findall(r'<td class="[\w-]+" data-head="OC\d"><b>[^<]+</b>', page())
    assert len(cells) == len(CATALOGUE.vectors) * len(OperationalCapacity) == 190
