"""Answers and drops advance one odometer: whatever comes in between, nothing is counted twice or too little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import StrongroomError
from strongroom.egress.errors import OdometerRegressedError
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import Odometer
from support.egress import ATLAS
from support.logs import AT

LIMIT = 100_000
DAY = 20_000
acts = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.just(0)),
        st.tuples(st.just("advance"), st.integers(1, 5000)),
        st.tuples(st.just("drop"), st.integers(1, 5000)),
    ),
    max_size=30,
)


@given(acts)
def test_the_total_is_the_sum_of_all_ways_out(story: list[tuple[str, int]]) -> None:
    mirror, governor, given_out, now = Mirror(ATLAS), None, 0, AT
    for act, bits in story:
        now += 60
        before = mirror.total
        if act == "drop":
            mirror = mirror.after_drop(bits, before + bits)
            given_out += bits
        elif act == "open":
            entry = mirror.open(epoch=1, limit=LIMIT, day=DAY, seen=None, now=now)
            mirror, governor = mirror.after(entry), Odometer(entry, block_bits=bits or 1)
            assert entry.total == before
        elif governor is not None:
            governor._need = bits + governor.headroom
            block = governor.wanted(now)
            if block is None:
                continue
            try:
                entry = mirror.advance(block, epoch=1, limit=LIMIT, day=DAY, now=now)
            except StrongroomError:
                # The life is used up, by drops that this governor never heard of, or blocks are too far ahead.
                assert mirror.total >= LIMIT or mirror.room(DAY, now) == 0
                continue
            mirror = mirror.after(entry)
            # A drop since its last block is no regress to the governor: it sees less of the model's life left.
            governor.take(entry)
            given_out += mirror.total - before
            assert governor.total == mirror.total
        assert mirror.total == given_out
        # A drop is in no run: what buckets begin with after a restart is what answers may have let out.
        assert mirror.recent(now) <= given_out


@given(st.integers(0, 1000), st.integers(-10, 1000), st.integers(-10, 3000))
def test_a_drop_that_doesnt_add_up_is_refused(before: int, bits: int, total: int) -> None:
    mirror = Mirror(ATLAS, total=before)
    if bits >= 1 and total == before + bits:
        assert mirror.after_drop(bits, total).total == total
        return
    with pytest.raises(OdometerRegressedError):
        mirror.after_drop(bits, total)
