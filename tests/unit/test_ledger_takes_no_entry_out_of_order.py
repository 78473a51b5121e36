"""The ledger refuses whatever can't follow: entries out of order, epochs that don't rise by one, a second enrolment."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from strongroom.audit.entries import Entry, make_entry, read_entry
from strongroom.audit.facts import Fact, Producer, producer_of
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PlatformId
from strongroom.core.signature import Ed25519Signer, HybridSigner
from strongroom.release.errors import LedgerError
from strongroom.release.ledger import Ledger

KEEPER = Ed25519Signer.from_seed(b"K" * 32)
AT = 1_795_000_000
MODEL = ModelId("atlas")
PLATFORM = "tpm-" + "5a" * 32
RELEASED: dict[str, Fact] = {
    "model": MODEL,
    "version": 1,
    "manifest": Digest.of(b"manifest"),
    "data_key": "dk-1",
    "platform": PLATFORM,
    "image": "embedder",
    "isolation": "vm-simulated",
    "weights": "test",
    "reset_count": 3,
    "evidence": Digest.of(b"evidence"),
    "result": Digest.of(b"result"),
    "attested": Digest.of(b"attested"),
    "appraisal_policy": Digest.of(b"appraisal"),
    "collateral": Digest.of(b"collateral"),
    "sampling": "policy",
    "recipient": Digest.of(b"recipient"),
    "approvals": (),
    "roster": Digest.of(b"roster"),
    "policy": Digest.of(b"policy"),
    "reference_values": Digest.of(b"values"),
    "requester": "dana",
    "approvers": (),
    "decision": Digest.of(b"decision"),
}
OFFICERS: tuple[str, ...] = ("vera", "otto")


def entry(event: EventName, seq: int, at: int = AT, facts: Mapping[str, Fact] = MappingProxyType({})) -> Entry:
    """Make an entry of the keeper."""
    made = make_entry(event, at=at, by=Producer.KEEPER, seq=seq, facts=facts, signer=KEEPER)
    return read_entry(made)


class Story:
    """A ledger, fed entry by entry with the right index and number."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.at = AT

    def tell(self, event: EventName, **facts: Fact) -> None:
        """Fold in the next entry."""
        assert producer_of(event) is Producer.KEEPER
        self.ledger.apply(self.ledger.size, entry(event, self.ledger.keeper_seq, self.at, facts))


def test_an_index_that_is_skipped_or_repeated_is_refused() -> None:
    story = Story()
    story.tell(EventName.KEEPER_UNLOCKED)
    for index in (0, 2, 7):
        with pytest.raises(LedgerError):
            story.ledger.apply(index, entry(EventName.KEEPER_UNLOCKED, 1))
    assert story.ledger.size == 1


@pytest.mark.parametrize("seq", [0, 1, 3, 9])
def test_an_entry_that_isn_t_the_keeper_s_next_is_refused(seq: int) -> None:
    story = Story()
    for _ in range(2):
        story.tell(EventName.KEEPER_UNLOCKED)
    with pytest.raises(LedgerError, match="number 2 is due"):
        story.ledger.apply(2, entry(EventName.KEEPER_UNLOCKED, seq))


def test_an_old_resumption_doesn_t_undo_a_new_freeze() -> None:
    story = Story()
    story.tell(EventName.MODEL_FROZEN, model=MODEL, request=Digest.of(b"1"))
    resumed = entry(EventName.MODEL_RESUMED, 1, facts={"model": MODEL, "request": Digest.of(b"2")})
    story.ledger.apply(1, resumed)
    assert not story.ledger.frozen
    story.tell(EventName.MODEL_FROZEN, model=MODEL, request=Digest.of(b"3"))
    # Genuine bytes, genuine signature; only its number tells that it stood elsewhere.
    with pytest.raises(LedgerError):
        story.ledger.apply(3, resumed)
    assert story.ledger.frozen == {MODEL}


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (EventName.ROSTER_ADOPTED, "roster"),
        (EventName.POLICY_ADOPTED, "policy"),
        (EventName.REFERENCE_VALUES_ADOPTED, "reference_values"),
        (EventName.EGRESS_POLICIES_ADOPTED, "egress"),
    ],
)
def test_epochs_rise_by_one(event: EventName, name: str) -> None:
    story = Story()
    with pytest.raises(LedgerError):
        story.tell(event, epoch=2, document=Digest.of(b"2"))
    story.tell(event, epoch=1, document=Digest.of(b"1"))
    for epoch in (1, 3, 0):
        with pytest.raises(LedgerError):
            story.tell(event, epoch=epoch, document=Digest.of(b"x"))
    story.tell(event, epoch=2, document=Digest.of(b"2"))
    assert getattr(story.ledger, name).document == Digest.of(b"2")


