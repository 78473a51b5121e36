"""Whoever restores a log asks witnesses how far it was; just after a seam, what they know is the shard before."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.audit.note import Note
from strongroom.audit.witness import Submission
from strongroom.audit.witness_policy import WitnessPolicy
from strongroom.backup.adapters.witness_heads import ask_witnesses
from strongroom.backup.judgement import SeenHead
from strongroom.cli.main import main
from support.cosigners import witness as cosigner
from support.shards import ShardedLog
from support.witnesses import RunningWitness, make_witness, running_witness

pytestmark = pytest.mark.integration


def submitted(witness: RunningWitness, note: bytes) -> None:
    status, _kind, answer = witness.submit(Submission(old=0, proof=(), note=Note.parse(note)).to_bytes())
    assert status == 200, answer


def asked(witness: RunningWitness, log: ShardedLog) -> dict[str, SeenHead]:
    policy = f"{witness.policy()}quorum W\n"
    return ask_witnesses(WitnessPolicy.parse(policy.encode()), log.succession, None)


def test_at_a_seam_the_end_of_the_shard_before_counts(tmp_path: Path) -> None:
    log = ShardedLog().grow(5).turn().grow(3)
    first, second = (str(shard.verifier) for shard in log.succession.shards)
    folder = make_witness(tmp_path / "witness", first)
    (tmp_path / "second.pub").write_text(f"{second}\n")
    follow = ["audit", "witness", "follow", str(folder), "--key", str(tmp_path / "second.pub")]
    assert CliRunner().invoke(main, follow).exit_code == 0
    with running_witness(folder) as witness:
        assert asked(witness, log) == {}
        submitted(witness, log.note(1))
        assert asked(witness, log)["W"].size == log.succession.current.base
        assert asked(witness, log)["W"].root == log.checkpoint(1).root
        submitted(witness, log.note(2))
        assert (asked(witness, log)["W"].size, asked(witness, log)["W"].root) == (log.size, log.checkpoint(2).root)


def test_who_does_not_answer_or_did_not_sign_said_nothing(tmp_path: Path) -> None:
    log = ShardedLog().grow(5)
    (shard,) = log.succession.shards
    with running_witness(make_witness(tmp_path / "witness", str(shard.verifier))) as witness:
        submitted(witness, log.note(1))
        dead, stranger = (cosigner(number).key for number in (1, 2))
        policy = f"witness A {dead} http://127.0.0.1:1\nwitness B {stranger} {witness.url}\n"
        policy += f"witness C {witness.key} not-an-address\nquorum none\n"
        told = ask_witnesses(WitnessPolicy.parse(policy.encode()), log.succession, None)
    assert told == {}
