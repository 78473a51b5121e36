"""One running deployment for each test module that asks for it: founded, attested, with a sealed version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from support.attested import Attested, Sealed
from support.deployment import Deployment


def weights(folder: Path, seed: bytes = b"weights") -> Path:
    """Make a small model directory."""
    folder.mkdir()
    (folder / "config.json").write_text('{"made": "for a test"}')
    (folder / "model.bin").write_bytes(seed + os.urandom(200_000))
    return folder


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTPM]:
    """A software TPM."""
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    with SoftwareTPM(tmp_path_factory.mktemp("tpm")) as made:
        yield made


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTPM) -> Iterator[Attested]:
    """A running deployment with an enrolled, measured platform."""
    with Deployment.found(tmp_path_factory.mktemp("deployment") / "home") as deployment:
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
    """Version 1 of a model, sealed and registered."""
    folder = tmp_path_factory.mktemp("model")
    return attested.seal(weights(folder / "plain"), folder / "model.sealed")
