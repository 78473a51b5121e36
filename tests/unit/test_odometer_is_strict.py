"""The log's side believes no governor and no entry that doesn't follow; what it forgets stays counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.canonical import MAX_INTEGER
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import LimitReachedError, MeterSupersededError, OdometerRegressedError
from strongroom.egress.mirror import HOLD_SECONDS, Mirror
from strongroom.egress.odometer import BLOCK_SECONDS, Block, LocalRecord, Odometer
from support.egress import ATLAS, BOREAS, LOTS
from support.logs import AT

BLOCK = Block(model=ATLAS, run=1, through=100, settled=0, tokens=0, verified=0)


def opened(mirror: Mirror | None = None, now: int = AT) -> Mirror:
    mirror = mirror or Mirror(ATLAS)
    return mirror.after(mirror.open(epoch=1, limit=10_000, day=LOTS, seen=None, now=now))


def advanced(mirror: Mirror, through: int, *, now: int = AT, **settled: int) -> Mirror:
    block = replace(BLOCK, run=mirror.run, through=through, **settled)  # type: ignore[arg-type]  # its numbers
    return mirror.after(mirror.advance(block, epoch=1, limit=10_000, day=LOTS, now=now))


def test_a_governor_that_asks_for_more_than_there_is_gets_what_there_is() -> None:
    entry = opened().advance(replace(BLOCK, through=10**9), epoch=1, limit=70, day=LOTS, now=AT)
    assert (entry.through, entry.total) == (70, 70)
    spent = opened().after(entry)
    with pytest.raises(LimitReachedError):
        spent.advance(replace(BLOCK, through=71), epoch=1, limit=70, day=LOTS, now=AT)
    # It may still say that it is there, and what it settled.
    assert spent.advance(replace(BLOCK, through=70, settled=70), epoch=1, limit=70, day=LOTS, now=AT).total == 70
    assert spent.advance(replace(BLOCK, through=99), epoch=1, limit=MAX_INTEGER, day=LOTS, now=AT).total == 99


def test_asking_twice_is_counted_once() -> None:
    once = advanced(opened(), 100)
    assert advanced(once, 100).total == 100
    assert advanced(once, 60).total == 100


@pytest.mark.parametrize(
    ("block", "error"),
    [
        (replace(BLOCK, model=BOREAS), MeterSupersededError),
        (replace(BLOCK, run=0), MeterSupersededError),
        (replace(BLOCK, run=2), OdometerRegressedError),
        (replace(BLOCK, settled=101), OdometerRegressedError),
        (replace(BLOCK, settled=39), OdometerRegressedError),
        (replace(BLOCK, through=-1, settled=40), OdometerRegressedError),
        (replace(BLOCK, settled=40, tokens=7, verified=0), OdometerRegressedError),
        (replace(BLOCK, settled=40, tokens=9, verified=1), OdometerRegressedError),
        (replace(BLOCK, settled=40, tokens=9, verified=4), OdometerRegressedError),
    ],
)
def test_blocks_that_do_not_go_forwards_are_refused(block: Block, error: type[Exception]) -> None:
    mirror = advanced(advanced(opened(), 100), 100, settled=40, tokens=8, verified=2)
    with pytest.raises(error):
        mirror.advance(block, epoch=1, limit=10_000, day=LOTS, now=AT)


def test_a_log_that_knows_no_run_answers_none() -> None:
    with pytest.raises(OdometerRegressedError):
        Mirror(ATLAS).advance(BLOCK, epoch=1, limit=10_000, day=LOTS, now=AT)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": BOREAS},
        {"run": 0},
        {"run": 3},
        {"through": 99, "total": 99},
        {"total": 151},
        {"total": 149},
        {"settled": 101},
        {"at": AT - 1},
        {"recent": 149},
        {"run": 2, "through": 0, "total": 99},
        {"run": 2, "through": 1, "settled": 0, "total": 101},
        {"run": 2, "through": 0, "tokens": 1, "total": 100},
        {"verified": 1},
        {"tokens": 4, "verified": 5},
    ],
)
def test_entries_that_do_not_follow_are_refused(changes: dict[str, int]) -> None:
    mirror = advanced(opened(), 100)
    entry = mirror.advance(replace(BLOCK, through=150), epoch=1, limit=10_000, day=LOTS, now=AT)
    mirror.after(entry)
    if changes == {"run": 3}:
        # Runs may be skipped, where a log lost some; but a new one begins at nothing.
        mirror.after(replace(entry, run=3, through=0, settled=0, total=100))
    with pytest.raises(OdometerRegressedError):
        mirror.after(replace(entry, **changes))  # type: ignore[arg-type]


def test_a_local_record_heals_a_log_that_went_back() -> None:
    seen = LocalRecord(model=ATLAS, run=7, total=900)
    entry = advanced(opened(), 100).open(epoch=2, limit=10_000, day=LOTS, seen=seen, now=AT)
    assert (entry.run, entry.total, entry.epoch) == (8, 900, 2)
    older = LocalRecord(model=ATLAS, run=1, total=5)
    assert advanced(opened(), 100).open(epoch=1, limit=10_000, day=LOTS, seen=older, now=AT).total == 100
    with pytest.raises(UsageError):
        Mirror(BOREAS).open(epoch=1, limit=10_000, day=LOTS, seen=seen, now=AT)
    assert older.over(seen) == seen == seen.over(older) == seen.over(None)


def test_a_new_key_epoch_refunds_nothing() -> None:
    mirror = advanced(opened(), 100)
    assert mirror.after(mirror.open(epoch=9, limit=10_000, day=LOTS, seen=None, now=AT)).total == 100


def test_the_clock_of_the_log_never_goes_back() -> None:
    assert opened().open(epoch=1, limit=10_000, day=LOTS, seen=None, now=AT - 5000).at == AT


def test_a_dead_run_counts_as_recent_until_nothing_of_it_can_be_under_way() -> None:
    mirror = opened(advanced(opened(), 100))
    last = AT + DAY + BLOCK_SECONDS + HOLD_SECONDS
    assert mirror.recent(last - 1) == 100
    assert mirror.recent(last) == 0
    # And one entry later it is forgotten, while the total stays.
    later = opened(mirror, now=last)
    assert len(later._runs) == 1
    assert (later.total, later.run) == (100, 3)


def test_what_was_settled_before_the_last_day_is_no_longer_recent() -> None:
    mirror = advanced(opened(), 100)
    mirror = advanced(mirror, 200, settled=90, now=AT + 1000)
    mirror = advanced(mirror, 300, settled=150, now=AT + DAY)
    assert mirror.recent(AT + DAY) == 300
    assert mirror.recent(AT + DAY + 999) == 300
    assert mirror.recent(AT + DAY + 1000) == 300 - 90


def test_restarts_and_blocks_without_end_take_bounded_memory() -> None:
    mirror = opened()
    for number in range(1, 1200):
        mirror = advanced(mirror, number, settled=number - 1)
    assert len(mirror._runs[-1].points) <= 512
    assert mirror.recent(AT) == 1199
    busy = advanced(mirror, 1199, settled=1198, now=AT + 1)
    for second in range(600):
        busy = advanced(busy, 1199, settled=1198, now=AT + 2 + DAY + second)
    assert len(busy._runs[-1].points) <= 512
    assert busy.recent(AT + 700 + DAY) == 1
    for _ in range(1200):
        mirror = advanced(opened(mirror), 1)
    assert len(mirror._runs) <= 512
    assert mirror.recent(AT + DAY) >= 1200
    assert mirror.total == 1199 + 1200


def test_a_meter_settles_no_more_than_it_holds() -> None:
    mirror = opened()
    entry = mirror.open(epoch=1, limit=10_000, day=LOTS, seen=None, now=AT)
    meter = Odometer(entry, block_bits=100)
    meter.take(mirror.after(entry).advance(replace(BLOCK, run=2), epoch=1, limit=1000, day=LOTS, now=AT))
    meter.hold(50, AT)
    for held, charged in ((51, 0), (50, 51), (50, -1)):
        with pytest.raises(ValueError, match="settled more"):
            meter.settle(held, charged)
    meter.settle(50, 20)
    assert (meter.headroom, meter.settled) == (80, 20)


def test_blocks_are_read_back() -> None:
    told = BLOCK.to_json()
    assert isinstance(told, dict)
    with Fields(told, "block") as fields:
        assert Block.read(fields) == BLOCK
    for name in told:
        with pytest.raises(MalformedError), Fields({**told, name: -1}, "block") as fields:
            Block.read(fields)


def test_what_a_governor_remembered_and_the_log_did_not_counts_as_recent() -> None:
    seen = LocalRecord(model=ATLAS, run=7, total=900)
    mirror = advanced(opened(), 100)
    entry = mirror.open(epoch=1, limit=10_000, day=LOTS, seen=seen, now=AT)
    assert entry.recent == 900
    healed = mirror.after(entry)
    assert healed.recent(AT) == 900
    # And so it does for whoever opens after that.
    assert healed.open(epoch=1, limit=10_000, day=LOTS, seen=None, now=AT + DAY).recent == 900
    assert healed.recent(AT + DAY + BLOCK_SECONDS + HOLD_SECONDS) == 0


def test_the_end_of_a_life_is_where_the_newest_entry_says() -> None:
    mirror = opened()
    meter = Odometer(mirror.open(epoch=1, limit=10_000, day=LOTS, seen=None, now=AT), block_bits=100)
    mirror = mirror.after(mirror.open(epoch=1, limit=10_000, day=LOTS, seen=None, now=AT))
    meter.run = 2
    entry = mirror.advance(replace(BLOCK, run=2), epoch=1, limit=500, day=LOTS, now=AT)
    meter.take(entry)
    assert meter.limit == 500
    with pytest.raises(LimitReachedError):
        meter.hold(501, AT)
    # An entry that lets a model live beyond its end doesn't follow.
    with pytest.raises(OdometerRegressedError):
        mirror.after(replace(entry, limit=99))
