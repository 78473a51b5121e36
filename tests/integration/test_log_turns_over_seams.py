"""The real log writer and keeper over seams: kept in order, published, verified, and gone on with after any kill."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.audit import wiring
from strongroom.audit.adapters.client import BlockingLogClient, LogClient
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.cosignature import CosignatureKind, CosignerKey
from strongroom.audit.errors import OutOfSequenceError
from strongroom.audit.facts import Fact
from strongroom.audit.note import VerifierKey
from strongroom.audit.protocol import Operation, read_hashes
from strongroom.audit.reading.growth import Place, grow, place_at
from strongroom.audit.reading.view import PublishedView
from strongroom.audit.succession import Prepared, Seam, Succession
from strongroom.audit.wiring import LogProcess, Places
from strongroom.audit.witness_policy import read_log_key
from strongroom.broker.adapters.log import SocketLog
from strongroom.cli.audit import audit
from strongroom.client.followed import FollowedLog
from strongroom.client.trust import check_continues
from strongroom.core.encoding import to_base64
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer
from support.clocks import FixedClock
from support.deployment import Deployment
from support.forked import Process
from support.logs import AT, KEEPER, found_home, log_writer, sample_facts
from support.turning import Hand, verified, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    home, _key, genesis = found_home(tmp_path / "home")
    return Hand(home, genesis)


def test_indexes_go_on_and_proofs_are_made_in_every_shard(hand: Hand) -> None:
    with log_writer(hand.home), hand.client() as client:
        for _ in range(2):
            hand.ordinary(client, 3)
            hand.turn(client)
        hand.ordinary(client, 2)
        head, known = client.head(), hand.followed(client)
        assert [shard.base for shard in known.shards] == [0, 5, 10]
        assert head.size == 13
        assert head.checkpoint is not None
        assert known.read(head.checkpoint).size == 13
        # An answer ends where a shard does.
        assert len(client.read(3, 256)) == 2
        assert len(client.read(10, 256)) == 3
        assert client.flush() == 13
        report = hand.verified()
        assert [one.checkpoint.size for one in report.reports] == [5, 5, 3]
        assert report.size == 13


def test_the_key_of_a_closed_shard_is_destroyed_and_the_log_starts_without_it(hand: Hand) -> None:
    places = Places(hand.home)
    with log_writer(hand.home), hand.client() as client:
        hand.ordinary(client)
        hand.turn(client)
        wait_until(lambda: not places.key_of(1).exists())
        assert places.key_of(2).exists()
    for _ in range(2):
        with log_writer(hand.home) as process, hand.client() as client:
            hand.ordinary(client)
            client.flush()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    report = hand.verified()
    assert report.size == 6
    # Nothing was published anew without the keys: the log's own cosignature is still there.
    assert (places.public / "checkpoint").read_bytes().count("\N{EM DASH}".encode()) == 2


def test_keys_that_were_held_back_over_several_seams_are_destroyed_in_the_end(hand: Hand) -> None:
    places = Places(hand.home)
    nobody = CosignerKey("nobody.example/w", CosignatureKind.ED25519, KEEPER.public_key.raw)
    # A witness that never answers: the ends of closed shards wait for it.
    places.witnesses.write_text(f"witness W {nobody} https://127.0.0.1:1\nquorum W\n")
    with log_writer(hand.home), hand.client() as client:
        for _ in range(3):
            hand.turn(client)
        client.flush()
        assert [places.key_of(number).exists() for number in (1, 2, 3, 4)] == [True] * 4
    places.witnesses.unlink()
    with log_writer(hand.home):
        wait_until(lambda: not any(places.key_of(number).exists() for number in (1, 2, 3)))
        assert places.key_of(4).exists()
    assert hand.verified().size == 7


def test_nothing_but_the_next_opening_follows_a_closed_shard(hand: Hand) -> None:
    with log_writer(hand.home), hand.client() as client:
        hand.ordinary(client)
        stranger = Ed25519Signer.from_seed(b"S" * 32).public_key
        prepared = client.prepare()
        with pytest.raises(OutOfSequenceError):
            client.append([hand.closing(client, Prepared(number=2, key=stranger, cosigner=prepared.cosigner))])
        closing = hand.closing(client, prepared)
        seq = client.head().next_seq
        after = hand.entry(seq + 1, EventName.REFUSED, sample_facts(EventName.REFUSED))
        with pytest.raises(OutOfSequenceError):
            client.append([closing, after])
        client.append([closing])
        for event, facts in ((EventName.REFUSED, sample_facts(EventName.REFUSED)),):
            with pytest.raises(OutOfSequenceError):
                client.append([hand.entry(seq + 1, event, facts)])
        client.append([hand.opening(client)])
        with pytest.raises(OutOfSequenceError):
            client.append([hand.opening(client)])


def test_an_opening_that_names_another_end_is_never_written(hand: Hand) -> None:
    with log_writer(hand.home), hand.client() as client:
        client.append([hand.closing(client, client.prepare())])
        opening = hand.followed(client).opening
        assert opening is not None
        facts = {**opening.facts(hand.genesis.digest), "base": 7}
        with pytest.raises(StrongroomError) as caught:
            client.append([hand.entry(client.head().next_seq, EventName.SHARD_CONTINUED, facts)])
        assert caught.value.reason == "log-halted"
    with log_writer(hand.home), hand.client() as client:
        client.append([hand.opening(client)])


def kill(process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(20)


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01])
def test_a_kill_at_any_place_of_a_seam_leaves_one_successor(hand: Hand, delay: float) -> None:
    with log_writer(hand.home) as process, hand.client() as client:
        hand.ordinary(client, 2)
        prepared = client.prepare()
        time.sleep(delay)
        kill(process)
    with log_writer(hand.home) as process, hand.client() as client:
        # The keys that were promised before are the ones that are there.
        assert client.prepare() == prepared
        client.append([hand.closing(client, prepared)])
        time.sleep(delay)
        kill(process)
    with log_writer(hand.home) as process, hand.client() as client:
        assert client.head().size == 4
        assert hand.followed(client).current.key == prepared.key
        client.append([hand.opening(client)])
        time.sleep(delay)
        kill(process)
    with log_writer(hand.home) as process, hand.client() as client:
        assert client.head().size == 5
        hand.ordinary(client)
        client.flush()
    assert hand.verified().size == 6


def test_an_end_that_names_another_place_is_never_written(hand: Hand) -> None:
    with log_writer(hand.home), hand.client() as client:
        prepared, head = client.prepare(), client.head()
        facts: dict[str, Fact] = {
            "next": prepared.number,
            "key": prepared.key,
            "cosigner": to_base64(prepared.cosigner),
            "base": head.size + 2,
        }
        with pytest.raises(StrongroomError) as caught:
            client.append([hand.entry(head.next_seq, EventName.SHARD_CLOSED, facts)])
        assert caught.value.reason == "log-halted"
    # Written, no reader could go on over it: the log writer neither.
    with log_writer(hand.home), hand.client() as client:
        hand.turn(client)
        assert client.flush() == 3
    assert hand.verified().size == 3


def test_the_next_keys_and_their_folders_are_durable_before_anybody_names_them(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = LogProcess(Places(hand.home), hand.genesis, FixedClock(AT))
    synced: list[Path] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    process.service.prepare_next()
    asyncio.run(process.close())
    place = Places(hand.home).key_of(2)
    assert {place.parent, place.parent.parent, hand.home / "log"} <= set(synced)


@pytest.mark.parametrize("error", [RuntimeError(), sqlite3.OperationalError("disk I/O error"), OSError(28, "full")])
def test_publishing_that_failed_in_whatever_way_is_tried_again(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # Ended by it, the log would end with it, and nobody could freeze a model.
    async def run() -> None:
        process = LogProcess(Places(hand.home), hand.genesis, FixedClock(AT))
        tries, again = list[int](), asyncio.Event()

        async def flush() -> int:
            tries.append(1)
            if len(tries) > 2:
                again.set()
            raise error

        monkeypatch.setattr(process.service, "flush", flush)
        monkeypatch.setattr(wiring, "PUBLISH_SECONDS", 0)
        publishing = asyncio.create_task(process.publish_always())
        done, _waiting = await asyncio.wait(
            [publishing, asyncio.create_task(again.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        assert publishing not in done
        publishing.cancel()
        await asyncio.wait([publishing])
        await process.close()

    asyncio.run(run())


def test_a_next_key_that_was_exchanged_is_refused(hand: Hand) -> None:
    with log_writer(hand.home), hand.client() as client:
        hand.turn(client)
    place = Places(hand.home).key_of(2)
    place.write_bytes(os.urandom(32))
    with pytest.raises(AssertionError, match="log-key-wrong"), log_writer(hand.home):
        pass
    place.unlink()
    with pytest.raises(AssertionError, match="shard 2 is gone"), log_writer(hand.home):
        pass


def test_a_deployment_runs_over_two_seams_and_replays_them(tmp_path: Path) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        public = deployment.home / "log" / "public"
        deployment.start("log")
        deployment.start("keeper", more=("--shard-entries", "16"))
        deployment.adopt_first()
        people = [one.id for one in deployment.roster.people]
        while not (public / "shards" / "3" / "checkpoint").exists():
            deployment.vet(people[0])
            time.sleep(0.05)
        deployment.call("status")
        for name in ("keeper", "log"):
            deployment.kill(name)
        deployment.start("log")
        deployment.start("keeper", more=("--shard-entries", "16"))
        size = deployment.call("status")["log"]
        assert deployment.stop("keeper") == 0
        assert deployment.stop("log") == 0
        report = verified(public, deployment.genesis)
        assert len(report.reports) >= 3
        assert isinstance(size, dict)
        assert report.size >= int(str(size["size"]))
        key = tmp_path / "log.key"
        key.write_text(f"{VerifierKey(deployment.genesis.log_origin, deployment.genesis.log_key)}\n")
        # Acts are judged over all shards: each follows from what was logged before it, wherever that stands.
        arguments = ["verify", "--log", str(public), "--key", str(key), "--genesis"]
        result = CliRunner().invoke(audit, [*arguments, str(deployment.home / "genesis.json"), "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["retrial"]["judged"] == report.size
        keys = [path.relative_to(deployment.home / "log") for path in (deployment.home / "log").rglob("log.key")]
        assert [str(key) for key in keys] == [f"shards/{len(report.reports)}/log.key"]


def test_the_broker_and_a_client_follow_the_seams(hand: Hand) -> None:
    async def heads() -> list[tuple[int, str]]:
        log = SocketLog(Places(hand.home).socket, hand.genesis)
        found = []
        try:
            for _ in range(3):
                found.append(await log.checkpoint())
                await asyncio.to_thread(turn_once)
            found.append(await log.checkpoint())
        finally:
            await log.close()
        return found

    def turn_once() -> None:
        with hand.client() as client:
            hand.ordinary(client, 2)
            hand.turn(client)

    with log_writer(hand.home), hand.client() as client:
        told = asyncio.run(heads())
        assert [size for size, _note in told] == [1, 5, 9, 13]
        asked: list[int] = []

        def fetch(first: int) -> tuple[Seam, ...]:
            asked.append(first)
            return client.seams(first)

        followed = FollowedLog(hand.genesis, fetch)
        before = followed.log_head(told[0][1].encode())
        assert not asked
        for size, note in told[1:]:
            head = followed.log_head(note.encode())
            assert head.size == size
            check_continues(before, head, followed.succession, client_proof(client))
            before = head
        # All that were closed by then came with the first answer.
        assert asked == [1]


def client_proof(client: BlockingLogClient) -> Callable[[int, int], tuple[bytes, ...]]:
    def prove(old: int, new: int) -> tuple[bytes, ...]:
        return client._ask(Operation.PROVE_CONSISTENCY, {"old": old, "new": new}, read_hashes)

    return prove


def test_a_reader_reads_searches_and_proves_over_seams(hand: Hand, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(audit, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    public, cursor = Places(hand.home).public, tmp_path / "cursor"
    read = ("--log", str(public), "--genesis", str(hand.home / "genesis.json"))
    key = tmp_path / "log.key"
    key.write_text(f"{VerifierKey(hand.genesis.log_origin, hand.genesis.log_key)}\n")
    with log_writer(hand.home), hand.client() as client:
        hand.ordinary(client, 3)
        client.flush()
        cursor.write_bytes(Place.start(hand.genesis.log_origin).to_bytes())
        for _ in range(2):
            hand.turn(client)
            hand.ordinary(client, 3)
        client.flush()
    told = [json.loads(line) for line in run("ls", *read, "--json").splitlines()]
    assert [one["index"] for one in told] == list(range(14))
    assert [one["index"] for one in told if one["event"] == "log:shard:closed"] == [4, 9]
    index = tmp_path / "index.db"
    found = run("search", *read, "--event", "log", "--json", "--index", str(index)).splitlines()
    assert [json.loads(line)["index"] for line in found] == [0, 4, 5, 9, 10]
    for place in (0, 4, 5, 13):
        shown = json.loads(run("show", str(place), *read, "--json"))
        assert shown["event"] == told[place]["event"]
    view = PublishedView(FolderSource(public), VerifierKey.parse(key.read_text().strip()), hand.genesis.keeper_key)
    head = view.head()
    taken = [place.size for place, _entries in grow(view, Place.parse(cursor.read_bytes()), head)]
    assert taken == [5, 10, 14]
    assert [place_at(view, head, size).size for size in range(15)] == list(range(15))
    # A proof is one of the shard that holds the entry.
    known = hand.verified().succession
    for place in (2, 7, 12):
        out = tmp_path / f"proof-{place}"
        run("proof", "make", str(place), "--log", str(public), "--key", str(key), "--out", str(out))
        policy = tmp_path / "policy"
        policy.write_text(f"log {known.holding(place).verifier}\nquorum none\n")
        proof = run("proof", "verify", str(out), "--entry", f"{out}.entry", "--policy", str(policy), "--json")
        assert json.loads(proof)["index"] == place - known.holding(place).base
    verified_by_cli = json.loads(
        run("verify", "--log", str(public), "--key", str(key), "--genesis", read[-1], "--tree-only", "--json")
    )
    assert (verified_by_cli["size"], len(verified_by_cli["shards"])) == (14, 3)
    assert verified_by_cli["own_cosignature"] is True


def test_what_is_pruned_goes_from_the_folder_and_stays_in_the_store(hand: Hand) -> None:
    places = Places(hand.home)
    first, second = (places.public / "tile" / "entries" / name for name in ("000", "001"))
    with log_writer(hand.home), hand.client() as client:
        for _ in range(2):
            seq = client.head().next_seq
            client.append([hand.entry(seq + n, EventName.REFUSED, sample_facts(EventName.REFUSED)) for n in range(300)])
        hand.turn(client)
        wait_until(lambda: not places.key_of(1).exists())
        facts: dict[str, Fact] = {"shard": 1, "minimum": 256}
        client.append([hand.entry(client.head().next_seq, EventName.SHARD_PRUNED, facts)])
        wait_until(lambda: not first.exists())
        assert second.exists()
    # It doesn't come back at a start, nor when the whole folder is written anew.
    for anew in (False, True):
        if anew:
            shutil.rmtree(places.public)
        with log_writer(hand.home), hand.client() as client:
            client.flush()
            assert client.seams(1)
            wait_until(lambda: second.exists() and not first.exists())
            assert len(client.read(0, 256)) > 0
            hand.ordinary(client)
            client.flush()
        assert hand.verified().pruned == {1: 256}


def test_the_commands_ask_the_processes_of_the_deployment(tmp_path: Path) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper")
        home = ["--home", str(deployment.home)]
        shown = [CliRunner().invoke(audit, ["shard", "next-key", *home]).output for _ in range(2)]
        assert shown[0] == shown[1]
        first, second = (read_log_key(line) for line in shown[0].splitlines())
        assert first.name == second.name == f"{deployment.genesis.log_origin}/2"
        # It began a moment ago; and nothing is closed that could be pruned.
        for arguments, reason in ((["close"], "log-shard-young"), (["prune", "1", "--below", "256"], "log-shard-open")):
            result = CliRunner().invoke(audit, ["shard", *arguments, *home])
            assert isinstance(result.exception, StrongroomError)
            assert result.exception.reason == reason


def test_several_who_ask_for_the_seams_at_once_are_each_told_every_seam_once(hand: Hand) -> None:
    async def asked() -> list[tuple[Seam, ...]]:
        clients = [await LogClient.connect(Places(hand.home).socket) for _ in range(4)]
        try:
            # Before anybody else asked: the log writer makes them now.
            first = await asyncio.gather(*(client.seams(1) for client in clients for _ in range(4)))
            return [*first, await clients[0].seams(1)]
        finally:
            for client in clients:
                await client.close()

    with log_writer(hand.home), hand.client() as client:
        for _ in range(3):
            hand.turn(client)
    # Started anew: nothing of the seams is remembered.
    with log_writer(hand.home):
        told = asyncio.run(asked())
    for seams in told:
        known = Succession.of(hand.genesis)
        for seam in seams:
            known = known.cross(seam, hand.genesis.keeper_key)
        assert known.current.number == 4
