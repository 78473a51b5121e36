"""`strongroom audit verify` over a folder: what it prints, what it says that it didn't check, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from strongroom.audit import standalone_verifier
from strongroom.audit.cosignature import CosignatureKind, Cosigner, cosign_note
from strongroom.audit.errors import EditedEntryError, ForkError
from strongroom.audit.spans import BUNDLES
from strongroom.audit.tiles import Tile
from strongroom.cli.audit import audit
from strongroom.core.errors import ExitCode, UsageError
from strongroom.core.events import EventName
from support.logs import AT, GENESIS, opening, sample_entry, some_entries
from support.published import key_file, publish, sign_head

WITNESS = Cosigner.from_seed("w.example", CosignatureKind.ED25519, b"w" * 32)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    publish(tmp_path / "log", some_entries(30))
    key_file(tmp_path)
    (tmp_path / "genesis.json").write_bytes(GENESIS.to_bytes())
    return tmp_path


def run(place: Path, *arguments: str, log: str = "log") -> Result:
    return CliRunner().invoke(audit, ["verify", "--log", str(place / log), "--key", str(place / "log.key"), *arguments])


def told(place: Path, *arguments: str, code: int = 0, log: str = "log") -> Any:
    result = run(place, *arguments, "--json", log=log)
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def edit(place: Path) -> None:
    path = place / "log" / Tile(None, 0, 30).path
    path.write_bytes(path.read_bytes().replace(b'"at":"2026', b'"at":"2025', 1))


def test_it_says_what_it_checked_and_what_not(place: Path) -> None:
    plain = run(place)
    assert plain.exit_code == 0
    assert "ok: 30 entries" in plain.output
    assert "not checked: the keeper's signatures" in plain.output
    assert "not checked: whether others saw the same log" in plain.output
    found = told(place)
    assert found["entries"]["keeper_signatures"] is None
    assert found["retrial"] is None
    assert len(found["not_checked"]) == 2


def test_tree_only_reads_no_entry(tmp_path: Path) -> None:
    publish(tmp_path / "log", [b"no entry of ours"] * 300)
    key_file(tmp_path)
    assert told(tmp_path, code=ExitCode.TAMPERED)["code"] == "log-entry-edited"
    found = told(tmp_path, "--tree-only")
    assert found["entries"] is None
    assert any("--tree-only" in line for line in found["not_checked"])


def test_it_names_the_edited_entry(place: Path) -> None:
    edit(place)
    assert told(place, code=ExitCode.TAMPERED) == {
        "ok": False,
        "code": "log-entry-edited",
        "index": 0,
        "message": "entry 0 isn't the one whose hash was logged",
    }
    assert isinstance(run(place).exception, EditedEntryError)


def test_it_goes_on_from_kept_checkpoints(place: Path) -> None:
    kept = []
    for size in (1, 7, 30):
        kept += ["--previous", str(place / f"kept.{size}")]
        (place / f"kept.{size}").write_bytes(sign_head(some_entries(30), size))
    publish(place / "log", [*some_entries(30), sample_entry(EventName.REFUSED, 29)])
    assert "continues the earlier checkpoint of 7 entries" in run(place, *kept).output
    assert told(place, *kept)["continues"] == [1, 7, 30]
    publish(place / "fork", some_entries(40, at=AT + 1))
    assert isinstance(run(place, *kept, log="fork").exception, ForkError)


def test_it_asks_for_the_quorum_that_a_policy_names(place: Path) -> None:
    policy = place / "policy"
    policy.write_text(f"witness w {WITNESS.key}\nquorum w\n")
    assert told(place, "--policy", str(policy), code=ExitCode.TAMPERED)["code"] == "witness-quorum-missing"
    checkpoint = place / "log" / "checkpoint"
    checkpoint.write_bytes(cosign_note(checkpoint.read_bytes(), WITNESS, AT - 10**8))
    assert list(told(place, "--policy", str(policy))["cosigned"]) == ["w"]
    assert "30 entries cosigned by w at" in run(place, "--policy", str(policy)).output
    # The log grew since the witnesses were asked: what they cosigned last lies beside it, and is where it comes from.
    (place / "log" / "checkpoint.cosigned").write_bytes(checkpoint.read_bytes())
    publish(place / "log", [*some_entries(30), sample_entry(EventName.REFUSED, 29)])
    assert told(place, "--policy", str(policy))["cosigned_size"] == 30
    single = [str(place / "log"), "--key", str(place / "log.key"), "--policy", str(policy)]
    assert standalone_verifier.main(single) == 0
    publish(place / "log", some_entries(40, at=AT + 1))
    assert told(place, "--policy", str(policy), code=ExitCode.TAMPERED)["code"] == "log-forked"
    assert standalone_verifier.main(single) == ExitCode.TAMPERED


def test_acts_without_foundation_end_it_with_the_first_index(place: Path) -> None:
    # Every event once, in no order that could have happened: signed by the keeper, and wrong.
    found = told(place, "--genesis", str(place / "genesis.json"), code=ExitCode.TAMPERED)
    assert found["ok"] is False
    assert found["index"] == found["retrial"]["findings"][0]["index"]
    assert found["entries"]["keeper_signatures"] == 29
    text = run(place, "--genesis", str(place / "genesis.json"))
    assert text.exit_code == ExitCode.TAMPERED
    assert "WRONG     entry" in text.output


def test_what_was_gathered_is_judged_by_the_genesis_alone(place: Path) -> None:
    assert isinstance(run(place, "--evidence", str(place)).exception, UsageError)


def test_several_processes_say_the_same(tmp_path: Path) -> None:
    entries = [opening()]
    entries += [sample_entry(EventName.KEEPER_UNLOCKED, seq) for seq in range(BUNDLES * 256 + 100)]
    publish(tmp_path / "log", entries)
    key_file(tmp_path)
    alone, together = told(tmp_path, "--jobs", "1"), told(tmp_path, "--jobs", "2")
    assert alone == together
    assert together["entries"]["events"][EventName.KEEPER_UNLOCKED.value] == len(entries) - 1
    # A gap between two spans is seen by neither alone.
    publish(tmp_path / "gap", [*entries[: BUNDLES * 256], *entries[BUNDLES * 256 + 1 :]])
    for jobs in ("1", "2"):
        refused = told(tmp_path, "--jobs", jobs, log="gap", code=ExitCode.TAMPERED)
        assert (refused["code"], refused["index"]) == ("log-sequence-gap", BUNDLES * 256)