def test_a_platform_is_enrolled_once_for_all() -> None:
    story = Story()
    facts: dict[str, Fact] = {"platform": PLATFORM, "hardware": Digest.of(b"ek"), "isolation": "vm-simulated"}
    story.tell(EventName.PLATFORM_ENROLLED, record=Digest.of(b"record"), **facts)
    with pytest.raises(LedgerError):
        story.tell(EventName.PLATFORM_ENROLLED, record=Digest.of(b"another record"), **facts)
    assert story.ledger.platforms == {PlatformId(PLATFORM): Digest.of(b"record")}


def test_uses_are_counted_without_gap_or_repeat() -> None:
    story, request = Story(), Digest.of(b"request")
    for use in (2, 0):
        with pytest.raises(LedgerError):
            story.tell(EventName.RELEASED, request=request, use=use, **RELEASED)
    story.tell(EventName.RELEASED, request=request, use=1, **RELEASED)
    with pytest.raises(LedgerError):
        story.tell(EventName.RELEASED, request=request, use=1, **RELEASED)
    story.tell(EventName.RELEASED, request=request, use=2, **RELEASED)
    assert story.ledger.times_used(request) == 2


def test_evidence_is_taken_for_an_open_lease_alone_and_its_class_counts_from_then_on() -> None:
    story, request = Story(), Digest.of(b"request")
    names = ("evidence", "result", "attested", "reference_values", "appraisal_policy", "collateral", "sampling")
    attested: dict[str, Fact] = {"request": request, "isolation": "process", **{name: RELEASED[name] for name in names}}
    with pytest.raises(LedgerError):
        story.tell(EventName.LEASE_ATTESTED, use=1, **attested)
    story.tell(EventName.RELEASED, request=request, use=1, **RELEASED)
    story.tell(EventName.LEASE_ATTESTED, use=1, **attested)
    assert story.ledger.released[request, 1].isolation == "process"
    with pytest.raises(LedgerError):
        story.tell(EventName.LEASE_ATTESTED, use=2, **attested)
    story.tell(EventName.LEASE_ENDED, request=request, use=1, recipient=RELEASED["recipient"], reason="model-frozen")
    with pytest.raises(LedgerError):
        story.tell(EventName.LEASE_ATTESTED, use=1, **attested)


METERED: dict[str, Fact] = {"request": Digest.of(b"request"), "use": 1, "model": MODEL}
READING: dict[str, Fact] = {
    **METERED,
    "epoch": 1,
    "run": 1,
    "through": 0,
    "settled": 0,
    "tokens": 0,
    "verified": 0,
    "total": 0,
    "recent": 0,
    "limit": 1000,
    "day": 1000,
    "policy": Digest.of(b"policy"),
}


def metered_story() -> Story:
    """Release twice under one grant, and open the model's odometer for the first."""
    story = Story()
    story.tell(EventName.EPOCH_CREATED, epoch=1, escrowed=1)
    for use in (1, 2):
        story.tell(EventName.RELEASED, request=METERED["request"], use=use, **RELEASED)
    story.tell(EventName.ODOMETER_ADVANCED, **READING)
    story.tell(EventName.ODOMETER_ADVANCED, **{**READING, "through": 400, "total": 400, "recent": 400})
    return story


@pytest.mark.parametrize(
    "changes",
    [
        {"request": Digest.of(b"another")},
        {"use": 3},
        {"model": "boreas"},
        # Genuine, and another release's: it can't go on with a run that isn't its own.
        {"use": 2},
        {"epoch": 2},
        {"run": 2, "through": 1, "total": 501},
        {"run": 2, "through": 0, "total": 399, "recent": 0},
        {"through": 399, "total": 399},
        {"total": 501},
        {"total": 499},
        {"recent": 499},
        {"settled": 401},
        {"tokens": 1, "verified": 2},
        {"run": 2, "through": 0, "total": 400, "tokens": 1},
        {"limit": 499},
        {"day": 166},
    ],
)
def test_an_odometer_entry_that_does_not_follow_is_refused(changes: dict[str, Fact]) -> None:
    story = metered_story()
    good: dict[str, Fact] = {**READING, "through": 500, "total": 500, "recent": 500}
    with pytest.raises(LedgerError):
        story.tell(EventName.ODOMETER_ADVANCED, **(good | changes))
    assert story.ledger.odometers.mirrors[MODEL].total == 400
    story.tell(EventName.ODOMETER_ADVANCED, **good)
    assert story.ledger.odometers.mirrors[MODEL].total == 500
    assert story.ledger.odometers.newest[MODEL] == story.ledger.size - 1


