"""The vectors of the sealed format: by every way in, each case has its outcome, and they can be made again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zlib
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import model_id
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.keys.recipient import RecipientIdentity
from strongroom.release.stanzas import open_stanza
from strongroom.sealing.adapters.directory import open_directory, read_envelope, verify_directory
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, read_manifest, verify_manifest
from strongroom.sealing.recipients import RECIPIENTS_NAME, Recipients
from support.sealed_entries import WAYS, WHOLE_WAYS
from support.sealed_vectors import FOLDER, files_of, load, written

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = load()
CASES: list[dict[str, Any]] = DOCUMENT["cases"]
OUTCOMES: dict[str, str] = DOCUMENT["outcomes"]


def _key(case: dict[str, Any]) -> SecretBytes:
    return SecretBytes(bytearray.fromhex(case["data_key"]))


def _manifest(case: dict[str, Any], place: Path) -> VerifiedManifest:
    expect = case["expect"]
    return verify_manifest(
        read_envelope(place),
        PublicKey.parse(DOCUMENT["publishers"][case["publisher"]]),
        expect=ManifestExpectation(
            genesis=Digest.parse(expect["genesis"]),
            model=model_id(expect["model"]),
            version=expect["version"],
            digest=Digest.parse(expect["digest"]) if expect["digest"] else None,
        ),
    )


def _outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except StrongroomError as error:
        return error.code
    return "ok"


def _read(case: dict[str, Any], place: Path, way: str) -> None:
    with open_directory(place, data_key=_key(case), manifest=_manifest(case, place), threads=2) as model:
        for file in model.files():
            data = WAYS[way](model, file.name)
            if "files" in case:
                assert case["files"][file.name] == {
                    "mode": file.mode,
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
        if "files" in case:
            assert len(model.files()) == len(case["files"])
            assert [canary.to_json() for canary in model.canaries] == case["canaries"]


def _recipients(case: dict[str, Any], place: Path) -> str:
    path = place / RECIPIENTS_NAME
    if not path.exists():
        return "absent"
    return _outcome(lambda: Recipients.parse(path.read_bytes()).verify(_key(case)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
def test_each_case_has_its_outcome_by_every_way_in(case: dict[str, Any], tmp_path: Path) -> None:
    place = written(files_of(case), tmp_path / "model.sealed")
    expected = case["outcomes"]
    assert _outcome(lambda: verify_directory(place, _manifest(case, place))) == expected["verify"]
    for way in WAYS:
        wanted = expected["whole" if way in WHOLE_WAYS else "ranges"]
        assert _outcome(lambda way=way: _read(case, place, way)) == wanted, way  # type: ignore[misc]
    assert _recipients(case, place) == expected["recipients"]


def test_outcomes_are_a_closed_list_and_each_is_used() -> None:
    used = {outcome for case in CASES for outcome in case["outcomes"].values()}
    assert used == set(OUTCOMES)


def test_case_names_are_distinct() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_the_specification_lists_the_outcomes() -> None:
    text = (ROOT / "docs" / "spec" / "sealed-weights.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text, re.MULTILINE)
    assert dict(listed) == OUTCOMES
    assert [name for name, _meaning in listed] == list(OUTCOMES)


def test_a_recipient_opens_its_stanza(tmp_path: Path) -> None:
    identity = RecipientIdentity(SecretBytes(bytearray.fromhex(DOCUMENT["recipient_identity"])))
    case = CASES[0]
    files = files_of(case)
    manifest = read_manifest(Envelope.parse(files["manifest.json"]))
    opened = open_stanza(Recipients.parse(files[RECIPIENTS_NAME]), identity, manifest)
    place = written(files, tmp_path / "model.sealed")
    with open_directory(place, data_key=opened, manifest=_manifest(case, place)) as model:
        assert {file.name for file in model.files()} == set(case["files"])


def _comparable(name: str, data: bytes) -> bytes:
    # Signatures may be randomised: what counts of a signed file is what was signed, and that the cases above verify it.
    return Envelope.parse(data).payload if name == "manifest.json" else data


def _without_signatures(document: dict[str, Any]) -> dict[str, Any]:
    for case in document["cases"]:
        for edit in case["edits"]:
            if edit["op"] == "write":
                data = zlib.decompress(b64decode(edit.pop("zlib")))
                try:
                    edit["payload"] = _comparable(edit["file"], data).hex()
                except StrongroomError:
                    edit["payload"] = data.hex()
    return document


def test_the_generator_makes_the_same_files(tmp_path: Path) -> None:
    tests = ROOT / "tests"
    subprocess.run(
        [sys.executable, tests / "vectors" / "make_sealed_vectors.py", tmp_path],
        env=os.environ | {"PYTHONPATH": f"{tests}:{ROOT / 'src'}"},
        check=True,
        timeout=120,
    )
    kept = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()} - {"stanzas.json"}
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert made == kept
    for name in sorted(made - {"cases.json"}):
        ours, theirs = (tmp_path / name).read_bytes(), (FOLDER / name).read_bytes()
        assert _comparable(Path(name).name, ours) == _comparable(Path(name).name, theirs), name
    again = json.loads((tmp_path / "cases.json").read_text(encoding="utf-8"))
    assert _without_signatures(again) == _without_signatures(load())


def test_the_vectors_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_500_000
