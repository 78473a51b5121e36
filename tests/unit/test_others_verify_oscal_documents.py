"""NIST's schemas and `compliance-trestle` take the OSCAL documents, and `trestle verify` their signature.

Neither is installed with the tests: STRONGROOM_TRESTLE names the Python of an environment with compliance-trestle and
jsonschema-rs, STRONGROOM_OSCAL_SCHEMAS a folder with NIST's JSON schemas (oscal_catalog_schema.json and so on).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.assurance.reports.oscal import RESULTS, as_oscal
from strongroom.assurance.reports.provenance import sign_document
from strongroom.core.canonical import parse
from strongroom.core.envelope import verify
from strongroom.core.errors import MalformedError
from strongroom.framework.catalogue import load
from support.deployment import signer
from support.reported import assessment

PYTHON = os.environ.get("STRONGROOM_TRESTLE", "")
SCHEMAS = os.environ.get("STRONGROOM_OSCAL_SCHEMAS", "")
trestle = pytest.mark.skipif(not PYTHON, reason="STRONGROOM_TRESTLE names no Python with compliance-trestle")
schemas = pytest.mark.skipif(not (PYTHON and SCHEMAS), reason="STRONGROOM_OSCAL_SCHEMAS names no folder of schemas")
KINDS = {
    "catalog": "catalog",
    "profile": "profile",
    "component-definition": "component",
    "assessment-results": "assessment-results",
    "plan-of-action-and-milestones": "poam",
}
VALIDATE = """
import json, sys, jsonschema_rs
for schema, document in zip(sys.argv[1::2], sys.argv[2::2]):
    check = jsonschema_rs.validator_for(json.load(open(schema)))
    for error in check.iter_errors(json.load(open(document))):
        sys.exit(f"{document}: {list(error.instance_path)}: {error.message[:200]}")
"""


def written(folder: Path) -> list[Path]:
    for name, data in as_oscal(assessment(), load()).items():
        (folder / name).write_bytes(data)
    return sorted(folder.glob("oscal-*.json"))


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_the_signature_is_over_the_canonical_document_under_its_name() -> None:
    document = as_oscal(assessment(), load())[RESULTS]
    envelope = sign_document(RESULTS, document, signer("sam"))
    verify(envelope, "application/vnd.in-toto+json", [signer("sam").public_key], threshold=1)
    statement = parse(envelope.payload)
    assert isinstance(statement, dict)
    spaced = json.dumps(json.loads(document), indent=7).encode()
    assert sign_document(RESULTS, spaced, signer("sam")) == envelope, "white space is no word"
    assert sign_document(RESULTS, document.replace(b"vault", b"fault", 1), signer("sam")) != envelope
    with pytest.raises(MalformedError):
        sign_document(RESULTS, b"{", signer("sam"))


@schemas
def test_the_documents_are_valid_by_nists_schemas(tmp_path: Path) -> None:
    pairs = []
    for path in written(tmp_path):
        kind = KINDS[next(iter(json.loads(path.read_bytes())))]
        pairs += [str(Path(SCHEMAS) / f"oscal_{kind}_schema.json"), str(path)]
    found = run(PYTHON, "-c", VALIDATE, *pairs, folder=tmp_path)
    assert found.returncode == 0, found.stderr


@trestle
@pytest.mark.heavy
def test_trestle_takes_the_documents(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "place").mkdir()
    program = str(Path(PYTHON).with_name("trestle"))
    assert run(program, "init", "--full", folder=tmp_path / "place").returncode == 0
    for path in written(tmp_path / "made"):
        told = run(program, "import", "-f", str(path), "-o", path.stem, folder=tmp_path / "place")
        assert told.returncode == 0, told.stderr
    told = run(program, "validate", "-a", folder=tmp_path / "place")
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("VALID: Model") == len(written(tmp_path / "made"))


@trestle
def test_trestle_verifies_the_signature_and_finds_one_changed_word(tmp_path: Path) -> None:
    written(tmp_path)
    document, key = tmp_path / RESULTS, tmp_path / "key.pem"
    signature = tmp_path / "signature.json"
    signature.write_bytes(sign_document(RESULTS, document.read_bytes(), signer("sam")).to_bytes())
    raw = base64.b64decode(str(signer("sam").public_key).partition(":")[2])
    public = Ed25519PublicKey.from_public_bytes(raw)
    key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    program = str(Path(PYTHON).with_name("trestle"))
    asked = ("verify", "-f", str(document), "--signature", str(signature), "--public-key", str(key), "--beta")
    good = run(program, *asked, folder=tmp_path)
    assert good.returncode == 0, good.stderr
    document.write_bytes(document.read_bytes().replace(b"not-satisfied", b"satisfied", 1))
    assert run(program, *asked, folder=tmp_path).returncode == 1
