"""A real deployment in a folder: people with signing keys, the signed documents, and the real processes.

Used by promise tests and benchmarks. Nothing here is a double: the log writer and the keeper are started as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.policy import POLICY_TYPE, Factor, ModelTerms, Policy, Rule, Weights
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, LogHead, Request
from strongroom.attacks.lab import cast
from strongroom.audit.wiring import create_log_keys
from strongroom.client.wallet import publishing_signer
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer, HybridSigner
from strongroom.framework.levels import SecurityLevel
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keeper.wiring import found_keeper
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.personnel.roster import ROSTER_TYPE, Person, Roster
from strongroom.personnel.vetting import VETTING_TYPE, Training, VettingRecord
from strongroom.release.dossier import Dossier
from support.forked import Forked, Process, reap

TESTS = Path(__file__).resolve().parents[1]
PASSPHRASE = b"six random words would be better"
CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=8192)
DAY = 86400
MODEL = ModelId("minilm")
LEVEL = SecurityLevel.SL2

PEOPLE = {
    "dana": ("research", {"publisher", "requester", "responder"}),
    "sam": ("security", {"approver-security"}),
    "rina": ("research", {"approver-research"}),
    "both": ("security", {"approver-security", "approver-research"}),
}


def signer(name: str) -> Ed25519Signer:
    """Return the signing key that a name stands for; the same in every run."""
    return Ed25519Signer.from_seed(Digest.of(name.encode()).value)


def publisher(name: str) -> HybridSigner:
    """Return the publishing key that a name stands for."""
    return publishing_signer(Digest.of(name.encode()).value)


ROOTS = tuple(signer(f"root-{n}") for n in range(3))


def rules() -> tuple[Rule, ...]:
    """Return a rule for each action at the test level."""
    two = (Factor(role="approver-security", count=1), Factor(role="approver-research", count=1))

    def rule(action: Action, role: str, factors: tuple[Factor, ...], uses: int = 1) -> Rule:
        return Rule(
            action=action,
            level=LEVEL,
            requester_role=role,
            factors=factors,
            requester_tier=1,
            approver_tier=2,
            max_window=7 * DAY,
            max_uses=uses,
        )

    return (
        rule(Action.SEAL, "publisher", ()),
        rule(Action.OPEN_IN_ENCLAVE, "requester", two, uses=1000),
        rule(Action.FREEZE, "responder", ()),
        rule(Action.RESUME, "responder", two),
        rule(Action.REVOKE_GRANT, "responder", ()),
        rule(Action.LIFT, "responder", two),
        rule(Action.REVOKE_PLATFORM, "responder", ()),
        rule(Action.ROTATE, "responder", ()),
    )


def vetting(genesis: Digest, name: str, *, at: int, until: int, serial: int = 1, **members: object) -> VettingRecord:
    """Return a vetting record under which everything is in order; ``members`` make it otherwise."""
    told: dict[str, object] = {
        "expires_on": until,
        "rescreen_due": until,
        "training": (Training(course="weights-handling", expires=until),),
        "salt": Digest.of(f"{name} {serial}".encode()).value[:16],
    }
    return cast.cleared(genesis, name, at=at, serial=serial, **(told | members))


def vetted(record: VettingRecord) -> Envelope:
    """Return a vetting record that the root quorum signed."""
    return sign(VETTING_TYPE, record.to_bytes(), *ROOTS[:2])


def person(name: str, *, active: bool = True) -> Person:
    """Return one of the people above as the roster lists them."""
    org, roles = PEOPLE[name]
    return Person(
        id=PersonId(name),
        org=org,
        active=active,
        roles=frozenset(roles),
        keys=(signer(name).public_key, *([publisher(name).public_key] if "publisher" in roles else [])),
    )


def bare_request(
    genesis: Digest,
    roster: Roster,
    policy: Policy,
    log: LogHead,
    action: Action,
    *,
    by: str,
    at: int | None = None,
    nonce: bytes | None = None,
) -> Request:
    """Return a request with the members that every action has; what one action needs more is for the caller to add."""
    return cast.bare_request(
        genesis,
        roster,
        policy,
        log,
        action,
        by=by,
        model=MODEL,
        at=int(time.time()) if at is None else at,
        nonce=os.urandom(16) if nonce is None else nonce,
    )


@dataclass
class Deployment:
    """A deployment in a folder, its processes, and a connection to the keeper."""

    home: Path
    genesis: Genesis
    roster: Roster
    policy: Policy
    keeper_module: str = "strongroom.keeper.wiring"
    fresh: bool = False
    """Whether processes start from nothing, as `strongroom up` has them: for tests of a process and its memory."""
    processes: dict[str, Process] = field(default_factory=dict)
    serials: dict[str, int] = field(default_factory=dict)

    @classmethod
    def found(cls, home: Path, *, models: Sequence[ModelTerms] | None = None, **roots: Any) -> Deployment:
        """Found a deployment; nothing runs yet. ``roots``: its providers and custodians, if it has others."""
        home.mkdir(parents=True, exist_ok=True)
        (home / "run").mkdir(exist_ok=True)
        log_keys = create_log_keys(home, os.urandom)
        with SecretBytes(bytearray(PASSPHRASE)) as passphrase:
            genesis = found_keeper(
                home,
                deployment="test",
                root_keys=[root.public_key for root in ROOTS],
                root_threshold=2,
                log_key=log_keys.signing,
                log_cosigner=log_keys.cosigning,
                passphrase=passphrase,
                cost=CHEAP,
                **roots,
            )
        roster = Roster(
            genesis=genesis.digest,
            epoch=1,
            predecessor=None,
            people=tuple(person(name) for name in PEOPLE),
        )
        terms = models or [ModelTerms(model=MODEL, level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST)]
        policy = Policy(
            genesis=genesis.digest, epoch=1, predecessor=None, cedar=DEFAULT_CEDAR, rules=rules(), models=tuple(terms)
        )
        return cls(home, genesis, roster, policy)

    def start(self, name: str, *, uid: int | None = None, more: Sequence[str] = ()) -> None:
        """Start `log` or `keeper`, under a uid of its own if one is given, and wait until it serves."""
        module = {"log": "strongroom.audit.wiring", "keeper": self.keeper_module}[name]
        arguments = ["--home", str(self.home), *more]
        descriptors: tuple[int, ...] = ()
        if name == "keeper":
            reading, writing = os.pipe()
            os.write(writing, PASSPHRASE)
            os.close(writing)
            descriptors = (reading,)
            arguments += ["--passphrase-fd", str(reading)]
        before = [] if uid is None else [sys.executable, str(TESTS / "support" / "as_ordinary_user.py"), str(uid)]
        with (self.home / f"{name}.err").open("ab") as errors:
            process: Process
            if self.fresh or before:
                process = subprocess.Popen(
                    [*before, sys.executable, "-m", module, *arguments],
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    pass_fds=descriptors,
                    env={**os.environ, "PYTHONPATH": str(TESTS)},
                )
            else:
                process = Forked(module, arguments, stderr=errors.fileno(), pass_fds=descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ProcessRefusedError(name, reap(process), (self.home / f"{name}.err").read_text())
        assert json.loads(line)["ready"]
        self.processes[name] = process

    def stop(self, name: str) -> int:
        """Stop a process by SIGTERM and return its exit code."""
        process = self.processes.pop(name)
        process.terminate()
        return reap(process)

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL, or reap one that died."""
        process = self.processes.pop(name)
        process.kill()
        reap(process)

    def close(self) -> None:
        """Stop whatever runs, the keeper first."""
        for name in sorted(self.processes):
            self.kill(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def call(self, operation: str, **members: Json) -> dict[str, Json]:
        """Call the keeper and return its answer."""
        return asyncio.run(self._call(operation, members))

    async def _call(self, operation: str, members: dict[str, Json]) -> dict[str, Json]:
        client = UnixClient(self.home / "run" / "keeper.sock")
        try:
            answer: Fields = await client.call(operation, **members)
            return {name: answer.value(name) for name in list(answer._left)}
        finally:
            await client.close()

    def adopt(self, kind: str, envelope: Envelope) -> None:
        """Have the keeper adopt a document."""
        self.call("adopt", kind=kind, envelope=envelope.to_json())

    def adopt_first(self) -> None:
        """Adopt the roster and policy of epoch 1, and vet everybody."""
        self.adopt("roster", sign(ROSTER_TYPE, self.roster.to_bytes(), *ROOTS[:2]))
        self.adopt("policy", sign(POLICY_TYPE, self.policy.to_bytes(), *ROOTS[1:]))
        for one in self.roster.people:
            self.vet(one.id)

    def vet(self, name: str, **members: object) -> None:
        """Have a person's next vetting record recorded."""
        serial = self.serials.get(name, 0) + 1
        now = int(time.time())
        record = vetting(self.genesis.digest, name, at=now, until=now + 30 * DAY, serial=serial, **members)
        self.call("state", kind="vetting", envelope=vetted(record).to_json())
        self.serials[name] = serial

    def change_roster(self, change: Callable[[Person], Person]) -> None:
        """Adopt the next roster, with every person changed as told."""
        before = Digest.of(self.roster.to_bytes())
        people = tuple(change(one) for one in self.roster.people)
        self.roster = replace(self.roster, epoch=self.roster.epoch + 1, predecessor=before, people=people)
        self.adopt("roster", sign(ROSTER_TYPE, self.roster.to_bytes(), *ROOTS[:2]))

    def head(self) -> LogHead:
        """Return the log's head as a client would see it."""
        log = self.call("status")["log"]
        assert isinstance(log, dict)
        size, root = log["size"], log["root"]
        assert isinstance(size, int)
        assert isinstance(root, str)
        return LogHead(size=size, root=Digest.parse("sha256:" + from_base64(root).hex()))

    def request(self, action: Action, *, by: str = "dana", **members: object) -> Envelope:
        """Make, sign and submit a request."""
        base = bare_request(self.genesis.digest, self.roster, self.policy, self.head(), action, by=by)
        envelope = sign(REQUEST_TYPE, replace(base, **members).to_bytes(), signer(by))  # type: ignore[arg-type]
        self.call("submit", request=envelope.to_json())
        return envelope

    def approve(self, request: Envelope, by: str) -> Envelope:
        """Approve a request and have it recorded."""
        approval = sign(APPROVAL_TYPE, request.payload, signer(by))
        self.call("approve", envelope=approval.to_json())
        return approval

    def deny(self, request: Envelope, by: str) -> None:
        """Deny a request and have it recorded."""
        self.call("deny", envelope=sign(DENIAL_TYPE, request.payload, signer(by)).to_json())

    def control(self, request: Envelope, *approvals: Envelope) -> None:
        """Carry out a freeze, resume or revocation."""
        self.call("control", dossier=Dossier(request=request, approvals=approvals).to_json())


class ProcessRefusedError(Exception):
    """A process didn't start."""

    def __init__(self, name: str, code: int, errors: str) -> None:
        super().__init__(f"{name} exited with {code}: {errors[-2000:]}")
        self.code = code
        self.errors = errors
