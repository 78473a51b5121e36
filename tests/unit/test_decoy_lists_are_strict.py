"""The responder's list of decoys, its record, its limits and what its guard says: each in one form, or refused."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.core.signature import SignatureError
from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.responder.adapters.record_file import RecordFile, RecordUnwritableError, read_record
from strongroom.responder.deciding import Decider, Why
from strongroom.responder.decoys import (
    DECOYS_TYPE,
    Decoy,
    DecoyKind,
    Decoys,
    DecoysRolledBackError,
    ForeignDecoysError,
    newest_guarded,
    read_decoys,
    require_newest,
)
from strongroom.responder.guard.messages import MAX_PATH, Beat, Gone, Opened, read_line, read_paths
from strongroom.responder.limits import HOUR, FreezeLimits
from strongroom.responder.record import FIRST, RecordBrokenError, check_record, event_json, record_line
from strongroom.responder.settings import ResponderSettings
from support.deployment import signer

GENESIS = Digest.of(b"genesis")
ATLAS, OTHER = ModelId("atlas"), ModelId("minilm")
DECOY = Decoy(path="/weights/a.floe", kind=DecoyKind.SHARD, model=ATLAS, planted=1_700_000_000)
LIST = Decoys(genesis=GENESIS, decoys=(DECOY,))
SETTINGS = {
    "v": 1,
    "host": "w1",
    "models": ["atlas"],
    "watched": ["/weights/b.floe"],
    "readers": [990],
    "gates": [{"settings": "/etc/gate.json", "state": "/var/lib/gate", "models": ["atlas"]}],
    "sensors": [{"name": "tokens", "kind": "canarytokens", "socket": "/run/tokens.sock", "user": 990}],
    "acting": ["guard"],
    "freezes_an_hour": 6,
}


def test_a_list_is_read_as_it_was_signed_and_by_nobody_else() -> None:
    key = signer("warden")
    assert read_decoys(LIST.sign(key), key.public_key, GENESIS) == LIST
    with pytest.raises(SignatureError):
        read_decoys(LIST.sign(signer("thief")), key.public_key, GENESIS)
    with pytest.raises(ForeignDecoysError):
        read_decoys(LIST.sign(key), key.public_key, Digest.of(b"another"))


@given(st.lists(st.integers(0, 99)), st.integers(0, 99))
def test_no_list_is_older_than_one_that_was_guarded(guarded: list[int], serial: int) -> None:
    recorded: list[dict[str, Json]] = [{"rule": "decoy-shard-opened"}]
    recorded += [dict[str, Json](guarded=one) for one in guarded]
    listed, newest = replace(LIST, serial=serial), newest_guarded(recorded)
    assert newest == max(guarded, default=0)
    if serial < newest:
        with pytest.raises(DecoysRolledBackError):
            require_newest(listed, newest)
    else:
        # Once it is recorded it is no news, and another start is as good.
        assert require_newest(listed, newest) is (serial > newest)
        assert not require_newest(listed, newest_guarded([*recorded, {"guarded": serial}]))


@pytest.mark.parametrize(
    "decoys",
    [
        [{**DECOY.to_json(), "path": "weights/a.floe"}],  # type: ignore[dict-item]
        [{**DECOY.to_json(), "path": "/a\0b"}],  # type: ignore[dict-item]
        [DECOY.to_json(), DECOY.to_json()],
        [{**DECOY.to_json(), "more": 1}],  # type: ignore[dict-item]
    ],
)
def test_another_form_of_list_is_refused(decoys: list[object]) -> None:
    payload = encode({"v": 1, "genesis": str(GENESIS), "serial": 1, "decoys": decoys, "models": []})  # type: ignore[dict-item]
    with pytest.raises(MalformedError):
        read_decoys(sign(DECOYS_TYPE, payload, signer("warden")), signer("warden").public_key, GENESIS)


@pytest.mark.parametrize(
    "change",
    [
        {"models": []},
        {"models": ["atlas", "atlas"]},
        {"host": "W1"},
        {"host": "w 1"},
        {"host": "shadow-w1"},
        {"watched": ["b.floe"]},
        {"readers": [True]},
        {"readers": [-1]},
        {"freezes_an_hour": 0},
        {"acting": ["gaurd"]},
        {"acting": ["detector"]},
        {"gates": [{"settings": "x", "state": "/y", "models": ["atlas"]}]},
        {"sensors": [{"name": "guard", "kind": "falco", "socket": "/run/a", "user": 1}]},
        {"sensors": [{"name": "x", "kind": "nobodys", "socket": "/run/a", "user": 1}]},
        {"sensors": [{"name": "x", "kind": "falco", "socket": "/run/a", "user": 1}] * 2},
        {"sensors": [{"name": "x", "kind": "wazuh", "socket": "/run/a", "user": 1, "hosts": []}]},
        {"sensors": [{"name": "x", "kind": "wazuh", "socket": "/run/a", "user": 1, "hosts": ["w1", "w1"]}]},
        {"sensors": [{"name": "x", "kind": "wazuh", "socket": "/run/a", "user": 1, "hosts": ["W2"]}]},
        {"sensors": [{"name": "x", "kind": "wazuh", "socket": "/run/a", "user": 1, "hosts": ["shadow-w2"]}]},
        {"sensors": [{"name": "x", "kind": "canarytokens", "socket": "/run/a", "user": 1, "hosts": ["w2"]}]},
        {"more": 1},
    ],
)
def test_settings_are_strict(change: dict[str, object]) -> None:
    with Fields(SETTINGS, "responder") as fields:  # type: ignore[arg-type]
        assert ResponderSettings.read(fields).models == (ATLAS,)
    with pytest.raises(MalformedError), Fields({**SETTINGS, **change}, "responder") as fields:  # type: ignore[dict-item]
        ResponderSettings.read(fields)


@given(st.data())
def test_a_record_with_a_line_less_more_or_changed_is_found(data: st.DataObject) -> None:
    lines: list[bytes] = []
    before = FIRST
    for serial in range(data.draw(st.integers(2, 6))):
        lines.append(record_line(before, serial, {"rule": f"r{serial}"}))
        before = Digest.of(lines[-1])
    assert check_record(lines) == (len(lines), before)
    place = data.draw(st.integers(0, len(lines) - 2))
    broken = data.draw(
        st.sampled_from(
            [
                lines[:place] + lines[place + 1 :],
                [*lines[: place + 1], lines[place], *lines[place + 1 :]],
                [*lines[:place], lines[place].replace(b'"rule":"r', b'"rule":"s'), *lines[place + 1 :]],
                [*lines[:place], b"{}", *lines[place + 1 :]],
            ]
        )
    )
    with pytest.raises(RecordBrokenError):
        check_record(broken)


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_a_record_goes_on_behind_half_a_line_and_bounds_a_flood(tmp_path: Path) -> None:
    async def append(count: int) -> int:
        record = RecordFile(tmp_path)
        for number in range(count):
            await record.append({"number": number})
        record.close()
        return record.untold

    assert asyncio.run(append(2)) == 0
    (file,) = tmp_path.glob("record-*.jsonl")
    with file.open("ab") as end:
        end.write(b'{"serial":2,"bef')
    assert asyncio.run(append(1)) == 0
    assert [json.loads(line)["serial"] for line in read_record(tmp_path)] == [0, 1, 2]
    assert asyncio.run(append(1500)) > 100
    assert len(read_record(tmp_path)) < 1500


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_a_record_goes_on_behind_a_crash_between_two_files(tmp_path: Path) -> None:
    async def append(facts: str) -> None:
        record = RecordFile(tmp_path)
        await record.append({"told": facts})
        record.close()

    asyncio.run(append("before"))
    # The next file was made, and nothing had been written to it.
    (tmp_path / "record-000002.jsonl").touch()
    asyncio.run(append("after"))
    assert [json.loads(line)["facts"]["told"] for line in read_record(tmp_path)] == ["before", "after"]


@pytest.mark.integration  # an event loop holds a socket pair of its own
@pytest.mark.parametrize("refuses", ["write", "fdatasync"])
def test_a_line_that_a_disk_refused_breaks_no_record(
    refuses: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def refused(descriptor: int, data: bytes = b"") -> int:
        if data:
            write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space left on device")

    async def story() -> None:
        record = RecordFile(tmp_path)
        await record.append({"number": 0})
        with monkeypatch.context() as patch:
            patch.setattr(os, refuses, refused)
            with pytest.raises(RecordUnwritableError):
                await record.append({"number": 1})
        await record.append({"number": 2})
        record.close()

    asyncio.run(story())
    assert [json.loads(line)["facts"]["number"] for line in read_record(tmp_path)] == [0, 2]


@given(
    st.dictionaries(
        st.text(max_size=80), st.one_of(st.text(st.characters(), max_size=2000), st.integers(), st.floats(), st.none())
    )
)
def test_any_event_can_be_recorded(event: dict[str, str | int | float | None]) -> None:
    line = record_line(FIRST, 0, {"event": event_json(event)})
    assert check_record([line])[0] == 1


@given(st.binary(max_size=400))
def test_what_the_guard_says_is_read_or_refused(data: bytes) -> None:
    for read in (read_line, read_paths, Decoys.parse):
        try:
            read(data)
        except StrongroomError:
            continue


@given(st.text(max_size=5000), st.text(max_size=50), st.integers(-1, 2**32), st.booleans())
def test_what_the_guard_tells_arrives(path: str, exe: str, uid: int, denied: bool) -> None:  # noqa: FBT001 - drawn
    told = Opened(path=path, pid=7, exe=exe, uid=uid, denied=denied, ticks=5)
    line = told.to_line()
    assert line.count(b"\n") == 1
    read = read_line(line)
    assert isinstance(read, Opened)
    assert (read.denied, read.ticks) == (denied, 5)
    assert read_line(Beat(untold=3, lost=1).to_line()) == Beat(untold=3, lost=1)
    assert parse(line)


@pytest.mark.parametrize("letter", ["\\", '"', "\U0001f512", "\udcff", "\n", "a"])
def test_the_longest_names_that_a_thief_can_give_are_told(letter: str) -> None:
    # A line that the responder refuses would end the guard, and let go of every decoy.
    longest = letter * (MAX_PATH + 1)
    told = read_line(
        Opened(path=longest, pid=2**31 - 1, exe=longest, uid=2**32, denied=False, ticks=2**53 - 1).to_line()
    )
    assert isinstance(told, Opened)
    assert len(told.path) == len(told.exe) == MAX_PATH
    gone = read_line(Gone(path=longest).to_line())
    assert isinstance(gone, Gone)
    assert len(gone.path) == MAX_PATH


def test_a_sensor_freezes_so_often_an_hour_and_others_are_counted_apart() -> None:
    limits = FreezeLimits(2)
    for at in (0, 10):
        assert limits.allow("guard", at)
        limits.count("guard", at)
    assert not limits.allow("guard", HOUR - 1)
    assert limits.allow("log", 11)
    assert limits.allow("guard", HOUR)
    limits.count("guard", HOUR)
    assert not limits.allow("guard", HOUR + 9)
    assert limits.allow("guard", HOUR + 10)


def decider(*, acting: tuple[str, ...] = ("guard",), limits: FreezeLimits | None = None) -> Decider:
    return Decider(
        Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: ""),
        decoys={DECOY.path: ATLAS},
        models=(ATLAS, OTHER),
        acting=acting,
        limits=limits or FreezeLimits(6),
    )


def test_what_a_sensor_says_while_the_past_is_remembered_moves_no_day_of_it() -> None:
    told, day = decider(), 86400
    released = {"event": "release:data-key:released", "source": "log", "requester": "dana"}
    falco = {"event": "host:process:started", "source": "falco", "exe": "/bin/x"}
    login = {"event": "identity:login:failed", "source": "wazuh", "person": "dana", "client": "192.0.2.7"}
    for number in range(8):
        # A sensor is heard from the first moment on; the log's months are read beside that.
        told.observe(falco, "falco", 100 * day)
        told.remember({**released, "model": f"m{number}", "index": number}, number * 10 * day)
    for _again in range(10):
        told.observe(login, "wazuh", 100 * day)
    told.remembered()
    # Five models within a day are a theft; eight within months aren't.
    assert told.observe({**released, "model": "m9", "index": 9}, "log", 100 * day + 1) == ()
    # And what came meanwhile counts with what comes.
    alerts = [one.alert.rule for _n in range(10) for one in told.observe(login, "wazuh", 100 * day + 2)]
    assert "many-failed-logins-of-one" in alerts


def test_a_decoy_freezes_its_own_model_and_an_unknown_one_all() -> None:
    made = decoy_event()
    assert decider().observe(made, "guard", 1)[0].models == (ATLAS,)
    assert decider().observe({**made, "path": "/renamed"}, "guard", 1)[0].models == (ATLAS, OTHER)
    assert decider().observe({**made, "path": "/renamed", "model": "minilm"}, "guard", 1)[0].models == (OTHER,)
    assert decider().observe({**made, "path": "/renamed", "model": "nobodys"}, "guard", 1)[0].models == (ATLAS, OTHER)


def test_only_what_is_sure_acts_and_only_on_a_sensor_s_word_that_may() -> None:
    (told,) = decider().observe({**decoy_event(), "decoy": False, "broker": False}, "guard", 1)
    assert (told.why, told.models) == (Why.NOT_SURE, ())
    (told,) = decider(acting=()).observe(decoy_event(), "guard", 1)
    assert (told.why, told.models) == (Why.NOT_TRUSTED, ())
    asked = decider(limits=FreezeLimits(1))
    (first,) = asked.observe(decoy_event(), "guard", 1)
    # Every sure event is told: whoever acts must not depend on what was told an hour ago.
    (again,) = asked.observe(decoy_event(), "guard", 2)
    assert first.why is again.why is Why.SURE
    asked.took_effect(first, 2)
    assert asked.observe(decoy_event(), "guard", 3)[0].why is Why.LIMITED


def decoy_event() -> dict[str, str | bool]:
    return {"event": "host:file:opened", "kind": "shard", "decoy": True, "path": DECOY.path, "source": "guard"}


def test_a_list_may_not_name_a_path_twice() -> None:
    twice = replace(LIST, decoys=(DECOY, replace(DECOY, model=OTHER)))
    with pytest.raises(MalformedError):
        Decoys.parse(twice.to_bytes())
