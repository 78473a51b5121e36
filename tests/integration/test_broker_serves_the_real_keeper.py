"""Broker, keeper and log writer as they are: documents, a sealing key and a freeze, through the HTTP API."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from strongroom.access.policy import POLICY_TYPE
from strongroom.access.request import APPROVAL_TYPE, REQUEST_TYPE, Action, LogHead, Purpose, Request
from strongroom.audit.checkpoint import read_checkpoint
from strongroom.audit.note import VerifierKey
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.release.delivery import accept
from support.brokers import Caller, RunningBroker, broker_beside
from support.deployment import DAY, MODEL, ROOTS, Deployment, signer, vetted, vetting

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, RunningBroker]]:
    with Deployment.found(tmp_path_factory.mktemp("home")) as founded:
        founded.start("log")
        founded.start("keeper")
        running = broker_beside(founded.home, founded.genesis)
        yield founded, running
        assert running.stop() == 0


def ask(founded: Deployment, action: Action, **members: object) -> Envelope:
    """Return a request signed by dana."""
    now = int(time.time())
    given: dict[str, object] = {
        "genesis": founded.genesis.digest,
        "action": action,
        "requester": PersonId("dana"),
        "model": MODEL,
        "version": 0,
        "manifest": None,
        "purpose": Purpose.EVALUATE,
        "ticket": "T-1",
        "justification": None,
        "image": None,
        "measurement": None,
        "platforms": (),
        "recipient": None,
        "target": None,
        "not_before": now - 1,
        "expires": now + 3600,
        "max_uses": 1,
        "nonce": os.urandom(16),
        "roster": Digest.of(founded.roster.to_bytes()),
        "policy": Digest.of(founded.policy.to_bytes()),
        "log": LogHead(size=0, root=Digest.of(b"")),
    }
    return sign(REQUEST_TYPE, Request(**(given | members)).to_bytes(), signer("dana"))  # type: ignore[arg-type]


def vet_everybody(founded: Deployment, caller: Caller) -> None:
    """Hand in everybody's vetting record, which the root quorum signed, through the broker."""
    now = int(time.time())
    for one in founded.roster.people:
        record = vetted(vetting(founded.genesis.digest, one.id, at=now, until=now + DAY))
        assert caller.post("/v1/statements/vetting", {"envelope": record.to_json()}).status == 200
        again = caller.post("/v1/statements/vetting", {"envelope": record.to_json()})
        assert (again.status, again.json["code"]) == (409, "vetting-out-of-order")


def test_documents_a_data_key_and_a_freeze(deployment: tuple[Deployment, RunningBroker]) -> None:
    founded, running = deployment
    caller = running.caller()
    documents = {
        "roster": sign(ROSTER_TYPE, founded.roster.to_bytes(), *ROOTS[:2]),
        "policy": sign(POLICY_TYPE, founded.policy.to_bytes(), *ROOTS[1:]),
    }
    for kind, document in documents.items():
        assert caller.post(f"/v1/documents/{kind}", {"envelope": document.to_json()}).status == 200
    shown = caller.get("/v1/state").json
    assert shown["documents"] == {kind: document.to_json() for kind, document in documents.items()}
    assert shown["genesis"] == str(founded.genesis.digest)

    for kind, document in documents.items():
        kept = caller.get(f"/v1/documents/{kind}/{document.digest}").json
        assert kept == {"envelope": document.to_json()}
    assert caller.get(f"/v1/documents/roster/{documents['policy'].digest}").status == 404

    vet_everybody(founded, caller)
    told = caller.get("/v1/people").json["people"]
    assert isinstance(told, list)
    known = {one["person"]: one for one in told if isinstance(one, dict)}
    assert set(known) == {one.id for one in founded.roster.people}
    assert all(one["serial"] == 1 and one["active"] and not one["suspended"] for one in known.values())

    recipient = RecipientKey()
    asked = ask(founded, Action.SEAL, version=1, recipient=recipient.digest)
    recorded = caller.post("/v1/requests", {"request": asked.to_json()}).json
    key = VerifierKey(founded.genesis.log_origin, founded.genesis.log_key)
    index = recorded["index"]
    assert isinstance(index, int)
    assert read_checkpoint(str(recorded["checkpoint"]).encode(), key).size == index + 1
    assert caller.get(f"/v1/requests/{asked.digest}/explanation").json["allowed"] is True
    grants = caller.get("/v1/grants").json["grants"]
    assert isinstance(grants, list)
    assert [(one["grant"], one["access"], one["live"]) for one in grants if isinstance(one, dict)] == [
        (str(asked.digest), "copy", True)
    ]
    # Decisions tell of people's vetting: for auditors, and nobody here is one.
    assert caller.get("/v1/decisions").status == 403
    body: Json = {"recipient_key": to_base64(recipient.public)}
    sealed = caller.post(f"/v1/requests/{asked.digest}/seal", body)
    assert sealed.status == 200
    with Fields(sealed.json["delivery"], "delivery") as fields:
        envelope = Envelope.read(fields)
    delivery, data_key = accept(envelope, founded.genesis, recipient, request=asked.digest, model=MODEL, version=1)
    with data_key:
        assert delivery.request == asked.digest
    again = caller.post(f"/v1/requests/{asked.digest}/seal", body)
    assert again.status == 403

    freeze = ask(founded, Action.FREEZE)
    caller.post("/v1/requests", {"request": freeze.to_json()})
    approval = sign(APPROVAL_TYPE, freeze.payload, signer("sam"))
    assert caller.post(f"/v1/requests/{freeze.digest}/approvals", {"envelope": approval.to_json()}).status == 200
    assert caller.post(f"/v1/requests/{freeze.digest}/control").status == 200
    assert caller.get("/v1/state").json["frozen"] == [MODEL]


def test_a_forged_approval_is_the_keepers_to_refuse(deployment: tuple[Deployment, RunningBroker]) -> None:
    founded, running = deployment
    caller, resume = running.caller(), ask(founded, Action.RESUME)
    assert caller.post("/v1/requests", {"request": resume.to_json()}).status == 200
    forged = sign(APPROVAL_TYPE, resume.payload, signer("nobody"))
    answer = caller.post(f"/v1/requests/{resume.digest}/approvals", {"envelope": forged.to_json()})
    assert answer.status >= 400
    assert caller.get(f"/v1/requests/{resume.digest}").json["approvals"] == []
    assert caller.post(f"/v1/requests/{resume.digest}/control").status == 403
