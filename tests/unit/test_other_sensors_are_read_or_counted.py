"""What other sensors say becomes events of the vocabulary, with its fields, or is counted; any bytes are borne."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from strongroom.cli.main import main
from strongroom.core.errors import MalformedError
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.sensors import auditd
from strongroom.detection.sensors.auditd import AuditReader
from strongroom.detection.sensors.readers import READERS
from strongroom.detection.sensors.reading import MAX_LINE
from strongroom.detection.vocabulary import fields_of
from strongroom.detection.wiring import linear_regex, shipped_pack

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "sensors"
SHARD, USER = "/weights/atlas/index.sealed", 990
EXPECTED: dict[str, tuple[list[dict[str, object]], list[str]]] = {
    "falco": (
        [
            {"event": "host:file:opened", "path": SHARD, "exe": "/usr/bin/cat", "uid": 0, "host": "w1"},
            {"event": "host:process:started", "exe": "/usr/bin/bash", "parent": "runc", "uid": 0, "host": "w1"},
        ],
        ["connect"],
    ),
    "tetragon": (
        [
            {"event": "host:process:started", "exe": "/srv/payload", "parent": "/bin/bash", "uid": USER, "host": "w1"},
            {"event": "host:file:opened", "path": SHARD, "exe": "/usr/bin/cat", "uid": USER, "host": "w1"},
        ],
        ["tcp_connect", "process_exit"],
    ),
    "auditd": (
        [
            {"event": "host:file:opened", "path": SHARD, "exe": "/usr/bin/cat", "uid": USER},
            {"event": "host:process:started", "exe": "/srv/my tool", "uid": USER},
            {"event": "identity:login:failed", "person": "dana", "client": "192.0.2.7", "cause": "auditd"},
        ],
        ["arch c0000016"],
    ),
    "osquery": (
        [
            {"event": "host:process:started", "exe": "/srv/payload", "uid": USER, "host": "w1"},
            {"event": "host:file:changed", "path": "/etc/strongroom/gate.json", "seen": "ab", "host": "w1"},
            {"event": "host:device:added", "kind": "usb", "device": "Flash Drive", "host": "w1"},
            {"event": "host:process:started", "exe": "/srv/other", "uid": USER, "host": "w1"},
            {"event": "host:process:started", "exe": "/srv/third", "uid": USER, "host": "w1"},
        ],
        ["pack_weights_last"],
    ),
    "wazuh": (
        [
            {
                "event": "host:file:changed",
                "path": "/etc/strongroom/gate.json",
                "expected": "aa",
                "seen": "bb",
                "host": "w1",
            },
            {
                "event": "identity:login:failed",
                "person": "dana",
                "client": "192.0.2.7",
                "cause": "wazuh-5760",
                "host": "w1",
            },
            {"event": "host:file:changed", "path": "/etc/strongroom/gate.json", "host": "w1"},
        ],
        ["rule 502"],
    ),
    "strongroom": (
        [
            {
                "event": "scanner:copy:found",
                "at": "2026-11-26T13:00:00Z",
                "host": "w1",
                "path": "/srv/x.bin",
                "model": "atlas",
                "registered": False,
                "encrypted": False,
                "world_readable": True,
            },
            {
                "event": "register:copy:troubled",
                "at": "2026-11-26T13:00:00Z",
                "host": "w1",
                "copy": "1" * 32,
                "model": "atlas",
                "place": "/srv/y",
                "holder": "ops",
                "cause": "unproved",
            },
            {
                "event": "assessor:measure:lost",
                "at": "2026-11-26T13:00:00Z",
                "host": "w1",
                "measure": "SL1-NST-02",
                "was": "met",
                "state": "not-met",
                "level": "none",
            },
            {
                "event": "gateway:request:refused",
                "at": "2026-11-26T13:00:00Z",
                "host": "w1",
                "principal": "dana",
                "code": "field-refused",
                "parameter": "logprobs",
                "model": "atlas",
                "times": 1,
            },
            {
                "event": "gateway:usage:counted",
                "at": "2026-11-26T13:00:00Z",
                "host": "w1",
                "principal": "dana",
                "model": "atlas",
                "tokens": 300,
            },
        ],
        ["host:file:opened"],
    ),
    "canarytokens": (
        [
            {
                "event": "identity:credential:used",
                "credential": "backup credential on w1",
                "decoy": True,
                "client": "198.51.100.99",
            },
            {
                "event": "identity:credential:used",
                "credential": "backup credential on w1",
                "decoy": True,
                "client": "198.51.100.98",
            },
        ],
        ["HTTP", "a webhook's trial", "seen in public"],
    ),
}


def test_every_reader_has_its_lines() -> None:
    written = {path.stem for path in VECTORS.glob("*.jsonl") if not path.stem.endswith("-recorded")}
    assert set(EXPECTED) == set(READERS) == written


@pytest.mark.parametrize("sensor", sorted(READERS))
def test_a_sensor_s_lines_are_read(sensor: str) -> None:
    read, events, unknown = READERS[sensor](), list[Any](), list[str]()
    for line in (VECTORS / f"{sensor}.jsonl").read_bytes().splitlines():
        told = read(line)
        events += told.events
        unknown += [told.unknown] if told.unknown else []
    assert events == [{**one, "source": sensor} for one in EXPECTED[sensor][0]]
    assert unknown == EXPECTED[sensor][1]
    for one in events:
        known = fields_of(one["event"])
        assert known is not None
        assert set(one) <= known


def _osquery(name: str, **columns: str) -> Any:
    line = json.dumps({"name": name, "hostIdentifier": "w1", "action": "added", "columns": columns})
    told = READERS["osquery"]()(line.encode())
    return told.events[0]["event"] if told.events else told.unknown


def test_a_query_s_columns_tell_osquery_s_table() -> None:
    program = {"path": "/srv/x", "pid": "7", "cmdline": "x", "parent": "1"}
    assert _osquery("a", **program, auid="0") == "host:process:started"
    assert _osquery("a", **program, syscall="execve") == "host:process:started"
    assert _osquery("a", **program, event_type="exit") == "exit"
    assert _osquery("a", **program, syscall="exec", probe_error="0", exit_code="2") == "exec that failed"
    # What runs already didn't just begin, and who connects or logs in is no program that begins.
    assert _osquery("a", **program, on_disk="1") == "a"
    assert _osquery("a", path="/srv/x", pid="7", auid="0", remote_address="192.0.2.7") == "a"
    assert _osquery("a", path="/srv/x", pid="7", auid="0", terminal="ssh") == "a"


@pytest.mark.parametrize("action", ["UPDATED", "ATTRIBUTES_MODIFIED", "DELETED", "MOVED_TO", "MOVED_FROM"])
def test_a_file_that_was_replaced_has_changed(action: str) -> None:
    assert _osquery("pack_fim_all", target_path="/etc/x", action=action) == "host:file:changed"
    assert _osquery("pack_fim_all", target_path="/etc/x", action="CREATED") == "a file that was CREATED"
    assert _osquery("pack_fim_all", target_path="/etc/x", action="OPENED") == "host:file:opened"


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [(["mtime"], False), (["inode", "mtime"], False), (["mtime", "sha256"], True), (["perm"], True), ([], True)],
)
def test_a_file_whose_bytes_and_rights_are_the_same_has_not_changed(changed: list[str], wanted: bool) -> None:  # noqa: FBT001 - drawn
    check = {"event": "modified", "path": "/etc/x", "changed_attributes": changed, "sha256_after": "0" * 64}
    told = READERS["wazuh"]()(json.dumps({"syscheck": check}).encode())
    assert bool(told.events) is wanted
    # Where no digest was taken, the time may be all that tells of other bytes.
    del check["sha256_after"]
    assert READERS["wazuh"]()(json.dumps({"syscheck": check}).encode()).events


@pytest.mark.parametrize(
    ("program", "wanted"),
    [("sshd", "ssh"), ("sshd-session", "ssh"), ("login", "console"), ("vsftpd", "wazuh"), ("CRON", None), ("su", None)],
)
def test_how_somebody_logged_in_is_told_and_a_session_inside_one_is_none(program: str, wanted: str | None) -> None:
    line = {
        "rule": {"id": "5501", "groups": ["pam", "authentication_success"]},
        "predecoder": {"program_name": program},
        "data": {"dstuser": "dana"},
    }
    told = READERS["wazuh"]()(json.dumps(line).encode())
    assert [one["method"] for one in told.events] == ([] if wanted is None else [wanted])


def test_a_planted_credential_is_sure() -> None:
    engine = Engine(shipped_pack(), regex=linear_regex)
    told = READERS["canarytokens"]()((VECTORS / "canarytokens.jsonl").read_bytes().splitlines()[0])
    assert [hit.rule for hit in engine.observe(read_event(told.events[0]), 1)] == ["decoy-credential-used"]


@given(st.sampled_from(sorted(READERS)), st.binary(max_size=600), st.booleans())
def test_any_line_is_read_or_refused(sensor: str, data: bytes, whole: bool) -> None:  # noqa: FBT001 - drawn
    good = (VECTORS / f"{sensor}.jsonl").read_bytes().splitlines()[0]
    line = data if whole else good[: len(data)] + data[:3] + good[len(data) :]
    try:
        told = READERS[sensor]()(line)
    except MalformedError:
        return
    for one in told.events:
        read_event(one)


@pytest.mark.parametrize("sensor", sorted(READERS))
def test_too_long_a_line_is_refused(sensor: str) -> None:
    with pytest.raises(MalformedError):
        READERS[sensor]()(b" " * (MAX_LINE + 1))


def test_a_flood_of_unfinished_records_is_bounded_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditd, "MOST_OPEN", 4)
    read, events = AuditReader(), 0
    for serial in range(20):
        line = f'type=SYSCALL msg=audit(1.000:{serial}): arch=c000003e syscall=59 uid=0 exe="/bin/x"'
        events += len(read(line.encode()).events)
    assert (events, read.forgotten) == (16, 16)


def test_the_command_prints_events_and_counts_the_rest() -> None:
    done = CliRunner().invoke(main, ["detection", "read", "falco", str(VECTORS / "falco.jsonl")])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 2
    assert "1 not read: connect" in done.stderr


def test_the_kernel_s_own_records_say_which_file_it_was() -> None:
    """Recorded from a kernel's audit group: a program with a space in its name, two relative paths, a missing file."""
    reader = AuditReader()
    events: list[Any] = []
    unknown: list[str] = []
    for line in (VECTORS / "auditd-recorded.log").read_bytes().splitlines():
        told = reader(line)
        events += told.events
        unknown += [told.unknown] if told.unknown else []
    opened = {"event": "host:file:opened", "source": "auditd", "path": SHARD, "uid": 0}
    assert events == [
        {"event": "host:process:started", "source": "auditd", "exe": "/srv/my tool", "uid": 0},
        {**opened, "exe": "/srv/my tool"},
        {**opened, "exe": "/usr/bin/cat"},
        {**opened, "exe": "/usr/bin/cat"},
    ]
    assert unknown == ["syscall 257 that failed"]


