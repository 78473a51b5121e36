"""`strongroom assess` as people type it, against the real keeper in memory: honest, recorded, and judged again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators import deployment_in_memory
from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.assurance.assessment import Assessment
from strongroom.cli import assess_plan, assess_statement
from strongroom.client import wiring
from strongroom.core.clock import SystemClock
from support.clocks import FixedClock
from support.place import Place

pytestmark = pytest.mark.integration
DAY = 86400


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment in which olga assesses and attests, and otto attests."""
    people = deployment_in_memory.PEOPLE
    monkeypatch.setitem(people, "olga", ("security", ("auditor", "assessor", "attestor")))
    monkeypatch.setitem(people, "otto", ("people", ("vetting-officer", "access-reviewer", "attestor")))
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    monkeypatch.setattr(wiring, "SystemClock", lambda: deployment.clock)
    for module in (assess_statement, assess_plan):
        monkeypatch.setattr(module, "SystemClock", lambda: deployment.clock)
    deployment.adopt_first()
    yield Place(tmp_path, deployment)
    deployment.close()


def found(told: Any) -> dict[str, Any]:
    """Return the findings that `assess --json` printed, by measure."""
    return {one["measure"]: one for one in told["assessment"]["findings"]}


def test_a_deployment_is_given_no_more_than_it_deserves(place: Place) -> None:
    place.seal()
    told = place.json("assess", "--sealed", str(place.folder / "sealed"), by="olga")
    findings = found(told)
    assert told["assessment"]["held"] == "none"
    assert len(findings) == 169
    assert findings["SL1-WAC-02"]["state"] == "met"
    assert findings["SL1-NAC-04"]["state"] == "not-met", "people sign with keys in files"
    assert findings["SL3-WPI-01"]["state"] == "not-met", "no egress policy is in force"
    assert findings["SL4-NHW-02"]["state"] == "not-met", "the platform is simulated"
    assert findings["SL1-NST-02"]["state"] == "not-assessed", "no host was looked at"
    assert findings["SL1-STC-01"] == {
        "alternative": "",
        "basis": "nothing",
        "measure": "SL1-STC-01",
        "observations": [],
        "state": "not-assessed",
        "statement": None,
        "step": {
            "command": "strongroom assess statement sign",
            "effort": 4,
            "text": "do what it asks, and have an attestor say so",
            "unlocks": "SL1",
        },
        "why": "software can't see it, and nobody attested it",
    }
    text = place.run("assess", by="olga").output
    assert text.startswith("memory: no level is held")
    assert "Source: RAND Corporation" in text


def test_a_copy_in_the_clear_is_found_by_its_content(place: Place) -> None:
    place.seal()
    stray = place.folder / "stray"
    stray.mkdir()
    header = b'{"w":{"dtype":"F32","shape":[65536],"data_offsets":[0,262144]}}'
    (stray / "holiday.jpg").write_bytes(len(header).to_bytes(8, "little") + header + bytes(262144))
    options = ("--sealed", str(place.folder / "sealed"), "--search", str(stray))
    finding = found(place.json("assess", *options, by="olga"))["SL2-WST-01"]
    assert finding["state"] == "not-met"
    assert "holiday.jpg" in finding["why"]


def test_the_floor_is_an_exit_code(place: Place) -> None:
    assert place.json("assess", "--fail-under", "SL1", by="olga", code=3)["assessment"]["held"] == "none"
    refused = place.run("assess", "--fail-under", "SL1", by="olga")
    assert refused.exit_code == 3
    assert "the deployment holds no level" in refused.stderr


def test_reports_are_written_and_judged_again(place: Place) -> None:
    told = place.json("assess", "--out", "json,csv", "--to", str(place.folder), "--level", "sl5", by="olga")
    file = place.folder / "assessment.json"
    made = Assessment.parse(file.read_bytes())
    assert str(made.digest) == told["digest"]
    assert place.json("assess", "verify", str(file))["held"] is None
    rows = (place.folder / "assessment.csv").read_text().splitlines()
    assert len(rows) == 170
    assert place.json("assess", "--out", "tarot", by="olga", code=2)["code"] == "usage"
    value = json.loads(file.read_bytes())
    value["held"] = "SL4"
    file.write_text(json.dumps(value))
    assert place.json("assess", "verify", str(file), code=6)["code"] == "assessment-unfounded"


def test_an_assessment_is_named_by_the_log_and_by_an_assessor_alone(place: Place) -> None:
    told = place.json("assess", "--record", "--to", str(place.folder), by="olga")
    entry = place.json("audit", "show", str(told["log_index"]), by="olga")
    facts = entry["entry"]["facts"] if "entry" in entry else entry["facts"]
    assert (facts["assessment"], facts["held"], facts["person"]) == (told["digest"], 0, "olga")
    assert (place.folder / "assessment.dsse.json").exists()
    assert found(place.json("assess", by="olga"))["SL2-NCM-02"]["state"] == "met"
    refused = place.json("assess", "--record", "--to", str(place.folder), by="sam", code=3)
    assert refused["code"] == "signer-may-not"


