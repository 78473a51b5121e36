"""A confidential guest's event log counts when its replay gives the quoted RTMRs, and not otherwise."""

from __future__ import annotations

from hashlib import sha384

import pytest

from simulators.intel_chain import intel_chain
from strongroom.attestation.errors import EventLogMismatchError
from strongroom.attestation.tdx.ccel import replay_rtmrs, require_replay
from strongroom.attestation.tdx.quote import parse_td_quote
from strongroom.attestation.tpm.event_log import EV_NO_ACTION, Event, EventLog
from strongroom.core.errors import MalformedError
from strongroom.tpm import wire

SEPARATOR = 4


def log(*lines: tuple[int, bytes], kind: int = SEPARATOR, bank: int = wire.ALG_SHA384) -> EventLog:
    events = tuple(Event(register, kind, {bank: digest}, b"") for register, digest in lines)
    return EventLog(banks=frozenset({bank}), events=events, locality=0)


def extended(*digests: bytes) -> bytes:
    value = bytes(48)
    for digest in digests:
        value = sha384(value + digest).digest()
    return value


ONE, TWO = sha384(b"one").digest(), sha384(b"two").digest()
LINES = ((1, ONE), (2, ONE), (1, TWO), (3, TWO))


def test_registers_one_to_four_of_the_log_are_rtmr0_to_rtmr3() -> None:
    assert replay_rtmrs(log(*LINES)) == (extended(ONE, TWO), extended(ONE), extended(TWO), bytes(48))
    assert replay_rtmrs(log((4, ONE))) == (bytes(48), bytes(48), bytes(48), extended(ONE))


def test_a_log_that_replays_is_taken_and_any_other_is_refused() -> None:
    fields = {"rtmr0": extended(ONE, TWO), "rtmr1": extended(ONE), "rtmr2": extended(TWO)}
    report = parse_td_quote(intel_chain().td_quote(**fields)).body  # type: ignore[arg-type]  # fields alone
    require_replay(log(*LINES), report, (0, 1, 2))
    for number, other in ((0, LINES[:2]), (0, ((1, TWO), (1, ONE))), (1, (*LINES, (2, TWO))), (2, LINES[:3])):
        with pytest.raises(EventLogMismatchError, match=f"RTMR{number}"):
            require_replay(log(*other), report, (number,))
    # The system extends RTMR3 after the log ended.
    with pytest.raises(EventLogMismatchError, match="RTMR3"):
        require_replay(log(*LINES), report, range(4))


def test_a_log_of_other_registers_or_of_another_bank_is_refused() -> None:
    for register in (0, 5, 23):
        with pytest.raises(MalformedError, match="RTMR"):
            replay_rtmrs(log((register, ONE)))
    with pytest.raises(MalformedError):
        replay_rtmrs(log((1, ONE[:32]), bank=wire.ALG_SHA256))


def test_what_only_describes_extends_nothing() -> None:
    assert replay_rtmrs(log((0, ONE), (9, ONE), kind=EV_NO_ACTION)) == (bytes(48),) * 4
