"""Who had too much blocked is suspended, stays so over restarts, and is served again only when a person says why."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from strongroom.cli.main import main
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.errors import ExitCode, MalformedError, NotFoundError
from strongroom.core.ids import ModelId
from strongroom.enclave.gateway.adapters.suspension_file import REMEMBERED, SuspensionFileError, SuspensionFolder
from strongroom.enclave.gateway.screens import Category
from strongroom.enclave.gateway.suspension import (
    MAX_BLOCKS,
    MAX_LIFTED,
    MAX_REASON,
    MAX_RECORD,
    MAX_WINDOW,
    BlockLimit,
    CredentialSuspendedError,
    Standing,
)
from support.logs import AT

ATLAS: Final = ModelId("atlas")
LIMIT: Final = BlockLimit(blocks=3, seconds=60)


DANA: Final = Standing("dana")


def blocked(standing: Standing, *times: int) -> Standing:
    for at in times:
        standing = standing.blocked(Category.JAILBREAK, LIMIT, AT + at)
    return standing


def refused(standing: Standing) -> bool:
    try:
        standing.check()
    except CredentialSuspendedError:
        return True
    return False


def test_as_many_blocks_as_the_limit_within_the_window_suspend() -> None:
    assert not refused(blocked(DANA, 0, 30))
    assert refused(blocked(DANA, 0, 30, 59))
    assert refused(blocked(DANA, 0, 0, 0))
    # The first is out of the window when the third comes.
    assert not refused(blocked(DANA, 0, 30, 60))
    assert refused(blocked(DANA, 0, 30, 60, 61))


def test_time_lifts_nothing_and_what_is_long_past_is_forgotten() -> None:
    assert refused(blocked(DANA, 0, 0, 0, 10**8))
    assert blocked(DANA, 0, 10**8).blocks == (AT + 10**8,)


def test_a_person_lifts_it_with_a_reason_and_the_count_begins_anew() -> None:
    standing = blocked(DANA, 0, 0, 0)
    lifted = standing.lift("a test of ours", AT + 1)
    assert not refused(lifted)
    assert not refused(blocked(lifted, 1, 1))
    assert refused(blocked(lifted, 1, 1, 1))
    assert [one.reason for one in lifted.lifted] == ["a test of ours"]
    with pytest.raises(NotFoundError):
        DANA.lift("nothing", AT)
    for reason in ("", "two\nlines", "x" * (MAX_REASON + 1)):
        with pytest.raises(MalformedError):
            standing.lift(reason, AT)


@pytest.mark.parametrize(("blocks", "seconds"), [(0, 1), (MAX_BLOCKS + 1, 1), (1, 0), (1, 10**9)])
def test_limits_are_within_bounds(blocks: int, seconds: int) -> None:
    with pytest.raises(MalformedError):
        BlockLimit(blocks=blocks, seconds=seconds)


STEPS = st.lists(st.tuples(st.integers(0, 200), st.sampled_from(list(Category))), max_size=20)


@given(STEPS)
def test_a_record_reads_back(steps: list[tuple[int, Category]]) -> None:
    standing, now = DANA, AT
    for later, category in steps:
        now += later
        standing = standing.blocked(category, LIMIT, now)
        if refused(standing) and later % 2:
            standing = standing.lift("looked at it", now)
        assert Standing.parse(standing.to_bytes()) == standing


def largest(principal: str) -> Standing:
    """Return a record as long as one gets: all but one block of the highest limit, and the longest reasons."""
    standing, limit = Standing(principal), BlockLimit(blocks=1, seconds=MAX_WINDOW)
    for _ in range(MAX_LIFTED + 1):
        standing = standing.blocked(Category.JAILBREAK, limit, AT).lift("\U00010348" * MAX_REASON, AT)
    for _ in range(MAX_BLOCKS - 1):
        standing = standing.blocked(Category.JAILBREAK, BlockLimit(blocks=MAX_BLOCKS, seconds=MAX_WINDOW), AT)
    return standing


def test_the_longest_record_can_be_read() -> None:
    standing = largest("p" * 64)
    assert (len(standing.blocks), len(standing.lifted), refused(standing)) == (MAX_BLOCKS - 1, MAX_LIFTED, False)
    assert len(standing.to_bytes()) <= MAX_RECORD
    assert Standing.parse(standing.to_bytes()) == standing
    with pytest.raises(MalformedError):
        Standing.parse(standing.to_bytes() + b" " * MAX_RECORD)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 1},
        {"more": 1},
        {"principal": "two words"},
        {"blocks": ["now"]},
        {"blocks": ["2026-01-01T00:00:00Z"] * (MAX_BLOCKS + 1)},
        {"suspended": {"since": "2026-01-01T00:00:00Z", "category": "bad"}},
        {"suspended": []},
        {"lifted": [{"at": "now", "reason": ""}]},
        {"lifted": [{"at": "2026-01-01T00:00:00Z", "reason": ""}] * (MAX_LIFTED + 1)},
    ],
)
def test_another_form_of_record_is_refused(change: dict[str, Json]) -> None:
    value = decode(DANA.to_bytes())
    assert isinstance(value, dict)
    with pytest.raises(MalformedError):
        Standing.parse(encode(value | change))


def block(folder: SuspensionFolder, principal: str = "dana") -> Standing:
    return folder.change(principal, lambda standing: standing.blocked(Category.HARM, LIMIT, AT))


def listed(folder: Path) -> dict[str, list[dict[str, str]]]:
    told = CliRunner().invoke(main, ["enclave", "serve", "suspensions", "atlas", "--state", str(folder), "--json"])
    assert told.exit_code == ExitCode.OK, told.output
    read: dict[str, list[dict[str, str]]] = json.loads(told.stdout)
    return read


def test_it_survives_the_process_and_others_changes_are_seen(tmp_path: Path) -> None:
    running = SuspensionFolder(tmp_path, ATLAS)
    assert running.standing("dana") == DANA
    assert listed(tmp_path) == {"suspended": [], "lifted": []}
    for _ in range(3):
        block(running)
    assert refused(SuspensionFolder(tmp_path, ATLAS).standing("dana"))
    assert not refused(running.standing("kim"))
    lifting = CliRunner().invoke(
        main, ["enclave", "serve", "lift", "atlas", "dana", "--state", str(tmp_path), "--reason", "spoke with them"]
    )
    assert lifting.exit_code == ExitCode.OK, lifting.output
    assert not refused(running.standing("dana"))
    listing = CliRunner().invoke(main, ["enclave", "serve", "suspensions", "atlas", "--state", str(tmp_path)])
    assert "spoke with them" in listing.output
    again = CliRunner().invoke(
        main, ["enclave", "serve", "lift", "atlas", "dana", "--state", str(tmp_path), "--reason", "twice"]
    )
    assert again.exit_code == ExitCode.NOT_FOUND
    assert (tmp_path / "atlas.suspensions" / "dana.json").stat().st_mode & 0o777 == 0o600


def test_however_many_have_long_records_each_is_read_and_all_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many of the longest records as no file of 16 MiB would hold, and more than are remembered."""
    monkeypatch.setattr("strongroom.enclave.gateway.adapters.suspension_file.write_durably", Path.write_bytes)
    monkeypatch.setattr("strongroom.enclave.gateway.adapters.suspension_file.REMEMBERED", 100)
    folder, names = SuspensionFolder(tmp_path, ATLAS), [f"p{number:063}" for number in range(450)]
    record = largest(names[0])
    for name in names:
        folder.change(name, lambda standing: replace(record, principal=standing.principal))
    assert sum(one.stat().st_size for one in (tmp_path / "atlas.suspensions").iterdir()) > 16 << 20
    for name in (names[0], names[-1]):
        assert refused(folder.change(name, lambda standing: standing.blocked(Category.HARM, LIMIT, AT)))
    told = listed(tmp_path)
    assert [one["principal"] for one in told["suspended"]] == [names[0], names[-1]]
    assert len(told["lifted"]) == len(names) * MAX_LIFTED
    assert 0 < len(folder._read) <= 100 < REMEMBERED


