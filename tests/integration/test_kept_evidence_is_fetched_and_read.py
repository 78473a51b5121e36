"""`strongroom attestation kept`: the record that the log names, or nothing; and `verify` reads the evidence in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.attester import attester, binding
from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.client import wiring
from strongroom.core.digest import Digest
from strongroom.release.attested import Attested
from support.place import Place

pytestmark = pytest.mark.integration

EVIDENCE = attester().evidence(binding())
RECORD = Attested(evidence=EVIDENCE.to_bytes(), binding=binding().to_bytes(), result="a.b.c")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment that hands out one record, whatever it is asked for."""
    deployment = InMemoryDeployment()
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    deployment.adopt_first()
    monkeypatch.setattr(deployment.keeper, "attested", lambda _digest: RECORD)
    yield Place(tmp_path, deployment)
    deployment.close()


def test_the_record_is_written_as_the_log_names_it_and_its_evidence_is_read(place: Place) -> None:
    out = place.folder / "record.json"
    place.json("attestation", "kept", str(RECORD.digest), "--out", str(out), by="sam")
    assert Digest.of(out.read_bytes()) == RECORD.digest
    judged = place.run("attestation", "verify", str(out), "--unbound", "--policy", "strictest")
    assert "kept record of a release" in judged.output
    assert "tpm0  tpm2" in judged.output
    assert place.json("attestation", "kept", str(RECORD.digest), "--out", str(out), by="sam", code=2)


def test_another_record_than_the_one_asked_for_is_not_written(place: Place) -> None:
    out = place.folder / "record.json"
    refused = place.json("attestation", "kept", str(Digest.of(b"another")), "--out", str(out), by="sam", code=6)
    assert refused["code"] == "tampered"
    assert place.json("attestation", "kept", "sha256:00", "--out", str(out), by="sam", code=2)
    assert not out.exists()
