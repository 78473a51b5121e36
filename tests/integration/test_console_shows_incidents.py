"""People answer incidents in the console, with a real responder beside it; strangers and liars get nothing of it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.access.policy import ModelTerms, Weights
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import sign
from strongroom.core.errors import UnavailableError
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel
from strongroom.responder.adapters.desk_door import DeskDoor
from strongroom.responder.reading import DeskReader
from strongroom.response.acts import ACT_TYPE, Act, ActKind
from strongroom.response.entries import Happened
from strongroom.response.executor import begin
from strongroom.response.grading import Certainty
from strongroom.response.run import Pending, Run
from strongroom.response.subjects import Subject
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.console_incidents import FakeDesk, Watched, watched
from support.consoles import Seen, Visitor, next_roster
from support.deployment import MODEL, signer
from support.responders import need_fanotify, opens, plant
from support.responses import TERMS, Record, alert

pytestmark = pytest.mark.integration
VAULT = ModelTerms(
    model=ModelId("vault"), level=SecurityLevel.SL4, least_isolation="vm-simulated", weights=Weights.TEST
)
HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("console")) as made:
        yield made


@pytest.fixture
def desk(lab: Watched) -> Iterator[FakeDesk]:
    with lab.in_other_hands() as made:
        yield made


def to_sign(visitor: Visitor, incident: str, kind: str, query: str = "", **fields: str) -> tuple[Seen, str]:
    """Fill an act's form; returns the page that asks for the signature, and where it is handed in."""
    address = f"/incidents/{incident}/do/{kind}"
    page = visitor.get(address + query)
    assert page.status == 200, page.text
    signing = visitor.follow(visitor.post(page, address, **fields))
    (action,) = (one for one in signing.forms() if "/acts/" in one)
    return signing, action


def acts(visitor: Visitor, incident: str, kind: str, query: str = "", **fields: str) -> Seen:
    """Do something in an incident, signed; returns the incident's page after it."""
    signing, action = to_sign(visitor, incident, kind, query, **fields)
    done = visitor.post(signing, action)
    return visitor.follow(done)


def signed_act(page: Seen, action: str) -> Act:
    """Return what a page asks to be signed."""
    return Act.parse(from_base64(page.forms()[action]["told"]["data-payload"]))


# --- a real responder -------------------------------------------------------------------------------------------------


def test_a_drill_is_seen_and_answered_by_people(lab: Watched) -> None:
    lab.start()
    name = lab.drill("key-compromise")
    dana, sam, rina = (lab.live.inside(one) for one in ("dana", "sam", "rina"))
    path = f"/incidents/{name}"
    assert "1 drill</a> under way" in dana.get("/today").text
    assert name in dana.get("/incidents").text
    assert "commander" in acts(dana, name, "take", role="commander").text
    acts(dana, name, "note", words="first line\r\nsecond line")
    while not (asked := [one for one in lab.waiting(dana, name, "answer", "people") if one["how"] == "people"]):
        one = lab.waiting(dana, name, "answer")[0]
        page = dana.get(f"{path}/do/resolve-step?key={one['key']}")
        sets = {field: "yes" for field in page.forms()[f"{path}/do/resolve-step"]["fields"] if field == "set-cleared"}
        acts(dana, name, "resolve-step", f"?key={one['key']}", outcome="done", **sets)
    (waits,) = asked
    assert (waits["action"], waits["needed"], waits["agreed"]) == ("resume-releases", 2, [])
    for visitor in (sam, rina):
        # The incident's own page has the button: one form, one signature.
        page = visitor.get(path)
        signing = visitor.follow(visitor.post(page, f"{path}/do/agree"))
        (action,) = (one for one in signing.forms() if "/acts/" in one)
        assert "resume-releases of model:shadow-model" in signing.text
        visitor.follow(visitor.post(signing, action))
    lab.until(dana, path, 'resume releases</td><td>model:shadow-model</td><td><span class="tag good">verified')
    told = dana.get(f"{path}.json").json
    assert told["measured"]["contain_micros"] > 0
    assert told["measured"]["acknowledge_seconds"] is not None
    assert told["roles"] == {"commander": "dana"}
    note = told["notes"][0]
    assert note == str(Digest.of(b"first line\nsecond line"))
    assert "first line\nsecond line" in dana.get(f"{path}/words/{note[7:]}").text
    assert lab.run("incident", "kept", name, note).strip() == "first line\nsecond line"
    drills = dana.get("/drills")
    assert "<svg" in drills.text
    (held,) = dana.get("/drills.json").json["drills"]
    assert (held["incident"], held["playbook"]) == (name, "key-compromise")
    assert dana.get("/drills.json").json["means"]["contain"] == told["measured"]["contain_micros"]


