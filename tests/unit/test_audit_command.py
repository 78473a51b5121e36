"""`strongroom audit` over a folder: what it prints, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.audit.errors import EditedEntryError, ForkError, ProofError
from strongroom.audit.tiles import Tile
from strongroom.cli.audit import audit
from strongroom.core.errors import ExitCode, NotFoundError
from strongroom.core.events import EventName
from support.logs import AT, GENESIS, LOG_KEY, LocalLog, sample_entry, some_entries


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    made = LocalLog(tmp_path)
    made.append(some_entries(30))
    (tmp_path / "key").write_text(f"{LOG_KEY}\n")
    (tmp_path / "genesis.json").write_bytes(GENESIS.to_bytes())
    return made


def run(log: LocalLog, verb: str, *arguments: str) -> Result:
    return CliRunner().invoke(audit, [verb, "--log", str(log.public), *arguments])


def edit(log: LocalLog) -> None:
    path = log.public / Tile(None, 0, 30).path
    path.write_bytes(path.read_bytes().replace(b'"at":"2026', b'"at":"2025', 1))


def test_verify_says_what_it_checked(log: LocalLog) -> None:
    key = ["--key", str(log.home / "key")]
    plain = run(log, "verify", *key)
    assert plain.exit_code == 0
    assert "ok: 30 entries" in plain.output
    assert "not checked: the keeper's signatures" in plain.output
    full = run(log, "verify", *key, "--genesis", str(log.home / "genesis.json"), "--json")
    assert json.loads(full.output)["keeper_signatures"] == 29
    assert json.loads(full.output)["genesis_checked"] is True


def test_verify_names_the_edited_entry(log: LocalLog) -> None:
    edit(log)
    key = ["--key", str(log.home / "key")]
    result = run(log, "verify", *key, "--json")
    assert result.exit_code == ExitCode.TAMPERED
    assert json.loads(result.output) == {
        "ok": False,
        "code": "log-entry-edited",
        "index": 0,
        "message": "entry 0 isn't the one whose hash was logged",
    }
    assert isinstance(run(log, "verify", *key).exception, EditedEntryError)


def test_verify_against_a_kept_checkpoint(log: LocalLog) -> None:
    kept = log.home / "kept"
    kept.write_bytes((log.public / "checkpoint").read_bytes())
    log.append([sample_entry(EventName.REFUSED, 29)])
    arguments = ["--key", str(log.home / "key"), "--previous", str(kept)]
    assert "continues the earlier checkpoint of 30 entries" in run(log, "verify", *arguments).output
    fork = LocalLog(log.home / "fork")
    fork.home.mkdir()
    fork.append(some_entries(40, at=AT + 1))
    assert isinstance(run(fork, "verify", *arguments).exception, ForkError)


def test_ls_and_show(log: LocalLog) -> None:
    listed = run(log, "ls")
    assert len(listed.output.splitlines()) == 30
    assert "log:shard:opened" in listed.output.splitlines()[0]
    last = run(log, "ls", "--last", "2", "--json")
    assert [json.loads(line)["index"] for line in last.output.splitlines()] == [28, 29]
    assert "not verified" in run(log, "show", "3").output
    shown = run(log, "show", "3", "--key", str(log.home / "key"), "--json")
    assert json.loads(shown.output)["proven_in"] == 30
    assert isinstance(run(log, "show", "30").exception, NotFoundError)


def test_show_with_a_key_refuses_an_edited_entry(log: LocalLog) -> None:
    edit(log)
    assert "not verified" in run(log, "show", "0").output
    assert isinstance(run(log, "show", "0", "--key", str(log.home / "key")).exception, ProofError)
