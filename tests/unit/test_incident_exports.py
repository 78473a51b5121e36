"""An incident in other systems' forms: as their specifications ask for, and nothing private where it is shared."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from strongroom.audit.reading.exposure import Exposure, Holding, LetOut, Way
from strongroom.core.canonical import MAX_INTEGER, encode
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.responder.exposing import MAX_MODELS
from strongroom.response.entries import Fact, Happened
from strongroom.response.exports import (
    TLP_AMBER_STRICT,
    Form,
    alertmanager_body,
    exported,
    ocsf_finding,
    pagerduty_event,
    stix_bundle,
    title,
    webhook_body,
)
from strongroom.response.exposure import Read, read_exposure
from strongroom.response.incident import MAX_EXPOSED, Incident
from strongroom.response.subjects import Subject
from support.ocsf import check_event
from support.responses import NOW, Record, alert

H = Happened
DANA = "person:dana"
D = str(Digest.of(b"x"))
UUID = re.compile(r"[a-z-]+--[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def made(*, closed: bool = False) -> Record:
    record = Record.of(alert("person:rina"))
    named: dict[str, Fact] = {"action": "quarantine-person", "subject": "person:rina", "key": "k1"}
    record.add(H.ROLE_TAKEN, {"role": "commander"}, DANA)
    record.add(H.EVIDENCE_FROZEN, {"evidence": D, "entries": 4})
    record.add(H.ACTION_PROPOSED, named)
    record.add(H.ACTION_DONE, {**named, "micros": 5})
    record.add(H.ACTION_VERIFIED, {**named, "answer": "suspended", "micros": 7})
    if closed:
        for phase in ("contained", "analysed", "reviewed"):
            record.add(H.PHASE_CHANGED, {"phase": phase}, DANA)
        record.add(H.CLOSED, {"lessons": D}, DANA)
    else:
        record.add(H.CLOCK_STARTED, {"clock": "eu-cop-initial"}, DANA)
    return record


STATES: dict[str, Incident] = {
    "opened": Record.of(alert()).incident,
    "changed": made().incident,
    "closed": made(closed=True).incident,
    "drill": Record.of(alert("model:shadow-atlas", drill=Digest.of(b"d"))).incident,
}


def test_a_stix_bundle_is_one_of_stix_2_1() -> None:
    record = made()
    bundle: Any = json.loads(json.dumps(stix_bundle(record.incident, record.entries, now=NOW + 60)))
    assert bundle["type"] == "bundle"
    assert "spec_version" not in bundle
    ids = [one["id"] for one in bundle["objects"]]
    assert len(set(ids)) == len(ids)
    for one in bundle["objects"]:
        assert one["spec_version"] == "2.1"
        assert one["id"].startswith(one["type"] + "--")
        assert one["type"] == "marking-definition" or UUID.fullmatch(one["id"])
        assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z", one["created"])
        if one["type"] != "marking-definition":
            assert one["object_marking_refs"] == [TLP_AMBER_STRICT]
            assert one["modified"] >= one["created"]
        assert set(one.get("object_refs", ())) <= set(ids)
        assert one.get("created_by_ref", ids[1]) == ids[1]
    report = bundle["objects"][-1]
    assert {"name", "published", "object_refs"} <= report.keys()
    assert [one["name"] for one in bundle["objects"] if one["type"] == "course-of-action"] == ["quarantine-person"]


def test_a_stix_bundle_names_nobody_and_stays_the_same_incident() -> None:
    record = made()
    text = json.dumps(stix_bundle(record.incident, record.entries, now=NOW))
    assert "rina" not in text
    assert "dana" not in text
    later: Any = stix_bundle(record.incident, record.entries, now=NOW + 99)
    now: Any = stix_bundle(record.incident, record.entries, now=NOW)
    assert [one["id"] for one in later["objects"]] == [one["id"] for one in now["objects"]]
    assert later["id"] != now["id"]


@pytest.mark.parametrize("state", STATES)
def test_an_ocsf_finding_fits_the_released_schema(state: str) -> None:
    finding = json.loads(json.dumps(ocsf_finding(STATES[state], now=NOW)))
    check_event(finding)
    assert finding["type_uid"] == 200400 + {"opened": 1, "changed": 2, "closed": 3, "drill": 1}[state]
    assert finding["unmapped"]["drill"] is (state == "drill")


def test_a_pager_is_called_once_and_called_off() -> None:
    event: Any = pagerduty_event(STATES["changed"], source="vault")
    again: Any = pagerduty_event(STATES["opened"], source="vault")
    assert event["event_action"] == again["event_action"] == "trigger"
    assert event["dedup_key"] == STATES["changed"].id
    assert event["payload"]["severity"] in {"critical", "error", "warning", "info"}
    assert len(event["payload"]["summary"]) <= 1024
    assert "routing_key" not in event
    closed = pagerduty_event(STATES["closed"], source="vault")
    assert closed == {"event_action": "resolve", "dedup_key": STATES["closed"].id}


@pytest.mark.parametrize("form", [Form.PAGERDUTY, Form.ALERTMANAGER, Form.WEBHOOK, Form.OCSF])
def test_an_incident_of_thousands_of_actions_is_told_too(form: Form) -> None:
    record = made()
    doings = {
        f"{number:064x}": replace(doing, subject=Subject.parse("host:" + "w" * 100))
        for number in range(5000)
        for doing in [record.incident.doings["k1"]]
    }
    read = Read(answer=Digest.of(b"a"), bits=MAX_INTEGER, bound=MAX_INTEGER, people=9, hosts=9, holders=9)
    long = replace(
        record.incident,
        doings=doings,
        evidence=[Digest.of(b"%d" % number) for number in range(5000)],
        exposures={f"{number:064}": read for number in range(MAX_EXPOSED + MAX_MODELS)},
        unread={f"x{number:063}": "too-many-models" for number in range(5000)},
    )
    assert len(encode(exported(form, long, record.entries, now=NOW))) < 512_000
    told: Any = webhook_body(long, now=NOW)
    assert told["data"]["counted"] == {"evidence": 5000, "actions": 5000, "unread": 5000}
    assert [*told["data"]["actions"]][-1] == f"{4999:064x}"


def test_alertmanagers_form_has_all_its_members() -> None:
    body: Any = alertmanager_body(STATES.values(), receiver="vault", url="https://vault.example/")
    assert body["version"] == "4"
    assert body["status"] == "firing"
    assert [one["status"] for one in body["alerts"]] == ["firing", "firing", "resolved", "firing"]
    assert [one["labels"]["drill"] for one in body["alerts"]] == ["false", "false", "false", "true"]
    members = {"status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"}
    assert all(one.keys() == members for one in body["alerts"])
    assert all(isinstance(value, str) for one in body["alerts"] for value in one["labels"].values())
    # When somebody closed it, not when it last rang.
    late = replace(STATES["closed"], closed=NOW + 900)
    ended: Any = alertmanager_body([late], receiver="vault", url="https://vault.example/")
    assert ended["alerts"][0]["endsAt"] == format_instant(NOW + 900)
    none: Any = alertmanager_body([STATES["closed"]], receiver="vault", url="https://vault.example/")
    assert none["status"] == "resolved"


@pytest.mark.parametrize("state", STATES)
def test_a_webhook_says_what_the_record_says(state: str) -> None:
    body: Any = json.loads(json.dumps(webhook_body(STATES[state], now=NOW)))
    assert body["type"] == f"incident.{'opened' if state == 'drill' else state}"
    assert body["data"]["incident"] == STATES[state].id
    assert body["data"]["record"] == str(STATES[state].last)
    assert title(STATES[state]).startswith("DRILL: ") is (state == "drill")
    clocks = {"eu-cop-initial"} if state == "changed" else set()
    assert body["data"]["clocks"].keys() == clocks


def holding(way: Way, *, until: int | None, bits: int = 0) -> Holding:
    platform = "tpm-" + "a" * 64 if way is Way.RELEASED else None
    return Holding(
        way=way,
        version=1,
        request=D,
        use=1,
        recipient=D,
        person="rina",
        approvers=("omar",),
        platform=platform,
        since=NOW,
        until=until,
        bits=bits,
        proof=(3, 4),
    )


def exposure(*holdings: Holding, ever: int = 0) -> Exposure:
    return Exposure(
        model="atlas",
        holdings=holdings,
        freezes=(),
        let_out=LetOut(ever=ever, within=0, last=9),
        registered={1: 2},
        entries=12,
    )


def test_the_audit_shelfs_answer_is_read_as_it_is_given() -> None:
    given = exposure(holding(Way.RELEASED, until=NOW + 9, bits=7), holding(Way.EXPORTED, until=None), ever=250)
    read = read_exposure(given.to_json(), theft_bits=1000)
    assert [one.bits for one in read.holders] == [0, 7]
    assert (read.people, read.hosts) == (("rina",), ("tpm-" + "a" * 64,))
    assert read.thousandths == 250
    assert read.could_be_whole
    assert len(read.unknowable) == 5
    enclave = read_exposure(exposure(holding(Way.RELEASED, until=NOW)).to_json(), theft_bits=0)
    assert enclave.thousandths is None
    assert not enclave.could_be_whole
    assert read_exposure(exposure(ever=1000).to_json(), theft_bits=1000).could_be_whole
    assert read_exposure(exposure(ever=1).to_json(), theft_bits=3).thousandths == 334


def test_an_incident_shows_what_is_exposed() -> None:
    answer = exposure(holding(Way.RELEASED, until=NOW), holding(Way.EXPORTED, until=None), ever=250).to_json()
    record = made()
    assert record.incident.exposures == {}
    record.add(H.EXPOSURE_READ, read_exposure(answer, theft_bits=1000).facts(Digest.of(encode(answer))))
    body: Any = webhook_body(record.incident, now=NOW)
    (told,) = body["data"]["exposures"]
    assert told["model"] == "atlas"
    assert (told["bits"], told["bound"], told["people"], told["hosts"], told["holders"]) == (250, 1000, 1, 1, 2)
    assert told["answer"] == str(Digest.of(encode(answer)))
    check_event(json.loads(json.dumps(ocsf_finding(record.incident, now=NOW))))


def test_another_form_of_the_answer_is_noticed() -> None:
    given = exposure(holding(Way.RELEASED, until=NOW)).to_json()
    with pytest.raises(MalformedError):
        read_exposure({**given, "more": 1}, theft_bits=1)
    with pytest.raises(MalformedError):
        read_exposure({name: value for name, value in given.items() if name != "let_out"}, theft_bits=1)


def test_what_is_held_for_years_is_read_too() -> None:
    long = replace(holding(Way.RELEASED, until=NOW), proof=tuple(range(200_000)), isolation=("full", "none") * 500)
    assert len(read_exposure(exposure(long).to_json(), theft_bits=0).holders) == 1