def test_a_real_incident_is_seen_and_its_report_is_entered(lab: Watched, tmp_path: Path) -> None:
    need_fanotify(tmp_path)
    if lab.responder.process is not None:
        lab.responder.stop()
    (decoy,) = plant(lab.responder, "whole.floe")
    lab.start()
    opens(decoy)
    dana, sam = lab.live.inside(), lab.live.inside("sam")
    lab.until(dana, "/incidents.json", '"certainty":"sure","drill":null')
    listed = dana.get("/incidents.json").json["incidents"]
    sure = next(one for one in listed if one["certainty"] == "sure" and not one["drill"])
    name, path = sure["incident"], f"/incidents/{sure['incident']}"
    assert "The worst" in dana.get("/today").text
    page = lab.until(dana, path, f"Resume {MODEL}")
    assert f"/requests/new?action=resume&amp;model={MODEL}" in page.text
    acts(sam, name, "take", role="legal")
    acts(sam, name, "start-clock", clock="eu-cop-initial")
    signing = sam.follow(sam.post(sam.get(path), f"{path}/do/draft"))
    (action,) = (one for one in signing.forms() if "/acts/" in one)
    assert "Draft report: EU GPAI Code of Practice" in signing.text
    sam.follow(sam.post(signing, action))
    (clock,) = sam.get(f"{path}.json").json["clocks"]
    words = sam.get(f"{path}/words/{clock['draft'][7:]}")
    assert "[blank:" in words.text
    form = sam.get(f"{path}/do/sent?clock=eu-cop-initial")
    assert "[blank:" in form.text
    acts(sam, name, "sent", "?clock=eu-cop-initial", words="what was sent")
    told = sam.get(f"{path}.json").json
    assert (told["clocks"], len(told["reports"])) == ([], 1)
    kept = next(one for one in told["kept"] if one.startswith("evidence-"))
    evidence = dana.get(f"{path}/kept/{kept}")
    assert evidence.headers["content-disposition"] == f'attachment; filename="{kept}"'
    assert str(Digest.of(evidence.text.encode())) in told["evidence"]
    for form_name in told["forms"]:
        answer = dana.get(f"{path}/export/{form_name}")
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        assert json.loads(answer.text)
    record = json.loads(dana.get(f"{path}/export/record").text)
    # The responder goes on meanwhile.
    assert told["record"]["entries"] <= len(record) <= sam.get(f"{path}.json").json["record"]["entries"]
    assert len(page.text) < 100_000


