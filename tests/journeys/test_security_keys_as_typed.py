"""People trade key files for security keys: every command as it is typed, the real keeper, two devices for each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from simulators.deployment_in_memory import InMemoryDeployment, signer
from simulators.security_key import AAGUID, Maker, SecurityKeyProcess
from strongroom.access.request import Action
from strongroom.cli.main import main
from strongroom.client import wiring
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import ExitCode
from strongroom.core.ids import PersonId
from strongroom.core.signature import PublicKey
from strongroom.personnel.roster import ROSTER_TYPE
from support.security_keys import RP_ID, allowed, pin_of

pytestmark = pytest.mark.integration

PINS = ("2468", "13579")
ASKED = ("request", "create", "--model", "minilm", "--image", "embedder", "--purpose", "evaluate", "--ticket", "T-7")
SIGNERS = ("dana", "sam", "rina")


class Town:
    """A deployment that opens models for security keys alone, everybody's wallets of seeds, and two devices."""

    def __init__(self, folder: Path, devices: tuple[SecurityKeyProcess, SecurityKeyProcess]) -> None:
        self.folder = folder
        self.devices = devices
        self.deployment = InMemoryDeployment()
        rules = tuple(
            replace(rule, hardware=rule.action is Action.OPEN_IN_ENCLAVE) for rule in self.deployment.policy.rules
        )
        self.deployment.policy = replace(self.deployment.policy, rules=rules)
        self.deployment.roster = replace(self.deployment.roster, authenticators=allowed(Maker()))
        self.deployment.adopt_first()
        for name in (*SIGNERS, "vera", "otto"):
            self.deployment.wallet(folder, name)

    def run(self, *arguments: str, by: str, text: str = "") -> Result:
        """Type a command with a wallet."""
        return CliRunner().invoke(main, [*arguments, "--as", str(self.folder / by)], input=text)

    def json(self, *arguments: str, by: str, code: int = 0) -> Any:
        """Type a command with --json and return what it printed."""
        result = self.run(*arguments, "--json", by=by)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def seal(self) -> None:
        """Seal a first version; publishing takes the hybrid key of a wallet of a seed."""
        weights = self.folder / "weights"
        weights.mkdir()
        (weights / "model.bin").write_bytes(bytes(1000))
        self.json("seal", str(weights), "--model", "minilm", "--out", str(self.folder / "sealed"), by="dana")

    def outcome(self, request: str) -> str:
        """Return how the keeper judges a request now, as far as people go."""
        return str(self.json("explain", request, by="dana")["outcome"])

    def enrol(self, name: str) -> list[PublicKey]:
        """Make keys for a person on both devices, have two officers sign, and hand it in."""
        file, out = str(self.folder / f"{name}.enrolment"), self.folder / f"{name}-keys"
        arguments = ["key", "enrol", file, "--out", str(out), "--id", name, "--rp-id", RP_ID, "--json"]
        arguments += ["--genesis", str(self.deployment.genesis.digest)]
        for device in self.devices:
            arguments += ["--device", device.address]
        made = CliRunner().invoke(main, arguments, input="".join(f"{pin}\n" for pin in PINS))
        assert made.exit_code == 0, made.output
        WalletFolder(out, pin_of("none")).bind("https://127.0.0.1:8443", self.deployment.genesis, b"no authority")
        early = self.run("key", "hand-in", file, by=name)
        assert early.exit_code == ExitCode.DENIED, early.output
        shown = self.json("key", "show", file, by="vera")
        assert [one["aaguid"] for one in shown["keys"]] == [AAGUID, AAGUID]
        assert self.json("key", "sign", file, "--yes", by="vera")["signers"] == ["vera"]
        assert self.run("key", "sign", file, by="otto", text="y\n").exit_code == 0
        assert self.json("key", "hand-in", file, by=name)["log_index"] > 0
        return [PublicKey.parse(one["key"]) for one in shown["keys"]]

    def list_keys(self, found: dict[str, list[PublicKey]]) -> None:
        """Have the root quorum list everybody's security keys beside what they had."""
        before = self.deployment.roster
        people = tuple(replace(p, keys=(*p.keys, *found.get(p.id, ()))) for p in before.people)
        after = replace(before, epoch=before.epoch + 1, predecessor=Digest.of(before.to_bytes()), people=people)
        self.deployment.roster = after
        self.deployment.adopt("roster", sign(ROSTER_TYPE, after.to_bytes(), signer("root-0"), signer("root-1")))

    def with_pin(self, *arguments: str, by: str, pin: str = PINS[0], code: int = 0) -> Any:
        """Type a command whose signature a security key makes; its PIN comes from a descriptor."""
        reading, writing = os.pipe()
        os.write(writing, pin.encode() + b"\n")
        os.close(writing)
        return self.json(*arguments, "--passphrase-fd", str(reading), by=f"{by}-keys", code=code)


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    with (
        SecurityKeyProcess(tmp_path / "a", pin=PINS[0]) as first,
        SecurityKeyProcess(tmp_path / "b", pin=PINS[1]) as second,
    ):
        built = Town(tmp_path, (first, second))
        monkeypatch.setattr(wiring, "connect", lambda _wallet: built.deployment)
        yield built
        built.deployment.close()


def test_from_key_files_to_security_keys(town: Town) -> None:
    town.seal()
    town.list_keys({name: town.enrol(name) for name in SIGNERS})

    request = town.with_pin(*ASKED, by="dana")["request"]
    # A key file's approval is in the log, and doesn't count.
    assert town.run("approve", request, "--yes", by="sam").exit_code == 0
    wrong = town.with_pin("approve", request, "--yes", by="sam", pin="9999", code=ExitCode.LOCKED)
    assert wrong["code"] == "wrong-pin"
    assert "7 tries" in wrong["message"]
    town.with_pin("approve", request, "--yes", by="sam")
    assert town.outcome(request) != "ready"
    # The first device is lost: rina signs with the other one.
    town.devices[0].unplug()
    gone = town.with_pin("approve", request, "--yes", by="rina", code=ExitCode.LOCKED)
    assert gone["code"] == "wrong-pin", "the second device has another PIN"
    town.with_pin("approve", request, "--yes", by="rina", pin=PINS[1])
    assert town.outcome(request) == "ready"

    town.devices[1].unplug()
    missing = town.with_pin("deny", request, "--yes", by="rina", code=ExitCode.UNAVAILABLE)
    assert missing["code"] == "security-key-missing"


def test_a_request_signed_with_a_key_file_is_not_enough(town: Town) -> None:
    town.seal()
    town.list_keys({name: town.enrol(name) for name in SIGNERS})
    request = town.json(*ASKED, by="dana")["request"]
    for name in ("sam", "rina"):
        town.with_pin("approve", request, "--yes", by=name)
    assert town.outcome(request) != "ready"
    assert "security key" in town.run("explain", request, by="dana").output


def test_the_wallet_of_a_person_signs_for_nobody_else(town: Town) -> None:
    town.list_keys({"sam": town.enrol("sam")})
    identity = WalletFolder(town.folder / "sam-keys", pin_of("none")).identity
    assert identity.person == PersonId("sam")
    # Another person's name in the wallet: the client refuses before the key is asked.
    stolen = replace(identity, person=PersonId("rina"))
    (town.folder / "sam-keys" / "identity.json").write_bytes(stolen.to_bytes())
    town.seal()
    request = town.json(*ASKED, by="dana")["request"]
    refused = town.with_pin("approve", request, "--yes", by="sam", code=ExitCode.DENIED)
    assert refused["code"] == "not-in-roster"
