"""A deployment's root key in key services, by the commands that a person types: founded, shown, moved, and lost."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import ExitCode
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.keeper.wiring import load_genesis, unlock
from strongroom.keys.provider import KeyServiceRefusedError
from strongroom.keys.uri import KeyUri
from strongroom.keys.wiring import key_provider
from support.forked import completed
from support.key_labs import PIN, SOFTHSM, machine, private, token_key

pytestmark = pytest.mark.integration

WORDS = b"six random words for a test"
QUICK = ("--kdf-memory", "8")


def run(*arguments: str, typed: dict[str, bytes] | None = None, code: ExitCode = ExitCode.OK) -> str:
    """Run the command with passphrases on descriptors; returns what it says."""
    given, pipes = list(arguments), []
    for option, words in (typed or {}).items():
        reading, writing = os.pipe()
        os.write(writing, words)
        os.close(writing)
        pipes.append(reading)
        given += [option, str(reading)]
    done = completed("strongroom.cli.main", *given, pass_fds=pipes)
    for pipe in pipes:
        os.close(pipe)
    assert done.returncode == code, done.stderr
    return done.stdout if code is ExitCode.OK else done.stdout + done.stderr


def parts(home: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(run("root-key", "show", "--home", str(home), "--json"))["parts"]
    return told


@pytest.fixture
def token(tmp_path: Path) -> str:
    private(tmp_path / "pin", PIN)
    label = secrets.token_hex(4)
    token_key(label)
    return f"pkcs11:token=strongroom;object={label}?module-path={SOFTHSM}&pin-source=file:{tmp_path / 'pin'}"


@pytest.fixture
def tpm() -> str:
    return f"tpm2:unix:{machine().socket_path}?pcrs=7"


def founding(folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    roots = [Ed25519Signer.from_seed(bytes([number]) * 32).public_key for number in (1, 2)]
    return ["init", "--home", str(folder / "home"), *QUICK, "--root", str(roots[0]), "--root", str(roots[1])]


def test_two_services_hold_a_root_key_and_both_are_needed(tmp_path: Path, token: str, tpm: str) -> None:
    home = tmp_path / "home"
    run(*founding(tmp_path), "--root-provider", token, "--second-root-provider", tpm)
    assert [(part["provider"], part["state"]) for part in parts(home)] == [(token, "opens"), (tpm, "opens")]
    genesis = load_genesis(home)
    assert unlock(home, genesis, None).signer.public_key == genesis.keeper_key
    # The passphrase's place is not a way around: none was ever given.
    run("root-key", "move", "--home", str(home), "--to", token, code=ExitCode.USAGE)
    facts = json.loads(run("doctor", "--home", str(home), "--json"))["facts"]
    assert [fact["state"] for fact in facts if fact["name"] == "root key"] == ["ok", "ok"]

    key_provider(KeyUri.parse(token)).destroy()
    with pytest.raises(KeyServiceRefusedError):
        unlock(home, genesis, None)
    said = run("root-key", "show", "--home", str(home), code=ExitCode.UNAVAILABLE)
    assert "doesn't open: the token has no key of that label" in said
    assert "opens" in said.partition(tpm)[2]


def test_a_root_key_moves_between_a_passphrase_and_a_service(tmp_path: Path, token: str) -> None:
    home = tmp_path / "home"
    run(*founding(tmp_path), typed={"--passphrase-fd": WORDS})
    assert [(part["provider"], part["state"]) for part in parts(home)] == [("local:", "needs its passphrase")]
    before = (home / "keeper" / "keyring.json").read_bytes()
    moving = ["root-key", "move", "--home", str(home), *QUICK]

    run(*moving, "--to", token, typed={"--passphrase-fd": b"some other six random words"}, code=ExitCode.LOCKED)
    missing = token.replace("object=", "object=missing-")
    run(*moving, "--to", missing, typed={"--passphrase-fd": WORDS}, code=ExitCode.DENIED)
    assert (home / "keeper" / "keyring.json").read_bytes() == before, "what stood still stands"

    run(*moving, "--to", token, typed={"--passphrase-fd": WORDS})
    assert [(part["provider"], part["state"]) for part in parts(home)] == [(token, "opens")]
    assert unlock(home, load_genesis(home), None).epoch == 1
    run(*moving, "--to", "local:", typed={"--new-passphrase-fd": WORDS[::-1]})
    with SecretBytes(bytearray(WORDS[::-1])) as words:
        assert unlock(home, load_genesis(home), words).epoch == 1


def test_a_service_that_refuses_founds_nothing(tmp_path: Path, token: str) -> None:
    for uri in (token.replace("object=", "object=missing-"), token + "&pin-value=1234", "kms:x"):
        code = ExitCode.DENIED if "missing" in uri else ExitCode.USAGE
        said = run(*founding(tmp_path / secrets.token_hex(4)), "--root-provider", uri, code=code)
        assert PIN not in said
        assert "1234" not in said
        assert not list(tmp_path.glob("*/home"))
    given = founding(tmp_path / "twice")
    run(*given, "--root-provider", token, "--second-root-provider", token, code=ExitCode.USAGE)