def test_no_odometer_goes_on_under_a_lease_that_ended_or_in_a_frozen_model() -> None:
    story = metered_story()
    story.tell(
        EventName.LEASE_ENDED, request=METERED["request"], use=1, recipient=RELEASED["recipient"], reason="model-frozen"
    )
    good: dict[str, Fact] = {**READING, "through": 500, "total": 500, "recent": 500}
    with pytest.raises(LedgerError):
        story.tell(EventName.ODOMETER_ADVANCED, **good)
    second: dict[str, Fact] = {**READING, "use": 2, "run": 2, "total": 400, "recent": 400}
    story.tell(EventName.ODOMETER_ADVANCED, **second)
    story.tell(EventName.EGRESS_BREACHED, **METERED, cause="no-demand")
    assert story.ledger.frozen == {MODEL}
    with pytest.raises(LedgerError):
        story.tell(EventName.ODOMETER_ADVANCED, **{**second, "run": 3})
    story.tell(EventName.MODEL_RESUMED, model=MODEL, request=Digest.of(b"resume"))
    assert story.ledger.resumed == {MODEL: story.ledger.size - 1}
    assert not story.ledger.frozen
    story.tell(EventName.ODOMETER_ADVANCED, **{**second, "run": 3})
    with pytest.raises(LedgerError):
        story.tell(EventName.EGRESS_BREACHED, **{**METERED, "use": 3}, cause="no-demand")


def test_a_data_key_needs_a_recorded_request() -> None:
    story = Story()
    story.tell(EventName.EPOCH_CREATED, epoch=1, escrowed=1)
    story.tell(EventName.KEK_CREATED, model=MODEL, kek="kek-1", epoch=1, escrowed=1)
    facts: dict[str, Fact] = {"model": MODEL, "version": 1, "data_key": "dk-1", "kek": "kek-1", "use": 1}
    with pytest.raises(LedgerError):
        story.tell(
            EventName.DATA_KEY_CREATED, request=Digest.of(b"unknown"), recipient=Digest.of(b"recipient"), **facts
        )


def test_versions_are_registered_in_order() -> None:
    story = Story()
    facts: dict[str, Fact] = {
        "request": Digest.of(b"request"),
        "model": MODEL,
        "manifest": Digest.of(b"manifest"),
        "predecessor": None,
        "publisher": "dana",
        "publisher_key": HybridSigner.from_seed(b"P" * 32).public_key,
        "data_key": "dk-1",
    }
    for version in (0, 2):
        with pytest.raises(LedgerError):
            story.tell(EventName.VERSION_REGISTERED, version=version, **facts)
    story.tell(EventName.VERSION_REGISTERED, version=1, **facts)
    current = story.ledger.current(MODEL)
    assert current is not None
    assert current.version == 1
    assert story.ledger.current(ModelId("borea")) is None


def test_what_takes_access_away_stays() -> None:
    story, grant = Story(), Digest.of(b"grant")
    story.tell(EventName.REQUEST_DENIED, request=grant, person="sam", key="k", counter=0, denial=Digest.of(b"d"))
    story.tell(EventName.GRANT_REVOKED, grant=grant, request=Digest.of(b"1"))
    story.tell(EventName.PLATFORM_REVOKED, platform=PLATFORM, request=Digest.of(b"2"))
    assert story.ledger.denied == story.ledger.revoked == {grant}
    assert story.ledger.revoked_platforms == {PlatformId(PLATFORM)}
    # A control request is spent by its own effect.
    assert story.ledger.times_used(Digest.of(b"1")) == story.ledger.times_used(Digest.of(b"2")) == 1


def vet(story: Story, serial: int, person: str = "dana") -> None:
    statement = Digest.of(f"{person} {serial}".encode())
    story.tell(EventName.VETTING_RECORDED, person=person, serial=serial, statement=statement, officers=OFFICERS)


