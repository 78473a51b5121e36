from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.cli import intake_check
from strongroom.cli.main import main
from strongroom.core.errors import ExitCode
from strongroom.intake.adapters.delivered_folder import open_delivery
from strongroom.intake.formats.identify import check_delivery
from strongroom.intake.rules import IntakeRefusedError, Rule
from support.delivered import delivery
from support.model_signing import Signing
from support.pickle_corpus import corpus

_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The walled process that does it is spoken to over sockets, which tests here don't open.
    monkeypatch.setattr(intake_check, "judge_walled", check_delivery)
    root = tmp_path / "delivered"
    for name, data in delivery().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def run(*args: str | Path, code: ExitCode = ExitCode.OK) -> dict[str, object]:
    result = CliRunner().invoke(main, ["intake", "check", *map(str, args), "--json"])
    assert result.exit_code == int(code), result.output
    found = json.loads(result.output)
    assert isinstance(found, dict)
    return found


def _sign(tmp_path: Path, files: dict[str, bytes]) -> tuple[Path, Path]:
    bundle, key = tmp_path / "model.sig", tmp_path / "signer.pem"
    bundle.write_bytes(Signing(key=_KEY, files=files, ignored=[".git"]).bundle())
    key.write_bytes(_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return bundle, key


def test_a_signed_delivery_is_let_in(folder: Path, tmp_path: Path) -> None:
    bundle, key = _sign(tmp_path, delivery())
    found = run(folder, "--signature", bundle, "--key", key)
    assert isinstance(found["files"], list)
    assert {one["name"] for one in found["files"]} == set(delivery())
    shown = CliRunner().invoke(main, ["intake", "check", str(folder)])
    assert shown.exit_code == 0
    assert "signed by nobody who was asked for" in shown.output


def test_what_the_signer_ignored_is_refused_unless_left_out(folder: Path, tmp_path: Path) -> None:
    bundle, key = _sign(tmp_path, delivery())
    (folder / ".git").mkdir()
    (folder / ".git" / "hook").write_bytes(b"#!/bin/sh\n")
    asked = (folder, "--signature", bundle, "--key", key)
    assert run(*asked, code=ExitCode.TAMPERED)["code"] == "intake-ignored-path"
    run(*asked, "--leave-out", ".git")


@pytest.mark.parametrize("change", ["more", "less", "other"])
def test_other_files_than_were_signed_are_refused(folder: Path, tmp_path: Path, change: str) -> None:
    bundle, key = _sign(tmp_path, delivery())
    if change == "more":
        (folder / "notes.txt").write_bytes(b"x")
    elif change == "less":
        (folder / "LICENSE").unlink()
    else:
        (folder / "LICENSE").write_bytes(b"Other")
    wanted = {"more": "extra-file", "less": "missing-file", "other": "digest-mismatch"}[change]
    assert run(folder, "--signature", bundle, "--key", key, code=ExitCode.TAMPERED)["code"] == f"intake-{wanted}"


def test_a_signature_by_nobody_trusted_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle, _key = _sign(tmp_path, delivery())
    assert run(folder, "--signature", bundle, code=ExitCode.TAMPERED)["code"] == "intake-signature-bad"
    assert run(folder, "--key", bundle, code=ExitCode.USAGE)["code"] == "usage"


def test_links_pipes_and_second_names_are_refused(folder: Path) -> None:
    odd = folder / "odd.txt"

    def refused(rule: str) -> None:
        assert run(folder, code=ExitCode.TAMPERED)["code"] == f"intake-{rule}"
        odd.unlink()

    odd.symlink_to("LICENSE")
    refused("link")
    os.mkfifo(odd)
    refused("special-file")
    odd.hardlink_to(folder / "LICENSE")
    refused("link")
    (folder / "sub2").symlink_to(folder / "sub")
    assert run(folder, code=ExitCode.TAMPERED)["code"] == "intake-link"


def test_each_sample_that_would_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_check, "judge_walled", check_delivery)
    for sample in corpus():
        place = tmp_path / sample.name
        place.mkdir()
        (place / sample.name).write_bytes(sample.data)
        run(place, code=ExitCode.OK if sample.benign else ExitCode.TAMPERED)


def test_a_file_that_changes_meanwhile_is_refused(folder: Path) -> None:
    with open_delivery(folder) as delivered:
        (folder / "LICENSE").write_bytes(b"Apache!")
        with pytest.raises(IntakeRefusedError) as found:
            delivered.listed()
    assert found.value.rule is Rule.DIGEST_MISMATCH


def test_a_file_that_shrinks_is_refused(folder: Path) -> None:
    with open_delivery(folder) as delivered:
        (folder / "LICENSE").write_bytes(b"")
        source = delivered.sources["LICENSE"]
        with pytest.raises(IntakeRefusedError) as found:
            source.read(0, source.size)
    assert found.value.rule is Rule.DIGEST_MISMATCH


def test_judging_leaves_no_file_open(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with open_delivery(folder):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
