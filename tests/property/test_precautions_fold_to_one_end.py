"""Whatever precautions a log holds: one stands for each kind and subject, with the latest end, until it is lifted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.access.invariants import factors_of
from strongroom.audit.entries import Entry, make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId
from strongroom.release.errors import LedgerError
from strongroom.release.precaution_ledger import PrecautionLedger, Standing
from strongroom.release.precautions import MOST_SECONDS, PrecautionKind, check_form
from support.deployment import signer
from support.examples import examples
from support.facts import NOW, good

KINDS = st.sampled_from(PrecautionKind)


def taken(kind: PrecautionKind, subject: str | None, at: int, until: int | None) -> Entry:
    """Return the entry of a precaution."""
    facts: dict[str, Fact] = {
        "kind": kind.value,
        "subject": subject,
        "cause": "statistics",
        "incident": None,
        "until": None if until is None else format_instant(until),
        "person": "warden",
        "statement": Digest.of(f"{kind} {subject} {at} {until}".encode()),
    }
    return _entry(EventName.PRECAUTION_TAKEN, at, facts)


def lifted(name: Digest, at: int) -> Entry:
    """Return the entry of a lifting."""
    facts: dict[str, Fact] = {"request": Digest.of(b"request"), "model": "atlas", "precaution": name}
    return _entry(EventName.PRECAUTION_LIFTED, at, facts)


def _entry(event: EventName, at: int, facts: dict[str, Fact]) -> Entry:
    return read_entry(make_entry(event, at=at, by=Producer.KEEPER, seq=0, facts=facts, signer=signer("keeper")))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[PrecautionKind, str | None, int, int | None]]:
    """Return precautions in order, some of which say nothing new, or last too long."""
    at, made = NOW, []
    for _ in range(draw(st.integers(1, 12))):
        at += draw(st.integers(0, 5 * 86_400))
        kind = draw(KINDS)
        subject = draw(st.sampled_from(["atlas", "dana", None]))
        after = draw(st.one_of(st.none(), st.integers(-1, 31 * 86_400)))
        until = None if after is None else at + after
        made.append((kind, subject, at, until))
    return made


@given(histories())
@settings(max_examples=examples(60), deadline=None)
def test_the_latest_end_counts_and_nothing_else_moves_it(
    history: list[tuple[PrecautionKind, str | None, int, int | None]],
) -> None:
    ledger = PrecautionLedger()
    expected: dict[tuple[PrecautionKind, str | None], int | None] = {}
    for index, (kind, subject, at, until) in enumerate(history):
        try:
            ledger.take(index, taken(kind, subject, at, until))
        except LedgerError:
            continue
        check_form(kind, subject, at, until)
        assert expected.get((kind, subject), 0) is not None
        expected[kind, subject] = until
    last = history[-1][2]
    live = {key: until for key, until in expected.items() if until is None or until > last}
    assert {(one.kind, one.subject): one.until for one in ledger.standing(last)} == live
    for one in ledger.standing(last):
        most = MOST_SECONDS[one.kind]
        assert (one.until is None) is (most is None)
        assert Standing.read(Fields(one.to_json(), "standing")) == one
    assert (ledger.approver(PersonId("dana"), last) is not None) is ((PrecautionKind.APPROVER, "dana") in live)
    held = {(PrecautionKind.HOLD, "atlas"), (PrecautionKind.HOLD, None)}
    assert (ledger.hold(ModelId("atlas")) is not None) is bool(held & live.keys())


@given(KINDS, st.integers(0, 40 * 86_400))
@settings(max_examples=examples(40), deadline=None)
def test_only_people_s_kinds_are_lifted_and_only_while_they_stand(kind: PrecautionKind, after: int) -> None:
    most, ledger = MOST_SECONDS[kind], PrecautionLedger()
    entry = taken(kind, "atlas", NOW, None if most is None else NOW + most)
    ledger.take(0, entry)
    lifting = lifted(entry.digest("statement"), NOW + after)
    if kind is PrecautionKind.APPROVER or (most is not None and after >= most):
        with pytest.raises(LedgerError):
            ledger.lift(1, lifting)
        return
    ledger.lift(1, lifting)
    assert not ledger.standing(NOW)
    with pytest.raises(LedgerError):
        ledger.lift(2, lifting)


def test_never_fewer_than_the_rule_and_never_more_than_one_more() -> None:
    facts = good()
    plain, more = factors_of(facts), factors_of(replace(facts, approver_more=True))
    assert more[: len(plain)] == plain
    assert sum(one.count for one in more) == sum(one.count for one in plain) + 1
