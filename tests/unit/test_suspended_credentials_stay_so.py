"""Who had too much blocked is suspended, stays so over restarts, and is served again only when a person says why."""

from __future__ import annotations

import threading
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
from strongroom.enclave.gateway.adapters.suspension_file import SuspensionFile, SuspensionFileError
from strongroom.enclave.gateway.screens import Category
from strongroom.enclave.gateway.suspension import (
    MAX_BLOCKS,
    MAX_REASON,
    BlockLimit,
    CredentialSuspendedError,
    Standing,
)
from support.logs import AT

ATLAS: Final = ModelId("atlas")
LIMIT: Final = BlockLimit(blocks=3, seconds=60)


def blocked(standing: Standing, *times: int, principal: str = "dana") -> Standing:
    for at in times:
        standing = standing.blocked(principal, Category.JAILBREAK, LIMIT, AT + at)
    return standing


def refused(standing: Standing, principal: str = "dana") -> bool:
    try:
        standing.check(principal)
    except CredentialSuspendedError:
        return True
    return False


def test_as_many_blocks_as_the_limit_within_the_window_suspend() -> None:
    assert not refused(blocked(Standing(), 0, 30))
    assert refused(blocked(Standing(), 0, 30, 59))
    assert refused(blocked(Standing(), 0, 0, 0))
    # The first is out of the window when the third comes.
    assert not refused(blocked(Standing(), 0, 30, 60))
    assert refused(blocked(Standing(), 0, 30, 60, 61))


def test_only_whose_it_was_is_suspended_and_time_lifts_nothing() -> None:
    standing = blocked(Standing(), 0, 0, 0)
    assert not refused(standing, "kim")
    later = blocked(standing, 10**8, principal="kim")
    assert refused(later)
    # What is long past is forgotten, and a suspension isn't.
    assert set(later.blocks) == {"kim"}


def test_a_person_lifts_it_with_a_reason_and_the_count_begins_anew() -> None:
    standing = blocked(Standing(), 0, 0, 0)
    lifted = standing.lift("dana", "a test of ours", AT + 1)
    assert not refused(lifted)
    assert not refused(blocked(lifted, 1, 1))
    assert refused(blocked(lifted, 1, 1, 1))
    assert [(one.principal, one.reason) for one in lifted.lifted] == [("dana", "a test of ours")]
    with pytest.raises(NotFoundError):
        standing.lift("kim", "nothing", AT)
    for reason in ("", "two\nlines", "x" * (MAX_REASON + 1)):
        with pytest.raises(MalformedError):
            standing.lift("dana", reason, AT)


@pytest.mark.parametrize(("blocks", "seconds"), [(0, 1), (MAX_BLOCKS + 1, 1), (1, 0), (1, 10**9)])
def test_limits_are_within_bounds(blocks: int, seconds: int) -> None:
    with pytest.raises(MalformedError):
        BlockLimit(blocks=blocks, seconds=seconds)


STEPS = st.lists(
    st.tuples(st.sampled_from(["dana", "kim", "lee"]), st.integers(0, 200), st.sampled_from(list(Category))),
    max_size=20,
)


@given(STEPS)
def test_a_record_reads_back_and_has_one_form(steps: list[tuple[str, int, Category]]) -> None:
    standing, now = Standing(), AT
    for principal, later, category in steps:
        now += later
        standing = standing.blocked(principal, category, LIMIT, now)
        if refused(standing, principal) and later % 2:
            standing = standing.lift(principal, "looked at it", now)
    assert Standing.parse(standing.to_bytes()) == standing


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"more": 1},
        {"blocks": [{"principal": "dana", "at": []}]},
        {"blocks": [{"principal": "two words", "at": ["2026-01-01T00:00:00Z"]}]},
        {"suspended": [{"principal": "dana", "since": "2026-01-01T00:00:00Z", "category": "bad"}]},
        {"suspended": [{"principal": "dana", "since": "2026-01-01T00:00:00Z", "category": "harm"}] * 2},
        {"suspended": {}},
        {"lifted": [{"principal": "dana", "at": "now", "reason": ""}]},
    ],
)
def test_another_form_of_record_is_refused(change: dict[str, Json]) -> None:
    value = decode(Standing().to_bytes())
    assert isinstance(value, dict)
    with pytest.raises(MalformedError):
        Standing.parse(encode(value | change))


def block(file: SuspensionFile, principal: str = "dana") -> Standing:
    return file.change(lambda standing: standing.blocked(principal, Category.HARM, LIMIT, AT))


def test_it_survives_the_process_and_others_changes_are_seen(tmp_path: Path) -> None:
    running = SuspensionFile(tmp_path, ATLAS)
    assert running.standing() == Standing()
    for _ in range(3):
        block(running)
    assert refused(SuspensionFile(tmp_path, ATLAS).standing())
    lifting = CliRunner().invoke(
        main, ["enclave", "serve", "lift", "atlas", "dana", "--state", str(tmp_path), "--reason", "spoke with them"]
    )
    assert lifting.exit_code == ExitCode.OK, lifting.output
    assert not refused(running.standing())
    listing = CliRunner().invoke(main, ["enclave", "serve", "suspensions", "atlas", "--state", str(tmp_path)])
    assert "spoke with them" in listing.output
    again = CliRunner().invoke(
        main, ["enclave", "serve", "lift", "atlas", "dana", "--state", str(tmp_path), "--reason", "twice"]
    )
    assert again.exit_code == ExitCode.NOT_FOUND
    assert (tmp_path / "atlas.suspensions.json").stat().st_mode & 0o777 == 0o600


def test_blocks_at_the_same_time_are_all_counted(tmp_path: Path) -> None:
    def many() -> None:
        file = SuspensionFile(tmp_path, ATLAS)
        for _ in range(10):
            file.change(lambda standing: standing.blocked("dana", Category.HARM, BlockLimit(blocks=999, seconds=9), AT))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(SuspensionFile(tmp_path, ATLAS).standing().blocks["dana"]) == 40


def test_a_record_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    file = SuspensionFile(tmp_path, ATLAS)
    for _ in range(3):
        block(file)
    (tmp_path / "atlas.suspensions.json").write_bytes(b"{}")
    with pytest.raises(SuspensionFileError):
        file.standing()
    (tmp_path / "atlas.suspensions.json").unlink()
    (tmp_path / "atlas.suspensions.json").symlink_to("/dev/null")
    with pytest.raises(SuspensionFileError):
        file.standing()
