"""``strongroom attestation result``: a token is believed for its key and its time, and good news ends with zero."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strongroom.attestation.ear import issue
from strongroom.attestation.results import AttestationResult
from strongroom.core.clock import format_instant
from strongroom.core.signature import Ed25519Signer
from support.attestation_cli import attestation
from support.attestation_results import AT, refused, simulated, wanted

SIGNER = Ed25519Signer.from_seed(bytes(32))


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "result.jwt"
    path.write_text(issue(wanted(), SIGNER, AT) + "\n")
    return path


def told(path: Path, *more: str | Path, at: int = AT) -> tuple[int, str]:
    return attestation("result", path, "--at", format_instant(at), *more)


def test_an_affirming_token_ends_with_zero(token: Path, tmp_path: Path) -> None:
    code, output = told(token, "--key", str(SIGNER.public_key))
    assert code == 0, output
    assert "result      affirming, wanted" in output
    told_of = "cpu0 affirming: instance-identity 2, executables 3, hardware 2, runtime-opaque 2"
    assert told_of in " ".join(output.split())
    (tmp_path / "keeper.pub").write_text(f"{SIGNER.public_key}\n")
    code, output = told(token, "--key", tmp_path / "keeper.pub", "--json")
    assert code == 0
    assert json.loads(output)["image"] == "embedder"


@pytest.mark.parametrize("result", [refused(), simulated()])
def test_what_isnt_affirmed_ends_with_three(result: AttestationResult, tmp_path: Path) -> None:
    path = tmp_path / "result.jwt"
    path.write_text(issue(result, SIGNER, AT))
    code, output = told(path, "--key", str(SIGNER.public_key))
    assert code == 3
    assert "result      contraindicated" in output


def test_keys_and_times_count(token: Path, tmp_path: Path) -> None:
    other = Ed25519Signer.from_seed(bytes(31) + b"1").public_key
    assert "[ear-unknown-key]" in told(token, "--key", str(other))[1]
    assert "[ear-expired]" in told(token, "--key", str(SIGNER.public_key), at=AT + 300)[1]
    assert attestation("result", token)[0] == 2
    assert attestation("result", token, "--key", str(other), "--at", "now")[0] == 2
    assert told(token, "--key", tmp_path / "absent")[0] == 2
    for noise in (b"", b"x", b"\xff\xfe", b"a.b.c"):
        (tmp_path / "noise").write_bytes(noise)
        assert told(tmp_path / "noise", "--key", str(other))[0] in {3, 6}
