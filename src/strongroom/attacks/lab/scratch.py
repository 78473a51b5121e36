"""A whole deployment made for one run: founded, started, furnished, and the honest moves of everybody in it.

Nothing in it is a double. What it holds is random bytes that were sealed for the occasion; what its people sign with is
made with it and dies with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from strongroom.access.policy import POLICY_TYPE, Policy
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, LogHead, Purpose
from strongroom.attacks.lab.callers import Caller, trusting
from strongroom.attacks.lab.cast import MODEL, OFFICERS, OTHER, PEOPLE, Cast, bare_request, cleared, first_policy
from strongroom.attacks.lab.marker import mark_scratch
from strongroom.attacks.lab.processes import DEPLOYMENT, PASSPHRASE, Processes
from strongroom.attacks.layers import Layer
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.wiring import create_log_keys
from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keeper.wiring import found_keeper
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from strongroom.personnel.vetting import VETTING_TYPE
from strongroom.release.delivery import Delivery, accept
from strongroom.release.dossier import Dossier, WrappedDataKey
from strongroom.sealing.adapters.directory import seal_directory
from strongroom.sealing.write import SealedDirectory, VersionFacts

CHEAP: Final = Argon2Cost(iterations=1, lanes=1, memory_kib=8192)
PLAIN_BYTES: Final = 300_000
SECONDS: Final = 30.0
LIFE: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class SealedVersion:
    """A sealed version, and its data key as the keeper wrapped it: both lie where a thief of storage finds them."""

    folder: Path
    plain: Path
    sealed: SealedDirectory
    wrapped: WrappedDataKey


@dataclass
class Scratch:
    """The deployment, its people and its files."""

    folder: Path
    genesis: Genesis
    cast: Cast
    roster: Roster
    policy: Policy
    processes: Processes
    port: int = 0
    versions: dict[ModelId, SealedVersion] = field(default_factory=dict)
    _serials: dict[str, int] = field(default_factory=dict)
    _callers: dict[tuple[str, bool], Caller] = field(default_factory=dict)

    # --- founding -----------------------------------------------------------------------------------------------------

    @classmethod
    def found(cls, folder: Path, without: frozenset[Layer] = frozenset()) -> Scratch:
        """Found a deployment below ``folder``. Nothing runs yet."""
        # As `strongroom init` leaves it; the folders above are open, so that nothing but its own modes protects it.
        home = folder / "home"
        home.mkdir(mode=0o700)
        (home / "run").mkdir(mode=0o700)
        cast = Cast()
        keys = create_log_keys(home, os.urandom)
        with SecretBytes(bytearray(PASSPHRASE)) as passphrase:
            genesis = found_keeper(
                home,
                deployment="scratch",
                root_keys=[root.public_key for root in cast.roots(3)],
                root_threshold=2,
                log_key=keys.signing,
                log_cosigner=keys.cosigning,
                passphrase=passphrase,
                cost=CHEAP,
            )
        mark_scratch(home, genesis, cast.roots())
        roster, policy = cast.roster(genesis.digest), first_policy(genesis.digest)
        return cls(folder, genesis, cast, roster, policy, Processes(home, without))

    @property
    def home(self) -> Path:
        """The deployment's folder."""
        return self.processes.home

    @property
    def database(self) -> Path:
        """The broker's database."""
        return self.home / "broker" / "broker.db"

    def start(self) -> None:
        """Start the three processes."""
        self.processes.start("log", "--witness-seconds", "0.5")
        self.processes.start("keeper")
        self.start_broker()

    @property
    def serves(self) -> bool:
        """Whether all three processes were started and not stopped since."""
        return self.processes.running.keys() >= {*DEPLOYMENT}

    def start_broker(self) -> None:
        """Start the broker on a free port."""
        self.port = int(str(self.processes.start("broker", "--port", "0")["port"]))

    def stop(self) -> None:
        """Stop everything."""
        self.hang_up()
        self.processes.stop_all()

    def furnish(self) -> None:
        """Adopt roster and policy, clear everybody but the insider, and seal version 1 of both models."""
        self.adopt("roster", sign(ROSTER_TYPE, self.roster.to_bytes(), *self.cast.roots()))
        self.adopt("policy", sign(POLICY_TYPE, self.policy.to_bytes(), *self.cast.roots()))
        for name in (*OFFICERS, *(one for one in PEOPLE if one not in {*OFFICERS, "max"})):
            self.vet(name)
        for model in (MODEL, OTHER):
            self.versions[model] = self._seal(model)

    def _seal(self, model: ModelId) -> SealedVersion:
        plain = self.folder / f"{model}-plain"
        plain.mkdir(mode=0o700)
        (plain / "config.json").write_text('{"hidden_size": 64}')
        # Two of one size: what takes another's place mustn't be told by its length alone.
        for name in ("model.safetensors", "more.safetensors"):
            (plain / name).write_bytes(os.urandom(PLAIN_BYTES))
        key = RecipientKey()
        asked = self.ask(Action.SEAL, model=model, version=1, recipient=key.digest, purpose=Purpose.PUBLISH)
        made = self.post(f"requests/{asked.digest}/seal", {"recipient_key": to_base64(key.public)})
        delivery, data_key = self.opened(made["delivery"], asked, key, model=model)
        target = self.folder / f"{model}-1.sealed"
        with data_key:
            sealed = seal_directory(
                plain,
                target,
                facts=VersionFacts(
                    genesis=self.genesis.digest,
                    model=model,
                    version=1,
                    predecessor=None,
                    data_key_id=delivery.data_key,
                    publisher=PersonId("dana"),
                ),
                data_key=data_key,
                signer=self.cast.publisher("dana"),
                random_bytes=os.urandom,
                segment_bits=16,
            )
        self.post("manifests", {"manifest": sealed.envelope.to_json(), "request": str(asked.digest)})
        with Fields(json.loads(self.wrapped_row(model)), "wrapped") as fields:
            return SealedVersion(target, plain, sealed, WrappedDataKey.read(fields))

    def wrapped_row(self, model: ModelId) -> str:
        """Return the database's row with a model's wrapped data key."""
        ((body,),) = self.execute("SELECT body FROM wrapped_keys WHERE model = ? AND version = 1", model)
        return str(body)

    # --- channels -----------------------------------------------------------------------------------------------------

    def authority(self) -> DevCa:
        """Return the deployment's own certificate authority: who holds it plays anybody's machine."""
        return DevCa.open(self.home / "broker" / "ca", self.genesis.deployment, at=int(time.time()))

    def caller(self, name: str, *, enclave: bool = False) -> Caller:
        """Return the connection of a person or an enclave's host, kept while the broker runs."""
        key = (name, enclave)
        if key not in self._callers:
            authority = self.authority()
            issue = authority.issue_enclave if enclave else authority.issue_person
            issued = issue(name, at=int(time.time()), life=LIFE)
            self._callers[key] = Caller(self.port, trusting(authority.certificate, issued))
        return self._callers[key]

    def hang_up(self) -> None:
        """Close every connection."""
        while self._callers:
            self._callers.popitem()[1].close()

    def post(self, path: str, body: Json = None, *, by: str = "dana") -> dict[str, Json]:
        """Post as a person, and return what a good answer said.

        :raises RefusedError: it was refused.
        """
        return self.caller(by).post(f"/v1/{path}", body).done()

    def call(self, operation: str, **members: Json) -> dict[str, Json]:
        """Call the keeper by its socket, as who controls the broker does.

        :raises StrongroomError: it refused.
        """
        return asyncio.run(_call(self.home / "run" / "keeper.sock", operation, members))

    # --- people's moves -----------------------------------------------------------------------------------------------

    def adopt(self, kind: str, envelope: Envelope) -> None:
        """Have a signed document adopted."""
        self.post(f"documents/{kind}", {"envelope": envelope.to_json()}, by="root-1")

    def vet(self, name: str, *, officers: Sequence[str] = OFFICERS, **members: object) -> None:
        """Have somebody's next vetting record recorded; the first officers are cleared by the root quorum."""
        serial = self._serials.get(name, 0) + 1
        record = cleared(self.genesis.digest, name, at=int(time.time()), serial=serial, **members)
        first = name in OFFICERS and serial == 1
        signers = self.cast.roots() if first else tuple(self.cast.signer(officer) for officer in officers)
        envelope = sign(VETTING_TYPE, record.to_bytes(), *signers)
        self.post("statements/vetting", {"envelope": envelope.to_json()}, by="root-1" if first else officers[0])
        self._serials[name] = serial

    def head(self) -> LogHead:
        """Return the log as a client sees it now."""
        with Fields(self.call("status")["log"], "log") as fields:
            size, root = fields.integer("size"), fields.text("root")
        return LogHead(size=size, root=Digest.parse("sha256:" + from_base64(root).hex()))

    def unsubmitted(self, action: Action, *, by: str = "dana", **members: object) -> Envelope:
        """Make and sign a request, and hand it in to nobody."""
        base = bare_request(
            self.genesis.digest,
            self.roster,
            self.policy,
            self.head(),
            action,
            by=by,
            at=int(time.time()),
            nonce=os.urandom(16),
        )
        asked = replace(base, **members)  # type: ignore[arg-type]  # names of its own
        return sign(REQUEST_TYPE, asked.to_bytes(), self.cast.signer(by))

    def ask(self, action: Action, *, by: str = "dana", **members: object) -> Envelope:
        """Make, sign and submit a request."""
        envelope = self.unsubmitted(action, by=by, **members)
        self.post("requests", {"request": envelope.to_json()}, by=by)
        return envelope

    def ask_export(self, key: RecipientKey, *, by: str = "dana", model: ModelId = MODEL, **members: object) -> Envelope:
        """Ask for the data key of the current version, to be delivered to a recipient key."""
        envelope = self.unsubmitted_export(key, by=by, model=model, **members)
        self.post("requests", {"request": envelope.to_json()}, by=by)
        return envelope

    def unsubmitted_export(
        self, key: RecipientKey, *, by: str = "dana", model: ModelId = MODEL, **members: object
    ) -> Envelope:
        """Make and sign such a request, and hand it in to nobody."""
        told: dict[str, object] = {
            "model": model,
            "version": 1,
            "manifest": self.versions[model].sealed.manifest.digest,
            "recipient": key.digest,
        }
        return self.unsubmitted(Action.EXPORT_PLAINTEXT, by=by, **(told | members))

    def approval(self, request: Envelope, by: str) -> Envelope:
        """Sign an approval, and hand it in to nobody."""
        return sign(APPROVAL_TYPE, request.payload, self.cast.signer(by))

    def approve(self, request: Envelope, *people: str) -> tuple[Envelope, ...]:
        """Have people approve: by default the two whom the rule wants."""
        approvals = tuple(self.approval(request, name) for name in people or ("sam", "rina"))
        for name, approval in zip(people or ("sam", "rina"), approvals, strict=True):
            self.post(f"requests/{request.digest}/approvals", {"envelope": approval.to_json()}, by=name)
        return approvals

    def deny(self, request: Envelope, by: str) -> None:
        """Have somebody deny."""
        denial = sign(DENIAL_TYPE, request.payload, self.cast.signer(by))
        self.post(f"requests/{request.digest}/denials", {"envelope": denial.to_json()}, by=by)

    def export(self, request: Envelope, key: RecipientKey, *, by: str = "dana", model: ModelId = MODEL) -> Delivery:
        """Ask the broker for the delivery of an export, and open what was delivered."""
        told = self.post(f"requests/{request.digest}/export", {"recipient_key": to_base64(key.public)}, by=by)
        delivery, data_key = self.opened(told["delivery"], request, key, model=model)
        data_key.wipe()
        return delivery

    def export_from_keeper(self, dossier: Dossier, key: RecipientKey, *, model: ModelId = MODEL) -> Delivery:
        """Put a dossier before the keeper itself, as who controls the broker does."""
        told = self.call("export", dossier=dossier.to_json())
        delivery, data_key = self.opened(told["delivery"], dossier.request, key, model=model)
        data_key.wipe()
        return delivery

    def opened(
        self, told: Json, request: Envelope, key: RecipientKey, *, model: ModelId = MODEL
    ) -> tuple[Delivery, SecretBytes]:
        """Open a delivery as its recipient does."""
        with Fields(told, "delivery") as fields:
            envelope = Envelope.read(fields)
        return accept(envelope, self.genesis, key, request=request.digest, model=model, version=1)

    def control(self, request: Envelope, *, by: str = "dana") -> None:
        """Have a freeze, a resume or a revocation carried out."""
        self.post(f"requests/{request.digest}/control", by=by)

    def exported(self) -> tuple[Envelope, RecipientKey]:
        """Carry out an honest export; returns the request and the key that it was for."""
        key = RecipientKey()
        request = self.ask_export(key)
        self.approve(request)
        self.export(request, key)
        return request, key

    def data_key(self, model: ModelId = MODEL) -> SecretBytes:
        """Return the data key of a model's version 1, by an honest export."""
        key = RecipientKey()
        request = self.ask_export(key, model=model)
        self.approve(request)
        told = self.post(f"requests/{request.digest}/export", {"recipient_key": to_base64(key.public)})
        return self.opened(told["delivery"], request, key, model=model)[1]

    # --- looking ------------------------------------------------------------------------------------------------------

    def entries(self, start: int = 0) -> list[Entry]:
        """Return the log's entries from an index on, as the broker shows them."""
        found: list[Entry] = []
        caller, size = self.caller("root-1"), self.head().size
        while start + len(found) < size:
            shown = caller.get(f"/v1/log/entries?start={start + len(found)}&count=256").done()["entries"]
            found += [read_entry(from_base64(str(one))) for one in (shown if isinstance(shown, list) else [])]
        return found

    # --- the attacker's hands -----------------------------------------------------------------------------------------

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run a statement on the broker's open database."""
        with closing(sqlite3.connect(self.database, timeout=10)) as database, database:
            return database.execute(statement, values).fetchall()

    def forge_row(self, request: Envelope, approval: Envelope) -> None:
        """Write an approval into the open database."""
        statement = "INSERT INTO approvals (request, kind, envelope, created) VALUES (?, 'approve', ?, 1)"
        self.execute(statement, str(request.digest), approval.to_bytes().decode())

    def copy_database(self, to: Path) -> None:
        """Take a whole copy of the open database."""
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(to)) as target:
            source.backup(target)

    @contextmanager
    def broker_down(self) -> Iterator[None]:
        """Stop the broker for a while."""
        self.hang_up()
        self.processes.stop("broker")
        try:
            yield
        finally:
            self.start_broker()

    @contextmanager
    def all_down(self) -> Iterator[None]:
        """Stop all three for a while."""
        self.stop()
        try:
            yield
        finally:
            self.processes.stop_all()
            self.start()


async def _call(socket: Path, operation: str, members: dict[str, Json]) -> dict[str, Json]:
    client = UnixClient(socket, seconds=SECONDS)
    try:
        fields = await client.call(operation, **members)
        return {name: fields.value(name) for name in fields.names(most=64)}
    finally:
        await client.close()
