"""Collateral through the real processes: the HTTP routes, the keeper's folder, and a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strongroom.access.policy import POLICY_TYPE
from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.sev_snp.intermediates import shipped_intermediates
from strongroom.broker.service import IMPORTS
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import sign
from strongroom.personnel.roster import ROSTER_TYPE
from support.brokers import Caller, RunningBroker, broker_beside
from support.deployment import ROOTS, Deployment

pytestmark = pytest.mark.integration
BUNDLE = Bundle.of(read_item(CollateralKind.CERTIFICATE, der) for der in shipped_intermediates())


@pytest.fixture
def deployment(tmp_path: object) -> Iterator[tuple[Deployment, RunningBroker]]:
    with Deployment.found(tmp_path) as founded:  # type: ignore[arg-type]  # a path
        founded.start("log")
        founded.start("keeper")
        running = broker_beside(founded.home, founded.genesis)
        yield founded, running
        assert running.stop() == 0


def parts(data: bytes, size: int) -> Iterator[dict[str, Json]]:
    for offset in range(0, len(data), size):
        part = to_base64(data[offset : offset + size])
        yield {"bundle": str(BUNDLE.digest), "size": len(data), "offset": offset, "part": part}


def furnish(founded: Deployment, caller: Caller) -> None:
    documents = {
        "roster": sign(ROSTER_TYPE, founded.roster.to_bytes(), *ROOTS[:2]),
        "policy": sign(POLICY_TYPE, founded.policy.to_bytes(), *ROOTS[1:]),
    }
    for kind, document in documents.items():
        assert caller.post(f"/v1/documents/{kind}", {"envelope": document.to_json()}).status == 200


def test_parts_a_page_and_a_restart(deployment: tuple[Deployment, RunningBroker]) -> None:
    founded, running = deployment
    caller = running.caller()
    furnish(founded, caller)
    empty = caller.get("/v1/collateral").json
    assert (empty["count"], empty["lost"], empty["items"]) == (0, False, [])

    answers = [caller.post("/v1/collateral", body) for body in parts(BUNDLE.to_bytes(), 4000)]
    assert all(answer.status == 200 for answer in answers), answers[-1].text
    assert all(answer.json["imported"] is None for answer in answers[:-1])
    imported = answers[-1].json["imported"]
    assert isinstance(imported, dict)
    assert (imported["items"], imported["added"], imported["digest"]) == (6, 6, str(BUNDLE.digest))

    kept = list((founded.home / "keeper").glob("collateral-*.json"))
    assert [path.read_bytes() for path in kept] == [BUNDLE.to_bytes()]
    assert kept[0].stat().st_mode & 0o077 == 0
    page = caller.get("/v1/collateral?skip=4&count=2").json
    assert (page["count"], len(page["items"])) == (6, 2)  # type: ignore[arg-type]  # a list
    assert {one["maker"] for one in page["items"]} == {"amd-sev"}  # type: ignore[union-attr,index,call-overload]

    founded.stop("keeper")
    founded.start("keeper")
    assert caller.get("/v1/collateral").json["count"] == 6
    founded.stop("keeper")
    kept[0].unlink()
    founded.start("keeper")
    lost = caller.get("/v1/collateral").json
    assert (lost["count"], lost["lost"]) == (0, True)


def test_strangers_bad_parts_and_floods_are_refused(deployment: tuple[Deployment, RunningBroker]) -> None:
    founded, running = deployment
    caller = running.caller()
    furnish(founded, caller)
    (body, *_rest) = parts(BUNDLE.to_bytes(), 4000)
    enclave = running.caller("embedder", enclave=True)
    assert enclave.post("/v1/collateral", body).status == 403
    assert enclave.get("/v1/collateral").status == 403
    # A certificate of the broker's authority opens the door, and the keeper wants a person of the roster.
    stranger = running.caller("nobody")
    assert stranger.post("/v1/collateral", body).status in {403, 404}
    for wrong in ({"offset": 8000}, {"size": 2**26}, {"part": "!"}, {"part": ""}, {"bundle": "sha256:00"}, {"more": 1}):
        assert caller.post("/v1/collateral", {**body, **wrong}).status in {400, 409}
    statuses = [caller.post("/v1/collateral", body).status for _ in range(IMPORTS.burst + 1)]
    assert statuses[-1] == 429
    assert caller.get("/v1/collateral?count=0").status == 400