def test_a_signature_counts_for_what_was_shown_and_once(lab: Watched) -> None:
    if lab.responder.process is None:
        lab.start()
    name = lab.drill("insider")
    dana, sam = lab.live.inside(), lab.live.inside("sam")
    signing, action = to_sign(dana, name, "note", words="mine")
    form = signing.forms()[action]
    # Somebody else's key; another origin's page; another form's signature; nobody's.
    assert dana.call("POST", action, dana.signed(form, by="sam")).status == 403
    assert dana.call("POST", action, dana.signed(form, origin="https://other.example")).status == 400
    other, elsewhere = to_sign(dana, name, "note", words="another")
    taken = dana.signed(other.forms()[elsewhere]) | {"csrf": form["fields"]["csrf"]}
    assert dana.call("POST", action, taken).status == 422
    assert dana.call("POST", action, form["fields"]).status == 422
    # A draft is its maker's; a form is its session's.
    assert sam.get(action).status == 404
    assert sam.call("POST", action, dana.signed(form)).status == 403
    whole = dana.signed(form)
    assert dana.call("POST", action, whole).status == 303
    # The same form again is nothing: the draft is gone, and the responder takes an act once.
    assert dana.call("POST", action, whole).status == 404
    notes = dana.get(f"/incidents/{name}.json").json["notes"]
    assert notes == [str(Digest.of(b"mine"))]


@pytest.mark.parametrize(
    ("kind", "fields", "status"),
    [
        ("take", {"role": "king"}, 400),
        ("take", {}, 400),
        ("move", {"phase": "closed"}, 400),
        ("grade", {"severity": "low", "cause": "<b>"}, 400),
        ("note", {"words": ""}, 400),
        ("note", {"words": "x", "more": "y"}, 400),
        ("agree", {"key": "0" * 32}, 400),
        ("resolve-step", {"key": "../x", "outcome": "done"}, 400),
        ("start-clock", {"clock": "eu-cop-initial", "key": "x"}, 400),
        ("draft", {"clock": "eu-cop-initial"}, 400),
        ("expose", {"words": "x"}, 400),
        ("conquer", {}, 404),
    ],
)
def test_forms_of_another_shape_are_refused(lab: Watched, kind: str, fields: dict[str, str], status: int) -> None:
    if lab.responder.process is None:
        lab.start()
    dana = lab.live.inside()
    listed = [one for one in dana.get("/incidents.json").json["incidents"] if one["drill"]]
    name = listed[0]["incident"] if listed else lab.drill("insider")
    address = f"/incidents/{name}/do/{kind}"
    token = dana.get(f"/incidents/{name}/do/note").forms()[f"/incidents/{name}/do/note"]["fields"]["csrf"]
    assert dana.call("POST", address, {"csrf": token, **fields}).status == (403 if kind != "note" else status)
    form = dana.get(address if kind not in {"agree", "resolve-step"} else f"/incidents/{name}")
    offered = form.forms().get(address)
    if offered is not None:
        answer = dana.call("POST", address, {"csrf": offered["fields"]["csrf"], **fields})
        if answer.status == 303:
            # A code is judged where it is entered: the responder refuses it.
            signing = dana.follow(answer)
            (action,) = (one for one in signing.forms() if "/acts/" in one)
            answer = dana.post(signing, action)
        assert answer.status == status, answer.text


# --- strangers --------------------------------------------------------------------------------------------------------


def _addresses(name: str, words: str) -> list[str]:
    path = f"/incidents/{name}"
    return [
        "/incidents", path, f"{path}/words/{words}", f"{path}/do/note", f"{path}/acts/{words}", "/drills",
    ]  # fmt: skip


def has_roles(lab: Watched, *roles: str) -> None:
    """Have the roster say what dana is."""
    lab.live.occupied._callers.clear()
    next_roster(lab.live.occupied, lambda one: replace(one, roles=frozenset(roles)) if one.id == "dana" else one)


