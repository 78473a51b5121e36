"""The keys' part of the ledger refuses whatever can't follow, and changes nothing then."""

from __future__ import annotations

from copy import deepcopy

import pytest

from strongroom.audit.entries import make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.signature import Ed25519Signer
from strongroom.keys.states import KeyState
from strongroom.release.errors import LedgerError
from strongroom.release.key_ledger import KeyLedger

KEEPER = Ed25519Signer.from_seed(b"K" * 32)
MODEL, OTHER = ModelId("atlas"), ModelId("borea")
ORDER, REQUEST = Digest.of(b"order"), Digest.of(b"request")
Told = tuple[EventName, dict[str, Fact]]


def told(keys: KeyLedger, event: EventName, **facts: Fact) -> None:
    """Fold in an entry."""
    made = make_entry(event, at=1_795_000_000, by=Producer.KEEPER, seq=0, facts=facts, signer=KEEPER)
    keys.apply(7, read_entry(made))


def story() -> KeyLedger:
    """Two models; the KEK of one was rotated, and one of its versions is registered."""
    keys = KeyLedger()
    told(keys, EventName.EPOCH_CREATED, epoch=1, escrowed=1)
    for model in (MODEL, OTHER):
        told(keys, EventName.KEK_CREATED, model=model, kek=f"kek-{model}", epoch=1, escrowed=1)
        data_key(keys, model, f"dk-{model}", f"kek-{model}")
    registered(keys, MODEL, f"dk-{MODEL}")
    data_key(keys, MODEL, "draft", f"kek-{MODEL}")
    told(keys, EventName.KEK_ROTATED, request=REQUEST, model=MODEL, kek="new", previous=f"kek-{MODEL}", epoch=1)
    return keys


def data_key(keys: KeyLedger, model: ModelId, name: str, kek: str) -> None:
    told(
        keys,
        EventName.DATA_KEY_CREATED,
        request=REQUEST,
        use=1,
        model=model,
        version=1,
        data_key=name,
        kek=kek,
        recipient=REQUEST,
    )


def registered(keys: KeyLedger, model: ModelId, name: str) -> None:
    told(
        keys,
        EventName.VERSION_REGISTERED,
        request=REQUEST,
        model=model,
        version=1,
        manifest=REQUEST,
        predecessor=None,
        publisher="dana",
        publisher_key=KEEPER.public_key,
        data_key=name,
    )


def test_the_story_is_what_it_says() -> None:
    keys = story()
    active, (previous,) = keys.active(MODEL), keys.previous(MODEL)
    assert active is not None
    assert (active.kek, previous.kek, previous.state) == ("new", "kek-atlas", KeyState.DEACTIVATED)
    assert keys.moving(MODEL) == ("dk-atlas", "draft")
    assert keys.unregistered(MODEL, "kek-atlas") == ("draft",)
    told(keys, EventName.KEK_RETIRED, model=MODEL, kek="kek-atlas", lost=("draft",))
    assert keys.data_keys[MODEL] == {"dk-atlas": "new"}
    assert keys.keks["kek-atlas"].state is KeyState.DESTROYED
    told(keys, EventName.EPOCH_ROTATED, authority=ORDER, epoch=2, previous=1, models=2)
    assert {kek.epoch for kek in keys.living()} == {2}
    told(keys, EventName.EPOCH_DESTROYED, authority=ORDER, epoch=1)
    told(keys, EventName.ROOT_ROTATED, authority=ORDER, generation=2, previous=1, providers=ORDER)
    told(keys, EventName.MODEL_DESTROYED, request=REQUEST, model=MODEL, kek="new", epoch=2, generation=2)
    assert [kek.kek for kek in keys.living()] == ["kek-borea"]
    with pytest.raises(LedgerError):
        told(keys, EventName.KEK_CREATED, model=MODEL, kek="again", epoch=2, escrowed=1)
    with pytest.raises(LedgerError):
        data_key(keys, MODEL, "dk-2", "new")


