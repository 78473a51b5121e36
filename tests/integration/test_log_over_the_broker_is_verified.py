"""Reading the log through a server that lies: a wallet's owner sees what was logged, or an error, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.audit.entries import read_entry
from strongroom.audit.errors import LogError, ProofError
from strongroom.broker.errors import TooManyCallsError
from strongroom.client.trust import LogRolledBackError
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.encoding import to_base64
from strongroom.core.errors import TamperedError, UnavailableError
from support.place import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Place.opened(tmp_path, monkeypatch, SystemClock()) as made:
        yield made


def lines(place: Place, *arguments: str) -> list[dict[str, Any]]:
    result = place.run("audit", *arguments, "--json", by="dana")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


pytestmark = pytest.mark.integration
READS = (("ls",), ("ls", "--last", "2"), ("search", "--event", "personnel"), ("exposure", "minilm"), ("show", "2"))


def test_an_honest_server_is_read(place: Place) -> None:
    told = lines(place, "ls")
    assert [one["index"] for one in told] == list(range(len(place.deployment.log.entries)))
    assert told[0]["event"] == "log:shard:opened"
    found = lines(place, "search", "--event", "personnel:roster")
    assert [one["event"] for one in found] == ["personnel:roster:adopted"]
    assert lines(place, "show", str(found[0]["index"]))[0]["proven_in"] == len(told)


@pytest.mark.parametrize("arguments", READS)
def test_an_entry_that_was_changed_on_its_way_is_refused(place: Place, arguments: tuple[str, ...]) -> None:
    def forge(path: str, answer: Json) -> Json:
        if path == "/v1/log/entries" and isinstance(answer, dict) and isinstance(answer["entries"], list):
            other = [to_base64(place.deployment.log.entries[1])] * len(answer["entries"])
            return {**answer, "entries": [*other]}
        return answer

    place.deployment.forge = forge
    code = place.run("audit", *arguments, "--json", by="dana").exit_code
    assert code == LogError.exit_code == ProofError.exit_code


@pytest.mark.parametrize("arguments", [one for one in READS if "--last" not in one])
def test_an_entry_that_the_keeper_never_signed_is_refused(place: Place, arguments: tuple[str, ...]) -> None:
    # The log's key signs it, but the log writer can't speak for the keeper.
    entries = place.deployment.log.entries
    seconds = read_entry(entries[2]).at % 60
    entries[2] = entries[2].replace(b':%02dZ"' % seconds, b':%02dZ"' % ((seconds + 1) % 60), 1)
    read_entry(entries[2])
    assert place.run("audit", *arguments, "--json", by="dana").exit_code == LogError.exit_code


def test_a_log_that_went_back_is_refused(place: Place) -> None:
    assert lines(place, "ls")
    place.deployment.log.entries.pop()
    result = place.run("audit", "ls", "--json", by="dana")
    assert result.exit_code == TamperedError.exit_code
    assert json.loads(result.stdout)["code"] == LogRolledBackError.code


def test_a_log_that_was_rewritten_is_refused(place: Place) -> None:
    assert lines(place, "ls")
    entries = place.deployment.log.entries
    entries[-1], entries[-2] = entries[-2], entries[-1]
    result = place.run("audit", "ls", "--json", by="dana")
    assert result.exit_code == TamperedError.exit_code


def test_what_was_read_is_remembered_for_what_is_signed_next(place: Place) -> None:
    lines(place, "ls")
    place.deployment.log.entries.pop()
    result = place.run("status", "--json", by="dana")
    assert result.exit_code == TamperedError.exit_code


def test_erasing_a_person_leaves_a_log_that_verifies(place: Place) -> None:
    before = list(place.deployment.log.entries)
    file = str(place.folder / "erasure.json")
    place.json("people", "erase", "dana", file, by="vera")
    for officer in ("vera", "otto"):
        place.json("people", "sign", file, "--yes", by=officer)
    place.json("people", "hand-in", file, by="vera")
    # Nothing that was logged is touched; what is left of her is the pseudonym that was chosen for her.
    assert place.deployment.log.entries[: len(before)] == before
    told = lines(place, "search", "--person", "dana")
    assert told[-1]["event"] == "personnel:person:erased"
    assert {value for one in told for name, value in one["facts"].items() if name == "person"} == {"dana"}
    assert [one["index"] for one in lines(place, "ls")] == list(range(len(place.deployment.log.entries)))


def test_a_reader_who_is_too_fast_waits_its_turn(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr("strongroom.cli.audit_reading.time.sleep", paused.append)

    def busy(path: str, answer: Json) -> Json:
        if path.startswith("/v1/log/") and len(paused) < 3:
            raise TooManyCallsError("too many calls")
        return answer

    place.deployment.forge = busy
    assert lines(place, "ls")
    assert len(paused) == 3

    def away(_path: str, _answer: Json) -> Json:
        raise UnavailableError("nobody is there")

    place.deployment.forge = away
    assert place.run("audit", "ls", by="dana").exit_code == UnavailableError.exit_code
    assert len(paused) == 3