def test_what_was_recorded_long_ago_watches_nothing(place: Place) -> None:
    place.json("assess", "--record", "--to", str(place.folder), by="olga")
    clock = place.deployment.clock
    assert isinstance(clock, FixedClock)
    clock.at += 9 * DAY
    assert found(place.json("assess", by="olga"))["SL2-NCM-02"]["state"] == "not-met"


def stated(place: Place, name: str, measure: str, *options: str, by: str = "olga") -> Path:
    """Write a statement, signed by one person."""
    folder = place.folder / "statements"
    folder.mkdir(exist_ok=True)
    told = ("--measure", measure, "--says", "an officer is on call", "--covers", "all sites")
    place.json("assess", "statement", "sign", str(folder / name), *told, *options, "--yes", by=by)
    return folder / name


def test_people_attest_what_software_cant_see(place: Place) -> None:
    document = place.folder / "rota.pdf"
    document.write_bytes(b"who is on call")
    file = stated(place, "a.json", "SL1-STC-01", "--document", str(document))
    options = ("--statements", str(file.parent))
    finding = found(place.json("assess", *options, by="sam"))["SL1-STC-01"]
    assert (finding["state"], finding["basis"]) == ("met", "attested")
    # Who hasn't the role is refused, and it is said.
    stated(place, "b.json", "SL1-PAT-01", by="sam")
    told = place.json("assess", *options, by="sam")
    assert found(told)["SL1-PAT-01"]["state"] == "not-assessed"
    assert "not-an-attestor" in told["statements_refused"][0]
    listed = place.json("assess", "statement", "ls", str(file.parent), by="sam")["statements"]
    assert [one["counts"] for one in listed] == [True, False]
    # Something else in a statement's place keeps nobody waiting, and stops nothing.
    os.mkfifo(file.parent / "pipe.json")
    (file.parent / "folder.json").mkdir()
    (file.parent / "broken.json").write_bytes(b"\xff{")
    told = place.json("assess", *options, by="sam")
    assert [one.partition(":")[0] for one in told["statements_refused"]] == ["b.json", "broken.json"]
    # Nobody attests away what is seen.
    stated(place, "c.json", "SL1-NAC-04")
    assert found(place.json("assess", *options, by="sam"))["SL1-NAC-04"]["state"] == "not-met"


def test_two_people_take_a_measure_out(place: Place) -> None:
    file = stated(place, "a.json", "SL3-WST-02", "--claim", "not-applicable")
    options = ("--statements", str(file.parent))
    told = place.json("assess", *options, by="sam")
    assert found(told)["SL3-WST-02"]["state"] == "not-assessed"
    assert "statement-signers-missing" in told["statements_refused"][0]
    place.json("assess", "statement", "sign", str(file), "--yes", by="otto")
    finding = found(place.json("assess", *options, by="sam"))["SL3-WST-02"]
    assert (finding["state"], finding["basis"]) == ("not-applicable", "attested")


def test_a_plan_is_drafted_signed_by_two_and_compared(place: Place) -> None:
    place.json("assess", "--level", "SL1", "--out", "json", "--to", str(place.folder), by="olga")
    file, made = place.folder / "plan.json", place.folder / "assessment.json"
    place.json("assess", "plan", "draft", str(file), "--from", str(made), "--owner", "sam")
    place.json("assess", "plan", "sign", str(file), "--yes", by="olga")
    signed = place.folder / "plan.signed.json"
    assert place.json("assess", "--plan", str(signed), by="olga", code=3)["code"] == "plan-signers-missing"
    place.json("assess", "plan", "sign", str(file), "--yes", by="otto")
    told = place.json("assess", "--plan", str(signed), by="olga")
    assert found(told)["SL3-ARA-01"]["state"] == "met"
    assert place.json("assess", "plan", "show", str(signed), "--from", str(made))["differences"] == []
    # A goal that is raised has gaps that nobody owns.
    plan = json.loads(file.read_text())
    plan["goal"] = "SL2"
    file.write_text(json.dumps(plan))
    for name in ("olga", "otto"):
        place.json("assess", "plan", "sign", str(file), "--yes", by=name)
    finding = found(place.json("assess", "--plan", str(signed), by="olga"))["SL3-ARA-01"]
    assert finding["state"] == "not-met"
    assert "SL2-" in finding["why"]


def test_what_changed_since_is_told(place: Place) -> None:
    place.json("assess", "--out", "json", "--to", str(place.folder), by="olga")
    before = str(place.folder / "assessment.json")
    assert "nothing changed since" in place.run("assess", "--against", before, by="olga").output
    (place.folder / "later").mkdir()
    place.json("assess", "--record", "--to", str(place.folder / "later"), by="olga")
    assert "CHANGED  SL2-NCM-02: not met before, met now" in place.run("assess", "--against", before, by="olga").output
