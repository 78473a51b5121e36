"""Whatever the seams: a head proves every earlier one, and nothing that was changed at a seam is proven."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import ForkError, MissingRowsError
from strongroom.audit.merkle import EMPTY_ROOT
from strongroom.audit.succession import Seam, Succession
from strongroom.core.encoding import to_base64
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import reading
from strongroom.core.signature import Ed25519Signer
from support.logs import GENESIS, KEEPER
from support.shards import ShardedLog, signer_of

GROWN = st.lists(st.integers(0, 7), min_size=1, max_size=4)


def grown(counts: list[int]) -> ShardedLog:
    log = ShardedLog().grow(counts[0])
    for count in counts[1:]:
        log.turn().grow(count)
    return log


def followed(log: ShardedLog) -> Succession:
    known = Succession.of(GENESIS)
    for number in range(1, len(log.shards)):
        known = known.cross(log.seam(number), KEEPER.public_key)
    return known


@given(GROWN)
def test_a_reader_who_follows_the_seams_knows_every_shard(counts: list[int]) -> None:
    log = grown(counts)
    known = followed(log)
    assert known == log.succession
    for shard, entries in zip(known.shards, log.shards, strict=True):
        assert known.read(log.note(shard.number)).size == shard.base + len(entries)


@given(GROWN, st.data())
def test_every_head_proves_every_earlier_one(counts: list[int], data: st.DataObject) -> None:
    log = grown(counts)
    new = data.draw(st.integers(1, log.size))
    old = data.draw(st.integers(1, new))
    before, after = log.head(old), log.head(new)
    known = log.succession
    known.require_extends(after, size=old, root=before.root, prove=log.prove)
    with pytest.raises(ForkError):
        known.require_extends(after, size=old, root=b"\xff" * 32, prove=log.prove)
    if old < new:
        with pytest.raises(MissingRowsError):
            known.require_extends(before, size=new, root=after.root, prove=log.prove)


@given(GROWN)
def test_nothing_precedes_every_head_under_one_root(counts: list[int]) -> None:
    log = grown(counts)
    head = log.head(log.size)
    log.succession.require_extends(head, size=0, root=EMPTY_ROOT, prove=log.prove)
    with pytest.raises(ForkError):
        log.succession.require_extends(head, size=0, root=b"\0" * 32, prove=log.prove)


@given(GROWN, st.data())
def test_a_seam_that_was_touched_anywhere_is_refused(counts: list[int], data: st.DataObject) -> None:
    log = grown([*counts, 1])
    number = data.draw(st.integers(1, len(log.shards) - 1))
    known = Succession(log.succession.shards[:number], log.succession.finals[: number - 1])
    seam = log.seam(number)
    part = data.draw(st.sampled_from(["checkpoint", "entry", "proof"]))
    if part == "proof":
        bad = replace(seam, proof=(*seam.proof[:-1], b"\xee" * 32) if seam.proof else (b"\xee" * 32,))
    else:
        whole = getattr(seam, part)
        # Behind the text of a note stand the log's signature alone, so every byte of it counts.
        at = data.draw(st.integers(0, len(whole) - 2))
        bad = replace(seam, **{part: whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]})
    with pytest.raises(StrongroomError):
        known.cross(bad, KEEPER.public_key)


@pytest.mark.parametrize(
    "closing",
    [
        {"next": 3},
        {"next": 1},
        {"base": 5},
        {"base": 7},
        {"key": signer_of(1).public_key},
    ],
)
def test_a_closing_entry_that_names_another_successor_is_refused(closing: dict[str, object]) -> None:
    log = ShardedLog().grow(4)
    log.turn(closing=closing)  # type: ignore[arg-type]
    with pytest.raises(StrongroomError) as caught:
        Succession.of(GENESIS).cross(log.seam(1), KEEPER.public_key)
    assert caught.value.reason == "log-succession-broken"


def test_a_thief_of_the_log_key_opens_no_successor() -> None:
    thief = Ed25519Signer.from_seed(b"T" * 32)
    log = ShardedLog().grow(4)
    log.turn(by=thief, closing={"key": thief.public_key})
    # The old log key signed the tree, so the entry is in it; but the keeper's signature is the thief's own.
    with pytest.raises(StrongroomError) as caught:
        Succession.of(GENESIS).cross(log.seam(1), KEEPER.public_key)
    assert caught.value.reason == "log-entry-forged"


def test_an_entry_that_is_not_the_last_closes_nothing() -> None:
    log = ShardedLog().grow(4).turn()
    seam = log.seam(1)
    log.shards[0].append(log.shards[0][2])
    longer = replace(seam, checkpoint=log.note(1))
    with pytest.raises(StrongroomError) as caught:
        Succession.of(GENESIS).cross(longer, KEEPER.public_key)
    assert caught.value.reason == "log-succession-broken"


def test_a_closed_shard_that_goes_on_is_a_fork() -> None:
    log = ShardedLog().grow(4).turn()
    known = followed(log)
    longer = Checkpoint(GENESIS.log_origin, 9, b"\x07" * 32).sign(signer_of(1))
    other = Checkpoint(GENESIS.log_origin, len(log.shards[0]), b"\x07" * 32).sign(signer_of(1))
    for note in (longer, other):
        with pytest.raises(ForkError):
            known.read(note)
    with pytest.raises(StrongroomError) as caught:
        known.read(Checkpoint(f"{GENESIS.log_origin}/2", 1, b"\x07" * 32).sign(signer_of(1)))
    assert caught.value.reason == "log-key-wrong"


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.binary(max_size=40), max_size=4))
def test_any_seam_is_read_or_refused(checkpoint: bytes, entry: bytes, proof: list[bytes]) -> None:
    value = {
        "checkpoint": to_base64(checkpoint),
        "entry": to_base64(entry),
        "proof": [to_base64(one) for one in proof],
    }
    try:
        with reading(value, "seam") as fields:  # type: ignore[arg-type]
            seam = Seam.read(fields)
        Succession.of(GENESIS).cross(seam, KEEPER.public_key)
    except StrongroomError:
        return
    pytest.fail("a seam of any bytes was taken")
