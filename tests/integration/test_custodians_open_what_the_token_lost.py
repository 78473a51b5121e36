"""The key service is gone: m of n custodians open the same root key and every model; m-1 of them open nothing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.policy import ModelTerms, Weights
from strongroom.cli.key_facts import key_facts
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import ConflictError, ExitCode, LockedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.signature import Ed25519Signer
from strongroom.enclave.facts import FactState
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.unlocking import KEEPER_LOCKED
from strongroom.keeper.wiring import load_genesis, unlock
from strongroom.keys.escrow import ESCROW_TYPE, Escrow
from strongroom.keys.hierarchy import Tree
from strongroom.keys.split_root import read_root
from strongroom.keys.unlocking import ANSWER_TYPE, OfferError
from strongroom.keys.uri import KeyUri
from strongroom.keys.wiring import key_provider
from strongroom.keys.wrapping import WrapError
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder
from support.custodians import answer, entries_of, escrow_in, give, seal, wait_until
from support.deployment import LEVEL, ROOTS, Deployment, ProcessRefusedError
from support.escrows import holders, seen
from support.key_labs import PIN, SOFTHSM, machine, private, token_key

pytestmark = pytest.mark.integration

BY_SHARES = ("--unlock-by-shares",)
HELD = holders(3)
APART = "cirrus"
"""The model that the policy calls irrecoverable."""


@pytest.fixture
def token(tmp_path: Path) -> KeyUri:
    private(tmp_path / "pin", PIN)
    label = secrets.token_hex(4)
    token_key(label)
    where = f"module-path={SOFTHSM}&pin-source=file:{tmp_path / 'pin'}"
    return KeyUri.parse(f"pkcs11:token=strongroom;object={label}?{where}")


@pytest.fixture
def deployment(tmp_path: Path, token: KeyUri) -> Iterator[Deployment]:
    models = [
        ModelTerms(
            model=ModelId(name),
            level=LEVEL,
            least_isolation="vm-simulated",
            weights=Weights.TEST,
            recoverable=name != APART,
        )
        for name in ("atlas", "borealis", APART)
    ]
    held = [one.custodian for one in HELD]
    with Deployment.found(
        tmp_path / "home", models=models, providers=[token], custodians=held, custodian_threshold=2
    ) as founded:
        founded.start("log")
        yield founded


def test_the_drill(deployment: Deployment, token: KeyUri) -> None:
    deployment.start("keeper")
    deployment.adopt_first()
    made = {name: seal(deployment, name) for name in ("atlas", "borealis", APART)}
    assert deployment.call("status")["irrecoverable"] == [APART]
    assert deployment.call("status")["closed"] == []
    escrow = escrow_in(deployment)
    deployment.stop("keeper")

    key_provider(token).destroy()
    with pytest.raises(ProcessRefusedError) as gone:
        deployment.start("keeper")
    assert gone.value.code == ExitCode.DENIED

    # One custodian opens nothing, and whoever asks a locked keeper for anything else is told why not.
    after = f"tpm2:unix:{machine().socket_path}?pcrs=7"
    deployment.start("keeper", more=[*BY_SHARES, "--root-provider", after])
    assert escrow_in(deployment) == escrow
    assert give(deployment, HELD[2]) == {"answered": ["cy"], "needed": 2, "unlocked": False}
    for asked in ("status", "seal", "lock", "adopt"):
        with pytest.raises(LockedError) as locked:
            deployment.call(asked)
        assert locked.value.reason == KEEPER_LOCKED
    with pytest.raises(ConflictError):
        give(deployment, HELD[2])
    deployment.stop("keeper")

    # What was given is gone with the process: two have to give again.
    deployment.start("keeper", more=[*BY_SHARES, "--root-provider", after])
    assert give(deployment, HELD[0])["unlocked"] is False
    assert give(deployment, HELD[1]) == {"answered": ["ada", "bo"], "needed": 2, "unlocked": True}
    wait_until(lambda: deployment.call("status"))
    seal(deployment, "atlas")
    assert deployment.call("status")["closed"] == [APART]
    with pytest.raises(LockedError) as closed:
        seal(deployment, APART)
    assert closed.value.reason == "tree-closed"
    with pytest.raises(ConflictError) as open_already:
        deployment.call("unlock-offer")
    assert open_already.value.reason == "keeper-unlocked"
    deployment.stop("keeper")
    opened, moved = (
        [entry for entry in entries_of(deployment) if entry.event is event]
        for event in (EventName.ESCROW_OPENED, EventName.ROOT_MOVED)
    )
    assert [entry.texts("custodians") for entry in opened] == [("ada", "bo")]
    assert [entry.integer("generation") for entry in moved] == [1]

    # The root key had to be wrapped whole. With a second key service named at a start, its next one has two parts.
    label = secrets.token_hex(4)
    token_key(label)
    second = str(token).replace(str(token).split("object=")[1].split("?")[0], label)
    deployment.start("keeper", more=["--second-root-provider", second])
    deployment.call("key-order", envelope=_order(deployment).to_json())
    deployment.stop("keeper")
    parts = read_root(load_keyring(deployment.home / "keeper").root(Tree.ESCROWED))
    assert {str(part.provider) for part in parts} == {str(KeyUri.parse(after)), str(KeyUri.parse(second))}

    # From now on the other key service opens it: the same root key, and every data key under it, but for the model
    # that was to be lost with the first one.
    deployment.start("keeper")
    assert deployment.call("status")["closed"] == [APART]
    assert [fact.state for fact in key_facts(deployment.home, int(time.time())) if APART in fact.seen] == [
        FactState.DEGRADED,
        FactState.MISSING,
    ]
    deployment.stop("keeper")
    vault = unlock(deployment.home, load_genesis(deployment.home), None)
    _lost, row = made.pop(APART)
    with pytest.raises(WrapError):
        vault.open(ModelId(APART), 1, row.data_key, row)
    for name, (data_key, row) in made.items():
        assert seen(vault.open(ModelId(name), 1, row.data_key, row)) == data_key


def _order(deployment: Deployment) -> Envelope:
    now = int(time.time())
    order = KeyOrder(
        genesis=deployment.genesis.digest,
        act=KeyAct.ROTATE_ROOT,
        subject=None,
        nonce=secrets.token_bytes(16),
        log=deployment.head(),
        issued=now,
        expires=now + 3600,
    )
    return sign(KEY_ORDER_TYPE, order.to_bytes(), *ROOTS[:2])


def test_what_is_not_a_custodians_share_is_named(deployment: Deployment) -> None:
    deployment.start("keeper")
    deployment.stop("keeper")
    deployment.start("keeper", more=BY_SHARES)
    good = answer(deployment, HELD[0])
    stranger = Ed25519Signer.from_seed(b"s" * 32)
    for wrong, reason in (
        (sign(ANSWER_TYPE, good.payload, stranger), "bad-signature"),
        (replace(good, kind=ESCROW_TYPE), "bad-signature"),
        (sign(ANSWER_TYPE, b"{}", HELD[0].signer), "malformed"),
        (Envelope(ANSWER_TYPE, good.payload[:-1] + b" }", good.signatures), "malformed"),
    ):
        with pytest.raises(StrongroomError) as caught:
            deployment.call("unlock-share", envelope=wrong.to_json())
        assert caught.value.reason == reason
    # An answer to an offer of an earlier process is worth nothing: its key went with it.
    deployment.kill("keeper")
    deployment.start("keeper", more=BY_SHARES)
    with pytest.raises(StrongroomError) as replayed:
        deployment.call("unlock-share", envelope=good.to_json())
    assert replayed.value.reason == "offer-differs"


def test_an_escrow_that_the_keeper_did_not_sign_keeps_it_from_asking(deployment: Deployment) -> None:
    deployment.start("keeper")
    deployment.stop("keeper")
    file = deployment.home / "keeper" / "escrow.json"
    kept = Envelope.parse(file.read_bytes())
    mallory = Ed25519Signer.from_seed(b"m" * 32)
    forged = replace(Escrow.parse(kept.payload), unlock_key=mallory.public_key).to_bytes()
    for wrong in (sign(ESCROW_TYPE, forged, mallory), replace(kept, payload=forged)):
        file.write_bytes(wrong.to_bytes())
        with pytest.raises(ProcessRefusedError) as refused:
            deployment.start("keeper", more=BY_SHARES)
        assert "bad-signature" in refused.value.errors
    file.write_bytes(kept.to_bytes())
    (deployment.home / "keeper" / "unlock.key").unlink()
    # Another machine's keeper: custodians refuse its offers until its operator reads the key's id out to them.
    deployment.start("keeper", more=BY_SHARES)
    with pytest.raises(OfferError) as other:
        answer(deployment, HELD[0])
    assert other.value.reason == "unlock-key-differs"
