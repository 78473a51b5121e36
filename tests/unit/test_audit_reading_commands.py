"""`strongroom audit ls`, `show`, `search`, `exposure` over a folder: what they print, and what they refuse."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from strongroom.audit.errors import ForkError, LogError, MissingRowsError, ProofError, WrongKeyError
from strongroom.audit.tiles import Tile
from strongroom.cli.audit import audit
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.events import EventName
from support.log_views import PLATFORMS, REQUESTS, log_of
from support.logs import AT, GENESIS, LOG_KEY, LocalLog, genesis_of, some_entries

E = EventName
STORY = log_of(
    [
        (E.REQUEST_CREATED, 0, {"request": REQUESTS[0], "model": "atlas-7b", "requester": "dana", "action": "seal"}),
        (E.GRANT_ISSUED, 9, {"request": REQUESTS[0], "model": "atlas-7b", "requester": "dana", "approvers": ["erin"]}),
        (E.DATA_KEY_CREATED, 1, {"request": REQUESTS[0], "use": 1, "model": "atlas-7b", "version": 1}),
        (E.VERSION_REGISTERED, 5, {"request": REQUESTS[0], "model": "atlas-7b", "version": 1, "publisher": "dana"}),
        (
            E.RELEASED,
            3600,
            {"request": REQUESTS[1], "use": 1, "model": "atlas-7b", "version": 1, "platform": PLATFORMS[0]},
        ),
        (E.LEASE_ENDED, 60, {"request": REQUESTS[1], "use": 1, "reason": "frozen"}),
        (E.MODEL_FROZEN, 1, {"model": "atlas-7b"}),
        (E.EXPORTED, 9999, {"request": REQUESTS[2], "use": 1, "model": "atlas-7b", "version": 1, "requester": "frank"}),
        (E.REFUSED, 1, {"request": REQUESTS[0]}),
    ]
)


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    return prepared(tmp_path, STORY)


def prepared(home: Path, entries: list[bytes]) -> LocalLog:
    home.mkdir(exist_ok=True)
    made = LocalLog(home)
    made.append(entries)
    (home / "key").write_text(f"{LOG_KEY}\n")
    (home / "genesis.json").write_bytes(GENESIS.to_bytes())
    return made


def run(log: LocalLog, verb: str, *arguments: str) -> Result:
    return CliRunner().invoke(audit, [verb, "--log", str(log.public), *arguments])


def keyed(log: LocalLog) -> tuple[str, str]:
    return "--key", str(log.home / "key")


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def places(result: Result) -> list[int]:
    return [row["index"] for row in rows(result)]


def edit(log: LocalLog, old: bytes, new: bytes) -> None:
    (path,) = (log.public / "tile" / "entries").rglob("*.p/*")
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


# --- ls and show ------------------------------------------------------------------------------------------------------


def test_ls_lists_the_whole_log_or_its_end(log: LocalLog) -> None:
    assert places(run(log, "ls", "--json", *keyed(log))) == list(range(10))
    assert places(run(log, "ls", "--last", "2", "--json", *keyed(log))) == [8, 9]
    text = run(log, "ls", *keyed(log))
    assert text.stdout.splitlines()[0].split() == ["0", "2026-11-23T22:08:37Z", "log:shard:opened"]
    assert not text.stderr


def test_ls_says_when_nothing_was_verified(log: LocalLog) -> None:
    result = run(log, "ls")
    assert len(result.stdout.splitlines()) == 10
    assert "not verified" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--person", "dana"], [1, 2, 4, 5]),
        (["--person", "erin"], [2, 5, 8]),
        (["--model", "atlas-7b"], [1, 2, 3, 4, 5, 7, 8, 9]),
        (["--request", str(REQUESTS[1])], [5, 6]),
        (["--request", str(REQUESTS[1])[7:17]], [5, 6]),
        (["--platform", PLATFORMS[0]], [5]),
        (["--event", "release"], [5, 6, 8, 9]),
        (["--event", "release:lease"], [6]),
        (["--event", "release:lease:ended"], [6]),
        (["--outcome", "refused"], [9]),
        (["--outcome", "ended"], [6, 7]),
        (["--since", "2026-11-24T00:00:00Z"], [8, 9]),
        (["--since", "2026-11-24"], [8, 9]),
        (["--until", "2026-11-23T22:08:40Z"], [0, 1]),
        (["--model", "atlas-7b", "--event", "release", "--until", "2026-11-24"], [5]),
        (["--person", "nobody"], []),
        (["--model", "atlas-7b", "--limit", "2"], [8, 9]),
    ],
)
@pytest.mark.parametrize("verb", ["ls", "search"])
def test_both_ways_find_the_same(log: LocalLog, verb: str, arguments: list[str], wanted: list[int]) -> None:
    index = ["--index", str(log.home / "index")] if verb == "search" else []
    assert places(run(log, verb, "--json", *keyed(log), *index, *arguments)) == wanted


def test_ls_of_the_end_still_knows_which_model_a_request_is_for(log: LocalLog) -> None:
    assert places(run(log, "ls", "--last", "1", "--model", "atlas-7b", "--json", *keyed(log))) == [9]


def test_search_keeps_its_index_in_the_cache(log: LocalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(log.home / "cache"))
    assert places(run(log, "search", "--person", "frank", "--json", *keyed(log))) == [5, 8]
    (index,) = (log.home / "cache" / "strongroom" / "audit").glob("*.index")
    index.write_bytes(b"no database at all" * 100)
    assert places(run(log, "search", "--person", "frank", "--json", *keyed(log))) == [5, 8]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--request", "abc"], ["--request", "xyzxyz"], ["--event", "nothing"], ["--since", "yesterday"]],
)
def test_what_means_nothing_is_refused(log: LocalLog, arguments: list[str]) -> None:
    result = run(log, "search", "--index", str(log.home / "index"), *arguments)
    assert isinstance(result.exception, UsageError)


def test_show_proves_an_entry(log: LocalLog) -> None:
    assert "not verified" in run(log, "show", "3").stdout
    assert rows(run(log, "show", "3", "--json", *keyed(log)))[0]["proven_in"] == 10
    assert rows(run(log, "show", "3", "--json", "--genesis", str(log.home / "genesis.json")))[0]["proven_in"] == 10
    assert isinstance(run(log, "show", "10").exception, NotFoundError)


def test_an_edited_entry_is_refused_with_the_key(log: LocalLog) -> None:
    edit(log, b'"requester":"dana"', b'"requester":"anna"')
    assert "anna" in run(log, "show", "1").stdout
    assert isinstance(run(log, "show", "1", *keyed(log)).exception, ProofError)
    for verb in (["ls"], ["search", "--person", "anna", "--index", str(log.home / "index")], ["exposure", "atlas-7b"]):
        assert isinstance(run(log, *verb, *keyed(log)).exception, LogError), verb


def test_a_genesis_of_another_log_is_refused(log: LocalLog) -> None:
    other = log.home / "other.json"
    other.write_bytes(genesis_of(genesis_of(LOG_KEY.public_key).keeper_key).to_bytes())
    assert isinstance(run(log, "ls", *keyed(log), "--genesis", str(other)).exception, WrongKeyError)


def test_a_key_without_a_folder_is_refused(log: LocalLog) -> None:
    result = CliRunner().invoke(audit, ["ls", *keyed(log)])
    assert isinstance(result.exception, UsageError)


def test_a_bundle_of_other_entries_is_refused(log: LocalLog) -> None:
    other = LocalLog(log.home / "other")
    other.home.mkdir()
    other.append(some_entries(10, at=AT + 1))
    tile = Tile(None, 0, 10).path
    (log.public / tile).write_bytes((other.public / tile).read_bytes())
    assert isinstance(run(log, "ls", *keyed(log)).exception, LogError)


# --- exposure ---------------------------------------------------------------------------------------------------------


def test_exposure_names_everybody_with_proof(log: LocalLog) -> None:
    told = exposure(log)
    ways = [(one["way"], one["person"], one["until"], one["entries"]) for one in told["holdings"]]
    assert ways == [
        ("sealed", "dana", None, [3]),
        ("exported", "frank", None, [8]),
        ("released", "dana", "2026-11-24T00:08:52Z", [5, 6]),
    ]
    assert told["registered"] == {"1": 4}
    assert told["signed"] is True
    assert told["freezes"] == [{"since": "2026-11-23T23:09:53Z", "until": None, "entries": [7]}]
    assert len(told["unknowable"]) >= 4


def exposure(log: LocalLog, *arguments: str) -> dict[str, Any]:
    result = run(log, "exposure", "atlas-7b", "--json", *keyed(log), *arguments)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_exposure_within_a_window_and_of_a_version(log: LocalLog) -> None:
    late = exposure(log, "--from", "2026-11-24T00:30:00Z")
    assert [one["way"] for one in late["holdings"]] == ["sealed", "exported"]
    assert exposure(log, "--version", "2")["holdings"] == []
    tight = exposure(log, "--lease-seconds", "60")
    assert tight["holdings"][2]["until"] == "2026-11-23T23:10:52Z"


def test_the_list_of_an_exposure_is_written_whole_and_for_nobody_else(log: LocalLog, tmp_path: Path) -> None:
    listed, victim = tmp_path / "list", tmp_path / "victim"
    listed.write_text("old")
    listed.chmod(0o644)
    told = exposure(log, "--list", str(listed))
    assert told["list"] == str(Digest.of(listed.read_bytes()))
    assert len(listed.read_bytes().splitlines()) == told["totals"]["holdings"] == 3
    assert stat.S_IMODE(listed.stat().st_mode) == 0o600
    # A link where the new one is made beside the old is not followed, and the old one stays.
    victim.write_text("mine")
    (tmp_path / ".list.new").symlink_to(victim)
    before = listed.read_bytes()
    result = run(log, "exposure", "atlas-7b", "--version", "2", "--list", str(listed), *keyed(log))
    assert isinstance(result.exception, OSError)
    assert (victim.read_text(), listed.read_bytes()) == ("mine", before)


def test_exposure_in_words(log: LocalLog) -> None:
    text = run(log, "exposure", "atlas-7b", *keyed(log)).stdout
    assert "version 1, registered by entry 4" in text
    assert "publisher's client: dana, approved by erin" in text
    assert "from before 2026-" in text
    assert "plaintext export: frank" in text
    assert f"on {PLATFORMS[0]}" in text
    assert "(frozen)" in text
    assert "not knowable from any log" in text


def test_a_window_that_ends_before_it_begins_is_refused(log: LocalLog) -> None:
    result = run(log, "exposure", "atlas-7b", "--from", "2026-11-25", "--until", "2026-11-24")
    assert isinstance(result.exception, UsageError)


# --- follow -----------------------------------------------------------------------------------------------------------


def test_follow_refuses_a_log_that_went_back_since(log: LocalLog, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    stop_at_once(log, "--cursor", str(cursor), *keyed(log))
    shorter = prepared(tmp_path / "shorter", STORY[:5])
    assert isinstance(run(shorter, "follow", "--cursor", str(cursor), *keyed(shorter)).exception, MissingRowsError)
    forked = prepared(tmp_path / "forked", [*STORY[:9], log_of([(E.REFUSED, 1, {})])[1]])
    assert isinstance(run(forked, "follow", "--cursor", str(cursor), *keyed(forked)).exception, ForkError)


def test_follow_goes_on_where_it_was(log: LocalLog, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    first = stop_at_once(log, "--cursor", str(cursor), "--from", "4", "--json", *keyed(log))
    assert places(first) == [4, 5, 6, 7, 8, 9]
    assert places(stop_at_once(log, "--cursor", str(cursor), "--json", *keyed(log))) == []
    assert isinstance(run(log, "follow", "--cursor", str(cursor), "--from", "1").exception, UsageError)


def test_follow_prints_only_what_is_asked_for(log: LocalLog) -> None:
    asked = ["--from", "5", "--model", "atlas-7b", "--outcome", "refused", "--json", *keyed(log)]
    assert places(stop_at_once(log, *asked)) == [9]


def stop_at_once(log: LocalLog, *arguments: str) -> Result:
    """Follow, and be interrupted at the first pause."""
    with pytest.MonkeyPatch.context() as patch:

        def interrupted(_seconds: float) -> None:
            raise KeyboardInterrupt

        patch.setattr("strongroom.cli.stopping.time.sleep", interrupted)
        result = run(log, "follow", *arguments)
    assert result.exit_code == 0, result.output
    return result
