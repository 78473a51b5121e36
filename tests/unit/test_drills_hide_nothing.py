"""Drills: a signed token for stand-ins alone, for a day at most, once; what isn't wholly a drill's is real."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import MalformedError
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.rules import Certainty as RuleCertainty
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.response.actions import ActionName, Command
from strongroom.response.drills import (
    DRILL_TYPE,
    MAX_DRILL,
    DrillRefusedError,
    DrillToken,
    keep_apart,
    measure,
    open_drill,
    planned_at_once,
    synthetic_event,
    tabletop,
    telling,
)
from strongroom.response.entries import Fact, Happened
from strongroom.response.subjects import Subject
from strongroom.response.wiring import playbook_called
from support.responses import GENESIS, MASTER, NOW, Record, alert, token

TOKEN = token("weight-exfiltration-suspected")
SIGNED = sign(DRILL_TYPE, TOKEN.to_bytes(), MASTER)
MASTERS = [MASTER.public_key]
REAL, STAND_IN = Subject.parse("model:atlas"), Subject.parse("model:shadow-atlas")


def test_a_drill_that_a_master_signed_is_opened() -> None:
    assert open_drill(SIGNED, MASTERS, genesis=GENESIS, now=NOW, used=frozenset()) == TOKEN


@pytest.mark.parametrize("now", [TOKEN.not_before - 1, TOKEN.expires, TOKEN.expires + 10**6])
def test_a_drill_out_of_its_time_is_refused(now: int) -> None:
    with pytest.raises(DrillRefusedError) as caught:
        open_drill(SIGNED, MASTERS, genesis=GENESIS, now=now, used=frozenset())
    assert caught.value.reason == "drill-expired"


def test_a_drill_is_held_once_and_here_and_signed() -> None:
    with pytest.raises(DrillRefusedError):
        open_drill(SIGNED, MASTERS, genesis=GENESIS, now=NOW, used=frozenset({SIGNED.digest}))
    with pytest.raises(DrillRefusedError):
        open_drill(SIGNED, MASTERS, genesis=SIGNED.digest, now=NOW, used=frozenset())
    for masters in ([], [Ed25519Signer.from_seed(b"\x01" * 32).public_key]):
        with pytest.raises(SignatureError):
            open_drill(SIGNED, masters, genesis=GENESIS, now=NOW, used=frozenset())
    with pytest.raises(SignatureError):
        open_drill(replace(SIGNED, kind="other"), MASTERS, genesis=GENESIS, now=NOW, used=frozenset())


@pytest.mark.parametrize(
    "wrong",
    [
        replace(TOKEN, subjects=(REAL,)),
        replace(TOKEN, subjects=(STAND_IN, REAL)),
        replace(TOKEN, subjects=()),
        replace(TOKEN, expires=TOKEN.not_before),
        replace(TOKEN, expires=TOKEN.not_before + MAX_DRILL + 1),
        replace(TOKEN, nonce=b"short"),
    ],
)
def test_a_drill_is_for_stand_ins_and_for_a_day(wrong: DrillToken) -> None:
    with pytest.raises(MalformedError):
        DrillToken.parse(wrong.to_bytes())


def test_the_synthetic_event_is_found_by_the_real_rules() -> None:
    event = read_event({**synthetic_event(TOKEN, SIGNED.digest), "path": "/w/shadow.floe", "kind": "shard"})
    hits = Engine(shipped_pack(), regex=linear_regex).observe(event, NOW)
    assert any(hit.about.certainty is RuleCertainty.SURE and hit.about.playbook == TOKEN.playbook for hit in hits), hits
    assert event["drill"] == str(SIGNED.digest)


def test_no_command_crosses_between_a_drill_and_the_real_thing() -> None:
    real = Command(key="k", action=ActionName.FREEZE_RELEASES, subject=REAL)
    shadow = replace(real, subject=STAND_IN)
    keep_apart(real, None)
    keep_apart(shadow, TOKEN)
    for command, held in ((real, TOKEN), (shadow, None), (replace(real, subject=Subject.parse("host:w1")), TOKEN)):
        with pytest.raises(DrillRefusedError):
            keep_apart(command, held)


def drilled(*verified: ActionName, start: int = 200) -> Record:
    made = Record.of(alert("model:shadow-atlas", drill=SIGNED.digest))
    for micros, name in enumerate(verified, start=start):
        named: dict[str, Fact] = {"action": name.value, "subject": str(STAND_IN), "key": name.value}
        made.add(Happened.ACTION_PROPOSED, named)
        made.add(Happened.ACTION_DONE, {**named, "micros": 1})
        made.add(Happened.ACTION_VERIFIED, {**named, "answer": "x", "micros": micros})
    return made


def test_what_was_missed_is_said() -> None:
    planned = planned_at_once(playbook_called("weight-exfiltration-suspected"))
    assert planned[:2] == (ActionName.FREEZE_RELEASES, ActionName.ZERO_EGRESS)
    made = drilled(*planned)
    made.add(Happened.ROLE_TAKEN, {"role": "commander"}, "person:dana", NOW + 240)
    found = measure(made.entries, planned)
    assert (found.detect_micros, found.acknowledge_seconds, found.contain_micros) == (90, 240, 201)
    assert (found.missed, found.late) == ((), ())
    half = measure(drilled(*planned[1:]).entries, planned)
    # What stops bytes wasn't all there: it was never contained, however fast the rest was.
    assert (half.acknowledge_seconds, half.contain_micros) == (None, None)
    assert half.missed == planned[:1]
    assert json.loads(json.dumps(half.to_json()))["missed"] == ["freeze-releases"]


def test_a_few_entries_of_a_record_measure_the_same_as_all_of_it() -> None:
    planned = planned_at_once(playbook_called("weight-exfiltration-suspected"))
    made = drilled(*planned)
    for name in planned[:2]:
        named: dict[str, Fact] = {"action": name.value, "subject": str(STAND_IN), "key": f"again-{name.value}"}
        made.add(Happened.ACTION_PROPOSED, named)
        made.add(Happened.ACTION_DONE, {**named, "micros": 1})
        made.add(Happened.ACTION_VERIFIED, {**named, "answer": "x", "micros": 9000})
    for at in (NOW + 240, NOW + 120, NOW + 300):
        made.add(Happened.ROLE_TAKEN, {"role": "commander"}, "person:dana", at)
        for number in range(50):
            made.add(Happened.NOTE_ADDED, {"note": str(Digest.of(b"%d" % (at + number)))}, "person:dana", at)
        few = telling(made.entries)
        assert measure(few, planned) == measure(made.entries, planned)
        assert len(few) == len(planned) + 2
        assert [one.seq for one in few] == sorted({one.seq for one in few})
    assert telling([]) == ()


def test_what_came_late_is_said() -> None:
    names = (ActionName.FREEZE_RELEASES, ActionName.NOTIFY)
    found = measure(drilled(*names, start=5001).entries, names)
    assert (found.contain_micros, found.late) == (5001, names[:1])


def test_a_tabletop_reads_out_its_cards_in_time() -> None:
    cards = tabletop(playbook_called("insider"), pace=10)
    assert [card.minute for card in cards] == [10 * i for i in range(len(cards))]
    assert len(cards) >= 4
    # As people would come to them: what is done where nothing else helped is read out last.
    assert (cards[0].asks, cards[-1].asks) == ("What are the grounds?", "Take over by hand")
