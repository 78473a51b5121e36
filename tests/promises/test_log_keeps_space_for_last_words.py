"""On a full disk releases end first; freezing and denying end last; and what was acknowledged never goes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from strongroom.access.request import Action
from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.errors import LogFullError, LogHaltedError
from strongroom.audit.replay import EntryChecks
from strongroom.audit.space import TAKES_AWAY
from strongroom.audit.verify import verify_log
from strongroom.audit.wiring import Places
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier
from support.logs import found_home, log_writer, sample_entry
from support.postgres import Cluster, programs
from support.room import Room
from support.small_disk import fill, small_disk

pytestmark = pytest.mark.integration


def append_until_refused(client: BlockingLogClient, event: EventName) -> tuple[int, str]:
    """Append until the log refuses; returns how many entries it took, and the code."""
    first = client.head().next_seq
    for seq in range(first, first + 20_000):
        try:
            client.append([sample_entry(event, seq)])
        except StrongroomError as error:
            return seq - first, error.code
    raise AssertionError("the disk never filled up")


def test_ordinary_entries_end_before_those_that_take_access_away(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mebibytes=16) as disk:
        home, key, genesis = found_home(disk / "home")
        with log_writer(home), BlockingLogClient(Places(home).socket) as client:
            assert not client.head().tight
            assert Places(home).reserve.stat().st_size == 1 << 20
            filler = fill(disk, leave=5 << 19)
            taken, code = append_until_refused(client, EventName.RELEASED)
            assert (taken > 10, code) == (True, LogFullError.code)
            head = client.head()
            assert (head.tight, head.halted, head.size) == (True, False, taken + 1)
            assert not Places(home).reserve.exists()
            last_words, code = append_until_refused(client, EventName.MODEL_FROZEN)
            assert (last_words > 5, code) == (True, LogHaltedError.code)
            for event in (EventName.MODEL_FROZEN, EventName.RELEASED):
                with pytest.raises(LogHaltedError):
                    client.append([sample_entry(event, client.head().next_seq)])
            size = client.head().size
            assert size == taken + last_words + 1
        filler.unlink()
        saved = tmp_path / "saved"
        shutil.copytree(home, saved, ignore=lambda _folder, names: [n for n in names if n.endswith((".sock", ".new"))])
    with log_writer(saved), BlockingLogClient(Places(saved).socket) as client:
        assert client.head().size >= size
        assert client.flush() == client.head().size
        client.append([sample_entry(EventName.RELEASED, client.head().next_seq)])
    checks = EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest)
    verify_log(FolderSource(Places(saved).public), key, entries=checks)


def test_others_who_fill_the_disk_dont_take_the_reserve(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mebibytes=16) as disk:
        home, _, _ = found_home(disk / "home")
        with log_writer(home), BlockingLogClient(Places(home).socket) as client:
            client.append([sample_entry(EventName.RELEASED, 0)])
            filler = fill(disk, leave=65_536)
            for seq in range(1, 20):
                client.append([sample_entry(EventName.PERSON_SUSPENDED, seq)])
            with pytest.raises(LogFullError):
                client.append([sample_entry(EventName.RELEASED, 20)])
        # Started on the full disk: what takes access away fits still.
        with log_writer(home), BlockingLogClient(Places(home).socket) as client:
            client.append([sample_entry(EventName.KEEPER_UNLOCKED, 20)])
            with pytest.raises(LogFullError):
                client.append([sample_entry(EventName.RELEASED, 21)])
            filler.unlink()
            asyncio.run(asyncio.sleep(0.05))
            client.append([sample_entry(EventName.RELEASED, 21)])
            assert Places(home).reserve.exists()
            assert not client.head().tight


def test_what_the_journal_owes_the_store_doesnt_take_the_reserve(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mebibytes=320) as disk:
        home, _, _ = found_home(disk / "home")
        journal = home / "log" / "log.db-wal"
        with log_writer(home), BlockingLogClient(Places(home).socket) as client:
            # Nearly as large as it grows, and of new pages alone: folding it in takes as much space again.
            seq = client.head().next_seq
            while journal.stat().st_size < 15 << 19:
                client.append([sample_entry(EventName.RELEASED, seq + n) for n in range(100)])
                seq += 100
            fill(disk, leave=10 << 20)
            for last in range(seq, seq + 800):
                client.append([sample_entry(EventName.MODEL_FROZEN, last)])
            assert not Places(home).reserve.exists()


@pytest.mark.heavy
def test_a_full_disk_of_the_database_halts_and_loses_nothing(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "disk", mebibytes=96) as disk:
        Path(name).chmod(0o711)  # the server runs as another user
        cluster = Cluster.create(disk)
        try:
            home, _, _ = found_home(tmp_path / "home")
            cluster.choose(home)
            with log_writer(home), BlockingLogClient(Places(home).socket) as client:
                filler = fill(disk, leave=1 << 20)
                taken, code = append_until_refused(client, EventName.RELEASED)
                assert code == LogHaltedError.code
                assert client.head().halted
                with pytest.raises(LogHaltedError):
                    client.append([sample_entry(EventName.RELEASED, taken)])
            filler.unlink()
            cluster.end()
            cluster.start()
            with log_writer(home), BlockingLogClient(Places(home).socket) as client:
                assert client.head().size >= taken + 1
                client.append([sample_entry(EventName.RELEASED, client.head().next_seq)])
        finally:
            cluster.remove()


def test_the_keeper_releases_nothing_and_still_freezes_while_space_is_short() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=9)
        freezing = await room.submit(Action.FREEZE)
        room.log.short_of_space = True
        await room.keeper.journal.look_for_space()
        size = len(room.log.entries)
        for _ in range(2):
            with pytest.raises(LogFullError):
                await room.keeper.release(await room.dossier(request, RecipientKey()))
        assert len(room.log.entries) == size
        assert not room.keeper.locked_because
        room.log.short_of_space = False
        await room.keeper.journal.look_for_space()
        # Nothing was counted for what was refused.
        await room.keeper.release(await room.dossier(request, RecipientKey()))
        assert room.keeper.journal.ledger.times_used(request.digest) == 1
        room.log.short_of_space = True
        await room.keeper.journal.look_for_space()
        await room.keeper.control(Dossier(request=freezing))
        assert room.log.last().event is EventName.MODEL_FROZEN

    asyncio.run(run())


def test_what_opens_access_is_never_taken_from_the_reserve() -> None:
    opens = {
        EventName.RELEASED,
        EventName.REDELIVERED,
        EventName.EXPORTED,
        EventName.GRANT_ISSUED,
        EventName.REQUEST_CREATED,
        EventName.REQUEST_APPROVED,
        EventName.DATA_KEY_CREATED,
        EventName.MODEL_RESUMED,
        EventName.PLATFORM_ENROLLED,
        EventName.LEASE_ATTESTED,
        EventName.ROSTER_ADOPTED,
        EventName.POLICY_ADOPTED,
    }
    assert not opens & TAKES_AWAY
