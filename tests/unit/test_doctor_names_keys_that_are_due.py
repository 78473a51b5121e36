"""A doctor names each key that is past its period with the command that mends it, and what no custodian opens."""

from __future__ import annotations

from dataclasses import replace

from strongroom.cli.key_facts import judge
from strongroom.client.keys_shown import EpochShown, KekShown, KeysShown
from strongroom.core.ids import ModelId
from strongroom.enclave.facts import FactState
from strongroom.keys.states import KeyState

DAY = 86_400
NOW = 3000 * DAY
ATLAS, BOREA = ModelId("atlas"), ModelId("borea")


def kek(model: ModelId, days: int, *, escrowed: bool = True, state: KeyState = KeyState.ACTIVE) -> KekShown:
    return KekShown(
        model=model, kek=f"kek-{model}", epoch=1, escrowed=escrowed, state=state, created=NOW - days * DAY, data_keys=1
    )


YOUNG = KeysShown(
    generation=3,
    since=NOW - 10 * DAY,
    epochs=(EpochShown(epoch=1, escrowed=True, state=KeyState.ACTIVE, created=NOW - 10 * DAY),),
    keks=(kek(ATLAS, 10), kek(BOREA, 10)),
)


def test_young_keys_are_well() -> None:
    (fact,) = judge(YOUNG, (), NOW)
    assert (fact.name, fact.state) == ("key periods", FactState.OK)


def test_each_key_that_is_due_is_named_with_its_command() -> None:
    old = replace(
        YOUNG,
        since=NOW - 730 * DAY,
        epochs=(replace(YOUNG.epochs[0], created=NOW - 365 * DAY),),
        keks=(kek(ATLAS, 364), kek(BOREA, 365), kek(ModelId("gone"), 900, state=KeyState.DESTROYED)),
    )
    facts = [*judge(old, (), NOW)]
    assert [fact.mend for fact in facts] == [
        "strongroom key order rotate-root",
        "strongroom key order rotate-epoch",
        "strongroom key rotate borea",
    ]
    assert {fact.state for fact in facts} == {FactState.DEGRADED}


def test_what_no_custodian_opens_is_named_and_counted() -> None:
    apart = [kek(ModelId(f"m{number:02}"), 1, escrowed=False) for number in range(11)]
    facts = [*judge(replace(YOUNG, keks=(*YOUNG.keks, *apart)), [ModelId("m03")], NOW)]
    told = {fact.state: fact.seen for fact in facts if fact.name == "no escrow"}
    assert "m00, m01" in told[FactState.DEGRADED]
    assert told[FactState.DEGRADED].endswith("m07 and 3 more")
    assert told[FactState.MISSING].endswith(": m03")
    assert "atlas" not in "".join(told.values())
    # Nobody can do anything about it here: it doesn't keep enclaves from running.
    assert not any(fact.blocks for fact in facts)