WRONG: list[Told] = [
    (EventName.EPOCH_CREATED, {"epoch": 1, "escrowed": 1}),
    (EventName.EPOCH_CREATED, {"epoch": 2, "escrowed": 1}),
    (EventName.EPOCH_CREATED, {"epoch": 3, "escrowed": 0}),
    (EventName.EPOCH_ROTATED, {"authority": ORDER, "epoch": 3, "previous": 1, "models": 2}),
    (EventName.EPOCH_ROTATED, {"authority": ORDER, "epoch": 2, "previous": 2, "models": 2}),
    # KEKs stand under it still, or nobody rotated it.
    (EventName.EPOCH_DESTROYED, {"authority": ORDER, "epoch": 1}),
    (EventName.EPOCH_DESTROYED, {"authority": ORDER, "epoch": 9}),
    (EventName.KEK_CREATED, {"model": MODEL, "kek": "second", "epoch": 1, "escrowed": 1}),
    (EventName.KEK_CREATED, {"model": "corvus", "kek": "new", "epoch": 1, "escrowed": 1}),
    (EventName.KEK_CREATED, {"model": "corvus", "kek": "fresh", "epoch": 2, "escrowed": 1}),
    (EventName.KEK_CREATED, {"model": "corvus", "kek": "fresh", "epoch": 1, "escrowed": 0}),
    # The one before the active one; another model's; one that is no more.
    (EventName.KEK_ROTATED, {"request": REQUEST, "model": MODEL, "kek": "n2", "previous": "kek-atlas", "epoch": 1}),
    (EventName.KEK_ROTATED, {"request": REQUEST, "model": OTHER, "kek": "n2", "previous": "new", "epoch": 1}),
    (EventName.KEK_ROTATED, {"request": REQUEST, "model": OTHER, "kek": "n2", "previous": "kek-atlas", "epoch": 1}),
    (EventName.KEK_ROTATED, {"request": REQUEST, "model": OTHER, "kek": "new", "previous": "kek-borea", "epoch": 1}),
    (EventName.KEK_RETIRED, {"model": MODEL, "kek": "new", "lost": ()}),
    (EventName.KEK_RETIRED, {"model": OTHER, "kek": "kek-borea", "lost": ()}),
    (EventName.KEK_RETIRED, {"model": MODEL, "kek": "kek-atlas", "lost": ("dk-atlas",)}),
    (EventName.KEK_RETIRED, {"model": MODEL, "kek": "kek-atlas", "lost": ("dk-borea",)}),
    (EventName.ROOT_ROTATED, {"authority": ORDER, "generation": 1, "previous": 1, "providers": ORDER}),
    (EventName.ROOT_ROTATED, {"authority": ORDER, "generation": 3, "previous": 2, "providers": ORDER}),
    (EventName.MODEL_DESTROYED, {"request": REQUEST, "model": MODEL, "kek": "kek-atlas", "epoch": 1, "generation": 1}),
    (EventName.MODEL_DESTROYED, {"request": REQUEST, "model": OTHER, "kek": "new", "epoch": 1, "generation": 1}),
]


@pytest.mark.parametrize(("event", "facts"), WRONG)
def test_an_entry_that_cant_follow_is_refused_and_changes_nothing(event: EventName, facts: dict[str, Fact]) -> None:
    keys = story()
    before = deepcopy(keys)
    with pytest.raises(LedgerError):
        told(keys, event, **facts)
    assert keys == before


@pytest.mark.parametrize("kek", ["kek-atlas", "kek-borea", "unknown"])
def test_new_data_keys_stand_under_the_active_kek_alone(kek: str) -> None:
    keys = story()
    with pytest.raises(LedgerError):
        data_key(keys, MODEL, "dk-2", kek)
    data_key(keys, MODEL, "dk-2", "new")


def test_what_lost_the_race_for_a_version_keeps_no_kek_alive() -> None:
    keys = story()
    registered(keys, MODEL, "draft")
    data_key(keys, MODEL, "late", "new")
    registered(keys, MODEL, "late")
    assert set(keys.data_keys[MODEL]) == {"dk-atlas", "draft", "late"}
    data_key(keys, OTHER, "first", "kek-borea")
    registered(keys, OTHER, "first")
    assert set(keys.data_keys[OTHER]) == {"first"}
