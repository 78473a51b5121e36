"""A profile has one spelling and one digest, and can't be made so that the command sees the sealed weights."""

from __future__ import annotations

import dataclasses

import pytest

from strongroom.core.errors import MalformedError
from strongroom.enclave.sandbox import ExecRule, SandboxProfile, WritableCode, outermost, process_profile

CODE = ("/usr/lib", "/opt/python")


def make(**changes: object) -> SandboxProfile:
    facts: dict[str, object] = {"code_roots": CODE, "sealed_roots": ("/srv/sealed",), "model_bytes": 1 << 20}
    return process_profile(**{**facts, **changes})  # type: ignore[arg-type]


def test_written_and_read_back() -> None:
    profile = make(data_roots=("/srv/scripts",), links=(("/lib", "usr/lib"),), environment=(("OMP_NUM_THREADS", "2"),))
    assert SandboxProfile.from_bytes(profile.to_bytes()) == profile


def test_whatever_the_command_sees_counts_in_the_digest() -> None:
    base = make()
    others = [
        make(code_roots=("/usr/lib",)),
        make(data_roots=("/srv/scripts",)),
        make(links=(("/lib", "usr/lib"),)),
        make(scratch_bytes=0),
        make(uid=1000),
        make(writable_code=WritableCode.COMPILED),
        make(exec_rule=ExecRule.MEASURED),
        make(environment=(("A", "b"),)),
        dataclasses.replace(base, limits=()),
    ]
    digests = {str(profile.digest) for profile in (base, *others)}
    assert len(digests) == len(others) + 1


def test_where_the_sealed_files_lie_is_not_measured() -> None:
    # Only the agent sees them, and it takes nothing from there that the signed manifest doesn't name.
    assert make().digest == make(sealed_roots=("/srv/other",), model_bytes=1 << 21).digest


def test_order_of_roots_does_not_count() -> None:
    assert make(code_roots=CODE).digest == make(code_roots=CODE[::-1]).digest


def test_other_system_calls_than_these_are_refused() -> None:
    data = make().to_bytes()
    assert b'"name":"uname"' in data
    with pytest.raises(MalformedError, match="other system calls"):
        SandboxProfile.from_bytes(data.replace(b'"name":"uname"', b'"name":"mount"', 1))


@pytest.mark.parametrize(
    "root",
    ["relative", "/", "", "/a/../b", "/a//b", "/a/", "/model", "/model/x", "/proc", "/dev/fd", "/scratch", "/a\0b"],
)
def test_roots_must_be_plain_and_free(root: str) -> None:
    with pytest.raises(MalformedError):
        make(code_roots=(root,))
    with pytest.raises(MalformedError):
        make(sealed_roots=(root,))


def test_sealed_weights_can_not_lie_where_the_command_reads() -> None:
    for sealed in ("/usr/lib", "/usr/lib/weights"):
        with pytest.raises(MalformedError, match="command could read it"):
            make(sealed_roots=(sealed,))


def test_executable_must_be_readable() -> None:
    with pytest.raises(MalformedError, match="outside the readable"):
        dataclasses.replace(make(), executable_roots=("/bin",))


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "HOME", "STRONGROOM_MODEL"])
def test_the_confinements_variables_are_its_own(name: str) -> None:
    with pytest.raises(MalformedError, match="the confinement's own"):
        make(environment=((name, "x"),))


@pytest.mark.parametrize("changes", [{"uid": 0}, {"uid": -1}, {"model_bytes": 0}, {"scratch_bytes": -1}])
def test_no_root_inside_and_no_empty_folder(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        make(**changes)


def test_outermost() -> None:
    assert outermost(("/a/b", "/a", "/ab", "/c/d", "/c/d/e")) == ("/a", "/ab", "/c/d")
