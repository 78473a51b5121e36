"""The log takes what a registrar says of copies: in the order in which it was said, once, and from nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.deployment_in_memory import InMemoryDeployment, signer
from strongroom.audit.entries import Entry, make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer
from strongroom.intake.copies.possession import NONCE_BYTES, Challenge
from strongroom.intake.copies.register import CopyKind, Ending, Register, Statement, Step, Terms, Trouble
from strongroom.release.copies_ledger import CopiesLedger
from strongroom.release.documents import Documents
from strongroom.release.errors import LedgerError
from strongroom.release.exhibits import Scales
from strongroom.release.ledger import Ledger
from support.clocks import FixedClock

pytestmark = pytest.mark.integration
KEEPER = Ed25519Signer.from_seed(b"K" * 32)
DANA = PersonId("dana")
NOW = 1_800_000_000
GENESIS = Digest.of(b"genesis")
NAMES = ("1" * 32, "2" * 32)


@pytest.fixture
def here() -> Iterator[InMemoryDeployment]:
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    deployment.adopt_first()
    deployment.change_roster(
        lambda one: replace(one, roles=one.roles | {"registrar"}) if one.id in {"dana", "sam"} else one
    )
    yield deployment
    deployment.close()


def terms(now: int = NOW, **changes: Any) -> Terms:
    facts: dict[str, Any] = {
        "model": ModelId("atlas"),
        "version": 1,
        "kind": CopyKind.EXPORTED,
        "host": "w1",
        "place": "/data/atlas",
        "holder": "platform team",
        "reason": "evaluation",
        "expires": now + 1000,
        "prove_seconds": 100,
        "files": Digest.of(b"files"),
    }
    return Terms(**(facts | changes))


def hand_in(here: InMemoryDeployment, said: Statement, *by: str) -> str:
    """Hand a statement in; returns why it is refused, or nothing."""
    envelope = said.signed_by(signer(by[0] if by else "dana"))
    for name in by[1:]:
        envelope = envelope.signed_by(signer(name))
    try:
        here.call("POST", "/v1/statements/copy", body={"envelope": envelope.to_json()})
    except StrongroomError as error:
        return error.reason
    return ""


def register(here: InMemoryDeployment) -> Register:
    return Register(genesis=here.genesis.digest)


def added(known: Register, now: int, copy: str = NAMES[0], **changes: Any) -> Statement:
    said = known.next(copy, Step.ADDED, now, terms=terms(now, **changes))
    known.take(said)
    return said


def test_each_statement_follows_the_one_before_it_and_is_taken_once(here: InMemoryDeployment) -> None:
    now, known = here.clock.now(), register(here)
    first, second = added(known, now), added(known, now, NAMES[1])
    assert hand_in(here, second) == "copies-out-of-order"
    assert hand_in(here, first) == ""
    assert hand_in(here, first) == "statement-known"
    other = added(register(here), now, "3" * 32)
    assert hand_in(here, other) == "copies-out-of-order"
    assert hand_in(here, second) == ""
    assert [*here.keeper.journal.ledger.copies.chains[DANA]] == known.passed


def test_who_isnt_a_registrar_says_nothing_and_two_arent_one(here: InMemoryDeployment) -> None:
    said = added(register(here), here.clock.now())
    assert hand_in(here, said, "rina") == "signer-may-not"
    assert hand_in(here, said, "dana", "sam") == "signer-may-not"
    here.change_roster(lambda one: replace(one, active=False) if one.id == "dana" else one)
    assert hand_in(here, said) in {"signer-not-cleared", "unknown-person"}


def test_a_statement_of_another_deployment_or_of_tomorrow_is_refused(here: InMemoryDeployment) -> None:
    now = here.clock.now()
    assert hand_in(here, added(Register(genesis=GENESIS), now)) == "malformed"
    assert hand_in(here, added(register(here), now + 3600)) == "statement-not-current"
    # Yesterday's is fine: it was said in a file when nobody could be asked.
    assert hand_in(here, added(register(here), now - 86_400)) == ""


def test_a_registrar_says_nothing_of_anothers_copy(here: InMemoryDeployment) -> None:
    now = here.clock.now()
    assert hand_in(here, added(register(here), now)) == ""
    retired = register(here).next(NAMES[0], Step.RETIRED, now, ending=Ending.LOST)
    assert hand_in(here, retired, "sam") == "copies-out-of-order"
    assert hand_in(here, added(register(here), now), "sam") == "conflict"


def test_what_cant_follow_is_refused_before_it_stands_in_the_log(here: InMemoryDeployment) -> None:
    now, known = here.clock.now(), register(here)
    assert hand_in(here, added(known, now)) == ""
    size = here.keeper.journal.ledger.size
    shown: dict[str, Any] = {"ending": Ending.KEY_DESTROYED, "evidence": Digest.of(b"e")}
    for said, why in (
        (known.next(NAMES[0], Step.PROVED, now), "conflict"),
        (known.next(NAMES[1], Step.PROVED, now), "not-found"),
        (known.next(NAMES[0], Step.RETIRED, now, **shown), "conflict"),
        (known.next(NAMES[0], Step.ADDED, now, terms=terms(now)), "conflict"),
    ):
        assert hand_in(here, said) == why
    assert here.keeper.journal.ledger.size == size


def test_what_is_said_to_be_gone_is_shown() -> None:
    known = Register(genesis=GENESIS)
    for ending in (Ending.DESTROYED, Ending.KEY_DESTROYED, Ending.RETURNED):
        with pytest.raises(MalformedError, match="shown by something"):
            Statement.parse(known.next(NAMES[0], Step.RETIRED, NOW, ending=ending).to_bytes())
    lost = known.next(NAMES[0], Step.RETIRED, NOW, ending=Ending.LOST)
    assert Statement.parse(lost.to_bytes()) == lost


def test_one_registrar_doesnt_fill_the_log(here: InMemoryDeployment) -> None:
    known, now = register(here), here.clock.now()
    said = [hand_in(here, added(known, now, f"{number:032x}")) for number in range(300)]
    taken = said.index("too-many-entries")
    assert set(said[:taken]) == {""}
    assert set(said[taken + 1 :]) == {"copies-out-of-order"}


class Found:
    """What somebody hands in beside the log: one object, whatever is asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def find(self, _kind: object, _digest: Digest) -> bytes:
        return self.data


