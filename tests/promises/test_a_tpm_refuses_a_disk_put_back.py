"""With its pins anchored in a TPM, a keeper refuses the whole disk of yesterday: keeper, log and all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.cli.keeper_facts import keeper_facts
from strongroom.cli.main import main
from strongroom.enclave.facts import FactState
from support.deployment import Deployment, ProcessRefusedError

pytestmark = pytest.mark.integration
FOLDERS = ("keeper", "log")


@pytest.fixture
def anchor(tpm: SoftwareTPM) -> str:
    tpm.power_cycle()
    return f"tpm2:unix:{tpm.socket_path}?nv=0x018f0001"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment.found(tmp_path / "home") as made:
        yield made


def typed(*words: str) -> str:
    ran = CliRunner().invoke(main, list(words))
    assert ran.exit_code == 0, ran.output
    return ran.output


def start(deployment: Deployment) -> None:
    for name in ("log", "keeper"):
        deployment.start(name)


def stop(deployment: Deployment) -> None:
    for name in ("keeper", "log"):
        deployment.stop(name)


def copied(source: Path, target: Path) -> None:
    for name in FOLDERS:
        if (target / name).exists():
            shutil.rmtree(target / name)
        shutil.copytree(source / name, target / name)


def refused(deployment: Deployment, code: str) -> None:
    deployment.start("log")
    with pytest.raises(ProcessRefusedError) as caught:
        deployment.start("keeper")
    assert f'"code": "{code}"' in caught.value.errors.splitlines()[-1]
    deployment.stop("log")


def test_the_disk_of_yesterday_is_refused_and_todays_is_not(
    deployment: Deployment, anchor: str, tpm: SoftwareTPM, tmp_path: Path
) -> None:
    home = str(deployment.home)
    typed("pin-anchor", "make", anchor, "--home", home)
    start(deployment)
    facts = {fact.name: fact for fact in keeper_facts(deployment.home)}
    assert facts["pins' anchor"].state is FactState.OK
    assert facts["pins' anchor"].seen == anchor
    deployment.adopt_first()
    stop(deployment)
    yesterday, today = tmp_path / "yesterday", tmp_path / "today"
    copied(deployment.home, yesterday)

    start(deployment)
    deployment.change_roster(lambda one: one)
    stop(deployment)
    copied(deployment.home, today)

    # Everything on the disk agrees with itself: without the TPM nobody could tell.
    copied(yesterday, deployment.home)
    refused(deployment, "anchor-mismatch")
    # The keeper's folder alone, from a day before there was an anchor.
    copied(today, deployment.home)
    for name in ("anchored.json", "anchored.next.json"):
        (deployment.home / "keeper" / name).unlink(missing_ok=True)
    refused(deployment, "anchor-mismatch")
    copied(today, deployment.home)
    start(deployment)
    stop(deployment)

    # A power loss of the machine changes nothing; a TPM that is away stops the start.
    tpm.power_cycle()
    start(deployment)
    stop(deployment)
    tpm.stop()
    try:
        refused(deployment, "anchor-refused")
    finally:
        tpm.start()

    # With the keeper killed, the last anchored pins still hold.
    start(deployment)
    deployment.change_roster(lambda one: one)
    deployment.kill("keeper")
    deployment.start("keeper")
    stop(deployment)
    typed("pin-anchor", "renew", "--yes", "--home", home)
    start(deployment)
