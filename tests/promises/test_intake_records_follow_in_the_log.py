"""The keeper takes a delivery's records one after the other, from who took it in, and reviews from others alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from simulators.deployment_in_memory import InMemoryDeployment, signer
from strongroom.audit.entries import Entry, make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer
from strongroom.intake.reviews import REVIEW_TYPE, Decision, Review
from strongroom.intake.rules import Rule
from strongroom.intake.states import ORDER, Record, Standing, State, begin
from strongroom.release.intake_ledger import IntakeLedger
from strongroom.release.intake_statements import INTAKE_RECORD_TYPE, IntakeRecord
from support.clocks import FixedClock

pytestmark = pytest.mark.integration
ATLAS = ModelId("atlas")
NAME = "0" * 32
FILES = Digest.of(b"files")
KEEPER = Ed25519Signer.from_seed(b"K" * 32)


@pytest.fixture(scope="module")
def here() -> Iterator[InMemoryDeployment]:
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    deployment.adopt_first()
    deployment.change_roster(
        lambda one: (
            replace(one, roles=one.roles | {"publisher"})
            if one.id == "sam"
            else replace(one, roles=one.roles | {"intake-reviewer"})
            if one.id in {"otto", "dana"}
            else one
        )
    )
    yield deployment
    deployment.close()


def hand_in(here: InMemoryDeployment, record: Record, by: str = "dana", genesis: Digest | None = None) -> str:
    """Hand a record in; returns why it is refused, or nothing."""
    said = IntakeRecord(genesis=genesis or here.genesis.digest, record=record).to_bytes()
    return _stated(here, "intake-record", sign(INTAKE_RECORD_TYPE, said, signer(by)).to_json())


def review(here: InMemoryDeployment, standing: Standing, by: str, **changes: object) -> str:
    """Hand a review in."""
    said = Review(
        genesis=here.genesis.digest,
        delivery=standing.last.delivery,
        reviewer=PersonId(by),
        artifact=FILES,
        records=standing.last.digest,
        decision=Decision.ACCEPT,
    )
    signed = sign(REVIEW_TYPE, replace(said, **changes).to_bytes(), signer(by))  # type: ignore[arg-type]  # a test's own
    return _stated(here, "intake-review", signed.to_json())


def _stated(here: InMemoryDeployment, kind: str, envelope: object) -> str:
    try:
        here.call("POST", f"/v1/statements/{kind}", body={"envelope": envelope})  # type: ignore[dict-item]  # JSON
    except StrongroomError as error:
        return error.reason
    return ""


def walk(here: InMemoryDeployment, name: str, until: State) -> Standing:
    """Take a delivery to a state, every step recorded."""
    now = here.clock.now()
    standing = begin(name, ATLAS, now, documents=(Digest.of(b"terms"),))
    assert not hand_in(here, standing.last), standing.last.state
    for state in ORDER[1 : ORDER.index(until) + 1]:
        standing = standing.step(state, now, artifact=FILES if state is State.HASHED else None)
        assert not hand_in(here, standing.last), standing.last.state
    return standing


def test_a_record_is_taken_once_and_in_order(here: InMemoryDeployment) -> None:
    standing = walk(here, "1" * 32, State.HASHED)
    assert hand_in(here, standing.last) == "intake-record-known"
    assert hand_in(here, standing.records[0]) == "intake-records"
    other = Standing(standing.records[:1]).step(State.HASHED, here.clock.now(), artifact=Digest.of(b"other files"))
    assert hand_in(here, other.last) == "intake-records"
    ahead = standing.step(State.SIGNATURE_VERIFIED, here.clock.now()).step(State.FORMATS_CHECKED, here.clock.now())
    assert hand_in(here, ahead.last) == "intake-records"
    skipped = replace(ahead.last, previous=standing.last.digest)
    assert hand_in(here, skipped) == "intake-wrong-state"
    orphan = walkless("9" * 32, here)
    assert hand_in(here, orphan) == "intake-records"


def walkless(name: str, here: InMemoryDeployment) -> Record:
    """Return a record of a delivery that never began."""
    return begin(name, ATLAS, here.clock.now()).step(State.HASHED, here.clock.now(), artifact=FILES).last


def test_who_took_it_in_goes_on_with_it_and_nobody_else(here: InMemoryDeployment) -> None:
    standing = walk(here, "2" * 32, State.HASHED)
    following = standing.step(State.SIGNATURE_VERIFIED, here.clock.now())
    assert hand_in(here, following.last, by="sam") == "signer-may-not"
    assert hand_in(here, begin("3" * 32, ATLAS, here.clock.now()).last, by="rina") == "signer-may-not"
    assert hand_in(here, following.last, genesis=Digest.of(b"another")) == "malformed"
    assert not hand_in(here, following.last)


def test_one_person_says_how_a_delivery_goes_on(here: InMemoryDeployment) -> None:
    # Else whoever carries a first record could sign it too, and be whom the delivery belongs to.
    first = begin("7" * 32, ATLAS, here.clock.now()).last
    said = IntakeRecord(genesis=here.genesis.digest, record=first).to_bytes()
    both = sign(INTAKE_RECORD_TYPE, said, signer("dana"), signer("sam"))
    assert _stated(here, "intake-record", both.to_json()) == "signer-may-not"
    assert not hand_in(here, first)


def test_a_refusal_is_the_last_word(here: InMemoryDeployment) -> None:
    standing = walk(here, "4" * 32, State.HASHED)
    refused = standing.refuse(Rule.GGUF, here.clock.now())
    assert not hand_in(here, refused.last)
    on = standing.step(State.SIGNATURE_VERIFIED, here.clock.now()).last
    assert hand_in(here, replace(on, previous=refused.last.digest)) == "intake-wrong-state"


def test_reviewed_rests_on_reviews_that_the_log_has(here: InMemoryDeployment) -> None:
    standing = walk(here, "5" * 32, State.SCANNED)
    now = here.clock.now()
    made_up = standing.step(State.REVIEWED, now, documents=(Digest.of(b"nobody said so"),))
    assert hand_in(here, made_up.last) == "intake-not-reviewed"
    assert hand_in(here, standing.step(State.REVIEWED, now).last) == "intake-not-reviewed"
    assert review(here, standing, "dana") == "signer-may-not"
    assert review(here, standing, "olga") == "signer-may-not"
    assert review(here, standing, "otto", reviewer=PersonId("olga")) == "signer-may-not"
    assert review(here, standing, "otto", records=standing.records[1].digest) == "nothing-to-review"
    assert not review(here, standing, "otto")
    assert review(here, standing, "otto") == "statement-known"
    assert not review(here, standing, "otto", decision=Decision.DENY)
    assert hand_in(here, standing.waive(State.REVIEWED, now).last) == "intake-not-reviewed"
    assert not hand_in(here, standing.refuse(Rule.REVIEW_DENIED, now).last)


def test_one_review_named_twice_is_no_second_one(here: InMemoryDeployment) -> None:
    standing = walk(here, "8" * 32, State.SCANNED)
    assert not review(here, standing, "otto")
    named = here.keeper.journal.ledger.intake.deliveries["8" * 32].accepted[0][1]
    twice = standing.step(State.REVIEWED, here.clock.now(), documents=(named, named))
    assert hand_in(here, twice.last) == "intake-not-reviewed"
    assert not hand_in(here, standing.step(State.REVIEWED, here.clock.now(), documents=(named,)).last)


def test_sealed_is_a_version_that_is_registered(here: InMemoryDeployment) -> None:
    standing = walk(here, "6" * 32, State.SCANNED)
    standing = standing.waive(State.REVIEWED, here.clock.now())
    assert not hand_in(here, standing.last)
    sealed = standing.step(State.SEALED, here.clock.now(), documents=(Digest.of(b"no version"),))
    assert hand_in(here, sealed.last) == "intake-not-registered"


def test_one_person_cant_fill_the_log_with_deliveries(here: InMemoryDeployment) -> None:
    now = here.clock.now()
    said = [
        hand_in(here, begin(f"{number:032x}", ATLAS, now).last, by="sam") for number in range(1 << 12, (1 << 12) + 300)
    ]
    assert said[0] == ""
    assert said[-1] == "too-many-entries"


def entry(state: str, **changes: Fact) -> Entry:
    facts: dict[str, Fact] = {
        "delivery": NAME,
        "model": ATLAS,
        "state": state,
        "made": "2026-11-26T10:00:00Z",
        "record": Digest.of(state.encode()),
        "artifact": None,
        "statement": Digest.of(b"statement"),
        "person": "dana",
        **changes,
    }
    made = make_entry(
        EventName.INTAKE_RECORDED, at=1_800_000_000, by=Producer.KEEPER, seq=0, facts=facts, signer=KEEPER
    )
    return read_entry(made)


@pytest.mark.parametrize(
    "wrong",
    [entry("hashed"), entry("received"), entry("formats-checked"), entry("nowhere"), entry("hashed", model="other")],
    ids=["unknown delivery", "again", "skipped", "no state", "other model"],
)
def test_a_ledger_takes_no_record_out_of_order(wrong: Entry, request: pytest.FixtureRequest) -> None:
    ledger = IntakeLedger()
    if request.node.callspec.id != "unknown delivery":
        ledger.record(0, entry("received"), versions=0)
    with pytest.raises(TamperedError):
        ledger.record(1, wrong, versions=0)
