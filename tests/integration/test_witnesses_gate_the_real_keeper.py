"""Log writer, keeper and two witnesses as processes: the policy asks for both, one goes away, and comes back."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.policy import POLICY_TYPE, Witnesses
from strongroom.access.request import Action
from strongroom.audit.note import VerifierKey
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError
from strongroom.release.dossier import Dossier
from support.deployment import ROOTS, Deployment
from support.witnesses import make_witness, running_witness

pytestmark = pytest.mark.integration
AGE = 10


def refused(deployment: Deployment) -> str:
    """Try to give something: the next roster; returns why it was refused, or nothing."""
    before = deployment.roster
    try:
        deployment.change_roster(lambda one: one)
    except StrongroomError as error:
        deployment.roster = before
        return error.reason
    return ""


def test_a_witness_that_goes_away_stops_what_gives_and_not_a_freeze(tmp_path: Path) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        genesis = deployment.genesis
        key = str(VerifierKey(genesis.log_origin, genesis.log_key))
        folders = [make_witness(tmp_path / name, key, name=f"{name}.example") for name in ("w1", "w2")]
        deployment.start("log", more=["--witness-seconds", "0.3"])
        deployment.start("keeper")
        deployment.adopt_first()
        with running_witness(folders[0]) as one, running_witness(folders[1]) as other:
            text = f"{one.policy('A')}{other.policy('B')}group G all A B\nquorum G\n"
            (deployment.home / "log" / "witnesses.policy").write_text(text)
            policy = replace(
                deployment.policy,
                epoch=2,
                predecessor=Digest.of(deployment.policy.to_bytes()),
                witnesses=Witnesses(policy=text, max_age_seconds=AGE),
            )
            deployment.adopt("policy", sign(POLICY_TYPE, policy.to_bytes(), *ROOTS[:2]))
            deployment.policy = policy
            deadline = time.monotonic() + 60
            while refused(deployment):
                assert time.monotonic() < deadline, "the witnesses' word never reached the keeper"
                time.sleep(0.2)
            other.process.kill()
            other.process.wait()
            deadline = time.monotonic() + 60
            while not (reason := refused(deployment)):
                assert time.monotonic() < deadline, "the word never became too old"
                time.sleep(0.5)
            assert reason == "witness-quorum-stale"
            freeze = Dossier(request=deployment.request(Action.FREEZE))
            assert deployment.call("control", dossier=freeze.to_json())["index"]
            with running_witness(folders[1], port=other.port):
                deadline = time.monotonic() + 60
                while refused(deployment):
                    assert time.monotonic() < deadline, "the witness came back and isn't heard"
                    time.sleep(0.2)
