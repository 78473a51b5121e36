"""What a confined process may see, run, write and ask of the kernel, as one value with one digest.

The digest is extended into the measured state before the agent asks for a key, so that a wider sandbox is another
measurement and gets none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from strongroom.core import canonical, fields
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.enclave import allowlist
from strongroom.walls.bpf import SyscallRule

MODEL_PATH: Final = "/model"
SCRATCH_PATH: Final = "/scratch"
PROFILE_VERSION: Final = 1
_MAX_ROOTS: Final = 64
_NOT_MEASURED: Final = frozenset({"agent_roots", "model_bytes"})
_RESERVED: Final = ("/model", "/scratch", "/proc", "/dev")


class SandboxError(UnavailableError):
    """The confinement can't be entered as the profile demands. Nothing confined was started."""

    code = "sandbox"


class WritableCode(StrEnum):
    """Whether memory that was writable may ever become executable."""

    NEVER = "never"
    """Memory-deny-write-execute: stops injected machine code, and every just-in-time compiler (oneDNN, Triton)."""
    COMPILED = "compiled"
    """A compiler may flip pages from writable to executable; both at once stays refused."""


class ExecRule(StrEnum):
    """Whether the command may start further programs."""

    ONCE = "once"
    """The interpreter is started, then starting programs and processes is closed for good. For Python scripts."""
    MEASURED = "measured"
    """Programs inside the executable roots may be started, each under the same confinement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxProfile:
    """The confinement of one process enclave. Paths are absolute; sizes are bytes.

    ``readable_roots`` are what agent and command see, ``executable_roots`` the part of it that may be executed or
    mapped as code, ``agent_roots`` (sealed weights) what only the agent sees. ``links`` are symbolic links of the view.
    """

    readable_roots: tuple[str, ...]
    executable_roots: tuple[str, ...]
    agent_roots: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    model_bytes: int
    scratch_bytes: int
    uid: int
    writable_code: WritableCode
    exec_rule: ExecRule
    limits: tuple[tuple[str, int], ...]
    environment: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        roots = (*self.readable_roots, *self.executable_roots, *self.agent_roots)
        for root in roots:
            _check_root(root)
        if len(roots) > _MAX_ROOTS:
            raise MalformedError(f"a sandbox profile names {len(roots)} roots; at most {_MAX_ROOTS} are taken")
        for root in self.executable_roots:
            if not any(_covers(outer, root) for outer in self.readable_roots):
                raise MalformedError("an executable root lies outside the readable roots", reason="sandbox.roots")
        for root in self.agent_roots:
            # Were the sealed weights under a readable root, the command would see them and their neighbours.
            if any(_covers(outer, root) for outer in self.readable_roots):
                raise MalformedError(
                    "an agent root lies inside a readable root, so the command could read it",
                    reason="sandbox.roots",
                    remedy="keep sealed weights outside the folders that hold code",
                )
        if self.model_bytes <= 0 or self.scratch_bytes < 0 or not 0 < self.uid < 2**31:
            raise MalformedError("a sandbox profile needs a positive size for the weights and a uid other than 0")

    @property
    def agent_syscalls(self) -> tuple[SyscallRule, ...]:
        """What the agent may call."""
        return allowlist.agent_rules()

    @property
    def command_syscalls(self) -> tuple[SyscallRule, ...]:
        """What the command may call while its interpreter is started."""
        return allowlist.command_rules(may_exec=self.exec_rule is ExecRule.MEASURED)

    @property
    def settled_syscalls(self) -> tuple[SyscallRule, ...]:
        """What the command may call from its first own instruction on."""
        return allowlist.settled_rules(may_exec=self.exec_rule is ExecRule.MEASURED)

    def to_json(self) -> Json:
        """Return the profile as a JSON object; it spells out the system calls, so that they are measured too."""
        return {
            "v": PROFILE_VERSION,
            "readable_roots": list(self.readable_roots),
            "executable_roots": list(self.executable_roots),
            "agent_roots": list(self.agent_roots),
            "links": [[name, target] for name, target in self.links],
            "model_bytes": self.model_bytes,
            "scratch_bytes": self.scratch_bytes,
            "uid": self.uid,
            "writable_code": self.writable_code.value,
            "exec_rule": self.exec_rule.value,
            "limits": [[name, value] for name, value in self.limits],
            "environment": [[name, value] for name, value in self.environment],
            "agent_syscalls": [rule.to_json() for rule in self.agent_syscalls],
            "command_syscalls": [rule.to_json() for rule in self.command_syscalls],
            "settled_syscalls": [rule.to_json() for rule in self.settled_syscalls],
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON (RFC 8785) that is measured."""
        return canonical.encode(self.to_json())

    @property
    def digest(self) -> Digest:
        """The SHA-256 of what is measured: all but where the sealed files lie and how large they are.

        Those differ from version to version and only the agent, which is measured itself, sees them. What the command
        sees, may run and may ask for is all in.
        """
        told = self.to_json()
        if not isinstance(told, dict):
            raise MalformedError("a sandbox profile is a JSON object")
        return Digest.of(canonical.encode({name: value for name, value in told.items() if name not in _NOT_MEASURED}))

    @classmethod
    def from_bytes(cls, data: bytes) -> SandboxProfile:
        """Read what :meth:`to_bytes` wrote.

        :raises MalformedError: not a profile, or one made by a version with other system call lists.
        """
        with fields.reading(canonical.decode(data), "profile") as f:
            f.constant("v", PROFILE_VERSION)
            for name in ("agent_syscalls", "command_syscalls", "settled_syscalls"):
                f.value(name)  # compared below, as part of the whole
            profile = cls(
                readable_roots=f.texts("readable_roots", most=_MAX_ROOTS, max_length=4096),
                executable_roots=f.texts("executable_roots", most=_MAX_ROOTS, max_length=4096),
                agent_roots=f.texts("agent_roots", most=_MAX_ROOTS, max_length=4096),
                links=_pairs(f, "links"),
                model_bytes=f.integer("model_bytes"),
                scratch_bytes=f.integer("scratch_bytes"),
                uid=f.integer("uid"),
                writable_code=f.parsed("writable_code", WritableCode),
                exec_rule=f.parsed("exec_rule", ExecRule),
                limits=tuple((name, _number(value)) for name, value in _raw_pairs(f, "limits")),
                environment=_pairs(f, "environment"),
            )
        if profile.to_bytes() != data:
            raise MalformedError("the sandbox profile lists other system calls than this version enforces")
        return profile