def test_people_of_other_roles_see_nothing_of_incidents(lab: Watched, desk: FakeDesk) -> None:
    record = Record.of(alert(f"model:{MODEL}"))
    name = desk.show(record)
    desk.kept = {f"words-{'0' * 64}": b"x"}
    dana = lab.live.inside()
    assert name in dana.get("/incidents").text
    files = [f"/incidents/{name}/export/{form}" for form in ("stix", "ocsf", "record")]
    files += [f"/incidents/{name}/kept/words-{'0' * 64}"]
    token = dana.get(f"/incidents/{name}/do/note").forms()[f"/incidents/{name}/do/note"]["fields"]["csrf"]
    has_roles(lab, "requester")
    try:
        for address in _addresses(name, "0" * 64):
            for shown in (dana.get(address), dana.get(f"{address}.json")):
                assert shown.status == 403, (address, shown.text)
                assert "not-shown" in shown.text
                assert name not in shown.text.replace(address, "")
                assert "decoy" not in shown.text
        for address in files:
            shown = dana.get(address)
            assert (shown.status, "content-disposition" in shown.headers) == (403, False)
        sent = dana.call("POST", f"/incidents/{name}/do/note", {"csrf": token, "words": "x"})
        assert (sent.status, desk.acts) == (403, [])
        today = dana.get("/today")
        assert (today.status, dana.get("/today.json").json["incidents"]) == (200, None)
        assert "The worst" not in today.text
        # An auditor looks, and does nothing: the responder would refuse it, and no button offers it.
        has_roles(lab, "auditor")
        shown = dana.get(f"/incidents/{name}")
        assert (shown.status, "You may look, and not act." in shown.text) == (200, True)
        assert "/do/" not in shown.text
        assert dana.get(files[0]).status == 200
        assert dana.get(f"/incidents/{name}/do/note").status == 403
    finally:
        has_roles(lab, "publisher", "requester", "responder")


def test_strangers_are_sent_to_sign_in(lab: Watched) -> None:
    stranger = lab.live.visitor()
    for address in (*_addresses("inc-" + "0" * 32, "0" * 64), f"/incidents/inc-{'0' * 32}/export/stix"):
        assert stranger.get(address).headers["location"].startswith("/sign-in?next=")


# --- a responder in other hands ---------------------------------------------------------------------------------------