@pytest.mark.parametrize("change", [{}, {"place": Digest.of(b"elsewhere")}, {"state": "lost"}, {"version": 2}])
def test_whoever_has_the_statement_sees_whether_the_entry_says_the_same(
    here: InMemoryDeployment, change: dict[str, Fact]
) -> None:
    said = added(register(here), here.clock.now())
    envelope = said.signed_by(signer("dana"))
    documents = Documents(roster=here.roster)
    scales = Scales(genesis=here.genesis, exhibits=Found(envelope.to_bytes()), ledger=Ledger(), documents=documents)
    made = entry(CopiesLedger().facts(said, DANA) | change)
    wrong = scales.weigh(0, made)
    assert [one.code for one in wrong] == (["exhibit-refused"] if change else [])
    assert scales.tallies["copy"].verified == (not change)


# --- the fold ---------------------------------------------------------------------------------------------------------


def entry(facts: Mapping[str, Fact]) -> Entry:
    whole = {"hold": None, **facts}
    return read_entry(
        make_entry(EventName.COPY_RECORDED, at=NOW, by=Producer.KEEPER, seq=0, facts=whole, signer=KEEPER)
    )


def told(ledger: CopiesLedger, said: Statement, by: PersonId = DANA) -> Entry:
    made = entry(ledger.facts(said, by))
    ledger.apply(0, made)
    return made


steps = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(Step), st.sampled_from(Ending), st.integers(0, 60)), max_size=12
)


@given(steps)
def test_the_log_and_the_register_fold_to_the_same_copies(walk: list[tuple[str, Step, Ending, int]]) -> None:
    known, ledger, now = Register(genesis=GENESIS), CopiesLedger(), NOW
    for name, step, ending, later in walk:
        now += later
        rest: dict[Step, dict[str, Any]] = {
            Step.ADDED: {"terms": terms()},
            Step.CHALLENGED: {"challenge": Challenge(copy=name, nonce=b"n" * NONCE_BYTES, until=now + 10**6)},
            Step.PROVED: {},
            Step.RETIRED: {"ending": ending, "evidence": Digest.of(b"e")},
        }
        said = known.next(name, step, now, **rest[step])
        try:
            known.take(said)
        except StrongroomError as refused:
            with pytest.raises(type(refused)):
                ledger.facts(said, DANA)
            continue
        told(ledger, said)
    assert [*ledger.chains.get(DANA, {})] == known.passed
    for copy in known.copies.values():
        recorded = ledger.copies[copy.id]
        assert (recorded.added, recorded.proved, recorded.due) == (copy.added, copy.proved, copy.due)
        assert (recorded.challenged, recorded.ending, recorded.ended) == (copy.challenged, copy.ending, copy.ended)
        assert recorded.place == copy.terms.place_of(copy.id)
        assert all(recorded.trouble(at) is copy.trouble(at) for at in range(NOW, NOW + 1100, 50))


@pytest.mark.parametrize(
    "change",
    [
        {"state": "destroyed-by-fire"},
        {"state": "added"},
        {"state": "proved"},
        {"model": "other"},
        {"version": 2},
        {"kind": "sealed"},
        {"place": Digest.of(b"elsewhere")},
        {"due": "2029-01-01T00:00:00Z"},
        {"expires": "2030-01-01T00:00:00Z"},
        {"person": "sam"},
        {"made": "2020-01-01T00:00:00Z"},
        {"copy": NAMES[1]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_ledger_takes_nothing_that_contradicts_what_stands(change: dict[str, Fact]) -> None:
    ledger, known = CopiesLedger(), Register(genesis=GENESIS)
    told(ledger, added(known, NOW))
    facts = ledger.facts(known.next(NAMES[0], Step.RETIRED, NOW + 1, ending=Ending.LOST), DANA)
    with pytest.raises(LedgerError):
        ledger.apply(1, entry(facts | change))
    ledger.apply(1, entry(facts))
    assert ledger.copies[NAMES[0]].trouble(NOW) is Trouble.LOST


def test_a_place_is_told_by_a_digest_that_no_table_looks_up() -> None:
    places = {terms().place_of(copy) for copy in NAMES} | {terms(place="/data/b").place_of(NAMES[0])}
    assert len(places) == 3
