"""A vetting record is read strictly, ends by itself, and says outcomes only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import Employment, SuspensionCause
from strongroom.personnel.vetting import RESCREEN_SECONDS, Nda, Training, VettingRecord

AT: Instant = 1_795_000_000
DAY = 86400
RECORD = VettingRecord(
    genesis=Digest.of(b"genesis"),
    person=PersonId("dana"),
    serial=1,
    scheme="internal",
    tier=3,
    adjudicated_on=AT,
    expires_on=AT + 400 * DAY,
    rescreen_due=AT + 300 * DAY,
    employment=Employment.ACTIVE,
    training=(Training(course="weights-handling", expires=AT + DAY),),
    nda=Nda(version="2", signed_on=AT - DAY),
    conflict=None,
    case="C-17",
    salt=bytes(16),
)


def changed(**members: Json) -> bytes:
    body = decode(RECORD.to_bytes())
    assert isinstance(body, dict)
    return encode({**body, **members})


def test_a_record_comes_back() -> None:
    assert VettingRecord.parse(RECORD.to_bytes()) == RECORD
    bare = replace(RECORD, training=(), nda=None, conflict="CoI-3", case="")
    assert VettingRecord.parse(bare.to_bytes()) == bare


@pytest.mark.parametrize(
    "payload",
    [
        changed(v=2),
        changed(serial=0),
        changed(tier=6),
        changed(tier=-1),
        changed(tier="3"),
        changed(tier=True),
        changed(person="Dana"),
        changed(expires_on="never"),
        changed(expires_on="2026-01-01T00:00:00Z"),
        changed(rescreen_due="2026-01-01T00:00:00Z"),
        changed(employment="retired"),
        changed(scheme="by word of mouth"),
        changed(training=[{"course": "a", "expires": "2027-01-01T00:00:00Z"}] * 2),
        changed(training=[{"course": "a"}]),
        changed(nda={"version": "1"}),
        changed(nda=True),
        changed(conflict="a debt to somebody who is named here"),
        changed(case="he said that"),
        changed(salt="AAAA"),
        changed(found="a debt"),
        changed(note="findings don't belong here"),
        RECORD.to_bytes() + b" ",
        RECORD.to_bytes()[:-1],
    ],
)
def test_any_other_form_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        VettingRecord.parse(payload)


def test_a_clearance_ends_by_whichever_comes_first() -> None:
    assert RECORD.cleared_until == AT + 300 * DAY
    assert replace(RECORD, expires_on=AT + DAY).cleared_until == AT + DAY


def test_who_can_copy_is_screened_again_within_180_days() -> None:
    assert RECORD.copy_until == AT + RESCREEN_SECONDS == AT + 180 * DAY
    assert replace(RECORD, rescreen_due=AT + 90 * DAY).copy_until == AT + 90 * DAY


def test_a_course_lapses_by_itself_at_its_very_second() -> None:
    assert RECORD.courses(AT + DAY - 1) == {"weights-handling"}
    assert RECORD.courses(AT + DAY) == frozenset()


def test_everybody_who_is_not_at_work_loses_access_for_a_named_cause() -> None:
    causes = {standing: standing.cause for standing in Employment}
    assert causes == {
        Employment.ACTIVE: None,
        Employment.LEAVE: SuspensionCause.LEAVE,
        Employment.NOTICE: SuspensionCause.NOTICE,
        Employment.LEFT: SuspensionCause.LEFT,
    }