def test_a_path_that_is_relative_to_nobody_knows_what_stays_as_it_is() -> None:
    reader = AuditReader()
    head = b"msg=audit(1.0:1): "
    reader(b"type=SYSCALL " + head + b'arch=c000003e syscall=257 success=no exit=-13 a0=5 uid=0 exe="/bin/x"')
    reader(b"type=CWD " + head + b'cwd="/weights"')
    reader(b"type=PATH " + head + b'name="index.sealed" nametype=NORMAL')
    (event,) = reader(b"type=EOE " + head).events
    # Refused, and told all the same: somebody wanted it.
    assert event["path"] == "index.sealed"


def audited(call: str, *more: str) -> list[Any]:
    """Return the events of one call and the records that come with it, as auditd writes them to a file: no ``EOE``."""
    reader, events = AuditReader(), list[Any]()
    for record in (call, *more, "PROCTITLE proctitle=78"):
        kind, _, rest = record.partition(" ")
        events += reader(f"type={kind} msg=audit(1.000:7): {rest}".encode()).events
    return events


PATH = f'PATH item=0 name="{SHARD}" nametype=NORMAL'


@pytest.mark.parametrize(
    "call",
    [
        "SYSCALL arch=c000003e syscall=257",
        "SYSCALL arch=c000003e syscall=85",
        "SYSCALL arch=c000003e syscall=304",
        "SYSCALL arch=c000003e syscall=1073741826",
        "SYSCALL arch=40000003 syscall=5",
        "SYSCALL arch=40000003 syscall=295",
        "SYSCALL arch=c00000b7 syscall=56",
        "SYSCALL arch=40000028 syscall=322",
        "SYSCALL arch=x86_64 syscall=openat",
        "URINGOP uring_op=18",
        "URINGOP uring_op=28",
    ],
)
def test_no_other_way_to_open_a_file_goes_by_unseen(call: str) -> None:
    (event,) = audited(f"{call} success=yes exit=3 a0=ffffff9c uid=990", PATH)
    assert (event["event"], event["path"], event["uid"]) == ("host:file:opened", SHARD, USER)


