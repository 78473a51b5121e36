"""A small assembler for seccomp filters: an allow-list in, classic BPF bytes out. Pure; loading is an adapter's work.

Layout of ``struct seccomp_data`` (Linux ``include/uapi/linux/seccomp.h``): number at 0, architecture at 4, arguments
as six 64-bit words from 16. Only the low 32 bits of an argument are looked at, so a rule may only constrain arguments
that the kernel itself reads as 32 bits or whose high half has no meaning.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.walls.syscall_numbers import Machine, number

AUDIT_ARCH: Final = {Machine.X86_64: 0xC000003E, Machine.AARCH64: 0xC00000B7}
X32_BIT: Final = 0x40000000

LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K

ALLOW: Final = 0x7FFF0000
KILL_PROCESS: Final = 0x80000000
ERRNO: Final = 0x00050000

MAX_INSTRUCTIONS: Final = 4096
"""The kernel's own limit (BPF_MAXINSNS)."""
_U32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ArgumentTest:
    """Argument ``index``, masked, must be one of ``allowed``."""

    index: int
    mask: int
    allowed: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.index <= 5 or not 0 <= self.mask <= _U32 or not 1 <= len(self.allowed) <= 64:
            raise MalformedError("an argument test needs an index of 0 to 5, a 32-bit mask and 1 to 64 values")
        if any(value & ~self.mask & _U32 or not 0 <= value <= _U32 for value in self.allowed):
            raise MalformedError("an argument test allows a value that its mask can never give")


@dataclass(frozen=True, slots=True)
class SyscallRule:
    """``name`` is allowed when every test holds; ``refusal`` is the errno that the caller sees otherwise.

    A rule with ``allowed=False`` only chooses that errno: some calls must answer ENOSYS so that the C library falls
    back to an older call whose arguments a filter can read.
    """

    name: str
    tests: tuple[ArgumentTest, ...] = ()
    refusal: int = errno.EPERM
    allowed: bool = True

    def to_json(self) -> Json:
        """Return the rule as a JSON object; equal rules give equal bytes."""
        tests: list[Json] = [{"index": t.index, "mask": t.mask, "allowed": list(t.allowed)} for t in self.tests]
        return {"name": self.name, "tests": tests, "refusal": self.refusal, "allowed": self.allowed}


def assemble(rules: tuple[SyscallRule, ...], *, machine: Machine) -> bytes:
    """Return the filter as an array of ``struct sock_filter``.

    A foreign architecture and x86-64's x32 numbers kill the process: the same number means another call there. Every
    number that no rule names gets EPERM.

    :raises MalformedError: two rules for one call, an unknown name, or a filter longer than the kernel takes.
    """
    names = [rule.name for rule in rules]
    if len(set(names)) != len(names):
        raise MalformedError("a filter names the same system call twice")
    code = [(LOAD_WORD, 0, 0, 4), (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]), (RETURN, 0, 0, KILL_PROCESS)]
    code.append((LOAD_WORD, 0, 0, 0))
    if machine is Machine.X86_64:
        code += [(JUMP_AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, KILL_PROCESS)]
    for rule in rules:
        found = number(machine, rule.name)
        if found is not None:
            body = _body(rule)
            code += [(JUMP_EQUAL, 0, len(body), found), *body]
    code.append((RETURN, 0, 0, ERRNO | errno.EPERM))
    if len(code) > MAX_INSTRUCTIONS:
        raise MalformedError(f"the filter has {len(code)} instructions; the kernel takes {MAX_INSTRUCTIONS}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _body(rule: SyscallRule) -> list[tuple[int, int, int, int]]:
    refuse = (RETURN, 0, 0, ERRNO | rule.refusal)
    if not rule.allowed:
        return [refuse]
    code: list[tuple[int, int, int, int]] = []
    for test in rule.tests:
        code += [(LOAD_WORD, 0, 0, 16 + 8 * test.index), (AND, 0, 0, test.mask)]
        for position, value in enumerate(test.allowed):
            # A hit jumps over the remaining comparisons and over the refusal.
            code.append((JUMP_EQUAL, len(test.allowed) - position, 0, value))
        code.append(refuse)
    code.append((RETURN, 0, 0, ALLOW))
    if len(code) > 255:
        raise MalformedError(f"the rule for `{rule.name}` is too long for one jump")
    return code
