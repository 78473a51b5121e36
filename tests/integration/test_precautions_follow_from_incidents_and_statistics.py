"""What a responder asks of the keeper beside a freeze: the real keeper and broker; people lift what they may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.test_the_responder_s_port_does_what_it_says import Hand, acting
from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.responder.adapters.record_archive import RecordHeldError, require_nothing_held
from strongroom.responder.decoys import DecoyModel, Decoys
from strongroom.responder.ports import DONE, awaits, refused
from strongroom.responder.wiring import DECOYS
from strongroom.response.actions import ActionName
from support.custodians import entries_of
from support.deployment import MODEL, Deployment, signer
from support.egress import VERIFIED_BY
from support.metered import POLICY, policies, signed
from support.responders import WARDEN, ResponderLab, responder_lab

pytestmark = pytest.mark.integration
ABOUT = f"model:{MODEL}"
LURE = ModelId("minilm-next")
SUSPECT = "dana"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponderLab]:
    folder = tmp_path_factory.mktemp("precautions")
    with responder_lab(folder, Deployment.found(folder / "home")) as made:
        yield made


def standing(lab: ResponderLab) -> list[dict[str, Json]]:
    shown = lab.deployment.call("status")["precautions"]
    assert isinstance(shown, list)
    return [one for one in shown if isinstance(one, dict)]


def taken(lab: ResponderLab) -> int:
    return sum(entry.event is EventName.PRECAUTION_TAKEN for entry in entries_of(lab.deployment))


def lifted(lab: ResponderLab, kind: str, *approvers: str) -> None:
    """Have people lift what stands of a kind."""
    (one,) = [one for one in standing(lab) if one["kind"] == kind]
    request = lab.deployment.request(Action.LIFT, target=Digest.parse(str(one["precaution"])))
    lab.deployment.control(request, *[lab.deployment.approve(request, by) for by in approvers])
    # What was signed in the second in which its like was lifted, or before, isn't taken: times are whole seconds.
    ended = int(time.time())
    while int(time.time()) == ended:
        time.sleep(0.02)


def marked(hand: Hand) -> bool:
    """Tell whether the incident's folder says that its hold was taken."""
    return hand.case.held


def has_second_engine(lab: ResponderLab) -> None:
    """Have egress policies in force that name one."""
    rules = replace(POLICY, residual_millibits_per_token=75, verified_by=VERIFIED_BY)
    envelope: Envelope = signed(policies(lab.deployment.genesis, rules))
    answer = lab.broker.caller("root-0").post("/v1/documents/egress", {"envelope": envelope.to_json()})
    assert answer.status == 200, answer.text


def test_sampling_is_raised_where_somebody_can_replay_and_people_lower_it(lab: ResponderLab) -> None:
    async def without(hand: Hand) -> None:
        assert await hand.do(ActionName.RAISE_SAMPLING, ABOUT) == refused("no-second-engine")
        assert await hand.do(ActionName.RAISE_SAMPLING, "deployment:all") == refused("no-second-engine")

    acting(lab, without)
    assert taken(lab) == 0
    has_second_engine(lab)

    async def story(hand: Hand) -> None:
        assert not await hand.holds(ActionName.RAISE_SAMPLING, ABOUT)
        for key in ("first", "first", "another"):
            # Sent again after a kill, or by another step: taken twice is taken once.
            assert await hand.do(ActionName.RAISE_SAMPLING, ABOUT, key) == DONE
            assert await hand.holds(ActionName.RAISE_SAMPLING, ABOUT)
        assert await asyncio.to_thread(taken, lab) == 1
        (one,) = await asyncio.to_thread(standing, lab)
        assert (one["kind"], one["subject"], one["cause"]) == ("sampling", MODEL, "incident")
        assert (one["incident"], one["person"]) == (hand.case.id, WARDEN)
        # What lets go waits, whatever anybody agreed to.
        assert await hand.do(ActionName.LOWER_SAMPLING, ABOUT) == awaits("people-lift-it")
        assert not await hand.holds(ActionName.LOWER_SAMPLING, ABOUT)
        with pytest.raises(StrongroomError):
            await asyncio.to_thread(lifted, lab, "sampling", "sam")
        await asyncio.to_thread(lifted, lab, "sampling", "sam", "rina")
        assert await hand.do(ActionName.LOWER_SAMPLING, ABOUT) == DONE
        assert await hand.holds(ActionName.LOWER_SAMPLING, ABOUT)

    acting(lab, story)


