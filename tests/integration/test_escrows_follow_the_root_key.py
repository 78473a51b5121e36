"""A new root key has new shares at once, other custodians take a new root key, and old shares open nothing of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import LockedError, NotFoundError, StrongroomError
from strongroom.core.events import EventName
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.package import KeyPackage, KeyPackageError
from strongroom.keys.escrow import EscrowPlan
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder
from support.custodians import answer, entries_of, envelope, escrow_in, give, wait_until
from support.deployment import ROOTS, Deployment, ProcessRefusedError
from support.escrows import holders

pytestmark = pytest.mark.integration

HELD = holders(5)
BY_SHARES = ("--unlock-by-shares",)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment.found(tmp_path / "home") as founded:
        founded.start("log")
        founded.start("keeper")
        yield founded


def order(deployment: Deployment, act: KeyAct, subject: Digest | None = None) -> Digest:
    now = int(time.time())
    made = KeyOrder(
        genesis=deployment.genesis.digest,
        act=act,
        subject=subject,
        nonce=os.urandom(16),
        log=deployment.head(),
        issued=now,
        expires=now + 3600,
    )
    signed = sign(KEY_ORDER_TYPE, made.to_bytes(), *ROOTS[:2])
    deployment.call("key-order", envelope=signed.to_json())
    return signed.digest


def adopt(deployment: Deployment, first: int, last: int, threshold: int = 2) -> Digest:
    held = tuple(one.custodian for one in HELD[first:last])
    plan = EscrowPlan(genesis=deployment.genesis.digest, threshold=threshold, custodians=held)
    deployment.call("escrow-plan", plan=to_base64(plan.to_bytes()))
    return order(deployment, KeyAct.ADOPT_ESCROW, plan.digest)


def test_escrow_comes_later_is_shared_again_and_changes_hands(deployment: Deployment) -> None:
    with pytest.raises(NotFoundError):
        deployment.call("escrow")
    with pytest.raises(NotFoundError, match="wasn't handed in"):
        order(deployment, KeyAct.ADOPT_ESCROW, Digest.of(b"a plan that nobody handed in"))

    orders = [adopt(deployment, 0, 3)]
    first = escrow_in(deployment)
    orders.append(order(deployment, KeyAct.ROTATE_ROOT))
    second = escrow_in(deployment)
    orders.append(adopt(deployment, 2, 5))
    third = escrow_in(deployment)
    assert [(one.generation, len(one.shares)) for one in (first, second, third)] == [(1, 3), (2, 3), (3, 3)]
    assert second.custodians == first.custodians
    assert [one.person for one in third.custodians] == ["cy", "dee", "eve"]
    adopted = [entry for entry in entries_of(deployment) if entry.event is EventName.ESCROW_ADOPTED]
    assert [entry.digest("authority") for entry in adopted] == orders
    assert [entry.digest("escrow") for entry in adopted] == [first.digest, second.digest, third.digest]

    folder = deployment.home / "keeper"
    assert not (folder / "escrow-next.json").exists()
    kept = envelope(deployment.call("escrow")["escrow"])
    packed = KeyPackage.of(deployment.genesis, load_keyring(folder), kept)
    assert KeyPackage.parse(packed.to_bytes()) == packed
    deployment.stop("keeper")

    deployment.start("keeper", more=BY_SHARES)
    for old in (HELD[0], HELD[1]):
        with pytest.raises(StrongroomError) as gone:
            answer(deployment, old)
        assert gone.value.reason == "custodian-unknown"
    give(deployment, HELD[4])
    assert give(deployment, HELD[3])["unlocked"] is True
    wait_until(lambda: deployment.call("status"))
    # No key service is at hand: the root key stays until there is one.
    with pytest.raises(LockedError) as alone:
        order(deployment, KeyAct.ROTATE_ROOT)
    assert alone.value.reason == "no-provider"
    assert escrow_in(deployment) == third


def test_an_escrow_put_back_opens_nothing_and_a_package_of_two_generations_is_refused(deployment: Deployment) -> None:
    adopt(deployment, 0, 3)
    file = deployment.home / "keeper" / "escrow.json"
    old = file.read_bytes()
    order(deployment, KeyAct.ROTATE_ROOT)
    kept = file.read_bytes()
    deployment.stop("keeper")
    file.write_bytes(old)
    with pytest.raises(KeyPackageError, match="generation 1"):
        KeyPackage.of(deployment.genesis, load_keyring(deployment.home / "keeper"), Envelope.parse(old))
    with pytest.raises(ProcessRefusedError, match="no escrow of generation 2"):
        deployment.start("keeper", more=BY_SHARES)
    file.write_bytes(kept)
    deployment.start("keeper", more=BY_SHARES)
    give(deployment, HELD[0])
    assert give(deployment, HELD[2])["unlocked"] is True


def test_a_crash_between_the_new_root_key_and_its_shares_is_settled(deployment: Deployment) -> None:
    adopt(deployment, 0, 3)
    folder = deployment.home / "keeper"
    old = (folder / "escrow.json").read_bytes()
    order(deployment, KeyAct.ROTATE_ROOT)
    second = escrow_in(deployment)
    deployment.stop("keeper")
    # As a crash leaves it before the escrow was renamed: the log knows it, and it lies beside the older one.
    (folder / "escrow-next.json").write_bytes((folder / "escrow.json").read_bytes())
    (folder / "escrow.json").write_bytes(old)
    for name in ("escrow.json", "escrow-next.json"):
        (folder / name).chmod(0o600)
    deployment.start("keeper", more=BY_SHARES)
    give(deployment, HELD[0])
    assert give(deployment, HELD[1])["unlocked"] is True
    wait_until(lambda: deployment.call("status"))
    assert escrow_in(deployment) == second
    assert not (folder / "escrow-next.json").exists()