@pytest.mark.parametrize(
    "call", ["arch=c000003e syscall=1073742344", "arch=40000003 syscall=11", "arch=c00000b7 syscall=221"]
)
def test_no_other_way_to_begin_a_program_goes_by_unseen(call: str) -> None:
    (event,) = audited(f'SYSCALL {call} success=yes exit=0 uid=990 exe="/srv/x"')
    assert (event["event"], event["exe"]) == ("host:process:started", "/srv/x")


def test_a_path_is_known_however_a_program_writes_it() -> None:
    call = "SYSCALL arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c uid=990"
    for name in ("//weights/atlas/index.sealed", "/weights/./atlas//index.sealed", "/weights/x/../atlas/index.sealed"):
        (event,) = audited(call, f'PATH item=0 name="{name}" nametype=NORMAL')
        assert event["path"] == SHARD


def test_records_that_stand_alone_take_no_room_from_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditd, "MOST_OPEN", 4)
    reader = AuditReader()
    reader(b"type=SYSCALL msg=audit(1.0:1): arch=c000003e syscall=257 success=yes exit=3 uid=990")
    for serial in range(2, 50):
        assert reader(b"type=SECCOMP msg=audit(1.0:%d): sig=31 syscall=59" % serial).unknown == "SECCOMP"
    reader(f"type={PATH.replace(' ', ' msg=audit(1.0:1): ', 1)}".encode())
    assert len(reader(b"type=EOE msg=audit(1.0:1): ").events) == 1
    assert reader.forgotten == 0