LIMITS: Final = (
    ("nofile", 1024),
    ("nproc", 512),
    ("msgqueue", 0),
    ("nice", 0),
    ("rtprio", 0),
)
"""Resource limits. Core dumps aren't listed: they are always off, by several means."""

ENVIRONMENT: Final = (
    ("HF_HUB_OFFLINE", "1"),
    ("HOME", SCRATCH_PATH),
    ("LANG", "C.UTF-8"),
    ("PATH", ""),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("STRONGROOM_MODEL", MODEL_PATH),
    ("TMPDIR", SCRATCH_PATH),
    ("TRANSFORMERS_OFFLINE", "1"),
)


def process_profile(
    *,
    code_roots: tuple[str, ...],
    data_roots: tuple[str, ...] = (),
    sealed_roots: tuple[str, ...],
    links: tuple[tuple[str, str], ...] = (),
    model_bytes: int,
    scratch_bytes: int = 64 << 20,
    uid: int = 65534,
    writable_code: WritableCode = WritableCode.NEVER,
    exec_rule: ExecRule = ExecRule.ONCE,
    environment: tuple[tuple[str, str], ...] = (),
) -> SandboxProfile:
    """Return the profile of a process enclave.

    ``code_roots`` may be read and executed (interpreter, libraries), ``data_roots`` only read (scripts, tables);
    ``sealed_roots`` only the agent sees. ``environment`` is added to :data:`ENVIRONMENT` and may not change it.

    :raises MalformedError: a relative or overlapping root, or a variable that the confinement sets itself.
    """
    own = {name for name, _ in ENVIRONMENT}
    for name, _value in environment:
        if name in own or name.startswith(("LD_", "PYTHON")):
            raise MalformedError(f"the variable `{name[:40]}` is the confinement's own", reason="sandbox.environment")
    code = outermost(code_roots)
    return SandboxProfile(
        readable_roots=outermost((*code, *data_roots)),
        executable_roots=code,
        agent_roots=outermost(sealed_roots),
        links=tuple(sorted(set(links))),
        model_bytes=model_bytes,
        scratch_bytes=scratch_bytes,
        uid=uid,
        writable_code=writable_code,
        exec_rule=exec_rule,
        limits=LIMITS,
        environment=tuple(sorted((*ENVIRONMENT, *environment))),
    )


def outermost(roots: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``roots`` sorted, without those that lie inside another."""
    kept: list[str] = []
    for root in sorted(set(roots)):
        if not any(_covers(outer, root) for outer in kept):
            kept.append(root)
    return tuple(kept)


def _covers(outer: str, inner: str) -> bool:
    return PurePosixPath(inner).is_relative_to(outer)


def _check_root(root: str) -> None:
    path = PurePosixPath(root)
    if not path.is_absolute() or ".." in path.parts or str(path) != root or len(path.parts) < 2 or "\0" in root:
        raise MalformedError(
            f"the root `{root[:80]}` must be an absolute, plain path below `/`", reason="sandbox.roots"
        )
    if any(_covers(reserved, root) or _covers(root, reserved) for reserved in _RESERVED):
        raise MalformedError(
            f"the root `{root[:80]}` stands where the confinement mounts its own", reason="sandbox.roots"
        )


def _raw_pairs(f: fields.Fields, name: str) -> list[tuple[str, Json]]:
    pairs: list[tuple[str, Json]] = []
    for where, item in f.items(name, most=256):
        match item:
            case [str(first), second]:
                pairs.append((first, second))
            case _:
                raise MalformedError(f"`{where}` must be a name and a value")
    return pairs


def _pairs(f: fields.Fields, name: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for first, second in _raw_pairs(f, name):
        if not isinstance(second, str):
            raise MalformedError(f"`{f.where}.{name}` must hold pairs of strings")
        pairs.append((first, second))
    return tuple(pairs)


def _number(value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MalformedError("a resource limit must be a whole number")
    return value
