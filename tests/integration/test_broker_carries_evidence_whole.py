"""Evidence of machines with many devices reaches the keeper whole, and chips are enrolled, through the broker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from simulators.keeper import CHIP
from strongroom.access.request import Action
from strongroom.attestation.kinds import EvidenceKind
from strongroom.client.adapters.http import HttpTransport
from strongroom.client.api import BrokerApi
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.release.dossier import MAX_EVIDENCE
from strongroom.release.lease import LeaseAsk, LeaseProof, ReattestationDueError
from support.brokers import Caller, RunningBroker, broker, request

pytestmark = pytest.mark.integration
LARGEST = os.urandom(MAX_EVIDENCE)
ASK: dict[str, Json] = {"use": 1, "recipient": str(Digest.of(b"key")), "serial": 1, "nonce": to_base64(bytes(32))}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with broker(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def enclave(running: RunningBroker) -> Caller:
    return running.caller("gpu-1", enclave=True)


def test_a_chip_is_enrolled_and_listed(running: RunningBroker, enclave: Caller) -> None:
    begun = enclave.post("/v1/chips", {"kind": "azure-snp-vtpm"})
    assert begun.status == 200
    assert set(begun.json) == {"session", "nonce", "expires"}
    ended = enclave.post(f"/v1/chips/{begun.json['session']}", {"evidence": to_base64(LARGEST)})
    assert ended.status == 200
    assert running.keeper.evidence[-1] == LARGEST
    listed = enclave.get("/v1/platforms").json["platforms"]
    assert isinstance(listed, list)
    assert {"platform": CHIP, "record": ended.json["platform"]} in listed
    # Its name is the longest that there is, and every body that names it takes it.
    challenged = enclave.post(f"/v1/requests/{Digest.of(b'none')}/challenges", {"platform": CHIP})
    assert challenged.json.get("code") != "malformed"


def test_the_largest_evidence_reaches_the_keeper_for_a_release_and_a_renewal(
    running: RunningBroker, enclave: Caller
) -> None:
    people = running.caller()
    begun = enclave.post("/v1/chips", {"kind": "sev-snp"})
    enclave.post(f"/v1/chips/{begun.json['session']}", {"evidence": to_base64(b"e")})
    asked = request(running.genesis, Action.SEAL, version=1)
    people.post("/v1/requests", {"request": asked.to_json()})
    body: Json = {"challenge": "c" * 32, "platform": CHIP, "evidence": to_base64(LARGEST)}
    released = enclave.post(f"/v1/requests/{asked.digest}/release", body)
    assert (released.status, set(released.json)) == (200, {"delivery", "result"})
    _operation, dossier = running.keeper.handed[-1]
    assert dossier.testimony.evidence == LARGEST  # type: ignore[union-attr]
    place = f"/v1/requests/{asked.digest}/leases"
    due = enclave.post(place, ASK)
    assert (due.status, due.json["code"]) == (403, "reattestation-due")
    proof: Json = {"challenge": "c", "evidence": to_base64(LARGEST)}
    assert enclave.post(place, {**ASK, "proof": proof}).status == 200
    assert running.keeper.evidence[-1] == LARGEST


def test_evidence_beyond_the_limit_goes_no_further(running: RunningBroker, enclave: Caller) -> None:
    before = len(running.keeper.evidence)
    for size, statuses in ((MAX_EVIDENCE + 3, {400}), (MAX_EVIDENCE * 2, {413})):
        answer = enclave.post("/v1/chips/x", {"evidence": to_base64(bytes(size))})
        assert answer.status in statuses
    assert len(running.keeper.evidence) == before


def test_the_client_speaks_of_chips_and_of_evidence_that_is_due(running: RunningBroker) -> None:
    issued = running.authority().issue_enclave("gpu-2", at=int(time.time()), life=timedelta(hours=1))
    context = running.context(issued, name="gpu-2")
    with HttpTransport(f"https://127.0.0.1:{running.port}", context) as transport:
        api = BrokerApi(transport)
        told = api.enrol_chip(EvidenceKind.SEV_SNP)
        assert len(told.nonce) == 32
        assert api.finish_chip(told.session, b"evidence").payload.startswith(b'{"platform"')
        asked = request(running.genesis, Action.SEAL, version=1)
        running.caller().post("/v1/requests", {"request": asked.to_json()})
        ask = LeaseAsk(use=1, recipient=Digest.of(b"key"), serial=1, nonce=bytes(32))
        with pytest.raises(ReattestationDueError):
            api.renew_lease(asked.digest, ask, None)
        api.renew_lease(asked.digest, ask, LeaseProof(challenge="c", evidence=b"e"))
