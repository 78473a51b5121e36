"""A precaution that was answered for stands, and one that was lifted doesn't, whoever was killed meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.keeper.adapters.files import MAX_DECISIONS_FILE
from strongroom.release.precautions import PRECAUTION_TYPE, Cause, Precaution, PrecautionKind
from support.deployment import MODEL, Deployment, signer
from support.offline import verified_entries

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A log writer and a keeper, processes of their own; the keeper can be told where to die."""
    with Deployment.found(tmp_path / "home") as made:
        made.keeper_module = "simulators.crashing_keeper"
        made.start("log")
        made.start("keeper")
        made.adopt_first()
        yield made


def hold(deployment: Deployment) -> Envelope:
    made = Precaution(
        genesis=deployment.genesis.digest,
        kind=PrecautionKind.HOLD,
        subject=MODEL,
        cause=Cause.LEGAL,
        incident=None,
        at=int(time.time()),
        until=None,
    )
    return sign(PRECAUTION_TYPE, made.to_bytes(), signer("dana"))


def standing(deployment: Deployment) -> list[Json]:
    found = deployment.call("status")["precautions"]
    assert isinstance(found, list)
    return found


def again(deployment: Deployment, *names: str) -> None:
    for name in names:
        deployment.kill(name)
    for name in names:
        deployment.start(name)


def test_what_was_answered_for_stands_whoever_is_killed(deployment: Deployment) -> None:
    envelope = hold(deployment)
    deployment.call("state", kind="precaution", envelope=envelope.to_json())
    before = standing(deployment)
    assert len(before) == 1
    for killed in (("keeper",), ("log", "keeper")):
        again(deployment, *killed)
        assert standing(deployment) == before


@pytest.mark.parametrize(("place", "recorded"), [("5 queued", {0}), ("5 sent", {0, 1}), ("5 answered", {1})])
def test_a_keeper_killed_while_it_takes_one_took_it_whole_or_not(
    deployment: Deployment, place: str, recorded: set[int]
) -> None:
    envelope = hold(deployment)
    (deployment.home / "keeper" / "crash-at").write_text(place)
    with pytest.raises(StrongroomError):
        deployment.call("state", kind="precaution", envelope=envelope.to_json())
    deployment.processes["keeper"].wait(60)
    again(deployment, "keeper")
    assert len(standing(deployment)) in recorded
    if not standing(deployment):
        deployment.call("state", kind="precaution", envelope=envelope.to_json())
    with pytest.raises(StrongroomError) as caught:
        deployment.call("state", kind="precaution", envelope=envelope.to_json())
    assert caught.value.reason == "statement-known"
    assert len(standing(deployment)) == 1
    taken = [one for one in verified_entries(deployment) if one.event is EventName.PRECAUTION_TAKEN]
    assert len(taken) == 1


# --- lifting ----------------------------------------------------------------------------------------------------------


def held(deployment: Deployment) -> Envelope:
    """Have a hold taken; returns it."""
    envelope = hold(deployment)
    deployment.call("state", kind="precaution", envelope=envelope.to_json())
    return envelope


def agreed(deployment: Deployment, name: Digest) -> tuple[Envelope, tuple[Envelope, ...]]:
    """Return a request to lift a precaution, and the approvals of two others."""
    request = deployment.request(Action.LIFT, target=name)
    return request, tuple(deployment.approve(request, by) for by in ("sam", "rina"))


def liftings(deployment: Deployment) -> int:
    return sum(one.event is EventName.PRECAUTION_LIFTED for one in verified_entries(deployment))


def test_what_was_lifted_stays_so_whoever_is_killed(deployment: Deployment) -> None:
    envelope = held(deployment)
    request, approvals = agreed(deployment, envelope.digest)
    deployment.control(request, *approvals)
    for killed in (("keeper",), ("log", "keeper")):
        again(deployment, *killed)
        assert standing(deployment) == []
    # Neither the statement nor the request is good once more.
    with pytest.raises(StrongroomError) as caught:
        deployment.call("state", kind="precaution", envelope=envelope.to_json())
    assert caught.value.reason == "statement-known"
    with pytest.raises(StrongroomError) as caught:
        deployment.control(request, *approvals)
    assert caught.value.reason == "no-such-precaution"
    assert liftings(deployment) == 1


@pytest.mark.parametrize(("place", "left"), [("5 queued", {1}), ("5 sent", {0, 1}), ("5 answered", {0})])
def test_a_keeper_killed_while_one_is_lifted_lifted_it_whole_or_not(
    deployment: Deployment, place: str, left: set[int]
) -> None:
    envelope = held(deployment)
    request, approvals = agreed(deployment, envelope.digest)
    (deployment.home / "keeper" / "crash-at").write_text(place)
    with pytest.raises(StrongroomError):
        deployment.control(request, *approvals)
    deployment.processes["keeper"].wait(60)
    again(deployment, "keeper")
    assert len(standing(deployment)) in left
    if standing(deployment):
        deployment.control(request, *approvals)
    assert standing(deployment) == []
    assert liftings(deployment) == 1


# --- what a hold sets aside -------------------------------------------------------------------------------------------


def test_the_walled_keeper_sets_full_files_aside_while_a_hold_stands(deployment: Deployment) -> None:
    folder = deployment.home / "keeper"
    newest, aside = folder / "decisions.jsonl", folder / "decisions.held-1.jsonl"

    def decide() -> None:
        """Have a decision kept behind a file that is full: too few agreed."""
        newest.touch(mode=0o600)
        os.truncate(newest, MAX_DECISIONS_FILE)  # a hole: it takes no room
        with pytest.raises(StrongroomError) as caught:
            deployment.control(deployment.request(Action.RESUME))
        assert caught.value.reason == "quorum-not-met"

    decide()
    decide()
    assert not aside.exists()
    held(deployment)
    decide()
    assert aside.stat().st_size >= MAX_DECISIONS_FILE
    assert deployment.call("status")["locked"] is False
    assert deployment.call("walls")["system_calls"]
