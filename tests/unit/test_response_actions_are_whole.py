"""Each response action: what it needs, what falls, what it does and how that is verified, who may, what undoes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.response_port import HOST, MODEL, PERSON, ResponsePort, shadow_world
from strongroom.core.errors import UsageError
from strongroom.response.action_list import ACTIONS, CONTAINMENT, brought_about, dry_run, in_order, is_late
from strongroom.response.actions import (
    LEAST_QUORUM,
    ActionName,
    ActionRefusedError,
    Authority,
    AuthorityError,
    Command,
    Falls,
    Mandate,
    Wave,
    require_authority,
)
from strongroom.response.grading import Certainty
from strongroom.response.run import Outcome
from strongroom.response.situation import HostFacts, Situation
from strongroom.response.subjects import Subject, SubjectKind
from support.responses import token

M, P, H = (Subject.parse(text) for text in (f"model:{MODEL}", f"person:{PERSON}", f"host:{HOST}"))
ALL = Subject.parse("deployment:all")
N = ActionName
SUBJECT = {
    **dict.fromkeys((N.QUARANTINE_PERSON, N.RELEASE_PERSON, N.REVOKE_SESSIONS), P),
    **dict.fromkeys((N.QUARANTINE_HOST, N.RELEASE_HOST, N.REVOKE_ATTESTATION), H),
}
FALLS = {
    N.FREEZE_RELEASES: Falls(models=(MODEL,)),
    N.ZERO_EGRESS: Falls(models=(MODEL,), hosts=(HOST,)),
    N.REVOKE_GRANTS: Falls(grants=("g1",)),
    N.REVOKE_SESSIONS: Falls(sessions=("s1",)),
    N.REVOKE_ATTESTATION: Falls(leases=("l1",), hosts=(HOST,)),
    N.QUARANTINE_PERSON: Falls(grants=("g1",), sessions=("s1",), leases=("l1",)),
    N.QUARANTINE_HOST: Falls(leases=("l1",), hosts=(HOST,)),
    N.EXPIRE_LEASES: Falls(leases=("l1",), hosts=(HOST,)),
}
SURE = Mandate(certainty=Certainty.SURE)


def before(name: ActionName, port: ResponsePort) -> None:
    """Bring about what an action needs: what it undoes was done, and evidence is frozen."""
    port.do(Command(key="evidence", action=N.SNAPSHOT_EVIDENCE, subject=M))
    undoes = ACTIONS[name].inverse
    if ACTIONS[name].authority is Authority.QUORUM and undoes is not None:
        port.do(Command(key="before", action=undoes, subject=SUBJECT.get(name, M)))


@pytest.mark.parametrize("name", ActionName)
def test_each_action_does_what_its_probe_then_says(name: ActionName) -> None:
    port, subject, action = ResponsePort(token=token("p")), SUBJECT.get(name, M), ACTIONS[name]
    before(name, port)
    if name is not N.SNAPSHOT_EVIDENCE:
        assert not brought_about(name, port.probe(action.probe, subject))
    dry_run(name, subject, port.world)
    command = Command(key="k", action=name, subject=subject, parameters=action.parameters)
    assert port.do(command).outcome is Outcome.DONE
    assert brought_about(name, port.probe(action.probe, subject))
    # Once more is the same once.
    world = port.world
    assert port.do(command).outcome is Outcome.DONE
    assert port.world == world
    assert port.effects["k", name] == 1


@pytest.mark.parametrize("name", ActionName)
def test_each_dry_run_says_what_would_fall_and_changes_nothing(name: ActionName) -> None:
    port = ResponsePort(token=token("p"))
    before(name, port)
    world, subject = port.world, SUBJECT.get(name, M)
    assert dry_run(name, subject, world) == FALLS.get(name, Falls())
    assert dry_run(name, subject, world).count == FALLS.get(name, Falls()).count
    assert port.world == world


@pytest.mark.parametrize("name", [one for one in ActionName if ACTIONS[one].inverse])
def test_each_inverse_undoes(name: ActionName) -> None:
    action = ACTIONS[name]
    assert action.inverse is not None
    assert ACTIONS[action.inverse].inverse is name
    assert (action.authority is Authority.QUORUM) != (ACTIONS[action.inverse].authority is Authority.QUORUM)
    port, subject = ResponsePort(token=token("p")), SUBJECT.get(name, M)
    before(name, port)
    was = port.world
    for key, one in (("a", name), ("b", action.inverse)):
        assert port.do(Command(key=key, action=one, subject=subject)).outcome is Outcome.DONE
    assert port.world == was


@pytest.mark.parametrize("name", ActionName)
def test_each_action_takes_its_own_subjects_only(name: ActionName) -> None:
    subjects = {
        SubjectKind.MODEL: M,
        SubjectKind.PERSON: P,
        SubjectKind.HOST: H,
        SubjectKind.SERVICE: Subject.parse("service:s"),
        SubjectKind.DEPLOYMENT: ALL,
    }
    for kind in set(SubjectKind) - ACTIONS[name].takes:
        with pytest.raises(UsageError):
            dry_run(name, subjects[kind], shadow_world())


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        (N.FREEZE_RELEASES, "model:other"),
        (N.RESUME_RELEASES, f"model:{MODEL}"),
        (N.RESTORE_EGRESS, f"model:{MODEL}"),
        (N.RESTORE_EGRESS, f"host:{HOST}"),
        (N.RESTORE_EGRESS, "host:other"),
        (N.LEGAL_HOLD, f"model:{MODEL}"),
        (N.LIFT_HOLD, f"model:{MODEL}"),
        (N.QUARANTINE_PERSON, "person:other"),
        (N.RELEASE_PERSON, f"person:{PERSON}"),
        (N.QUARANTINE_HOST, "host:other"),
        (N.RELEASE_HOST, f"host:{HOST}"),
        (N.REVOKE_ATTESTATION, "host:other"),
        (N.LOWER_SAMPLING, f"model:{MODEL}"),
        # A rotation before the evidence is kept would make it unreadable.
        (N.PREPARE_ROTATION, f"model:{MODEL}"),
        (N.PREPARE_SHREDDING, f"model:{MODEL}"),
    ],
)
def test_what_cannot_be_done_as_things_stand_is_refused(name: ActionName, subject: str) -> None:
    with pytest.raises(ActionRefusedError, match=name.value):
        dry_run(name, Subject.parse(subject), shadow_world())


def test_what_stops_begins_by_itself_only_on_a_sure_signal() -> None:
    for action in ACTIONS.values():
        if action.authority is Authority.AUTOMATIC:
            require_authority(action, SURE)
        for certainty in (Certainty.LIKELY, Certainty.HINT):
            with pytest.raises(AuthorityError):
                require_authority(action, Mandate(certainty=certainty))
    assert {N.FREEZE_RELEASES, N.ZERO_EGRESS, N.QUARANTINE_HOST} == CONTAINMENT


def test_what_lets_go_takes_two_people_whatever_the_policy_says() -> None:
    for action in ACTIONS.values():
        if action.authority is Authority.QUORUM:
            one = Mandate(certainty=Certainty.SURE, people=frozenset({"dana"}), quorum=1)
            with pytest.raises(AuthorityError):
                require_authority(action, one)
            two = replace(one, people=frozenset({"dana", "eli"}))
            require_authority(action, two)
            with pytest.raises(AuthorityError):
                require_authority(action, replace(two, quorum=3))
    assert LEAST_QUORUM == 2


def test_one_person_may_ask_for_whatever_stops() -> None:
    one = Mandate(certainty=Certainty.HINT, people=frozenset({"dana"}))
    for action in ACTIONS.values():
        if action.authority is not Authority.QUORUM:
            require_authority(action, one)


def test_memory_comes_before_the_kernel_before_the_record_before_the_rest() -> None:
    names = in_order(tuple(reversed(ActionName)))
    assert [ACTIONS[name].wave for name in names] == sorted(ACTIONS[name].wave for name in names)
    assert names[0] is N.FREEZE_RELEASES
    assert ACTIONS[N.ZERO_EGRESS].wave is Wave.KERNEL
    assert ACTIONS[N.SNAPSHOT_EVIDENCE].wave is Wave.RECORD


def test_every_action_has_a_deadline_and_something_to_look_at() -> None:
    for action in ACTIONS.values():
        assert action.wanted
        assert not is_late(action.name, action.within_ms * 1000)
        assert is_late(action.name, action.within_ms * 1000 + 1)


def test_a_whole_deployment_means_every_model() -> None:
    assert dry_run(N.FREEZE_RELEASES, ALL, shadow_world()).models == (MODEL,)
    assert dry_run(N.EXPIRE_LEASES, ALL, shadow_world()).leases == ("l1",)
    assert dry_run(N.REVOKE_SESSIONS, ALL, shadow_world()).sessions == ("s1",)
    assert dry_run(N.FREEZE_RELEASES, ALL, Situation()) == Falls()


def test_a_host_whose_egress_is_closed_can_be_opened_again() -> None:
    world = Situation(hosts={HOST: HostFacts(egress_closed=True)})
    assert dry_run(N.RESTORE_EGRESS, H, world) == Falls()