def test_a_lying_responder_is_refused(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    mine, other = Record.of(alert(f"model:{MODEL}", rule="one")), Record.of(alert("host:w1", rule="another"))
    name = desk.show(other, name=mine.incident.id)
    answer = dana.get(f"/incidents/{name}")
    assert (answer.status, "another incident" in answer.text) == (409, True) or answer.status >= 400
    assert "host:w1" not in answer.text.replace("&#39;", "")
    desk.shown[name] = mine.entries
    assert dana.get(f"/incidents/{name}").status == 200
    evidence, words = f"evidence-{'0' * 32}.json", f"words-{'1' * 64}"
    desk.kept = {evidence: b"{}", words: b"not those"}
    for kept in (evidence, words):
        assert "content-disposition" not in dana.get(f"/incidents/{name}/kept/{kept}").headers
    assert dana.get(f"/incidents/{name}/words/{'1' * 64}").status != 200
    assert dana.get(f"/incidents/{name}/kept/..%2f..%2fwallet").status == 404
    assert dana.get(f"/incidents/{name}/kept/acts").status == 404
    desk.listed.append({"incident": "../../etc"})
    assert dana.get("/incidents").status >= 400
    assert dana.get("/incidents/..").status == 404


def test_another_record_than_the_logs_is_told_of(lab: Watched) -> None:
    if lab.responder.process is None:
        lab.start()
    name = lab.drill("insider")
    ends = time.monotonic() + 60
    while not any(one.facts.get("incident") == name for one in lab.live.occupied.entries()):
        assert time.monotonic() < ends
        time.sleep(0.3)
    with lab.in_other_hands() as desk:
        invented = Record.of(alert(f"model:{MODEL}", rule="invented"))
        desk.shown[name] = [replace(invented.entries[0], incident=name)]
        dana = lab.live.inside()
        page = dana.get(f"/incidents/{name}")
        assert (page.status, "The log names another record" in page.text) == (200, True)
        # Nobody is led to sign for what is false.
        assert "/do/" not in page.text
        assert dana.get(f"/incidents/{name}/do/note").status >= 400


def run_of(record: Record, **variables: str) -> Run:
    """Return a run in the record's incident, as it stands when it begins."""
    book = playbook_called("key-compromise")
    given = {one: variables.get(one, "") for one in book.external}
    incident, now = record.incident.id, record.incident.opened
    return begin(shipped_playbooks(), book.id, incident=incident, variables=given, terms=TERMS, now=now, before=0)


def test_a_list_of_another_form_takes_no_page_but_its_own_away(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    desk.listed.append({"incident": "../../etc"})
    assert dana.get("/incidents").status >= 400
    page = dana.get("/today")
    assert (page.status, "The responder doesn" in page.text) == (200, True)


def test_words_that_no_record_names_are_not_shown_as_the_incident_s(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    name, planted = desk.show(Record.of(alert(f"model:{MODEL}"))), b"Resume everything at once."
    words = Digest.of(planted).value.hex()
    desk.kept = {f"words-{words}": planted}
    for path in (f"words/{words}", f"kept/words-{words}"):
        page = dana.get(f"/incidents/{name}/{path}")
        assert (page.status, "at once" in page.text) == (404, False)


def test_what_a_responder_writes_stays_text(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    record = Record.of(alert(f"model:{MODEL}", rule="planted"))
    note = str(Digest.of(HOSTILE.encode()))
    record.add(Happened.NOTE_ADDED, {"note": note}, by="person:dana")
    name = record.incident.id
    run = run_of(record, model=f"model:{MODEL}")
    run = replace(run, pending=tuple(replace(one, action=None, subject=None, text=HOSTILE) for one in run.pending))
    desk.show(record, runs={HOSTILE[:25]: run})
    desk.broken = {HOSTILE: HOSTILE}
    desk.kept = {f"words-{note[7:]}": HOSTILE.encode()}
    key = run.pending[0].key
    for path in ("/incidents", f"/incidents/{name}", f"/incidents/{name}/words/{note[7:]}",
                 f"/incidents/{name}/do/resolve-step?key={key}"):  # fmt: skip
        page = dana.get(path)
        assert page.status == 200, page.text
        assert "<script>alert" not in page.text
        assert "\u202e" not in page.text
        assert "&lt;script&gt;" in page.text


def test_a_responder_that_is_silent_or_gone_is_told_of(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    desk.silent = True
    page = dana.get("/today")
    assert (page.status, "The responder doesn" in page.text) == (200, True)
    desk.path.unlink()
    for path in ("/incidents", "/drills", "/today"):
        page = dana.get(path)
        assert (page.status, "The responder doesn" in page.text) == (200, True), path
    assert dana.get(f"/incidents/inc-{'0' * 32}").status == 503


def test_a_responder_that_reads_nothing_is_given_up_on(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as heard:
        heard.bind(str(tmp_path / "desk.sock"))
        heard.listen(1)
        act = sign(ACT_TYPE, bytes(500_000), signer("dana"))
        with pytest.raises(UnavailableError):
            DeskReader(DeskDoor(tmp_path / "desk.sock", seconds=0.2)).hand_in(act)


# --- from SL4 on ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vault(lab: Watched) -> None:
    occupied = lab.live.occupied
    policy = occupied.deployment.policy
    occupied._callers.clear()
    rules = tuple(replace(rule, level=SecurityLevel.SL4) for rule in policy.rules)
    occupied.adopt_policy(models=(*policy.models, VAULT), rules=(*policy.rules, *rules))


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("subject", ["model:vault", "host:w1", "deployment:all", "model:unknown"])
def test_acts_about_models_of_sl4_are_not_signed_here(lab: Watched, desk: FakeDesk, subject: str) -> None:
    dana = lab.live.inside()
    name = desk.show(Record.of(alert(subject)))
    ours = desk.show(Record.of(alert(f"model:{MODEL}")))
    page = dana.get(f"/incidents/{name}")
    assert (page.status, "use the commands" in page.text, "/do/" in page.text) == (200, True, False)
    for kind in ("note", "take"):
        answer = dana.get(f"/incidents/{name}/do/{kind}")
        assert (answer.status, "not-by-console" in answer.text) == (403, True)
    # A draft that was made for another incident isn't handed in under this one's address.
    _signing, action = to_sign(dana, ours, "note", words="x")
    moved = action.replace(ours, name)
    assert dana.get(moved).status == 404
    assert desk.acts == []


@pytest.mark.usefixtures("vault")
def test_a_command_about_a_model_of_sl4_is_not_agreed_to_here(lab: Watched, desk: FakeDesk) -> None:
    """Whatever the incident is about that it waits in."""
    dana, record = lab.live.inside(), Record.of(alert(f"model:{MODEL}"))
    run = run_of(record, model=f"model:{MODEL}")
    run = replace(run, terms=replace(run.terms, certainty=Certainty.LIKELY))
    about = [replace(one, subject=Subject.parse("model:vault")) for one in run.pending if one.action is not None]
    run = replace(run, pending=(*about, *(one for one in run.pending if one.action is None)))
    name = desk.show(record, runs={"run-000": run})
    page = dana.get(f"/incidents/{name}")
    assert (page.status, "model:vault" in page.text) == (200, True)
    assert not any(one.endswith("/do/agree") for one in page.forms())
    form = dana.get(f"/incidents/{name}/do/agree?key={about[0].key}")
    sent = dana.post(form, f"/incidents/{name}/do/agree")
    assert (sent.status, "not-by-console" in sent.text) == (403, True)
    # Nor where it became another one's while the person looked.
    desk.runs = {"run-000": to_base64(replace(run, pending=_aimed(run, f"model:{MODEL}")).to_bytes())}
    signing, action = to_sign(dana, name, "agree", f"?key={about[0].key}")
    assert signed_act(signing, action).facts["subject"] == f"model:{MODEL}"
    desk.runs = {"run-000": to_base64(run.to_bytes())}
    assert "model:vault" not in "".join(dana.get(action).text.split("<dl")[1:])
    acts(dana, name, "note", words="a note is still taken")
    assert len(desk.acts) == 1


def _aimed(run: Run, subject: str) -> tuple[Pending, ...]:
    return tuple(one if one.action is None else replace(one, subject=Subject.parse(subject)) for one in run.pending)


def test_an_act_is_the_one_that_the_command_makes(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    name = desk.show(Record.of(alert(f"model:{MODEL}")))
    signing, action = to_sign(dana, name, "grade", severity="low", cause="false-alarm")
    made = signed_act(signing, action)
    assert (made.kind, made.incident, made.person) == (ActKind.GRADE, name, "dana")
    assert made.facts == {"severity": "low", "cause": "false-alarm"}
    assert made.genesis == lab.live.occupied.deployment.genesis.digest
    assert dana.post(signing, action).status == 303
    (taken,) = desk.acts
    assert taken.payload == made.to_bytes()
    assert to_base64(taken.payload) == signing.forms()[action]["told"]["data-payload"]


def rows_of(page: dict[str, Any]) -> list[str]:
    """Return the incidents of a list."""
    return [str(one["incident"]) for one in page["incidents"]]


def test_many_incidents_are_shown_page_by_page(lab: Watched, desk: FakeDesk) -> None:
    dana = lab.live.inside()
    for number in range(250):
        desk.show(Record.of(alert(f"model:{MODEL}", rule=f"r{number}", at=1_795_000_000 + number)))
    first = dana.get("/incidents.json").json
    assert len(dana.get("/incidents").text) < 100_000
    second = dana.get(f"/incidents.json?after={first['next']}").json
    assert len(set(rows_of(first)) | set(rows_of(second))) == 250
    assert second["next"] == ""
