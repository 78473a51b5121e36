"""Witnesses see a shard to its end before its key is destroyed, and go on with the next if they were told its key."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import CosignatureKind, CosignerKey
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.wiring import Places
from strongroom.audit.witness_policy import WitnessPolicy, check_note
from support.logs import found_home, log_writer
from support.turning import Hand, wait_until
from support.witnesses import make_witness, running_witness

pytestmark = pytest.mark.integration

RHYTHM = ("--witness-seconds", "0.2")


def size_of(path: Path) -> int:
    return Checkpoint.parse_text(Note.parse(path.read_bytes()).text).size if path.exists() else 0


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    home, _key, genesis = found_home(tmp_path / "home")
    return Hand(home, genesis)


def test_a_shard_is_cosigned_to_its_end_and_so_is_the_next(hand: Hand, tmp_path: Path) -> None:
    places = Places(hand.home)
    first = str(VerifierKey(hand.genesis.log_origin, hand.genesis.log_key))
    with log_writer(hand.home), hand.client() as client:
        prepared = client.prepare()
    origin = f"{hand.genesis.log_origin}/2"
    following = VerifierKey(origin, prepared.key)
    cosigner = CosignerKey(origin, CosignatureKind.ML_DSA_44, prepared.cosigner)
    folder = make_witness(tmp_path / "w", first)
    follow(folder, tmp_path, str(following), str(cosigner))
    ends = [places.public / name / "checkpoint.cosigned" for name in ("", "shards/2")]
    with running_witness(folder) as one:
        text = f"log {first}\n{one.policy()}quorum W\n"
        (hand.home / "log" / "witnesses.policy").write_text(text)
        with log_writer(hand.home, *RHYTHM), hand.client() as client:
            hand.ordinary(client, 3)
            hand.turn(client)
            hand.ordinary(client, 3)
            wait_until(lambda: [size_of(end) for end in ends] == [5, 4])
            wait_until(lambda: not places.key_of(1).exists())
            policy = WitnessPolicy.parse(text.encode())
            check_note(ends[1].read_bytes(), policy, now=int(time.time()), log=following)


def follow(folder: Path, place: Path, *keys: str) -> None:
    from click.testing import CliRunner  # noqa: PLC0415

    from strongroom.cli.audit import audit  # noqa: PLC0415

    (place / "keys").write_text("".join(f"{key}\n" for key in keys))
    result = CliRunner().invoke(audit, ["witness", "follow", str(folder), "--key", str(place / "keys")])
    assert result.exit_code == 0, result.output


def test_a_key_is_kept_until_the_witnesses_saw_the_end(hand: Hand, tmp_path: Path) -> None:
    places = Places(hand.home)
    folder = make_witness(tmp_path / "w", str(VerifierKey(hand.genesis.log_origin, hand.genesis.log_key)))
    with running_witness(folder) as one:
        (hand.home / "log" / "witnesses.policy").write_text(one.policy() + "quorum W\n")
        with log_writer(hand.home, *RHYTHM), hand.client() as client:
            hand.ordinary(client, 3)
            wait_until(lambda: size_of(places.public / "checkpoint.cosigned") == 4)
            one.process.kill()
            hand.turn(client)
            hand.ordinary(client, 3)
            time.sleep(1)
            assert places.key_of(1).exists()
            with running_witness(folder, port=one.port):
                # It doesn't follow the next shard, whose key nobody told it: the first one's end it still cosigns.
                wait_until(lambda: not places.key_of(1).exists())
            assert size_of(places.public / "checkpoint.cosigned") == 5
            assert not (places.public / "shards/2/checkpoint.cosigned").exists()


def test_a_log_that_went_back_over_a_seam_is_stopped(hand: Hand, tmp_path: Path) -> None:
    folder = make_witness(tmp_path / "w", str(VerifierKey(hand.genesis.log_origin, hand.genesis.log_key)))
    with running_witness(folder) as one:
        (hand.home / "log" / "witnesses.policy").write_text(one.policy() + "quorum W\n")
        with log_writer(hand.home, *RHYTHM) as process, hand.client() as client:
            hand.ordinary(client, 3)
            process.terminate()
            assert process.wait(20) == 0
        shutil.copytree(hand.home, tmp_path / "old")
        with log_writer(hand.home, *RHYTHM), hand.client() as client:
            hand.turn(client)
            wait_until(lambda: not Places(hand.home).key_of(1).exists())
        shutil.rmtree(hand.home)
        shutil.copytree(tmp_path / "old", hand.home)
        with pytest.raises(AssertionError, match="log-rolled-back"), log_writer(hand.home, *RHYTHM):
            pass
