"""Messages over the enclave's channel are bounded before they are read and have one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError, UsageError
from strongroom.enclave import frames
from strongroom.enclave.adapters import inside
from strongroom.enclave.adapters.command import command_line
from strongroom.enclave.adapters.supervisor import NO_BYTECODE
from strongroom.enclave.sandbox import ExecRule, process_profile


@given(st.dictionaries(st.text(max_size=8), st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20), max_size=5))
def test_written_and_read_back(value: dict[str, int | str]) -> None:
    data = frames.frame(dict(value))
    length = frames.length_of(data[: frames.HEADER])
    assert length == len(data) - frames.HEADER
    assert frames.unframe(data[frames.HEADER :]) == value


@pytest.mark.parametrize("header", [b"", b"\0\0\0", b"\0\0\0\0", b"\x00\x10\x00\x01", b"\xff\xff\xff\xff", b"\0" * 5])
def test_lengths_are_bounded(header: bytes) -> None:
    with pytest.raises(MalformedError):
        frames.length_of(header)


@pytest.mark.parametrize("body", [b"", b"{", b'{ "a":1}', b'{"a":1}{', b"\xff", b"1.5", b'{"a":1,"a":2}'])
def test_other_spellings_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        frames.unframe(body)


def test_too_long_is_not_sent() -> None:
    with pytest.raises(MalformedError):
        frames.frame("x" * frames.MAX_FRAME)


ONCE = process_profile(code_roots=("/usr/lib",), sealed_roots=(), model_bytes=1)
MEASURED = process_profile(code_roots=("/usr/lib",), sealed_roots=(), model_bytes=1, exec_rule=ExecRule.MEASURED)


@pytest.mark.parametrize(
    ("command", "tail"),
    [
        (("python", "/x/run.py", "-v"), ["command", "/x/run.py", "-v"]),
        (("/usr/bin/python3", "/x/run.py"), ["command", "/x/run.py"]),
        (("/x/run.py",), ["command", "/x/run.py"]),
        (("python3", "-m", "serve", "--port"), ["command", "-m", "serve", "--port"]),
    ],
)
def test_scripts_start_behind_the_closed_door(command: tuple[str, ...], tail: list[str]) -> None:
    line = command_line(ONCE, command)
    assert line[1:3] == ["-I", "-B"]
    assert line[3:5] == ["-X", f"pycache_prefix={NO_BYTECODE}"]
    assert line[5:7] == ["-m", inside.__name__]
    assert line[7:] == tail


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("python",),
        ("python", "-c", "0"),
        ("python", "-E", "/x/run.py"),
        ("run.py",),
        ("/bin/sh",),
        ("python", "-m"),
    ],
)
def test_other_commands_are_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        command_line(ONCE, command)


def test_measured_programs_need_their_path() -> None:
    assert command_line(MEASURED, ("/opt/serve", "-v")) == ["/opt/serve", "-v"]
    with pytest.raises(UsageError, match="absolute"):
        command_line(MEASURED, ("serve",))
