"""Rotation by the real processes: killed with SIGKILL at each place, and with the broker that moves the data keys."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator

import pytest

from strongroom.access.policy import POLICY_TYPE
from strongroom.access.request import REQUEST_TYPE, Action, Purpose
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.release.dossier import WrappedDataKey
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder
from support.attested import Attested, Sealed
from support.brokers import Caller, RunningBroker, broker_beside
from support.deployment import DAY, MODEL, ROOTS, Deployment, bare_request, signer, vetted, vetting

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTPM) -> Iterator[Attested]:
    """A deployment whose keeper can be told where to die."""
    with Deployment.found(tmp_path_factory.mktemp("deployment") / "home") as deployment:
        deployment.keeper_module = "simulators.crashing_keeper"
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        made = Attested(deployment, tpm)
        made.adopt_reference_values()
        made.enrol()
        made.measure()
        yield made


@pytest.fixture(scope="module")
def sealed(attested: Attested, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """A sealed model."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "weights").mkdir()
    (folder / "weights" / "model.bin").write_bytes(os.urandom(4096))
    return attested.seal(folder / "weights", folder / "model.sealed")


def order(deployment: Deployment, act: KeyAct) -> Envelope:
    now = int(time.time())
    made = KeyOrder(
        genesis=deployment.genesis.digest,
        act=act,
        subject=None,
        nonce=os.urandom(16),
        log=deployment.head(),
        issued=now - 1,
        expires=now + DAY,
    )
    return sign(KEY_ORDER_TYPE, made.to_bytes(), *ROOTS[:2])


def carried_out(deployment: Deployment, envelope: Envelope) -> str:
    """Hand an order in; returns why it was refused."""
    try:
        deployment.call("key-order", envelope=envelope.to_json())
    except StrongroomError as error:
        return error.reason
    return ""


def opens(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    delivery, _key = attested.release(request, approvals, sealed)
    assert delivery.use == 1


PLACES = ("keyring planned", "keyring held", "5 queued", "5 sent", "5 answered")
# A keeper starts twice in each; `make test-all` goes through them all, and a property test through many more in memory.
QUICK = {("keyring held", KeyAct.ROTATE_EPOCH), ("5 answered", KeyAct.ROTATE_ROOT)}


@pytest.mark.parametrize(
    ("place", "act"),
    [
        pytest.param(place, act, marks=() if (place, act) in QUICK else pytest.mark.heavy)
        for place in PLACES
        for act in (KeyAct.ROTATE_EPOCH, KeyAct.ROTATE_ROOT)
    ],
)
def test_an_order_that_a_kill_cut_short_is_done_or_can_be_carried_out(
    attested: Attested, sealed: Sealed, place: str, act: KeyAct
) -> None:
    deployment = attested.deployment
    before = load_keyring(deployment.home / "keeper")
    envelope = order(deployment, act)
    (deployment.home / "keeper" / "crash-at").write_text(place)
    with pytest.raises(StrongroomError):
        deployment.call("key-order", envelope=envelope.to_json())
    deployment.kill("keeper")
    deployment.start("keeper")
    opens(attested, sealed)
    # Done at the start, or dropped and done now.
    assert carried_out(deployment, envelope) in ({""} if place == "keyring planned" else {"", "order-used"})
    after, told = load_keyring(deployment.home / "keeper"), deployment.call("keys", after="", count=10)
    assert told["generation"] == after.generation == before.generation + (act is KeyAct.ROTATE_ROOT)
    (epoch,) = after.epochs
    assert epoch.epoch == before.epochs[0].epoch + (act is KeyAct.ROTATE_EPOCH)
    opens(attested, sealed)


# --- with the broker --------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, RunningBroker]]:
    with Deployment.found(tmp_path_factory.mktemp("home")) as founded:
        founded.start("log")
        founded.start("keeper")
        running = broker_beside(founded.home, founded.genesis)
        yield founded, running
        assert running.stop() == 0


def posted(founded: Deployment, caller: Caller, action: Action, **members: object) -> Envelope:
    base = bare_request(founded.genesis.digest, founded.roster, founded.policy, founded.head(), action, by="dana")
    fields = {**{name: getattr(base, name) for name in base.__slots__}, **members}
    envelope = sign(REQUEST_TYPE, type(base)(**fields).to_bytes(), signer("dana"))
    assert caller.post("/v1/requests", {"request": envelope.to_json()}).status == 200
    return envelope


def keks(caller: Caller) -> list[tuple[Json, Json]]:
    listed = caller.get("/v1/keys").json["keks"]
    assert isinstance(listed, list)
    return [(one["state"], one["data_keys"]) for one in listed if isinstance(one, dict)]


def stored(running: RunningBroker) -> dict[str, str]:
    with sqlite3.connect(running.database) as database:
        return dict(database.execute("SELECT data_key, body FROM wrapped_keys").fetchall())


def test_the_broker_moves_every_data_key_after_a_rotation(served: tuple[Deployment, RunningBroker]) -> None:
    founded, running = served
    caller = running.caller()
    for kind, payload_type, payload in (
        ("roster", ROSTER_TYPE, founded.roster.to_bytes()),
        ("policy", POLICY_TYPE, founded.policy.to_bytes()),
    ):
        document = sign(payload_type, payload, *ROOTS[:2])
        assert caller.post(f"/v1/documents/{kind}", {"envelope": document.to_json()}).status == 200
    now = int(time.time())
    for one in founded.roster.people:
        record = vetted(vetting(founded.genesis.digest, one.id, at=now, until=now + DAY))
        assert caller.post("/v1/statements/vetting", {"envelope": record.to_json()}).status == 200
    for _ in range(3):
        key = RecipientKey()
        asked = posted(founded, caller, Action.SEAL, version=1, recipient=key.digest, purpose=Purpose.PUBLISH)
        sealing = {"recipient_key": to_base64(key.public)}
        assert caller.post(f"/v1/requests/{asked.digest}/seal", dict(sealing)).status == 200
    before = stored(running)
    # One row is spoilt by whoever owns the database, one is gone: neither keeps the third from being moved.
    names = sorted(before)
    with sqlite3.connect(running.database) as database:
        database.execute("UPDATE wrapped_keys SET body = '[]' WHERE data_key = ?", (names[0],))
        database.execute("DELETE FROM wrapped_keys WHERE data_key = ?", (names[1],))
    assert keks(caller) == [("active", 3)]

    rotating = posted(founded, caller, Action.ROTATE)
    assert caller.post(f"/v1/requests/{rotating.digest}/control").status == 200
    until = time.monotonic() + 120
    while keks(caller)[0][0] != "destroyed" and time.monotonic() < until:
        time.sleep(0.1)
    # Nothing was registered under the two that are lost: they are given up, and the third stands under the new KEK.
    assert keks(caller) == [("destroyed", 0), ("active", 1)]
    with Fields(json.loads(stored(running)[names[2]]), "row") as fields:
        after = WrappedDataKey.read(fields)
    assert after.data_key == names[2]
    assert after.kek not in before[names[2]]
    envelope = order(founded, KeyAct.ROTATE_EPOCH)
    assert caller.post("/v1/key-orders", {"envelope": envelope.to_json()}).status == 200
    assert caller.post("/v1/key-orders", {"envelope": envelope.to_json()}).json["code"] == "order-used"
    assert MODEL in {held.model for held in load_keyring(founded.home / "keeper").keks}
