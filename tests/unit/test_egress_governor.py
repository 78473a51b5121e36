"""The governor reserves everywhere or nowhere, says what refused, stops at 100 %, and freezes what overspends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.errors import NotFoundError, UnavailableError, UsageError
from strongroom.egress import governor as module
from strongroom.egress.bits import Output, end_bits, verdict_bits
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import (
    BoundBrokenError,
    EgressFrozenError,
    Limit,
    LimitReachedError,
    MeterSupersededError,
    MirrorBehindError,
    OdometerRegressedError,
    OutputNotAllowedError,
    OverspentError,
)
from strongroom.egress.governor import Governor
from strongroom.egress.mirror import HOLD_SECONDS, Mirror
from strongroom.egress.odometer import BLOCK_SECONDS
from strongroom.egress.policy import EgressPolicy
from support.egress import ATLAS, BOREAS, LOTS, VERIFIED_BY, Log, governor, policy
from support.logs import AT

COST = 200 + end_bits(20)
"""Of twenty tokens."""


def refused(made: Governor, who: str = "dana", most: int = 20, now: int = AT) -> LimitReachedError:
    with pytest.raises(LimitReachedError) as caught:
        made.reserve(who, ATLAS, most, now)
    return caught.value


def test_what_an_answer_did_not_use_goes_back() -> None:
    made = governor()
    held = made.reserve("dana", ATLAS, 20, AT)
    assert held.bits == COST
    assert made.level(ATLAS, AT).day_left == 1000 - COST
    made.emit(held.number, 5, AT)
    settled = made.settle(held.number, AT)
    assert (settled.units, settled.bits, settled.refunded) == (5, 50 + end_bits(20), 150)
    level = made.level(ATLAS, AT)
    assert (level.day_left, level.settled, level.held, level.answers) == (1000 - settled.bits, settled.bits, 0, 0)


def test_a_refusal_names_the_limit_and_takes_nothing() -> None:
    made = governor(policy(principal_day_bits=COST))
    made.reserve("dana", ATLAS, 20, AT)
    error = refused(made)
    assert (error.limit, error.seen, error.wanted) == (Limit.PRINCIPAL_DAY, 0, COST)
    assert error.passes_at == AT + DAY
    assert error.reason == "egress-limit.principal-day"
    assert error.http_status == 429
    before = made.level(ATLAS, AT)
    refused(made)
    assert made.level(ATLAS, AT) == before
    made.reserve("eli", ATLAS, 20, AT)


@pytest.mark.parametrize(
    ("rules", "limit", "most"),
    [
        (policy(), Limit.MODEL_DAY, 40),
        (policy(fleet_day_bits=700), Limit.FLEET_DAY, 20),
        (policy(lifetime_permille=2), Limit.LIFETIME, 20),
    ],
)
def test_each_limit_is_a_hard_stop(rules: EgressPolicy, limit: Limit, most: int) -> None:
    made = governor(rules)
    for who in ("dana", "eli", "fay"):
        made.reserve(who, ATLAS, 20, AT)
    error = refused(made, "gil", most)
    assert error.limit is limit
    assert error.seen < error.wanted
    assert (error.passes_at is None) == (limit is Limit.LIFETIME)
    made.reserve("gil", ATLAS, 5, AT)


def test_an_answer_larger_than_a_day_never_passes_by_waiting() -> None:
    assert refused(governor(), most=100).passes_at is None


def test_marks_are_told_once_a_day() -> None:
    made = governor(policy(fleet_day_bits=10_000))
    first = made.reserve("dana", ATLAS, 40, AT)
    assert first.crossed == ()
    second = made.reserve("dana", ATLAS, 20, AT)
    (mark,) = second.crossed
    assert (mark.limit, mark.model, mark.permille, mark.of) == (Limit.MODEL_DAY, ATLAS, 500, 1000)
    assert mark.used == first.bits + second.bits
    made.settle(second.number, AT)
    assert made.reserve("dana", ATLAS, 20, AT + 1).crossed == ()
    assert [one.permille for one in made.reserve("dana", ATLAS, 20, AT + 2).crossed] == [800]


def test_marks_of_a_life_are_told_once() -> None:
    rules = policy(lifetime_permille=5)
    log = Log()
    made = Governor([log.served(rules, block=1000)], AT)
    told = []
    for _ in range(2):
        (block,) = made.wanted(AT)
        entry = log.mirror.advance(block, epoch=1, limit=rules.lifetime_bits, day=LOTS, now=AT)
        log.mirror = log.mirror.after(entry)
        told.append([(one.limit, one.permille, one.used, one.of) for one in made.mirrored(entry, AT)])
        if log.mirror.total < 2000:
            made.reserve("dana", ATLAS, 80, AT)
    assert told == [[(Limit.LIFETIME, 500, 1000, 2000)], [(Limit.LIFETIME, 800, 2000, 2000)]]
    # After a restart they stand in the log, and aren't told again.
    again = Governor([log.served(rules)], AT)
    (block,) = again.wanted(AT)
    assert again.mirrored(log.mirror.advance(block, epoch=1, limit=2000, day=LOTS, now=AT), AT) == ()


def test_nothing_leaves_before_the_log_vouches_for_it() -> None:
    log, rules = Log(), policy()
    made = Governor([log.served(rules)], AT)
    with pytest.raises(MirrorBehindError):
        made.reserve("dana", ATLAS, 20, AT)
    assert made.level(ATLAS, AT).day_left == 1000
    (block,) = made.wanted(AT)
    assert block.through == COST
    log.answer(made, block, limit=rules.lifetime_bits, now=AT)
    made.reserve("dana", ATLAS, 20, AT)


def test_the_log_hears_of_a_governor_every_hour() -> None:
    made = governor()
    assert made.wanted(AT) == ()
    assert len(made.wanted(AT + BLOCK_SECONDS // 2)) == 1
    with pytest.raises(MirrorBehindError):
        made.reserve("dana", ATLAS, 1, AT + BLOCK_SECONDS)


def test_more_than_reserved_freezes() -> None:
    made = governor()
    held = made.reserve("dana", ATLAS, 20, AT)
    made.emit(held.number, 20, AT)
    with pytest.raises(OverspentError):
        made.emit(held.number, 1, AT)
    with pytest.raises(EgressFrozenError, match="overspent"):
        made.reserve("dana", ATLAS, 1, AT)
    assert made.settle(held.number, AT).bits == COST


def test_nothing_of_an_answer_leaves_after_its_time() -> None:
    made = governor()
    held = made.reserve("dana", ATLAS, 20, AT)
    made.emit(held.number, 1, AT + HOLD_SECONDS - 1)
    with pytest.raises(OverspentError):
        made.emit(held.number, 1, AT + HOLD_SECONDS)
    assert made.settle(held.number, AT + HOLD_SECONDS).units == 1
    with pytest.raises(NotFoundError):
        made.emit(held.number, 1, AT)


def test_a_clock_that_goes_back_gives_no_answer_more_time() -> None:
    made = governor()
    held = made.reserve("dana", ATLAS, 20, AT)
    made.level(ATLAS, AT + HOLD_SECONDS)
    with pytest.raises(OverspentError):
        made.emit(held.number, 1, AT)


def test_a_freeze_stops_answers_under_way() -> None:
    made = governor()
    held = made.reserve("dana", ATLAS, 20, AT)
    made.freeze(ATLAS, "unexplained-bytes")
    made.freeze(ATLAS, "later")
    with pytest.raises(EgressFrozenError, match="unexplained-bytes"):
        made.emit(held.number, 1, AT)
    assert made.wanted(AT + BLOCK_SECONDS) == ()


def test_only_what_the_policy_names_may_leave() -> None:
    made = governor()
    with pytest.raises(OutputNotAllowedError):
        made.reserve("dana", ATLAS, 3, AT, output=Output.VALUES)
    allowed = governor(policy(outputs=(Output.VALUES,)))
    assert allowed.reserve("dana", ATLAS, 3, AT, output=Output.VALUES).bits == 96 + end_bits(3)


def test_verified_tokens_cost_their_residual() -> None:
    made = governor(policy(residual_millibits_per_token=75, verified_by=VERIFIED_BY))
    held = made.reserve("dana", ATLAS, 20, AT)
    assert held.bits == 200 + end_bits(20) + verdict_bits(20)
    made.emit(held.number, 20, AT)
    for wrong in (21, -1):
        with pytest.raises(UsageError):
            made.settle(held.number, AT, verified=wrong)
    settled = made.settle(held.number, AT, verified=20)
    assert (settled.bits, settled.verified) == (2 + end_bits(20) + verdict_bits(20), 20)
    with pytest.raises(NotFoundError):
        made.settle(held.number, AT, verified=20)


def test_the_log_is_told_what_was_verified() -> None:
    made = governor(policy(residual_millibits_per_token=75, verified_by=VERIFIED_BY))
    for verified in (20, 7, None):
        held = made.reserve("dana", ATLAS, 20, AT)
        made.emit(held.number, 20, AT)
        made.settle(held.number, AT, verified=verified)
    (block,) = made.wanted(AT + BLOCK_SECONDS)
    assert (block.tokens, block.verified) == (60, 27)
    assert block.settled == made.level(ATLAS, AT).settled


def test_what_a_replay_tells_is_charged_where_it_reproduced_nothing() -> None:
    made = governor(policy(residual_millibits_per_token=75, verified_by=VERIFIED_BY))
    held = [made.reserve("dana", ATLAS, 20, AT) for _ in range(2)]
    for one in held:
        made.emit(one.number, 20, AT)
    assert made.settle(held[0].number, AT, verified=0).bits == held[0].bits
    assert made.settle(held[1].number, AT).bits == held[1].bits - verdict_bits(20)


def test_a_policy_that_tightens_holds_at_once_and_refills_nothing() -> None:
    made = governor(policy(model_day_bits=1000, fleet_day_bits=1000, principal_day_bits=1000))
    spent, under_way = (made.reserve("dana", ATLAS, 30, AT) for _ in range(2))
    made.emit(spent.number, 30, AT)
    made.settle(spent.number, AT)
    tight = policy(model_day_bits=600, fleet_day_bits=700, principal_day_bits=500)
    made.adopt(tight, AT)
    # 600 of 614 bits are spent or held: nothing is left of 500 for this principal, and nearly nothing for all.
    with pytest.raises(LimitReachedError) as caught:
        made.reserve("dana", ATLAS, 1, AT)
    assert caught.value.reason.endswith(Limit.PRINCIPAL_DAY.value)
    level = made.level(ATLAS, AT)
    assert (level.day_left, level.fleet_left) == (0, 700 - 2 * spent.bits)
    # What wasn't used comes back, and no more than that.
    made.settle(under_way.number, AT)
    used = spent.bits + end_bits(30)
    assert made.level(ATLAS, AT).day_left == 600 - used
    made.adopt(policy(), AT)
    assert made.level(ATLAS, AT).day_left == 1000 - used


def test_an_answer_is_charged_under_the_policy_that_it_was_reserved_under() -> None:
    made = governor(policy(residual_millibits_per_token=75, verified_by=VERIFIED_BY))
    before = made.reserve("dana", ATLAS, 20, AT)
    made.adopt(policy(), AT)
    after = made.reserve("dana", ATLAS, 20, AT)
    for one in (before, after):
        made.emit(one.number, 20, AT)
    assert made.settle(before.number, AT, verified=20).bits == 2 + end_bits(20) + verdict_bits(20)
    with pytest.raises(UsageError):
        made.settle(after.number, AT, verified=20)


def test_what_cannot_be_served_under_is_not_adopted() -> None:
    made = governor()
    for wrong, error in (
        (policy(vocabulary=2048), UsageError),
        (policy(BOREAS), NotFoundError),
        (policy(min_days_to_steal=1000), BoundBrokenError),
    ):
        with pytest.raises(error):
            made.adopt(wrong, AT)


def test_nothing_is_verified_where_the_policy_names_nobody() -> None:
    made = governor(policy(residual_millibits_per_token=75))
    held = made.reserve("dana", ATLAS, 20, AT)
    made.emit(held.number, 20, AT)
    with pytest.raises(UsageError):
        made.settle(held.number, AT, verified=20)


def test_the_end_of_a_life_moves_with_the_log_s_next_entry() -> None:
    log, rules = Log(), policy(lifetime_permille=1)
    made = Governor([log.served(rules, block=400)], AT)
    (block,) = made.wanted(AT)
    log.answer(made, block, limit=rules.lifetime_bits, now=AT)
    assert refused(made, most=50).limit is Limit.LIFETIME
    # The next entry says what the policy says that is in force by then; marks are of the new life.
    (block,) = made.wanted(AT + BLOCK_SECONDS // 2)
    entry = log.mirror.advance(block, epoch=1, limit=900, day=LOTS, now=AT + BLOCK_SECONDS // 2)
    assert made.mirrored(entry, AT + BLOCK_SECONDS // 2) == ()
    log.mirror = log.mirror.after(entry)
    with pytest.raises(MirrorBehindError):
        made.reserve("dana", ATLAS, 50, AT + BLOCK_SECONDS // 2)
    (block,) = made.wanted(AT + BLOCK_SECONDS // 2)
    told = made.mirrored(
        log.mirror.advance(block, epoch=1, limit=900, day=LOTS, now=AT + BLOCK_SECONDS // 2), AT + BLOCK_SECONDS // 2
    )
    assert [(one.permille, one.of) for one in told] == [(500, 900), (800, 900)]


def test_a_restart_refills_nothing() -> None:
    log, rules = Log(), policy()
    first = Governor([log.served(rules)], AT)
    for most in (40, 40):
        with pytest.raises(MirrorBehindError):
            first.reserve("dana", ATLAS, most, AT)
        (block,) = first.wanted(AT)
        log.answer(first, block, limit=rules.lifetime_bits, now=AT)
        first.reserve("dana", ATLAS, most, AT)
    second = Governor([log.served(rules, AT + 60)], AT + 60)
    assert second.level(ATLAS, AT + 60).day_left == 1000 - log.mirror.total
    assert refused(second, "eli", 40, AT + 60).limit is Limit.PRINCIPAL_DAY
    assert log.mirror.recent(AT + DAY + BLOCK_SECONDS + HOLD_SECONDS) == 0


def test_an_older_governor_stops_when_a_newer_one_opened() -> None:
    log, rules = Log(), policy()
    older = Governor([log.served(rules)], AT)
    newer = Governor([log.served(rules)], AT)
    (block,) = older.wanted(AT)
    with pytest.raises(MeterSupersededError):
        log.mirror.advance(block, epoch=1, limit=rules.lifetime_bits, day=LOTS, now=AT)
    (block,) = newer.wanted(AT)
    entry = log.mirror.advance(block, epoch=1, limit=rules.lifetime_bits, day=LOTS, now=AT)
    with pytest.raises(MeterSupersededError):
        older.mirrored(entry, AT)
    with pytest.raises(EgressFrozenError, match="egress-superseded"):
        older.reserve("dana", ATLAS, 1, AT)


@pytest.mark.parametrize(("through", "total"), [(499, 499), (500, 499), (600, 599)])
def test_a_log_that_says_less_than_before_freezes(through: int, total: int) -> None:
    made, entry = governor(vouched=500), Mirror(ATLAS).open(epoch=1, limit=500, day=LOTS, seen=None, now=AT)
    with pytest.raises(OdometerRegressedError):
        made.mirrored(replace(entry, through=through, total=total), AT)
    with pytest.raises(EgressFrozenError, match="egress-odometer-regressed"):
        made.reserve("dana", ATLAS, 1, AT)


def test_the_pace_says_when_the_odometer_stops() -> None:
    made = governor(policy(lifetime_permille=10))
    assert made.level(ATLAS, AT).seconds_left is None
    held = made.reserve("dana", ATLAS, 20, AT)
    made.emit(held.number, 20, AT)
    made.settle(held.number, AT)
    level = made.level(ATLAS, AT + 1800)
    assert level.hour == COST
    assert level.life_left == 4000 - COST
    assert level.seconds_left == (4000 - COST) * 3600 // COST
    assert made.level(ATLAS, AT + 3660).hour == 0


def test_a_governor_refuses_what_has_no_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        Governor([], AT)
    with pytest.raises(UsageError):
        Governor([Log().served(policy()), Log().served(policy())], AT)
    with pytest.raises(UsageError):
        Governor([Log(BOREAS).served(policy())], AT)
    with pytest.raises(BoundBrokenError):
        Governor([Log().served(policy(model_day_bits=2000))], AT)
    made = governor()
    for most in (0, -1, 1 << 25):
        with pytest.raises(UsageError):
            made.reserve("dana", ATLAS, most, AT)
    with pytest.raises(NotFoundError):
        made.reserve("dana", BOREAS, 1, AT)
    monkeypatch.setattr(module, "MAX_HELD", 1)
    made.reserve("dana", ATLAS, 1, AT)
    with pytest.raises(UnavailableError):
        made.reserve("dana", ATLAS, 1, AT)


def test_the_principals_remembered_are_bounded_and_none_is_refilled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PRINCIPALS", 2)
    made = governor()
    made.settle(made.reserve("dana", ATLAS, 1, AT).number, AT)
    made.settle(made.reserve("eli", ATLAS, 1, AT).number, AT)
    with pytest.raises(UnavailableError):
        made.reserve("fay", ATLAS, 1, AT)
    # A full purse may be forgotten: making it anew gives nobody more.
    with pytest.raises(MirrorBehindError):
        made.reserve("fay", ATLAS, 1, AT + DAY)


def test_an_answer_ends_although_its_purse_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PRINCIPALS", 1)
    made = governor()
    long = made.reserve("dana", ATLAS, 1, AT)
    later = AT + HOLD_SECONDS - 1
    made.reserve("eli", ATLAS, 1, later)
    assert made.settle(long.number, later).bits == end_bits(1)
    assert made.level(ATLAS, later).answers == 1
