"""Each caller has its own rate; a flood by one takes nothing from another, and the memory of them is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.buckets import MAX_BUCKETS, Buckets, Rate, share_of


def test_a_burst_is_served_and_then_the_rate() -> None:
    buckets = Buckets(Rate(per_second=2, burst=3))
    assert [buckets.wait("dana", 10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("dana", 10.4) > 0
    assert buckets.wait("dana", 10.5) == 0
    assert buckets.wait("dana", 10.5) > 0


def test_callers_do_not_share() -> None:
    buckets = Buckets(Rate(per_second=1, burst=1))
    assert buckets.wait("dana", 0.0) == 0
    assert buckets.wait("dana", 0.0) > 0
    assert buckets.wait("sam", 0.0) == 0


def test_being_refused_costs_nothing_more() -> None:
    buckets = Buckets(Rate(per_second=1, burst=1))
    buckets.wait("dana", 0.0)
    for tenth in range(10):
        buckets.wait("dana", tenth / 10)
    assert buckets.wait("dana", 1.0) == 0


def test_the_memory_is_bounded() -> None:
    buckets = Buckets(Rate())
    for number in range(MAX_BUCKETS + 100):
        buckets.wait(str(number), 0.0)
    assert len(buckets._levels) == MAX_BUCKETS


@given(st.lists(st.floats(min_value=0, max_value=5), max_size=60))
def test_no_more_than_burst_and_rate_allow(pauses: list[float]) -> None:
    buckets, now, served = Buckets(Rate(per_second=3, burst=5)), 0.0, 0
    for pause in pauses:
        now += pause
        served += buckets.wait("dana", now) == 0
    assert served <= 5 + 3 * now + 1e-6


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("/run/a.sock", "unknown"),
    ],
)
def test_whoever_has_a_network_of_ipv6_is_one_caller(address: str, counted: str) -> None:
    assert share_of(address) == counted
