"""The log's replay refuses an escrow that is none, of another generation, or opened by too few of its custodians."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from strongroom.audit.entries import Entry
from strongroom.audit.facts import Producer, StoredFact
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.release.errors import LedgerError
from strongroom.release.key_ledger import KeyLedger

ESCROW = str(Digest.of(b"an escrow"))
ADOPTED: dict[str, StoredFact] = {
    "authority": str(Digest.of(b"an order")),
    "generation": 1,
    "escrow": ESCROW,
    "custodians": ("ada", "bo", "cy"),
    "threshold": 2,
}
OPENED: dict[str, StoredFact] = {"generation": 1, "escrow": ESCROW, "custodians": ("ada", "cy")}


def told(keys: KeyLedger, event: EventName, facts: dict[str, StoredFact]) -> None:
    keys.apply(7, Entry(event, 1_700_000_000, Producer.KEEPER, 0, MappingProxyType(facts), None, b""))


def adopted() -> KeyLedger:
    keys = KeyLedger()
    told(keys, EventName.ESCROW_ADOPTED, ADOPTED)
    return keys


def test_an_escrow_is_known_by_its_digest_and_its_order_is_used_up() -> None:
    keys = adopted()
    assert keys.escrow is not None
    assert (str(keys.escrow.escrow), keys.escrow.custodians, keys.escrow.index) == (ESCROW, ("ada", "bo", "cy"), 7)
    assert keys.authorities == {Digest.of(b"an order")}
    told(keys, EventName.ESCROW_OPENED, OPENED)


@pytest.mark.parametrize(
    "change",
    [{"generation": 2}, {"threshold": 1}, {"threshold": 4}, {"custodians": ("ada", "bo", "ada")}, {"custodians": ()}],
    ids=str,
)
def test_what_is_no_escrow_is_not_adopted(change: dict[str, StoredFact]) -> None:
    with pytest.raises(LedgerError):
        told(KeyLedger(), EventName.ESCROW_ADOPTED, ADOPTED | change)


@pytest.mark.parametrize(
    "change",
    [{"escrow": str(Digest.of(b"another"))}, {"custodians": ("ada",)}, {"custodians": ("ada", "mallory")}],
    ids=str,
)
def test_too_few_custodians_or_another_escrow_open_nothing(change: dict[str, StoredFact]) -> None:
    with pytest.raises(LedgerError):
        told(adopted(), EventName.ESCROW_OPENED, OPENED | change)
    with pytest.raises(LedgerError):
        told(KeyLedger(), EventName.ESCROW_OPENED, OPENED)
