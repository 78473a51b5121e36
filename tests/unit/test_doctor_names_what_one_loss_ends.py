"""The doctor says whether custodians could open the root key today, and names each silent single point of failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.cli.escrow_facts import BACKUP_DAYS, CustodianToday, EscrowSeen, KeeperTold, judge
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.enclave.facts import Fact, FactState
from support.escrows import AT, escrow_of, holders

ESCROW = escrow_of(holders(3), 2)
ACTIVE = tuple(CustodianToday(person=one.person, standing="active", stands_for=one.person) for one in ESCROW.custodians)
TOLD = KeeperTold(escrow=ESCROW.digest, custodians=ACTIVE, backup=AT)
GOOD = EscrowSeen(providers=("pkcs11:token=t",), generation=1, escrow=ESCROW, refused=None, unlock_key=True, told=TOLD)


def judged(**changes: object) -> list[Fact]:
    return list(judge(replace(GOOD, **changes), AT))  # type: ignore[arg-type]


def custodians(*changed: CustodianToday) -> KeeperTold:
    by_name = {one.person: one for one in (*ACTIVE, *changed)}
    return replace(TOLD, custodians=tuple(by_name.values()))


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert [(fact.name, fact.state, fact.lost) for fact in judged()] == [
        ("escrow", FactState.OK, ""),
        ("backup", FactState.OK, ""),
    ]


ADA, BO, CY = ACTIVE
ONE_PERSON = replace(BO, stands_for="ada")
WORSE: list[tuple[dict[str, object], FactState, str]] = [
    ({"escrow": None}, FactState.DEGRADED, "under pkcs11:token=t alone"),
    ({"escrow": None, "providers": ("local:", "tpm2:device:/dev/tpm")}, FactState.DEGRADED, "and tpm2"),
    ({"refused": TamperedError("bad"), "escrow": None}, FactState.MISSING, "is refused: bad"),
    ({"generation": 2}, FactState.MISSING, "of generation 1; the root key is of generation 2"),
    ({"told": replace(TOLD, escrow=Digest.of(b"other"))}, FactState.MISSING, "isn't the one in the log"),
    ({"told": replace(TOLD, escrow=None)}, FactState.MISSING, "isn't the one in the log"),
    (
        {"escrow": (all_of := escrow_of(holders(3), 3)), "told": replace(TOLD, escrow=all_of.digest)},
        FactState.DEGRADED,
        "all 3",
    ),
    ({"unlock_key": False}, FactState.DEGRADED, "unlock key"),
    ({"told": custodians(replace(CY, standing="suspended"))}, FactState.DEGRADED, "custodian `cy` is suspended"),
    ({"told": custodians(replace(CY, standing="left"))}, FactState.DEGRADED, "custodian `cy` has left"),
    ({"told": custodians(replace(CY, standing="unknown"))}, FactState.DEGRADED, "custodian `cy` isn't in the roster"),
    ({"told": custodians(ONE_PERSON)}, FactState.DEGRADED, "`bo` and `ada` are one person"),
    ({"told": custodians(ONE_PERSON, replace(CY, standing="left"))}, FactState.MISSING, "1 active people"),
    ({"told": replace(TOLD, backup=None)}, FactState.DEGRADED, "none was ever made"),
    ({"told": replace(TOLD, backup=AT - BACKUP_DAYS * 86_400)}, FactState.DEGRADED, f"for {BACKUP_DAYS} days"),
]


@pytest.mark.parametrize(("changes", "state", "said"), WORSE, ids=[said for _changes, _state, said in WORSE])
def test_each_is_named_with_what_is_lost_and_what_mends_it(
    changes: dict[str, object], state: FactState, said: str
) -> None:
    (fact,) = [fact for fact in judged(**changes) if said in fact.seen]
    assert fact.state is state
    assert fact.lost
    assert fact.mend


def test_a_keeper_that_is_down_is_not_taken_for_consent() -> None:
    (fact,) = judged(told=None)
    assert fact.state is FactState.OK
    assert "isn't known" in fact.seen
