"""Each shipped playbook runs to its end in a drill, whatever people find; what it must do is done and verified."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import pytest

from simulators.response_port import ResponsePort
from strongroom.core.errors import DeniedError
from strongroom.detection.wiring import shipped_pack
from strongroom.response.action_list import ACTIONS
from strongroom.response.actions import ActionName, Authority, AuthorityError, Tells
from strongroom.response.cacao import Manual, Playbook
from strongroom.response.drills import measure, planned_at_once
from strongroom.response.entries import Happened
from strongroom.response.executor import Answer, agree, answer, begin, due, withheld
from strongroom.response.grading import Certainty
from strongroom.response.run import Outcome, RunStatus, Terms
from strongroom.response.subjects import Subject
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.responses import NOW, TERMS, Record, Response, alert, token, variables_of

BOOKS = tuple(shipped_playbooks().values())
TOKEN_DIGEST = alert().event


def worlds(playbook: Playbook) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Every combination of what people could say."""
    asked = {step.name: step.out for step in playbook.steps.values() if isinstance(step.command, Manual) and step.out}
    said = {
        "grounds": ("innocent", "coerced", "hostile", "unknown"),
        "cause": ("fault", "planned", "attack"),
        "heard": ("yes",),
        "quiet": ("no",),
        "exposed": ("yes", "no", "unknown"),
    }
    choices = [said.get(names[0], ("yes", "no")) for names in asked.values()]
    for chosen in itertools.product(*choices):
        yield {name: {names[0]: value} for (name, names), value in zip(asked.items(), chosen, strict=True)}


@pytest.mark.parametrize("playbook", BOOKS, ids=lambda book: book.name)
def test_each_playbook_runs_to_its_end_in_a_drill(playbook: Playbook) -> None:
    drill = token(playbook.name)
    for answers in worlds(playbook):
        subject = next(iter(variables_of(playbook).values()))
        record = Record.of(alert(subject, drill=TOKEN_DIGEST))
        response = Response(shipped_playbooks(), ResponsePort(token=drill), answers, record=record)
        run = response.start(playbook, variables_of(playbook))
        assert run.status is RunStatus.ENDED
        assert not run.failures
        assert not run.pending
        assert set(response.port.effects.values()) == {1}
        incident = record.incident
        assert not incident.outstanding
        assert all(one.verified is not None and not one.failed for one in incident.doings.values())
        found = measure(record.entries, planned_at_once(playbook))
        assert found.missed == ()
        assert ActionName.SNAPSHOT_EVIDENCE in response.port.done
        assert ActionName.NOTIFY in response.port.done


def test_the_rules_name_only_playbooks_that_are_there() -> None:
    named = {rule.about.playbook for rule in shipped_pack().every if rule.about.playbook}
    assert named == {book.name for book in BOOKS}


def test_bytes_are_stopped_before_anything_is_written() -> None:
    playbook = playbook_called("weight-exfiltration-suspected")
    response = Response(shipped_playbooks(), ResponsePort(), {})
    run = begin(
        response.library, playbook.id, incident="inc-1", variables={"model": "model:atlas"}, terms=TERMS, now=NOW
    )
    names = [one.action for one in due(run)]
    assert names == [ActionName.FREEZE_RELEASES, ActionName.ZERO_EGRESS]


def test_what_goes_again_waits_for_two_people() -> None:
    playbook = playbook_called("weight-exfiltration-suspected")
    cleared = {"Is the cause gone?": {"cleared": "yes"}, "What is exposed?": {"exposed": "no"}}
    response = Response(shipped_playbooks(), ResponsePort(token=token(playbook.name)), cleared, agrees=("dana",))
    run = response.start(playbook, variables_of(playbook))
    assert run.status is RunStatus.RUNNING
    (waits,) = withheld(run)
    assert waits.action is ActionName.RESTORE_EGRESS
    assert response.port.probe(Tells.PACKET, Subject.parse("model:shadow-atlas")) == "lost"
    # The same person twice is one person, a stranger is none, and nobody can say that it was done.
    assert withheld(agree(run, waits.key, "dana", NOW)) == (waits,)
    with pytest.raises(DeniedError):
        agree(run, waits.key, "mallory", NOW)
    with pytest.raises(AuthorityError):
        answer(run, response.library, Answer(key=waits.key, outcome=Outcome.DONE), NOW)
    assert not withheld(agree(run, waits.key, "eli", NOW))


def test_a_signal_that_is_only_likely_starts_nothing_by_itself() -> None:
    playbook = playbook_called("weight-exfiltration-suspected")
    terms = Terms(certainty=Certainty.LIKELY, eligible=frozenset({"dana", "eli"}), quorum=2)
    run = begin(
        shipped_playbooks(),
        playbook.id,
        incident="inc-1",
        variables={"model": "model:atlas"},
        terms=terms,
        now=NOW,
    )
    assert due(run) == ()
    assert {one.action for one in withheld(run)} == {ActionName.FREEZE_RELEASES, ActionName.ZERO_EGRESS}
    key = withheld(run)[0].key
    # Any one responder may stop it.
    assert [one.key for one in due(agree(run, key, "eli", NOW))] == [key]


def test_keys_are_destroyed_and_rotated_by_requests_alone() -> None:
    # What a playbook does about keys is a draft: the quorum signs the request, or nothing happens.
    drafts = {ActionName.PREPARE_ROTATION: "rotate", ActionName.PREPARE_SHREDDING: "destroy"}
    for name, action in ACTIONS.items():
        assert action.parameters.get("request", "") == drafts.get(name, "")
    assert ACTIONS[ActionName.PREPARE_SHREDDING].authority is not Authority.AUTOMATIC
    playbook = playbook_called("stray-copy-found")
    response = Response(shipped_playbooks(), ResponsePort(token=token(playbook.name)), {})
    response.start(playbook, variables_of(playbook))
    assert response.port.drafts == {"destroy model:shadow-atlas"}


def test_a_failing_step_calls_a_person() -> None:
    playbook = playbook_called("insider")
    port = ResponsePort(token=token(playbook.name), broken=frozenset({ActionName.QUARANTINE_PERSON}))
    record = Record.of(alert("person:shadow-dana", drill=TOKEN_DIGEST))
    response = Response(shipped_playbooks(), port, {}, record=record)
    run = response.start(playbook, variables_of(playbook))
    assert run.failures
    failed = [entry for entry in record.entries if entry.happened is Happened.ACTION_FAILED]
    assert [entry.text("action") for entry in failed] == ["quarantine-person"]
    assert measure(record.entries, planned_at_once(playbook)).missed == (ActionName.QUARANTINE_PERSON,)
