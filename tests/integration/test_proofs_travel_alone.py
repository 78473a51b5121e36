"""``strongroom audit proof`` and ``strongroom policy witnesses`` as typed: over a published log with a real witness."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.access.policy import Policy
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import CosignatureOtherLogError, ProofError, QuorumMissingError
from strongroom.audit.note import Note
from strongroom.audit.witness_policy import WitnessPolicyError
from strongroom.cli.audit_proof import proof
from strongroom.cli.policy import policy
from strongroom.client.documents import summary
from strongroom.core.errors import MalformedError, NotFoundError, UsageError
from strongroom.release.documents import DocumentKind
from support.cosigners import witness
from support.logs import AT, LOG_KEY, LocalLog, some_entries
from support.policies import policy as some_policy

pytestmark = pytest.mark.integration
WITNESS = witness(1)


def run(group: object, *arguments: object) -> Result:
    return CliRunner().invoke(group, [*map(str, arguments)])  # type: ignore[arg-type]  # a click group


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    made = LocalLog(tmp_path / "log")
    made.home.mkdir()
    note = Note.parse(made.append(some_entries(300)))
    line = WITNESS.cosign(Checkpoint.parse_text(note.text), AT)
    (made.public / "checkpoint.cosigned").write_bytes(note.signed_also((line,)).to_bytes())
    made.append(some_entries(310)[300:])
    (tmp_path / "log.pub").write_text(f"{LOG_KEY}\n")
    (tmp_path / "trust").write_text(f"log {LOG_KEY}\nwitness W {WITNESS.key}\nquorum W\n")
    return made


def test_one_file_proves_an_entry_to_who_has_nothing_else(log: LocalLog, tmp_path: Path) -> None:
    where = ("--log", log.public, "--key", tmp_path / "log.pub", "--out")
    assert run(proof, "make", 7, *where, tmp_path / "seven.tlog-proof").exception is None
    away = tmp_path / "away"
    away.mkdir()
    for name in ("seven.tlog-proof", "seven.tlog-proof.entry", "trust"):
        shutil.copy(tmp_path / name, away / name)
    shutil.rmtree(log.public)
    check = ("verify", away / "seven.tlog-proof", "--policy", away / "trust", "--entry")
    told = json.loads(run(proof, *check, away / "seven.tlog-proof.entry", "--json").output)
    assert told == {"ok": True, "origin": LOG_KEY.name, "index": 7, "size": 300, "witnesses": ["W"]}
    (away / "other").write_bytes(b"another entry")
    assert isinstance(run(proof, *check, away / "other").exception, ProofError)
    (away / "trust").write_text("quorum none\n")
    refused = run(proof, *check, away / "seven.tlog-proof.entry").exception
    assert isinstance(refused, CosignatureOtherLogError)


def test_an_entry_that_no_witness_saw_yet_is_proven_without_them(log: LocalLog, tmp_path: Path) -> None:
    where = ("--log", log.public, "--key", tmp_path / "log.pub", "--out", tmp_path / "new")
    assert run(proof, "make", 305, *where).exception is None
    check = ("verify", tmp_path / "new", "--entry", tmp_path / "new.entry", "--policy")
    assert isinstance(run(proof, *check, tmp_path / "trust").exception, QuorumMissingError)
    (tmp_path / "lax").write_text(f"log {LOG_KEY}\nquorum none\n")
    assert run(proof, *check, tmp_path / "lax").exception is None
    assert isinstance(run(proof, "make", 310, *where).exception, NotFoundError)


def test_a_draft_takes_witnesses_and_shows_them(tmp_path: Path) -> None:
    draft, trust = tmp_path / "draft.json", tmp_path / "trust"
    draft.write_bytes(some_policy().to_bytes())
    trust.write_text(f"witness W {WITNESS.key} https://w.example\ngroup G any W\nquorum G\n")
    given = ("witnesses", draft, "--policy", trust, "--max-age", 600, "--at", "SL4", 120)
    assert run(policy, *given).exception is None
    read = Policy.parse(draft.read_bytes())
    assert read.witnesses is not None
    assert (read.witnesses.max_age_seconds, read.witnesses.levels[0].max_age_seconds) == (600, 120)
    shown = "\n".join(summary(DocumentKind.POLICY, read))
    assert "`G` must have seen the log at most 600 s before, SL4: 120 s" in shown
    # Whole: a key with the same name and key id, of four bytes, can be made.
    assert WITNESS.key.fingerprint in shown
    assert WITNESS.key.fingerprint.startswith(WITNESS.key.key_id.hex())
    assert isinstance(run(policy, "witnesses", draft).exception, UsageError)
    assert isinstance(run(policy, *given[:-1], 601).exception, MalformedError)
    trust.write_text("nonsense\n")
    assert isinstance(run(policy, *given).exception, WitnessPolicyError)
    assert run(policy, "witnesses", draft, "--remove").exception is None
    bare = Policy.parse(draft.read_bytes())
    assert bare.witnesses is None
    assert "nobody else has to have seen the log" in "\n".join(summary(DocumentKind.POLICY, bare))