def suspend(story: Story, person: str = "dana") -> None:
    facts: dict[str, Fact] = {"cause": "left", "fell": Digest.of(b"fell"), "grants": 0, "approvals": 0, "leases": 0}
    story.tell(EventName.PERSON_SUSPENDED, person=person, **facts)


def test_vetting_records_follow_each_other_by_one_for_each_person() -> None:
    story = Story()
    for serial in (0, 2):
        with pytest.raises(LedgerError):
            vet(story, serial)
    vet(story, 1)
    vet(story, 1, "sam")
    # An older, better record doesn't come back.
    for serial in (1, 3):
        with pytest.raises(LedgerError):
            vet(story, serial)
    vet(story, 2)
    assert {person: adopted.epoch for person, adopted in story.ledger.vetting.items()} == {"dana": 2, "sam": 1}


def test_only_a_newer_vetting_record_ends_a_suspension() -> None:
    story = Story()
    vet(story, 1)
    suspend(story)
    story.tell(EventName.ROSTER_ADOPTED, epoch=1, document=Digest.of(b"1"))
    assert story.ledger.suspended == {"dana"}
    with pytest.raises(LedgerError):
        vet(story, 1)
    assert story.ledger.suspended == {"dana"}
    vet(story, 2)
    assert story.ledger.suspended == set()


def test_who_was_erased_stays_suspended_and_is_not_vetted_again() -> None:
    story = Story()
    vet(story, 1)
    story.tell(EventName.PERSON_ERASED, person="dana", statement=Digest.of(b"s"), officers=OFFICERS)
    with pytest.raises(LedgerError):
        vet(story, 2)
    assert story.ledger.suspended == story.ledger.erased == {"dana"}


def test_a_grant_needs_a_recorded_request_and_is_issued_once() -> None:
    story, request = Story(), Digest.of(b"request")
    about: dict[str, Fact] = {"request": request, "action": "open-in-enclave", "model": MODEL, "requester": "dana"}
    more: dict[str, Fact] = {
        "approvers": ("sam",),
        "access": "output",
        "holders": 1,
        "expires": "2026-11-24T00:00:00Z",
        "uses": 1,
    }
    with pytest.raises(LedgerError):
        story.tell(EventName.GRANT_ISSUED, **about, **more)
    story.tell(EventName.REQUEST_CREATED, **about)
    story.tell(EventName.GRANT_ISSUED, **about, **more)
    with pytest.raises(LedgerError):
        story.tell(EventName.GRANT_ISSUED, **about, **more)
    assert set(story.ledger.grants) == {request}


def test_an_approval_counts_from_when_it_was_recorded_and_counters_never_fall() -> None:
    story, request = Story(), Digest.of(b"request")
    for story.at, counter in ((AT, 7), (AT + 5, 3)):
        approval = Digest.of(str(counter).encode())
        story.tell(
            EventName.REQUEST_APPROVED, request=request, person="sam", key="k", counter=counter, approval=approval
        )
    assert story.ledger.approvals == {request: {"sam": AT + 5}}
    assert story.ledger.counters == {"k": 7}


def test_the_latest_time_never_falls() -> None:
    story = Story()
    for story.at in (AT + 50, AT):
        story.tell(EventName.KEEPER_UNLOCKED)
    assert story.ledger.latest == AT + 50


def test_every_event_that_grants_or_takes_is_folded_in() -> None:
    # Those that the ledger may pass over carry nothing that a decision looks at.
    silent = {
        EventName.LOG_OPENED,
        # The journal's: which tree holds an entry changes nothing that it says.
        EventName.SHARD_CLOSED,
        EventName.SHARD_CONTINUED,
        EventName.SHARD_PRUNED,
        EventName.KEEPER_UNLOCKED,
        EventName.KEEPER_LOCKED,
        # The same root key in other hands.
        EventName.ROOT_MOVED,
        # The key's signature was refused: what stands is the counter that it showed before.
        EventName.AUTHENTICATOR_REGRESSED,
        EventName.REDELIVERED,
        EventName.REFUSED,
        EventName.REFUSALS_SUMMED,
        # Worked out from the entry before it; people are told.
        EventName.EGRESS_WARNED,
    }
    for event in set(EventName) - silent:
        ledger = Ledger()
        # An entry without facts: a handler looks for them, and fails.
        bare = Entry(event, AT, Producer.KEEPER, 0, MappingProxyType({}), None, b"")
        with pytest.raises(KeyError):
            ledger.apply(0, bare)
        assert ledger.size == 0
