"""What reads delivered files for the gate sees nothing but them, reaches nothing, and isn't believed what can't be.

The misbehaving readers are the real one with one parser exchanged, started by a script outside the package.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from strongroom.enclave.sandbox import SandboxError
from strongroom.intake.formats.conversion import convert
from strongroom.intake.formats.identify import check_delivery
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import BytesSource, Source
from strongroom.quarantine.adapters import reading
from strongroom.quarantine.adapters.channel import FROM_READER, MAX_ANSWER, READ, Frame, receive, send
from strongroom.quarantine.adapters.delivery_folder import MAX_DOCUMENT
from strongroom.quarantine.adapters.reading import Reader, ReaderError, judge_walled, walled_reader
from support.delivered import checkpoint_file, delivery

pytestmark = pytest.mark.integration
CHECKPOINT = checkpoint_file()


def sources(files: Mapping[str, bytes]) -> dict[str, Source]:
    return {name: BytesSource(data) for name, data in files.items()}


def misbehave(monkeypatch: pytest.MonkeyPatch, folder: Path, does: str) -> None:
    """Have the reader do something else where it should judge or convert."""
    script = folder / "hook.py"
    body = "\n".join(f"    {line}" for line in does.strip().splitlines())
    script.write_text(
        "import ctypes, os, socket, sys\n"
        "from strongroom.intake.formats import conversion, identify\n"
        "from strongroom.intake.rules import IntakeRefusedError, Rule\n"
        "from strongroom.quarantine.adapters import read_inside, scan_inside\n"
        f"def hook(*given):\n{body}\n"
        "identify.check_delivery = conversion.convert = hook\n"
        "sys.exit(scan_inside.main(read_inside.act))\n"
    )
    monkeypatch.setattr(reading, "INSIDE", (str(script),))


def test_it_finds_what_the_judge_finds() -> None:
    found = judge_walled(sources(delivery()))
    wanted = check_delivery(sources(delivery()))
    assert {name: (one.format, one.facts) for name, one in found.items()} == {
        name: (one.format, one.facts) for name, one in wanted.items()
    }


def test_it_refuses_what_the_judge_refuses_and_goes_on() -> None:
    bad = {"a.pkl": b"\x80\x04cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "m.bin": CHECKPOINT}
    with walled_reader(sources(bad)) as reader:
        with pytest.raises(IntakeRefusedError, match="system") as refused:
            reader.judge()
        assert refused.value.rule is Rule.PICKLE_GLOBAL
        size = reader.convert("m.bin")
        assert b"".join(reader.pieces("m.bin", size)) == b"".join(convert(BytesSource(CHECKPOINT), "m").pieces())


def test_it_reaches_no_file_no_network_and_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("other")
    with socket.create_server(("127.0.0.1", 0)) as server:
        misbehave(
            monkeypatch,
            tmp_path,
            f"""
done = []
def tries(name, what):
    try:
        what()
    except OSError:
        return
    done.append(name)
tries("read", lambda: open({str(tmp_path / "secret")!r}))
tries("read", lambda: open("/etc/passwd"))
tries("list", lambda: os.listdir("/root"))
tries("write", lambda: open({str(tmp_path / "new")!r}, "w"))
tries("write", lambda: open("/tmp/new", "w"))
tries("write", lambda: open(os.__file__, "a"))
tries("connect", lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=1))
tries("signal", lambda: os.kill({os.getpid()}, 0))
tries("kill", lambda: os.kill(os.getppid(), 9) if os.getppid() else os.kill({os.getpid()}, 9))
tries("memory", lambda: open("/proc/{os.getpid()}/mem", "rb"))
tries("hold", lambda: os.memfd_create("more than it may have"))
tries("process", lambda: os.fork() or os._exit(0))
tries("program", lambda: os.execve(sys.executable, [sys.executable, "-c", ""], {{}}))
libc = ctypes.CDLL(None)
if libc.ptrace(16, {os.getpid()}, 0, 0) != -1 or libc.unshare(0x10000000) != -1:
    done.append("kernel")