@pytest.mark.parametrize(
    ("acct", "person"), [('"dana"', "dana"), ("28756E6B6E6F776E207573657229", "(unknown user)"), ("dana", "dana")]
)
def test_a_login_says_who_and_how_in_words_that_rules_know(acct: str, person: str) -> None:
    head = b"type=USER_LOGIN msg=audit(1.0:1): pid=1 uid=0 msg='op=login "
    line = head + f'acct={acct} exe="/usr/sbin/sshd" hostname=? addr=192.0.2.7 terminal=ssh res=success\''.encode()
    (event,) = AuditReader()(line).events
    assert (event["person"], event["method"]) == (person, "ssh")


@pytest.mark.parametrize("hook", ["security_mmap_file", "mmap_file"])
def test_a_file_that_is_mapped_was_opened(hook: str) -> None:
    arguments = [{"file_arg": {"path": SHARD}}]
    told = {"process_kprobe": {"process": {"binary": "/srv/x", "uid": 990}, "function_name": hook, "args": arguments}}
    (event,) = READERS["tetragon"]()(json.dumps(told).encode()).events
    assert (event["event"], event["path"]) == ("host:file:opened", SHARD)


def test_osquery_s_batches_are_read_row_by_row() -> None:
    rows = [{"path": f"/srv/{name}", "cmdline": "x", "eid": "1", "uid": "990"} for name in ("a", "b")]
    line = {"name": "process_events", "hostIdentifier": "w1", "diffResults": {"removed": "", "added": [*rows, {}]}}
    told = READERS["osquery"]()(json.dumps(line).encode())
    assert [one["exe"] for one in told.events] == ["/srv/a", "/srv/b"]
    assert told.unknown
    assert READERS["osquery"]()(b'{"name": "q", "diffResults": {"added": []}}').unknown == "q: no rows"


@pytest.mark.parametrize("sensor", ["falco", "osquery", "tetragon"])
def test_a_name_that_is_no_text_hides_nothing(sensor: str) -> None:
    line = (VECTORS / f"{sensor}.jsonl").read_bytes().splitlines()[0]
    exe = {"falco": b"/usr/bin/cat", "osquery": b"/srv/payload", "tetragon": b"/srv/payload"}[sensor]
    (event,) = READERS[sensor]()(line.replace(exe, exe + b"\xff")).events
    assert event["exe"] == exe.decode() + "\ufffd"