@pytest.mark.parametrize(("about", "subject"), [(ABOUT, MODEL), (f"person:{SUSPECT}", None), ("host:w1", None)])
def test_a_hold_is_the_keeper_s_and_people_lift_it(lab: ResponderLab, about: str, subject: str | None) -> None:
    async def story(hand: Hand) -> None:
        assert not await hand.holds(ActionName.LEGAL_HOLD, about)
        for _ in range(2):
            assert await hand.do(ActionName.LEGAL_HOLD, about) == DONE
            assert await hand.holds(ActionName.LEGAL_HOLD, about)
        (one,) = await asyncio.to_thread(standing, lab)
        assert (one["kind"], one["subject"], one["until"]) == ("hold", subject, None)
        assert marked(hand)
        # Nor is the responder's own record put aside meanwhile.
        with pytest.raises(RecordHeldError):
            await asyncio.to_thread(require_nothing_held, lab.deployment.home)
        assert await hand.do(ActionName.LIFT_HOLD, about) == awaits("people-lift-it")
        assert marked(hand)
        await asyncio.to_thread(lifted, lab, "hold", "sam", "rina")
        assert await hand.do(ActionName.LIFT_HOLD, about) == DONE
        assert await hand.holds(ActionName.LIFT_HOLD, about)
        assert not marked(hand)
        await asyncio.to_thread(require_nothing_held, lab.deployment.home)

    acting(lab, story)


def until(found: Callable[[], object], lab: ResponderLab) -> None:
    ends = time.monotonic() + 60
    while not found():
        assert time.monotonic() < ends, lab.errors()
        time.sleep(0.1)


def asked(lab: ResponderLab) -> list[dict[str, Json]]:
    return [facts for facts in lab.facts() if "asked" in facts]


def list_a_lure(state: Path, genesis: Digest) -> None:
    """Give the responder an alert that names a person: whoever asks for a model that is a decoy."""
    lure = DecoyModel(name=LURE, model=ModelId(MODEL), planted=int(time.time()))
    state.mkdir(mode=0o700)
    (state / DECOYS).write_bytes(Decoys(genesis=genesis, models=(lure,)).sign(signer(WARDEN)).to_bytes())


def test_an_alert_about_a_person_asks_one_approver_more_of_them(lab: ResponderLab) -> None:
    list_a_lure(lab.state, lab.deployment.genesis.digest)
    frozen = lab.deployment.request(Action.FREEZE)
    lab.deployment.control(frozen)
    before = lab.deployment.request(Action.RESUME, by=SUSPECT)
    asking = {"rules": ["decoy-model-asked-for"], "hours": 1, "an_hour": 4}
    lab.start(acting=[], asking=asking)
    try:
        lab.deployment.request(Action.FREEZE, model=LURE, by=SUSPECT)
        until(lambda: asked(lab), lab)
        (line,) = asked(lab)
        assert (line["asked"], line["rule"]) == (SUSPECT, "decoy-model-asked-for")
        assert "failed" not in line
        (one,) = standing(lab)
        assert (one["kind"], one["subject"], one["cause"]) == ("approver", SUSPECT, "statistics")
        assert (one["incident"], one["person"]) == (None, WARDEN)
        # What they asked before meets it, too: the rule's two aren't enough any more.
        approvals = [lab.deployment.approve(before, by) for by in ("sam", "rina")]
        with pytest.raises(StrongroomError):
            lab.deployment.control(before, *approvals)
        assert lab.frozen()
        # Once is enough while it stands.
        lab.deployment.request(Action.FREEZE, model=LURE, by=SUSPECT)
        time.sleep(2.5)
        assert len(asked(lab)) == 1
    finally:
        assert lab.stop() == 0, lab.errors()
    lab.start(acting=[], asking=asking)
    try:
        time.sleep(1)
        assert len(asked(lab)) == 1
    finally:
        assert lab.stop() == 0, lab.errors()