def test_blocks_at_the_same_time_are_all_counted(tmp_path: Path) -> None:
    def many() -> None:
        folder = SuspensionFolder(tmp_path, ATLAS)
        for _ in range(10):
            folder.change(
                "dana", lambda standing: standing.blocked(Category.HARM, BlockLimit(blocks=999, seconds=9), AT)
            )

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(SuspensionFolder(tmp_path, ATLAS).standing("dana").blocks) == 40


def test_a_record_that_cannot_be_read_lets_its_credential_not_in(tmp_path: Path) -> None:
    folder, place = SuspensionFolder(tmp_path, ATLAS), tmp_path / "atlas.suspensions" / "dana.json"
    for _ in range(3):
        block(folder)
        block(folder, "kim")
    kim = (tmp_path / "atlas.suspensions" / "kim.json").read_bytes()
    for data in (b"{}", kim, b" " * (MAX_RECORD + 1)):
        place.write_bytes(data)
        with pytest.raises(SuspensionFileError):
            folder.standing("dana")
        with pytest.raises(SuspensionFileError):
            block(folder)
    place.unlink()
    place.symlink_to("/dev/null")
    with pytest.raises(SuspensionFileError):
        folder.standing("dana")
    with pytest.raises(SuspensionFileError):
        list(folder.all())
    assert refused(folder.standing("kim"))
    assert not refused(folder.standing("lee"))


def test_whoever_is_suspended_in_a_record_of_before_isn_t_let_in_by_being_forgotten(tmp_path: Path) -> None:
    (tmp_path / "atlas.suspensions.json").write_bytes(b"{}")
    with pytest.raises(SuspensionFileError, match="older version"):
        SuspensionFolder(tmp_path, ATLAS)
    SuspensionFolder(tmp_path, ModelId("borealis"))


def test_a_folder_that_is_none_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "atlas.suspensions").write_bytes(b"")
    folder = SuspensionFolder(tmp_path, ATLAS)
    for act in (lambda: folder.standing("dana"), lambda: block(folder), lambda: [*folder.all()]):
        with pytest.raises(SuspensionFileError):
            act()
