"""Files of the keeper's own folder that were cut, swapped or filled up: nobody is cleared by them, nothing falls over.

Whoever can write there as the keeper's user has won below SL4; a disk that fails, or a backup put back by halves, does
the same without meaning to.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.ipc.frames import MAX_FRAME
from strongroom.keeper.adapters.files import RecordFolder
from strongroom.keeper.records import RecordTamperedError
from strongroom.release.decided import MAX_DECIDED, Decided
from support.kept_records import decision_file
from support.room import Room
from support.stories import refused

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


async def on_disk(folder: Path) -> Room:
    """Return a furnished room whose vetting records and decisions lie in real files."""
    room = Room()
    room.records = RecordFolder(folder)  # type: ignore[assignment]  # the real one
    room.decisions = decision_file(folder)  # type: ignore[assignment]  # the real one
    room.keeper = room.make_keeper()
    room.people = room.make_people()
    return await room.furnish()


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("people/*.record-*"))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.glob("people/*"))}


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "to nothing": lambda _data: b"",
    "to a byte": lambda data: data[:1],
    "within the nonce": lambda data: data[:7],
    "behind the nonce": lambda data: data[:12],
    "within the tag": lambda data: data[:20],
    "by one byte": lambda data: data[:-1],
    "by a byte too many": lambda data: data + b"\0",
    "in its nonce": lambda data: flipped(data, 0),
    "in its middle": lambda data: flipped(data, len(data) // 2),
    "at its end": lambda data: flipped(data, len(data) - 1),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_vetting_record_that_was_cut_or_changed_stops_the_start_by_name(cut: str, tmp_path: Path) -> None:
    async def story() -> None:
        room = await on_disk(tmp_path)
        path = records(tmp_path)[0]
        whole = path.read_bytes()
        path.write_bytes(CUTS[cut](whole))
        with pytest.raises(RecordTamperedError):
            await room.restart()
        path.write_bytes(whole)
        await room.restart()
        await room.release(await room.ask())

    asyncio.run(story())


def test_records_and_keys_swapped_between_people_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        room = await on_disk(tmp_path)
        one, two = records(tmp_path)[:2]
        whole = files(tmp_path)
        for suffixes in ((".record-1",), (".key",), (".record-1", ".key")):
            for suffix in suffixes:
                first, second = (path.with_suffix(suffix) for path in (one, two))
                first.write_bytes(whole[second])
                second.write_bytes(whole[first])
            with pytest.raises(StrongroomError):
                await room.restart()
            for path, data in whole.items():
                path.write_bytes(data)
        await room.restart()
        await room.release(await room.ask())

    asyncio.run(story())


def test_an_older_record_of_the_same_person_in_the_newer_one_s_place_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        room = await on_disk(tmp_path)
        before = {path: path.read_bytes() for path in records(tmp_path)}
        await room.vet("dana", tier=0)
        await room.vet("dana", tier=0)
        path = next(path for path in before if path.read_bytes() != before[path])
        # The first record, with tier 3, lies where the third one belongs: it is dana's, by her own key.
        path.write_bytes(before[path])
        with pytest.raises(RecordTamperedError):
            await room.restart()

    asyncio.run(story())


@pytest.mark.parametrize("key", [b"", b"{}", b"not json", b"\xff" * 100, b"[" * 5000])
def test_a_key_that_is_no_key_clears_nobody(key: bytes, tmp_path: Path) -> None:
    async def story() -> None:
        room = await on_disk(tmp_path)
        for path in files(tmp_path):
            if path.suffix == ".key":
                path.write_bytes(key)
        if key:
            with pytest.raises(MalformedError):
                await room.restart()
            return
        # What an erasure that met a crash leaves behind.
        await room.restart()
        await refused(room.release(await room.ask()), "requester-not-vetted")

    asyncio.run(story())


# --- kept decisions ---------------------------------------------------------------------------------------------------


def test_a_decision_that_was_changed_isn_t_the_one_that_the_log_names(tmp_path: Path) -> None:
    async def story() -> None:
        room = await on_disk(tmp_path)
        await room.release(await room.ask())
        named = room.log.last(EventName.RELEASED).digest("decision")
        kept = room.decisions.find(named)
        assert kept is not None
        assert Decided.parse(kept).allowed
        file = tmp_path / "decisions.jsonl"
        file.write_bytes(file.read_bytes().replace(b'"tier":3', b'"tier":5'))
        assert room.decisions.find(named) is None
        # It can still be read, and its digest tells everybody that the log never named it.
        (changed,) = (Digest.of(one) for one in room.decisions.newest(1))
        assert changed != named
        # A lost, changed or unreadable file of decisions stops no release.
        await room.restart()
        await room.release(await room.ask())

    asyncio.run(story())


def test_a_line_that_a_crash_cut_short_takes_no_other_along(tmp_path: Path) -> None:
    file, path = decision_file(tmp_path), tmp_path / "decisions.jsonl"
    first, torn, last = b'{"first":1}', b'{"torn":2}', b'{"last":3}'
    file.append(first)
    file.append(torn)
    path.write_bytes(path.read_bytes()[:-4])
    file.append(last)
    assert file.newest(9) == (first, torn[:-3], last)
    assert file.find(Digest.of(last)) == last
    assert file.find(Digest.of(torn)) is None


def test_a_huge_file_is_read_as_far_as_decisions_reach_and_no_further(tmp_path: Path) -> None:
    file, path = decision_file(tmp_path, most=1 << 20), tmp_path / "decisions.jsonl"
    path.write_bytes(b'{"before":1}\n')
    os.truncate(path, 64 << 30)  # a hole: it takes no room, and would take all memory to be read
    with path.open("ab") as more:
        more.write(b"\n" + b"x" * (MAX_DECIDED + 1) + b'\n{"after":2}\n')
    assert file.newest(9) == (b'{"after":2}',)
    file.append(b'{"new":3}')
    assert file.newest(9) == (b'{"after":2}', b'{"new":3}')
    file.forget(PersonId("dana"))
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 4 << 20
    assert file.newest(9) == (b'{"after":2}', b'{"new":3}')


def test_any_line_that_is_shown_fits_into_an_answer(tmp_path: Path) -> None:
    file, path = decision_file(tmp_path), tmp_path / "decisions.jsonl"
    path.write_bytes(b"x" * MAX_DECIDED + b"\n" + b"y" * (MAX_DECIDED + 1) + b"\n")
    (shown,) = file.newest(9)
    assert len(to_base64(shown)) < MAX_FRAME - 4096


def test_a_link_in_the_place_of_decisions_leads_nowhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"what lies there stays there\n")
    (tmp_path / "keeper").mkdir()
    (tmp_path / "keeper" / "decisions.jsonl").symlink_to(elsewhere)
    file = decision_file(tmp_path / "keeper")
    for act in (lambda: file.newest(1), lambda: file.find(Digest.of(b"")), lambda: file.append(b"{}")):
        with pytest.raises(UnavailableError):
            act()
    assert elsewhere.read_bytes() == b"what lies there stays there\n"
