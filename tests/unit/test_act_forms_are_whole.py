"""The forms of acts in incidents: one for each kind that is signed in a browser, and nothing else comes of them."""

from __future__ import annotations

import pytest

from strongroom.console.act_forms import TITLES, form_of, read_act
from strongroom.console.errors import FormError
from strongroom.console.incident_facts import MAX_NAMED, told
from strongroom.core.clock import LATEST
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.responder.reading import Shown
from strongroom.response.acts import Act, ActKind
from strongroom.response.entries import Happened
from strongroom.response.executor import begin, withheld
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.responses import NOW, TERMS, Record, alert

BOOKS = shipped_playbooks()
MODELS = ("atlas",)


def shown() -> Shown:
    """Return an incident in which something waits for people, somebody is asked, and a clock runs."""
    record = Record.of(alert())
    record.add(Happened.CLOCK_STARTED, {"clock": "eu-cop-initial"})
    book = playbook_called("weight-exfiltration-suspected")
    variables = dict(shown_variables(book.external))
    run = begin(BOOKS, book.id, incident=record.incident.id, variables=variables, terms=TERMS, now=NOW, before=0)
    return Shown(incident=record.incident, entries=tuple(record.entries), runs={"run-000": run}, token=None, held=False)


def shown_variables(names: frozenset[str]) -> dict[str, str]:
    return {name: "model:atlas" if name == "model" else "" for name in names}


def queries(incident: Shown) -> dict[ActKind, dict[str, str]]:
    asked = {one.pending.action is None: one.pending.key for one in incident.waits}
    return {
        ActKind.AGREE: {"key": asked.get(False, "")},
        ActKind.RESOLVE: {"key": asked.get(True, "")},
        ActKind.SENT: {"clock": "eu-cop-initial"},
    }


@pytest.mark.parametrize("kind", [kind for kind in TITLES if kind not in {ActKind.RESOLVE, ActKind.EXPOSE}])
def test_each_form_makes_an_act_that_every_reader_reads(kind: ActKind) -> None:
    incident = shown()
    form = form_of(kind, incident, BOOKS, queries(incident).get(kind, {}), models=MODELS)
    sent = {one.name: one.given or (one.options[0] if one.options else "false-alarm") for one in form.fields}
    facts, found = read_act(form, sent, incident, now=NOW)
    act = Act(
        genesis=Digest.of(b"genesis"),
        incident=incident.incident.id,
        person=PersonId("dana"),
        at=NOW,
        kind=kind,
        nonce=bytes(16),
        facts=facts,
        found=found,
    )
    assert Act.parse(act.to_bytes()) == act


@pytest.mark.parametrize("kind", [kind for kind in TITLES if kind is not ActKind.RESOLVE])
def test_other_fields_and_other_choices_are_refused(kind: ActKind) -> None:
    incident = shown()
    form = form_of(kind, incident, BOOKS, queries(incident).get(kind, {}), models=MODELS)
    sent = {one.name: one.given or (one.options[0] if one.options else "words") for one in form.fields}
    for changed in ({**sent, "more": "x"}, {name: sent[name] for name in list(sent)[1:]}):
        with pytest.raises(FormError):
            read_act(form, changed, incident, now=NOW)
    for one in form.fields:
        if one.given or one.options:
            with pytest.raises(FormError):
                read_act(form, {**sent, one.name: "something else"}, incident, now=NOW)


def test_what_is_answered_sets_what_its_step_asks_for_and_nothing_else() -> None:
    incident = shown()
    (run,) = incident.runs.values()
    assert not withheld(run) or incident.waits
    asked = [one.pending for one in incident.waits if one.pending.action is None]
    for one in asked:
        form = form_of(ActKind.RESOLVE, incident, BOOKS, {"key": one.key}, models=MODELS)
        sets = {field.name for field in form.fields} - {"key", "outcome"}
        assert all(name.startswith("set-") for name in sets)


@pytest.mark.parametrize(
    ("subject", "models", "offered"),
    [
        ("model:atlas", {"atlas", "other"}, ("atlas",)),
        ("host:w1", {"other", "atlas"}, ("atlas", "other")),
        ("model:gone", {"atlas"}, ("atlas",)),
        ("model:atlas", set(), None),
        ("model:shadow-atlas", {"atlas"}, None),
    ],
)
def test_exposure_is_read_of_a_model_that_the_incident_names(
    subject: str, models: set[str], offered: tuple[str, ...] | None
) -> None:
    drill = Digest.of(b"token") if "shadow" in subject else None
    record = Record.of(alert(subject, drill=drill))
    incident = Shown(incident=record.incident, entries=tuple(record.entries), runs={}, token=None, held=False)
    if offered is None:
        with pytest.raises(FormError):
            form_of(ActKind.EXPOSE, incident, BOOKS, {}, models=models)
        return
    form = form_of(ActKind.EXPOSE, incident, BOOKS, {}, models=models)
    assert [(one.name, one.options) for one in form.fields] == [("model", offered)]
    assert read_act(form, {"model": offered[-1]}, incident, now=NOW) == ({"model": offered[-1]}, {})


@pytest.mark.parametrize("kind", [ActKind.AGREE, ActKind.RESOLVE])
def test_what_doesnt_wait_isnt_agreed_to(kind: ActKind) -> None:
    with pytest.raises(FormError):
        form_of(kind, shown(), BOOKS, {"key": "0" * 32}, models=MODELS)


def test_lines_end_as_the_person_saw_them() -> None:
    incident = shown()
    form = form_of(ActKind.NOTE, incident, BOOKS, {}, models=MODELS)
    facts, _found = read_act(form, {"words": "one\r\ntwo"}, incident, now=NOW)
    assert facts == {"words": "one\ntwo"}


def test_a_page_names_few_of_many_reports_and_files() -> None:
    record, words = Record.of(alert()), {"report": str(Digest.of(b"report"))}
    for number in range(40):
        record.add(Happened.REPORT_SENT, {"clock": "eu-cop-update", **words}, by="person:dana")
        named: dict[str, str | int] = {"action": "snapshot-evidence", "subject": "model:atlas", "key": f"k{number}"}
        record.add(Happened.ACTION_PROPOSED, named)
        record.add(Happened.ACTION_DONE, {**named, "micros": 1})
    many = Shown(incident=record.incident, entries=tuple(record.entries), runs={}, token=None, held=False)
    page = told(many, BOOKS, person="dana", here=lambda _subject: True, now=NOW)
    for name in ("reports", "kept"):
        rows = page[name]
        assert isinstance(rows, list)
        assert (len(rows), page[f"more_{name}"]) == (MAX_NAMED, 40 - MAX_NAMED)


def test_a_clock_that_was_started_at_the_end_of_time_is_shown() -> None:
    record = Record.of(alert())
    record.add(Happened.CLOCK_STARTED, {"clock": "eu-cop-initial"}, at=LATEST)
    last = Shown(incident=record.incident, entries=tuple(record.entries), runs={}, token=None, held=False)
    page = told(last, BOOKS, person="dana", here=lambda _subject: True, now=NOW)
    assert "9999-12-31T23:59:59Z" in str(page["clocks"])
