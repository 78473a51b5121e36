"""A gate's settings and record: what is refused, what is compared, and what a restart costs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core import canonical
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.enclave.gate.errors import GateSpentError, GateTamperedError
from strongroom.enclave.gate.record import GateRecord, not_back
from strongroom.enclave.gate.rules import Quotas, Reading, open_rules, read_back, read_shut, shut_rules
from strongroom.enclave.gate.settings import GateSettings
from strongroom.enclave.gate.wiring import read_settings
from support.gates import settings

MADE = settings("t")
QUOTAS = Quotas(through_out=1000, through_in=1000, used_out=10, used_in=20)


def _listed(loaded: canonical.Json) -> canonical.Json:
    """Return what the kernel lists after a transaction: its objects, with handles and counters."""
    assert isinstance(loaded, dict)
    commands = loaded["nftables"]
    assert isinstance(commands, list)
    added = [one["add"] for one in commands if isinstance(one, dict) and "add" in one]
    objects = json.loads(json.dumps(added))
    for number, item in enumerate(objects):
        ((kind, body),) = item.items()
        body["handle"] = number
        if kind == "counter":
            body.update(packets=3, bytes=90)
    return {"nftables": [{"metainfo": {"version": "1"}}, *objects]}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", "Upper"),
        ("name", ""),
        ("name", "a" * 17),
        ("enclave", "../etc"),
        ("enclave", "-n"),
        ("world", "sg-t-e"),
        ("inner", "169.254.77.0/29"),
        ("inner", "169.254.77.1/30"),
        ("inner", "169.254.78.0/30"),
        ("inner", "fe80::/126"),
        ("peers", []),
        ("peers", [{"address": "10.0.0.1", "transport": "tcp", "port": 1}] * 2),
        ("peers", [{"address": "example", "transport": "tcp", "port": 1}]),
        ("peers", [{"address": "224.0.0.1", "transport": "udp", "port": 1}]),
        ("peers", [{"address": "10.0.0.1", "transport": "icmp", "port": 1}]),
        ("peers", [{"address": "10.0.0.1", "transport": "tcp", "port": 0}]),
        ("bytes_out", 0),
        ("bytes_out", True),
        ("block_bytes", 1),
        ("connections", 0),
        ("more", 1),
    ],
)
def test_other_settings_are_refused(member: str, value: object) -> None:
    changed = {**MADE.to_json(), member: value}
    with pytest.raises(MalformedError):
        read_settings(json.dumps(changed).encode())


def test_settings_read_back_what_they_write() -> None:
    with Fields(MADE.to_json(), "gate") as fields:
        assert GateSettings.read(fields) == MADE


@given(st.binary(max_size=400))
def test_any_bytes_are_settings_or_an_error(data: bytes) -> None:
    try:
        read_settings(data)
    except StrongroomError:
        return
    raise AssertionError("no gate is made of chance")


def test_what_was_loaded_reads_back() -> None:
    reading = read_back(_listed(open_rules(MADE, QUOTAS)), MADE)
    assert (reading.out, reading.back, reading.limit_out, reading.limit_in) == (10, 20, 1000, 1000)
    assert (reading.passed, reading.refused) == (3, 3)
    read_shut(_listed(shut_rules()))


@given(st.data())
def test_a_listing_with_any_object_gone_doubled_or_moved_is_refused(data: st.DataObject) -> None:
    listing = _listed(open_rules(MADE, QUOTAS))
    assert isinstance(listing, dict)
    items = listing["nftables"]
    assert isinstance(items, list)
    at = data.draw(st.integers(1, len(items) - 1))
    changed = [*items]
    match data.draw(st.sampled_from(["gone", "doubled", "altered"])):
        case "gone":
            del changed[at]
        case "doubled":
            changed.insert(at, items[at])
        case _:
            text = json.dumps(items[at])
            changed[at] = json.loads(text.replace("strongroom", "elsewhere", 1))
    with pytest.raises(GateTamperedError):
        read_back({"nftables": changed}, MADE)


def test_rules_of_a_chain_in_another_order_are_refused() -> None:
    listing = _listed(open_rules(MADE, QUOTAS))
    assert isinstance(listing, dict)
    items = listing["nftables"]
    assert isinstance(items, list)
    rules = [at for at, one in enumerate(items) if isinstance(one, dict) and "outwards" in json.dumps(one.get("rule"))]
    items[rules[-1]], items[rules[-2]] = items[rules[-2]], items[rules[-1]]
    with pytest.raises(GateTamperedError):
        read_back(listing, MADE)


def test_an_open_listing_isnt_a_shut_one_nor_the_other_way_round() -> None:
    with pytest.raises(GateTamperedError):
        read_shut(_listed(open_rules(MADE, QUOTAS)))
    with pytest.raises(GateTamperedError):
        read_back(_listed(shut_rules()), MADE)


@given(st.lists(st.integers(0, 300_000), max_size=30))
def test_the_record_is_never_behind_the_kernel_and_never_beyond_the_life(sent: list[int]) -> None:
    record, used, quotas = GateRecord(settings=MADE.digest), 0, None
    try:
        for wanted in sent:
            if quotas is None or wanted % 7 == 0:
                # A restart: the kernel begins with what the record says.
                record, quotas = record.opened(MADE)
                used = quotas.used_out
            used = min(used + wanted, quotas.through_out)
            assert used <= record.through_out <= MADE.bytes_out
            now = Reading(
                out=used,
                back=0,
                limit_out=record.through_out,
                limit_in=record.through_in,
                passed=0,
                refused=0,
            )
            further = record.ahead(MADE, now)
            if further is not None:
                record, quotas = further
    except GateSpentError:
        assert MADE.bytes_out in (record.through_out, record.through_in)


def test_a_watch_that_was_killed_between_record_and_kernel_goes_on_and_higher_limits_shut() -> None:
    before, quotas = GateRecord(settings=MADE.digest).opened(MADE)
    now = Reading(
        out=quotas.through_out - 10,
        back=0,
        limit_out=quotas.through_out,
        limit_in=quotas.through_in,
        passed=0,
        refused=0,
    )
    further = before.ahead(MADE, now)
    assert further is not None
    written, _never_loaded = further
    again = written.ahead(MADE, now)
    assert again is not None
    # The kernel is told what stands in the record, and keeps what it counted.
    assert again[0] == written
    assert (again[1].through_out, again[1].used_out) == (written.through_out, now.out)
    for changes in ({"limit_out": quotas.through_out + 1}, {"limit_in": quotas.through_in + 1}, {"limit_out": 0}):
        with pytest.raises(GateTamperedError):
            before.ahead(MADE, replace(now, **changes))


@pytest.mark.parametrize("member", ["out", "back", "passed", "refused"])
def test_a_counter_that_went_back_is_refused(member: str) -> None:
    before = {"out": 5, "back": 5, "passed": 5, "refused": 5, "limit_out": 9, "limit_in": 9}
    with pytest.raises(GateTamperedError):
        not_back(Reading(**before), Reading(**{**before, member: 4}))