raise IntakeRefusedError(Rule.FORM, "did: " + " ".join(done))
""",
        )
        with pytest.raises(IntakeRefusedError) as refused:
            judge_walled(sources(delivery()))
    assert refused.value.message == "did: "
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "does",
    [
        "raise ValueError('a parser with a flaw')",
        "os._exit(0)",
        "os.abort()",
        "held = bytearray(8 << 30)",
        "os.write(0, os.urandom(4096)); os._exit(0)",
        "return {}",
        "return {name: identify.FileVerdict('a program', {}) for name in given[0]}",
        "return dict.fromkeys([*given[0], 'more'], identify.FileVerdict(identify.Format.TEXT, {}))",
        "raise IntakeRefusedError(Rule.FORM, 'x' * 2000, remedy='\\x1b[2J')",
    ],
    ids=["raises", "ends", "aborts", "memory", "garbage", "nothing", "other format", "more files", "hostile words"],
)
def test_an_answer_that_cant_be_lets_nothing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    misbehave(monkeypatch, tmp_path, does)
    with pytest.raises(ReaderError):
        judge_walled(sources(delivery()))


def test_a_reader_that_ends_before_it_is_told_its_files_lets_nothing_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "hook.py"
    script.write_text(
        "import os, sys\n"
        "from strongroom.quarantine.adapters import scan_inside\n"
        "sys.exit(scan_inside.main(lambda: os._exit(0)))\n"
    )
    monkeypatch.setattr(reading, "INSIDE", (str(script),))
    # More names than a socket holds.
    many = {f"{number:0500}.txt": b"" for number in range(2000)}
    with pytest.raises(ReaderError):
        judge_walled(sources(many))


def test_a_reader_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, tmp_path, "import time\ntime.sleep(600)")
    monkeypatch.setattr(reading, "_SECONDS", 2)
    with pytest.raises(ReaderError):
        judge_walled(sources(delivery()))


@pytest.mark.parametrize("size", [5, 15])
def test_a_conversion_has_as_many_bytes_as_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    misbehave(monkeypatch, tmp_path, f"return conversion.Converted(bytes(10), (), {size})")
    with walled_reader(sources({"m.bin": CHECKPOINT})) as reader:
        with pytest.raises(ReaderError):
            list(reader.pieces("m.bin", reader.convert("m.bin")))
        with pytest.raises(ReaderError):
            reader.judge()


def test_it_leaves_nothing_open_and_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, tmp_path, "raise ValueError")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ReaderError):
        judge_walled(sources(delivery()))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not running(str(tmp_path / "hook.py"))


def test_it_dies_with_its_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, tmp_path, "import time\ntime.sleep(600)")
    script = str(tmp_path / "hook.py")
    gate = os.fork()
    if gate == 0:
        try:
            judge_walled(sources(delivery()))
        finally:
            os._exit(0)
    try:
        # One that waits, and one behind the walls.
        wait_until(lambda: len(running(script)) == 2)
    finally:
        os.kill(gate, signal.SIGKILL)
        os.waitpid(gate, 0)
    wait_until(lambda: not running(script))


def running(script: str) -> list[str]:
    """Return the processes that were started with a script."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if script.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


def wait_until(came: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not came():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_walls_that_cant_be_put_up_read_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "no walls.py"
    script.write_text("raise SystemExit(0)")
    monkeypatch.setattr(reading, "INSIDE", (str(script),))
    with pytest.raises(SandboxError, match="before its walls stood"):
        judge_walled(sources(delivery()))


# --- the gate's side, spoken to by whatever ---------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        theirs.settimeout(60)
        yield ours, theirs


@pytest.mark.parametrize(
    "said",
    [
        (Frame.READ, READ.pack(1, 0, 1)),
        (Frame.READ, READ.pack(0, 0, 11)),
        (Frame.READ, READ.pack(0, 1 << 63, 1)),
        (Frame.READ, READ.pack(0, 0, 1 << 31)),
        (Frame.READ, b"short"),
        (Frame.DATA, b""),
        (Frame.PIECE, b"nobody asked for it"),
        (Frame.REFUSED, b"no object"),
        (Frame.REFUSED, b'{"message":"","remedy":"","rule":"no rule"}'),
        *[
            (Frame.REFUSED, b'{"message":"","remedy":"","rule":"%s"}' % rule.encode())
            for rule in ("withdrawn", "review-denied", "signature-bad", "scanner", "digest-mismatch")
        ],
        (Frame.ANSWER, b'{"a":{"facts":{},"format":"text"},"b":{}}'),
    ],
)
def test_no_frame_makes_the_gate_hand_out_or_believe_more(
    pair: tuple[socket.socket, socket.socket], said: tuple[Frame, bytes]
) -> None:
    ours, theirs = pair
    send(theirs, *said)
    with pytest.raises(ReaderError):
        Reader(ours, sources({"a": bytes(10)})).judge()


def test_no_refusal_reaches_a_terminal_with_what_acts_on_it(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    send(theirs, Frame.REFUSED, '{"message":"a\u009b2J","remedy":"b\u202ec","rule":"form"}'.encode())
    with pytest.raises(IntakeRefusedError) as refused:
        Reader(ours, sources({"a": bytes(10)})).judge()
    assert (refused.value.message, refused.value.remedy) == ("a\\x9b2J", "b\\u202ec")


def test_no_report_is_longer_than_what_a_folder_gives_back() -> None:
    assert 2 * MAX_ANSWER <= MAX_DOCUMENT


def test_reads_are_answered_with_those_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told: list[bytes] = []

    def read() -> None:
        send(theirs, Frame.READ, READ.pack(0, 3, 4))
        told.extend(receive(theirs, {**FROM_READER, Frame.ASK: 1000, Frame.DATA: 1000})[1] for _ in range(2))
        send(theirs, Frame.ANSWER, b'{"a":{"facts":{},"format":"text"}}')

    reading_it = threading.Thread(target=read)
    reading_it.start()
    assert list(Reader(ours, sources({"a": bytes(range(10))})).judge()) == ["a"]
    reading_it.join(60)
    assert told[1] == bytes([3, 4, 5, 6])
