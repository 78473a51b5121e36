"""Drills are held, and exposure is entered, by a security key in a browser, with a responder beside the console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from strongroom.audit.entries import read_entry
from strongroom.audit.reading.exposure import ExposureFold
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.responder.desk import row
from strongroom.responder.reading import AT_ONCE
from strongroom.response.acts import ACT_KNOWN, Act, ActKind, ActRefusedError
from strongroom.response.drills import PRACTISED, DrillToken
from strongroom.response.entries import Fact, Happened
from strongroom.response.exposure import read_exposure
from support.console_incidents import FakeDesk, Watched, watched
from support.consoles import Seen, Visitor, next_roster
from support.deployment import MODEL
from support.log_views import log_of
from support.responses import Record, alert

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("console")) as made:
        made.start()
        yield made


@pytest.fixture
def desk(lab: Watched) -> Iterator[FakeDesk]:
    # Those that need the real one come first.
    with lab.in_other_hands() as made:
        yield made


def to_sign(visitor: Visitor, playbook: str = "insider") -> tuple[Seen, str]:
    """Choose a playbook; returns the page that asks for the signature, and where it is handed in."""
    page = visitor.get("/drills")
    # A form for each playbook, to one address: the one that a person presses.
    form = page.forms()["/drills/new"]
    sent = visitor.call("POST", "/drills/new", {"csrf": form["fields"]["csrf"], "playbook": playbook})
    signing = visitor.follow(sent)
    (action,) = (one for one in signing.forms() if one.startswith("/drills/drafts/"))
    return signing, action


def drills_of(visitor: Visitor) -> list[str]:
    return [str(one["incident"]) for one in visitor.get("/drills.json").json["drills"]]


def has_roles(lab: Watched, *roles: str) -> None:
    """Have the roster say what dana is."""
    lab.live.occupied._callers.clear()
    next_roster(lab.live.occupied, lambda one: replace(one, roles=frozenset(roles)) if one.id == "dana" else one)


# --- drills -----------------------------------------------------------------------------------------------------------


def test_a_drill_is_signed_here_held_there_and_measured(lab: Watched) -> None:
    dana = lab.live.inside()
    before = drills_of(dana)
    signing, action = to_sign(dana, "key-compromise")
    form = signing.forms()[action]
    token = DrillToken.parse(from_base64(form["told"]["data-payload"]))
    assert (token.playbook, token.event) == ("key-compromise", PRACTISED["key-compromise"])
    assert all(one.shadow for one in token.subjects)
    assert all(str(one) in signing.text for one in token.subjects)
    answer = dana.post(signing, action)
    assert answer.status == 303, answer.text
    place = answer.headers["location"]
    page = lab.until(dana, place, "The drill runs")
    told = dana.get(f"/drills.json?{urlsplit(place).query}").json
    name = told["asked"]["incident"]
    assert f'href="/incidents/{name}"' in page.text
    assert drills_of(dana) == [name, *before]
    lab.until(dana, f"/incidents/{name}", "Measured in this drill")
    lab.waiting(dana, name, "answer")
    measured = dana.get(f"/incidents/{name}.json").json["measured"]
    assert measured["detect_micros"] > 0
    assert measured["acknowledge_seconds"] is None
    # The same form again: the draft is gone, and the responder holds a drill once.
    assert dana.post(signing, action).status == 404
    assert drills_of(dana) == [name, *before]


def test_a_drill_counts_as_its_signers_alone(lab: Watched) -> None:
    dana, sam = lab.live.inside(), lab.live.inside("sam")
    before = drills_of(dana)
    signing, action = to_sign(dana)
    form = signing.forms()[action]
    assert dana.call("POST", action, dana.signed(form, by="sam")).status == 403
    assert dana.call("POST", action, dana.signed(form, origin="https://other.example")).status == 400
    other, elsewhere = to_sign(dana)
    taken = dana.signed(other.forms()[elsewhere]) | {"csrf": form["fields"]["csrf"]}
    assert dana.call("POST", action, taken).status == 422
    assert dana.call("POST", action, form["fields"]).status == 422
    assert sam.get(action).status == 404
    assert sam.call("POST", action, dana.signed(form)).status == 403
    for fields in ({"playbook": "none"}, {}, {"playbook": "insider", "more": "x"}):
        csrf = dana.get("/drills").forms()["/drills/new"]["fields"]["csrf"]
        assert dana.call("POST", "/drills/new", {"csrf": csrf, **fields}).status == 400
    assert drills_of(dana) == before


def test_who_may_not_act_holds_none(lab: Watched) -> None:
    dana = lab.live.inside()
    before = drills_of(dana)
    signing, action = to_sign(dana)
    csrf = dana.get("/drills").forms()["/drills/new"]["fields"]["csrf"]
    try:
        has_roles(lab, "auditor")
        page = dana.get("/drills")
        assert (page.status, "/drills/new" in page.forms()) == (200, False)
        # Before the key is touched, and after.
        assert dana.call("POST", "/drills/new", {"csrf": csrf, "playbook": "insider"}).status == 403
        assert dana.get(action).status == 403
        assert dana.post(signing, action).status == 403
        has_roles(lab, "requester")
        assert dana.get("/drills").status == 403
        assert dana.get("/drills/tabletop/insider").status == 403
    finally:
        has_roles(lab, "publisher", "requester", "responder")
    assert drills_of(dana) == before


def test_a_drill_exposes_nothing(lab: Watched) -> None:
    dana = lab.live.inside()
    name = lab.drill("insider")
    assert "/do/expose" not in dana.get(f"/incidents/{name}").text
    assert dana.get(f"/incidents/{name}/do/expose").status == 400


def test_a_drill_that_no_rule_alerts_on_is_told_of(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    signing, action = to_sign(dana)
    answer = dana.post(signing, action)
    assert answer.status == 303
    assert "nothing alerted yet" in dana.follow(answer).text
    (token,) = desk.acts
    assert DrillToken.parse(token.payload).playbook == "insider"
    assert dana.get("/drills?asked=x").status == 400


def long_drill(name: str) -> Record:
    """Return the record of a drill with one entry more than a page reads."""
    record = Record.of(alert(f"model:shadow-{name}", drill=Digest.of(b"token")))
    incident = record.incident
    while len(record.entries) <= AT_ONCE:
        facts = {"note": str(Digest.of(b"%d" % len(record.entries)))}
        record.entries.append(incident.next(Happened.NOTE_ADDED, "person:dana", incident.opened, facts))
        incident = incident.apply(record.entries[-1])
    return record


def test_a_drill_with_a_longer_record_than_the_list_says_hides_no_other(lab: Watched, desk: FakeDesk) -> None:
    long, short = long_drill("long"), Record.of(alert("model:shadow-short", drill=Digest.of(b"token")))
    names = [desk.show(long), desk.show(short)]
    desk.listed[0] = row(Record.of(alert("model:shadow-long", drill=Digest.of(b"token"))).incident, running=False)
    dana = lab.live.inside()
    told = dana.get("/drills.json").json
    assert (told["why"], told["reading"]) == ("", 1)
    assert {one["incident"] for one in told["drills"]} == {*names}
    lab.until(dana, f"/incidents/{names[0]}", f"{len(long.entries)} entries, one chain")


def test_a_page_of_drills_says_how_far_their_records_are_read(lab: Watched, desk: FakeDesk) -> None:
    dana, name = lab.live.inside(), desk.show(long_drill("far"))
    page = dana.get("/drills").text
    assert page.count(f"0 of {AT_ONCE + 1} entries so far") == 2
    lab.until(dana, "/drills", "or its playbook isn't a shipped one")
    told = dana.get("/drills.json").json
    assert (told["reading"], [one["read"] for one in told["drills"] if one["incident"] == name]) == (0, [None])


def test_cards_come_in_their_time(lab: Watched) -> None:
    dana = lab.live.inside("rina")
    page = dana.get("/drills/tabletop/insider")
    assert "card-1" not in page.text
    place = "/drills/tabletop/insider"
    began = dana.post(page, place, pace="1").headers["location"]
    first = dana.get(began.replace("insider?", "insider.json?")).json
    assert [one["minute"] for one in first["cards"]] == [0]
    assert first["count"] > len(first["cards"])
    assert "The next card comes" in dana.get(began).text
    long_ago = "?pace=1&began=2026-01-01T00:00:00Z"
    last = dana.get(f"{place}.json{long_ago}").json
    assert (len(last["cards"]), last["next"]) == (last["count"], None)
    assert "That was the last card" in dana.get(place + long_ago).text
    for wrong in ("?began=now", "?pace=0", "?pace=241", "?pace=-1", "?began=9999-01-01T00:00:00Z", "?pace=%D9%A1"):
        assert dana.get(place + wrong).status == 400, wrong
    assert dana.get("/drills/tabletop/nothing").status == 404


# --- exposure ---------------------------------------------------------------------------------------------------------


def test_what_the_log_says_of_a_model_is_entered_in_its_incident(lab: Watched, desk: FakeDesk) -> None:
    name = desk.show(Record.of(alert(f"model:{MODEL}")))
    dana, sam = lab.live.inside(), lab.live.inside("sam")
    address = f"/incidents/{name}/do/expose"
    assert address in dana.get(f"/incidents/{name}").text
    form = dana.get(address)
    signing = dana.follow(dana.post(form, address, model=MODEL))
    (action,) = (one for one in signing.forms() if "/acts/" in one)
    act = Act.parse(from_base64(signing.forms()[action]["told"]["data-payload"]))
    assert (act.kind, act.incident, act.person) == (ActKind.EXPOSE, name, PersonId("dana"))
    assert f"what the log says of {MODEL}" in signing.text
    digest = act.text("exposure").removeprefix("sha256:")
    kept = dana.get(f"/exposure-answers/{digest}")
    assert (kept.status, str(Digest.of(kept.text.encode()))) == (200, act.text("exposure"))
    assert json.loads(kept.text)["model"] == MODEL
    # What somebody else had read is theirs.
    assert sam.get(f"/exposure-answers/{digest}").status == 404
    assert dana.post(signing, action).status == 303
    (taken,) = desk.acts
    assert taken.payload == act.to_bytes()
    # The responder has the answer from then on, under the digest that was signed.
    assert desk.kept == {f"exposure-{digest}.json": kept.text.encode()}
    csrf = form.forms()[address]["fields"]["csrf"]
    for fields in ({"model": "other"}, {}, {"model": MODEL, "bits": "0"}):
        assert dana.call("POST", address, {"csrf": csrf, **fields}).status == 400


class Once(list[Envelope]):
    """Acts that are taken, each once."""

    def append(self, act: Envelope) -> None:
        if act.payload in {one.payload for one in self}:
            raise ActRefusedError("the act was taken already", reason=ACT_KNOWN)
        super().append(act)


class Full(dict[str, bytes]):
    """Keeps nothing."""

    def __setitem__(self, name: str, data: bytes) -> None:
        raise UnavailableError("the disk is full")


def test_an_answer_that_was_lost_behind_its_act_is_handed_in_again(lab: Watched, desk: FakeDesk) -> None:
    name, dana = desk.show(Record.of(alert(f"model:{MODEL}"))), lab.live.inside()
    address = f"/incidents/{name}/do/expose"
    signing = dana.follow(dana.post(dana.get(address), address, model=MODEL))
    (action,) = (one for one in signing.forms() if "/acts/" in one)
    desk.acts, desk.kept = Once(), Full()
    assert dana.post(signing, action).status == 503
    desk.kept = {}
    assert dana.post(signing, action).status == 303
    (act,) = desk.acts
    digest = Act.parse(act.payload).text("exposure").removeprefix("sha256:")
    assert [*desk.kept] == [f"exposure-{digest}.json"]


def test_each_model_s_exposure_is_shown_and_what_is_not_read(lab: Watched, desk: FakeDesk) -> None:
    record = Record.of(alert("person:rina"))
    counts: dict[str, Fact] = {"bits": 5, "bound": 0, "people": 1, "hosts": 2, "holders": 3}
    for name in ("atlas", "orion"):
        read: dict[str, Fact] = {"model": name, "exposure": str(Digest.of(name.encode()))}
        record.add(Happened.EXPOSURE_READ, read | counts)
    record.add(Happened.EXPOSURE_UNREAD, {"model": "vela", "cause": "too-many-models"})
    place, dana = f"/incidents/{desk.show(record)}", lab.live.inside()
    text, told = dana.get(place).text, dana.get(f"{place}.json").json
    for name in ("atlas", "orion"):
        assert f"exposure-{Digest.of(name.encode()).value.hex()}.json" in text
        assert f"/audit/exposure?model={name}" in text
    assert "(too-many-models)" in text
    assert [one["model"] for one in told["exposures"]] == ["atlas", "orion"]
    assert told["unread"] == [["vela", "too-many-models"]]


def test_a_report_says_what_the_answer_says_that_was_entered(lab: Watched, desk: FakeDesk) -> None:
    fold = ExposureFold(ModelId(MODEL))
    (_opened, released) = log_of([(EventName.RELEASED, 1, {"model": MODEL, "requester": "dana"})])
    fold.apply(1, read_entry(released))
    answer = encode(fold.answer().to_json())
    exposed = read_exposure(decode(answer, max_bytes=len(answer)), theft_bits=1000)
    record = Record.of(alert(f"model:{MODEL}"))
    record.add(Happened.CLOCK_STARTED, {"clock": "eu-cop-initial"}, by="person:dana")
    record.add(Happened.EXPOSURE_READ, {**exposed.facts(Digest.of(answer))})
    name, dana = desk.show(record), lab.live.inside()
    kept = f"exposure-{Digest.of(answer).value.hex()}.json"

    def drafted() -> Seen:
        return dana.post(dana.get(f"/incidents/{name}"), f"/incidents/{name}/do/draft")

    desk.kept = {kept: answer}
    assert exposed.lines()[0] in dana.follow(drafted()).text.replace("&#39;", "'")
    assert f"kept/{kept}" in dana.get(f"/incidents/{name}").text
    saved = dana.get(f"/incidents/{name}/kept/{kept}")
    assert (saved.status, saved.text.encode()) == (200, answer)
    # One that no record names isn't shown, whatever the responder has.
    other = f"exposure-{'0' * 64}.json"
    desk.kept |= {other: answer}
    assert dana.get(f"/incidents/{name}/kept/{other}").status >= 400
    # Another answer in its place is no part of any report.
    desk.kept = {kept: encode(ExposureFold(ModelId(MODEL)).answer().to_json())}
    refused = drafted()
    assert (refused.status >= 400, "another answer" in refused.text) == (True, True)
    desk.kept = {}
    assert exposed.lines()[0] not in dana.follow(drafted()).text
