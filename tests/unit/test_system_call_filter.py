"""The filter that is assembled allows what the list says and nothing else: run on an interpreter of classic BPF."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.enclave import allowlist
from strongroom.walls.bpf import ALLOW, AUDIT_ARCH, ERRNO, KILL_PROCESS, ArgumentTest, SyscallRule, assemble
from strongroom.walls.syscall_numbers import NUMBERS, Machine, number
from support.filter_machine import decide

LISTS = {
    "agent": allowlist.agent_rules(),
    "command": allowlist.command_rules(may_exec=False),
    "command-measured": allowlist.command_rules(may_exec=True),
    "settled": allowlist.settled_rules(may_exec=False),
    "settled-measured": allowlist.settled_rules(may_exec=True),
}
FORBIDDEN = [
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "io_uring_setup",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "unshare",
    "setns",
    "pivot_root",
    "umount2",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "chroot",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "socket",
    "connect",
    "bind",
    "memfd_create",
    "open_by_handle_at",
    "mknodat",
    "reboot",
    "swapon",
    "acct",
    "execveat",
    "setuid",
    "setresuid",
    "personality",
    "symlinkat",
    "linkat",
]


@pytest.mark.parametrize("machine", list(Machine))
@pytest.mark.parametrize("name", LISTS)
def test_every_number_is_decided_as_listed(name: str, machine: Machine) -> None:
    program = assemble(LISTS[name], machine=machine)
    rules = {number(machine, rule.name): rule for rule in LISTS[name]}
    for call in range(600):
        rule = rules.get(call)
        good = [0] * 6
        for test in rule.tests if rule else ():
            good[test.index] = test.allowed[0]
        said = decide(program, call, *good, arch=AUDIT_ARCH[machine])
        if rule is None:
            assert said == ERRNO | errno.EPERM
        else:
            assert said == (ALLOW if rule.allowed else ERRNO | rule.refusal)


@pytest.mark.parametrize("name", LISTS)
def test_dangerous_calls_are_on_no_list(name: str) -> None:
    assert not {rule.name for rule in LISTS[name]} & set(FORBIDDEN)


def test_each_list_is_within_the_one_before() -> None:
    # Filters stack: a call that an outer one refuses is lost, so a wider inner list would only mislead its reader.
    for wider, narrower in (("agent", "command"), ("command", "settled"), ("agent", "command-measured")):
        outer = {rule.name: rule for rule in LISTS[wider]}
        for rule in LISTS[narrower]:
            assert rule.name in outer, rule.name
            assert rule.allowed <= outer[rule.name].allowed


def test_once_started_nothing_more_can_be() -> None:
    for machine in Machine:
        program = assemble(LISTS["settled"], machine=machine)
        arch = AUDIT_ARCH[machine]
        for name in ("execve", "execveat", "fork", "vfork", "seccomp", "mount", "kill", "wait4"):
            found = number(machine, name)
            if found is not None:
                assert decide(program, found, arch=arch) == ERRNO | errno.EPERM, name
        clone = number(machine, "clone")
        assert clone is not None
        assert decide(program, clone, 0x3D0F00, arch=arch) == ALLOW  # what pthread_create asks for
        for flags in (17, 0x3D0F00 | 0x10000000, 0x3D0F00 & ~0x10000, 0x80 | 0x3D0F00):
            assert decide(program, clone, flags, arch=arch) == ERRNO | errno.EPERM, hex(flags)


@given(prot=st.integers(0, 2**64 - 1))
def test_writable_and_executable_never_go_together(prot: int) -> None:
    program = assemble(LISTS["settled"], machine=Machine.X86_64)
    for name in ("mmap", "mprotect"):
        call = number(Machine.X86_64, name)
        assert call is not None
        allowed = decide(program, call, 0, 0, prot, arch=AUDIT_ARCH[Machine.X86_64]) == ALLOW
        assert allowed == (prot & 6 != 6)


def test_the_agents_only_mount_is_the_closing_one() -> None:
    program = assemble(LISTS["agent"], machine=Machine.X86_64)
    arch = AUDIT_ARCH[Machine.X86_64]
    closing = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x1000
    assert decide(program, 165, 0, 0, 0, closing, arch=arch) == ALLOW
    for flags in (0, closing & ~0x1, closing & ~0x20, closing & ~0x8, closing | 0x4000):
        assert decide(program, 165, 0, 0, 0, flags, arch=arch) == ERRNO | errno.EPERM


def test_another_numbering_is_fatal() -> None:
    program = assemble(LISTS["agent"], machine=Machine.X86_64)
    read = 0
    assert decide(program, read, arch=AUDIT_ARCH[Machine.X86_64]) == ALLOW
    assert decide(program, read, arch=AUDIT_ARCH[Machine.AARCH64]) == KILL_PROCESS
    assert decide(program, read, arch=0x40000003) == KILL_PROCESS  # i386, where 0 is another call
    for call in (0x40000000, 0x40000001, 0xFFFFFFFF):
        assert decide(program, call, arch=AUDIT_ARCH[Machine.X86_64]) == KILL_PROCESS


def test_mistakes_are_refused() -> None:
    rule = SyscallRule("read")
    with pytest.raises(MalformedError, match="twice"):
        assemble((rule, rule), machine=Machine.X86_64)
    with pytest.raises(MalformedError, match="no system call"):
        assemble((SyscallRule("raed"),), machine=Machine.X86_64)
    for index, mask, allowed in ((6, 1, (0,)), (0, 1, ()), (0, 1, (2,)), (0, 2**32, (0,)), (-1, 1, (0,))):
        with pytest.raises(MalformedError):
            ArgumentTest(index, mask, allowed)
    tests = tuple(ArgumentTest(i, 0xFFFFFFFF, tuple(range(60))) for i in range(6))
    with pytest.raises(MalformedError, match="too long"):
        assemble((SyscallRule("read", tests),), machine=Machine.X86_64)
    with pytest.raises(UnavailableError, match="no system call filter"):
        Machine.named("riscv64")


def test_numbers_are_unique_on_each_machine() -> None:
    for table in NUMBERS.values():
        assert len(set(table.values())) == len(table)
