"""Decisions and evidence that a hold is about aren't overwritten, as far as the disk's bound goes; then it is said."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from strongroom.backup.contents import Section, section_of
from strongroom.cli.keeper_facts import held_facts
from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError
from strongroom.core.ids import PersonId
from strongroom.enclave.facts import FactState
from strongroom.keeper.adapters.files import MOST_ASIDE, DecisionFile
from strongroom.release.decided import DecisionNotKeptError
from support.kept_records import decision_file


class Ring:
    """Decisions of which each fills a file; ``held`` is whether a hold stands."""

    def __init__(self, folder: Path) -> None:
        self.held = True
        self.overwritten = 0
        self.written: list[bytes] = []
        self.file: DecisionFile = decision_file(folder, most=40, held=lambda: self.held, overwrote=self._overwrote)

    def _overwrote(self) -> None:
        self.overwritten += 1

    def fill(self, count: int, who: str = "dana") -> None:
        """Write so many more."""
        for _ in range(count):
            record = f'{{"id":"{who}","number":{len(self.written):02},"padding":"xxxx"}}'.encode()
            self.file.append(record)
            self.written.append(record)

    def kept(self) -> list[bytes]:
        """Return what is found by its digest."""
        return [record for record in self.written if self.file.find(Digest.of(record)) == record]


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


def test_nothing_is_overwritten_while_a_hold_stands_and_there_is_room(ring: Ring) -> None:
    ring.fill(MOST_ASIDE + 2)
    assert ring.kept() == ring.written
    assert list(ring.file.newest(99)) == ring.written
    assert not ring.overwritten


def test_without_a_hold_two_files_are_all(ring: Ring, tmp_path: Path) -> None:
    ring.held = False
    ring.fill(9)
    assert ring.kept() == ring.written[-2:]
    assert len([*tmp_path.iterdir()]) == 2


def test_at_the_bound_the_oldest_stay_the_keeper_goes_on_and_it_is_told(ring: Ring, tmp_path: Path) -> None:
    ring.fill(MOST_ASIDE + 5)
    assert ring.overwritten == 3
    assert ring.kept() == [*ring.written[:MOST_ASIDE], *ring.written[-2:]]
    assert len([*tmp_path.iterdir()]) == MOST_ASIDE + 2


def test_a_second_hold_takes_nothing_of_the_first_one_s_room_once_that_was_lifted(ring: Ring) -> None:
    ring.fill(MOST_ASIDE + 2)
    ring.held = False
    ring.fill(1)
    assert ring.kept() == ring.written[-2:]
    ring.held = True
    ring.fill(MOST_ASIDE)
    assert ring.kept() == ring.written[-MOST_ASIDE - 2 :]
    assert not ring.overwritten


def test_what_a_crash_leaves_of_a_hold_that_was_lifted_is_before_what_the_next_one_sets_aside(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.fill(MOST_ASIDE)
    ring.held = False
    with monkeypatch.context() as patch:
        real, left = Path.unlink, 3

        def unlink(path: Path, *, missing_ok: bool = False) -> None:
            nonlocal left
            left -= path.exists()
            if not left:
                raise OSError(errno.EIO, "ended here")
            real(path, missing_ok=missing_ok)

        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(UnavailableError):
            ring.fill(1)
    ring.held = True
    ring.fill(4)
    assert list(ring.file.newest(99)) == ring.kept()
    assert len(ring.kept()) == MOST_ASIDE + 2


def test_whoever_is_erased_after_a_hold_is_gone_from_what_it_set_aside(ring: Ring) -> None:
    ring.fill(3, who="rina")
    ring.fill(3)
    ring.file.forget(PersonId("rina"))
    assert ring.kept() == ring.written[3:]
    ring.held = False
    ring.file.forget(PersonId("rina"))
    assert ring.kept() == ring.written[-2:]


def pages(file: DecisionFile, count: int) -> Iterator[tuple[bytes, ...]]:
    """Read the ring as who asks for page after page does, until there is no older record."""
    page = file.newest(count)
    while page:
        yield page
        page = file.newest(count, Digest.of(page[0]))


@pytest.mark.parametrize("count", [1, 2, 3, MOST_ASIDE + 2])
def test_pages_show_each_record_once_while_others_are_written(ring: Ring, count: int) -> None:
    ring.fill(MOST_ASIDE)
    known = [*ring.written]
    read: list[bytes] = []
    for number, page in enumerate(pages(ring.file, count)):
        read[:0] = page
        # The ring turns twice in all, and sets aside what was being written when the first page was read.
        ring.fill(1 if number < 2 else 0)
    assert read == known


def test_whoever_reads_behind_what_the_ring_let_go_is_told_so(ring: Ring) -> None:
    ring.held = False
    ring.fill(2)
    (oldest,) = ring.file.newest(1, Digest.of(ring.written[1]))
    assert oldest == ring.written[0]
    assert ring.file.newest(1, Digest.of(oldest)) == ()
    ring.fill(1)
    with pytest.raises(DecisionNotKeptError):
        ring.file.newest(1, Digest.of(oldest))


def test_a_ring_that_turns_while_it_is_read_shows_what_was_there_when_the_reading_began(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.fill(3)
    known, turns = [*ring.written], list[str]()
    real = DecisionFile._lines

    def lines(file: DecisionFile, opened: BinaryIO, path: Path, end: int) -> list[bytes]:
        turns.append(path.name)
        ring.fill(1)
        return real(file, opened, path, end)

    with monkeypatch.context() as patch:
        patch.setattr(DecisionFile, "_lines", lines)
        assert list(ring.file.newest(99)) == known
        assert turns == ["decisions.jsonl", "decisions.older.jsonl", "decisions.held-1.jsonl"]
    assert list(ring.file.newest(99)) == ring.written


def test_equal_records_are_one(tmp_path: Path) -> None:
    file = decision_file(tmp_path)
    for record in (b'{"a":1}', b'{"b":2}', b'{"a":1}', b'{"c":3}'):
        file.append(record)
    assert file.newest(9) == (b'{"b":2}', b'{"a":1}', b'{"c":3}')
    assert [*pages(file, 1)] == [(b'{"c":3}',), (b'{"a":1}',), (b'{"b":2}',)]


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_refuses_between_the_steps_loses_nothing(
    ring: Ring, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.fill(2)
    calls = 0

    def refusing(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(errno.ENOSPC, "no space")
            real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    refusing("rename")
    refusing("replace")
    with pytest.raises(UnavailableError) as caught:
        ring.fill(1)
    assert caught.value.reason == "keeper-disk"
    assert ring.kept() == ring.written
    ring.fill(2)
    assert ring.kept() == ring.written


def test_what_is_set_aside_is_in_a_backup() -> None:
    for kind in ("decisions", "attested"):
        names = [f"keeper/{kind}.held-{number}.jsonl" for number in range(MOST_ASIDE + 2)]
        assert [section_of(name) for name in names] == [None, *[Section.RECORDS] * MOST_ASIDE, None]


def test_doctor_says_when_no_more_can_be_set_aside(tmp_path: Path) -> None:
    (tmp_path / "keeper").mkdir()
    assert held_facts(tmp_path) == ()
    ring = Ring(tmp_path / "keeper")
    ring.fill(MOST_ASIDE + 1)
    (fact,) = held_facts(tmp_path)
    assert fact.state is FactState.OK
    ring.fill(1)
    (fact,) = held_facts(tmp_path)
    assert fact.state is FactState.DEGRADED
    assert "overwritten" in fact.lost
