"""A keeper that speaks the real protocol over a real socket and judges nothing: for what stands around the keeper.

It reads every member as strictly as the keeper does, appends real signed entries to a real log writer, and notes what
it was handed. Signatures of people aren't verified: the broker mustn't lean on that, and here it would show.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from strongroom.access.request import Request
from strongroom.attestation.enrolment import MAX_REQUEST
from strongroom.attestation.evidence import MAX_BODY
from strongroom.attestation.kinds import EvidenceKind
from strongroom.audit.adapters.client import LogClient
from strongroom.audit.entries import make_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type, sign
from strongroom.core.errors import ConflictError, DeniedError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import platform_id
from strongroom.ipc.adapters.server import UnixServer
from strongroom.ipc.frames import Call
from strongroom.keys.wrapping import WrappedKey
from strongroom.release.attested import Attested
from strongroom.release.documents import DocumentKind
from strongroom.release.dossier import Dossier, WrappedDataKey
from strongroom.release.lease import LeaseAsk, LeaseProof, ReattestationDueError
from strongroom.sealing.manifest import read_manifest
from support.logs import KEEPER, sample_facts

PLATFORM = "tpm-" + "5a" * 32
CHIP = "azure-snp-vtpm-" + "5b" * 32


@dataclass
class SimulatedKeeper:
    """A keeper at ``home/run/keeper.sock``, in a thread of its own; its log writer must run already."""

    home: Path
    genesis: Digest
    handed: list[tuple[str, Dossier | Envelope | None]] = field(default_factory=list)
    """Operations as they came, with what they carried."""
    locked: bool = False
    suspended: set[str] = field(default_factory=set)
    created: set[Digest] = field(default_factory=set)
    documents: dict[str, tuple[int, Digest]] = field(default_factory=dict)
    registered: dict[str, tuple[int, Digest]] = field(default_factory=dict)
    evidence: list[bytes] = field(default_factory=list)
    """Evidence of enrolling chips and of renewals, as it came."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def operations(self) -> list[str]:
        """Return the operations that were called, in order."""
        return [operation for operation, _carried in self.handed]

    async def _start(self) -> None:
        self._log = await LogClient.connect(self.home / "run" / "log.sock")
        self._server = UnixServer(self._serve, admits=[os.geteuid()])
        await self._server.start(self.home / "run" / "keeper.sock")

    async def _stop(self) -> None:
        await self._server.stop()
        await self._log.close()

    async def _serve(self, call: Call, _uid: int) -> dict[str, Json]:
        routes: dict[str, Callable[[str, Fields], Awaitable[dict[str, Json]]]] = {
            "status": self._status,
            "adopt": self._adopt,
            "submit": self._submit,
            "approve": self._voice,
            "deny": self._voice,
            "challenge": self._challenge,
            "release": self._act,
            "export": self._act,
            "seal": self._act,
            "control": self._act,
            "explain": self._act,
            "grant": self._grant,
            "register": self._register,
            "enrol-begin": self._begin,
            "enrol-finish": self._finish,
            "chip-begin": self._begin_chip,
            "chip-finish": self._finish_chip,
            "renew": self._renew,
            "attested": self._attested,
            "certify": self._certify,
            "key-moves": self._moves,
        }
        with call.fields as fields:
            return await routes[call.operation](call.operation, fields)

    async def _moves(self, _operation: str, fields: Fields) -> dict[str, Json]:
        fields.text("after")
        fields.integer("count")
        return {"models": []}

    async def _certify(self, operation: str, fields: Fields) -> dict[str, Json]:
        fields.text("model")
        self.handed.append((operation, None))
        return {"certificate": {"payloadType": "t", "payload": "", "signatures": []}}

    async def _record(self, event: EventName, facts: Mapping[str, Fact]) -> dict[str, Json]:
        head = await self._log.head()
        data = make_entry(
            event,
            at=int(time.time()),
            by=Producer.KEEPER,
            seq=head.next_seq,
            facts={**sample_facts(event), **facts},
            signer=KEEPER,
        )
        receipt = await self._log.append([data])
        return {"index": receipt.first, "checkpoint": receipt.checkpoint.decode()}

    async def _status(self, _operation: str, _fields: Fields) -> dict[str, Json]:
        head = await self._log.head()
        return {
            "locked": self.locked,
            "cause": "asked" if self.locked else "",
            "genesis": str(self.genesis),
            "documents": {kind: {"epoch": e, "digest": str(d)} for kind, (e, d) in self.documents.items()},
            "models": {
                model: {"version": version, "manifest": str(manifest), "data_key": "dk", "frozen": False}
                for model, (version, manifest) in self.registered.items()
            },
            "frozen": [],
            "suspended": [*sorted(self.suspended)],
            "waiting": [],
            "precautions": [],
            "destructions": [],
            "destroyed": [],
            "irrecoverable": [],
            "closed": [],
            "lost": [],
            "log": {"size": head.size, "root": to_base64(bytes(32))},
            "latest": format_instant(int(time.time())),
        }

    async def _adopt(self, operation: str, fields: Fields) -> dict[str, Json]:
        kind, envelope = fields.parsed("kind", DocumentKind), _envelope(fields, "envelope")
        self.handed.append((operation, envelope))
        if self.documents.get(kind.value, (0, None))[1] == envelope.digest:
            return {"index": None, "effective": None}
        self.documents[kind.value] = (1, envelope.digest)
        recorded = await self._record(EventName.ROSTER_ADOPTED, {"epoch": 1, "document": envelope.digest})
        return {"index": recorded["index"], "effective": None}

    async def _submit(self, operation: str, fields: Fields) -> dict[str, Json]:
        envelope = _envelope(fields, "request")
        self.handed.append((operation, envelope))
        request = Request.parse(envelope.payload)
        if envelope.digest in self.created:
            raise ConflictError("the request is in the log already", reason="request-known")
        self.created.add(envelope.digest)
        facts: dict[str, Fact] = {
            "request": envelope.digest,
            "action": request.action.value,
            "requester": request.requester,
            "model": request.model,
        }
        return {"request": str(envelope.digest), **await self._record(EventName.REQUEST_CREATED, facts)}

    async def _voice(self, operation: str, fields: Fields) -> dict[str, Json]:
        envelope = _envelope(fields, "envelope")
        self.handed.append((operation, envelope))
        if envelope.digest not in self.created:
            raise DeniedError("no such request is in the log", reason="request-not-recorded")
        event = EventName.REQUEST_APPROVED if operation == "approve" else EventName.REQUEST_DENIED
        return await self._record(event, {"request": envelope.digest})

    async def _challenge(self, operation: str, fields: Fields) -> dict[str, Json]:
        self.handed.append((operation, None))
        fields.digest("request")
        fields.parsed("platform", platform_id)
        expires = format_instant(int(time.time()) + 60)
        return {"challenge": "c" * 32, "nonce": to_base64(bytes(32)), "expires": expires}

    async def _act(self, operation: str, fields: Fields) -> dict[str, Json]:
        with fields.child("dossier") as child:
            dossier = Dossier.read(child)
        self.handed.append((operation, dossier))
        delivery = sign(payload_type("delivery.v1"), b"{}", KEEPER).to_json()
        match operation:
            case "release":
                return {"delivery": delivery, "result": "e30.e30.e30"}
            case "seal":
                data = WrappedKey(os.urandom(12), os.urandom(48))
                wrapped = WrappedDataKey(data_key=os.urandom(16).hex(), kek="5e" * 16, data=data)
                return {"delivery": delivery, "wrapped": wrapped.to_json()}
            case "export":
                return {"delivery": delivery}
            case "explain":
                others: list[Json] = [{"reason": "quorum", "remedy": "ask more people"}]
                return {"allowed": False, "checks": [], "others": others, "grant": None}
            case _:
                return await self._record(EventName.MODEL_FROZEN, {"request": dossier.request.digest})

    async def _grant(self, _operation: str, fields: Fields) -> dict[str, Json]:
        with fields.child("dossier") as child:
            Dossier.read(child)
        return {"index": None}

    async def _register(self, operation: str, fields: Fields) -> dict[str, Json]:
        envelope, request = _envelope(fields, "manifest"), fields.digest("request")
        self.handed.append((operation, envelope))
        manifest = read_manifest(envelope)
        if self.registered.get(manifest.model, (0, None))[0] + 1 != manifest.version:
            raise DeniedError("the manifest doesn't name the current version", reason="not-a-successor")
        self.registered[manifest.model] = (manifest.version, manifest.digest)
        facts: dict[str, Fact] = {"request": request, "model": manifest.model, "manifest": manifest.digest}
        return await self._record(EventName.VERSION_REGISTERED, facts)

    async def _begin(self, operation: str, fields: Fields) -> dict[str, Json]:
        self.handed.append((operation, None))
        fields.binary("enrolment", max_length=MAX_REQUEST)
        blob = to_base64(b"blob")
        return {
            "session": "5e" * 16,
            "credential_blob": blob,
            "encrypted_secret": blob,
            "platform": PLATFORM,
            "isolation": "vm-simulated",
        }

    async def _finish(self, operation: str, fields: Fields) -> dict[str, Json]:
        self.handed.append((operation, None))
        fields.text("session", max_length=64)
        fields.binary("answer", max_length=64)
        record = sign(payload_type("platform.v1"), encode({"v": 1, "platform": PLATFORM}), KEEPER)
        return {"platform": record.to_json()}

    async def _begin_chip(self, operation: str, fields: Fields) -> dict[str, Json]:
        self.handed.append((operation, None))
        fields.parsed("kind", EvidenceKind)
        expires = format_instant(int(time.time()) + 60)
        return {"session": "5e" * 16, "nonce": to_base64(bytes(32)), "expires": expires}

    async def _finish_chip(self, operation: str, fields: Fields) -> dict[str, Json]:
        self.handed.append((operation, None))
        fields.text("session", max_length=64)
        self.evidence.append(fields.binary("evidence", max_length=MAX_BODY))
        record = sign(payload_type("platform.v1"), encode({"v": 1, "platform": CHIP}), KEEPER)
        return {"platform": record.to_json()}

    async def _renew(self, _operation: str, fields: Fields) -> dict[str, Json]:
        LeaseAsk.read(fields)
        _envelope(fields, "request")
        if not fields.optional("proof"):
            raise ReattestationDueError("new evidence is due")
        with fields.child("proof") as proof:
            self.evidence.append(LeaseProof.read(proof).evidence)
        return {"lease": sign(payload_type("lease.v1"), b"{}", KEEPER).to_json()}

    async def _attested(self, _operation: str, fields: Fields) -> dict[str, Json]:
        fields.digest("digest")
        return {"attested": Attested(evidence=b"e", binding=b"{}", result="e30.e30.e30").to_json()}


def _envelope(fields: Fields, name: str) -> Envelope:
    with fields.child(name) as child:
        return Envelope.read(child)
