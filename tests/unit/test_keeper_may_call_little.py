"""The running keeper's filter: no program, no other process, no network but where its key service needs it."""

from __future__ import annotations

import errno

import pytest

from strongroom.keeper.walls import Reach, files_of, reach_of, serving_rules, starting_rules
from strongroom.keys.uri import KeyUri
from strongroom.walls.bpf import ALLOW, AUDIT_ARCH, ERRNO, SyscallRule, assemble
from strongroom.walls.syscall_numbers import Machine, number
from support.filter_machine import decide

PID = 4242
REFUSED = ERRNO | errno.EPERM
NEVER = """
    execve execveat fork vfork ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd pidfd_send_signal kcmp
    unshare setns mount umount2 pivot_root chroot open_tree move_mount bpf perf_event_open userfaultfd io_uring_setup
    memfd_create keyctl add_key request_key init_module finit_module kexec_load setuid setresuid capset personality
    linkat symlinkat mknodat reboot swapon acct clock_settime clock_adjtime settimeofday seccomp listen bind setrlimit
    landlock_create_ruleset landlock_restrict_self
"""
URIS = {
    Reach.LOCAL: ("local:", "tpm2:device:/dev/tpmrm0?pcrs=7&auth-file=/etc/auth"),
    Reach.NETWORK: ("local:", "transit:https://kms:8200/transit/root?token-file=/etc/token&ca-file=/etc/ca"),
    Reach.LIBRARY: (
        "aws-kms:arn:aws:kms:eu-west-1:123456789012:key/abc",
        "pkcs11:token=t;object=o?module-path=/usr/lib/m.so&pin-source=file:/etc/pin",
    ),
}


def ask(rules: tuple[SyscallRule, ...], name: str, *arguments: int, machine: Machine = Machine.X86_64) -> int:
    called = number(machine, name)
    if called is None:
        return REFUSED
    return decide(assemble(rules, machine=machine), called, *arguments, arch=AUDIT_ARCH[machine])


@pytest.mark.parametrize("machine", list(Machine))
@pytest.mark.parametrize("reach", list(Reach))
def test_whoever_takes_it_over_starts_and_reaches_nothing(reach: Reach, machine: Machine) -> None:
    rules = serving_rules(reach, pid=PID)
    for name in NEVER.split():
        assert ask(rules, name, machine=machine) == REFUSED, name


@pytest.mark.parametrize("reach", list(Reach))
def test_it_signals_itself_alone(reach: Reach) -> None:
    rules = serving_rules(reach, pid=PID)
    for name in ("kill", "tgkill"):
        assert ask(rules, name, PID) == ALLOW
        for other in (1, 0, PID + 1, 2**32 - 1):
            assert ask(rules, name, other) == REFUSED


def test_only_a_key_service_on_the_network_opens_the_network() -> None:
    for reach in Reach:
        rules = serving_rules(reach, pid=PID)
        assert ask(rules, "socket", 1) == ALLOW
        for family in (2, 10):
            assert (ask(rules, "socket", family) == ALLOW) is (reach is not Reach.LOCAL)
        for family in (17, 38, 40, 31):  # packet, alg, vsock, bluetooth
            assert ask(rules, "socket", family) == REFUSED


@pytest.mark.parametrize("reach", list(Reach))
def test_memory_is_never_writable_and_executable_and_no_process_is_started(reach: Reach) -> None:
    rules = serving_rules(reach, pid=PID)
    assert ask(rules, "mmap", 0, 4096, 3) == ALLOW
    assert ask(rules, "mmap", 0, 4096, 7) == REFUSED
    assert ask(rules, "mprotect", 0, 4096, 6) == REFUSED
    assert ask(rules, "clone", 0x00010000) == ALLOW
    assert ask(rules, "clone", 0) == REFUSED
    assert ask(rules, "prlimit64", 1) == REFUSED


@pytest.mark.parametrize("reach", list(Reach))
def test_what_serves_may_do_no_more_than_what_starts(reach: Reach) -> None:
    # Filters stack: a call that the first one refuses stays refused, whatever the second says.
    starts = {rule.name: rule for rule in starting_rules(reach, pid=PID)}
    for rule in serving_rules(reach, pid=PID):
        assert starts[rule.name] == rule
    for name in ("bind", "listen", "seccomp"):
        assert ask(tuple(starts.values()), name) == ALLOW


@pytest.mark.parametrize("reach", list(Reach))
def test_reach_is_that_of_the_farthest_provider(reach: Reach) -> None:
    uris = [KeyUri.parse(text) for text in URIS[reach]]
    assert reach_of(uris) is reach
    assert reach_of(uris[::-1]) is reach
    assert reach_of(()) is Reach.LOCAL


def test_only_files_that_a_uri_names_are_opened_for_a_provider() -> None:
    assert files_of([KeyUri.parse(text) for text in URIS[Reach.LOCAL]]) == ("/dev/tpmrm0", "/etc/auth")
    assert files_of([KeyUri.parse(text) for text in URIS[Reach.NETWORK]]) == ("/etc/ca", "/etc/token")
