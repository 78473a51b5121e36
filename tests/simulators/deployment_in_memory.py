"""A whole deployment in one process: the real keeper over a log in memory, behind the broker's paths.

No socket and no disk: what is simulated is the transport and the store, and a test can make either of them lie.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from simulators.attester import APPRAISAL, attester
from strongroom.access.policy import POLICY_TYPE, ModelTerms, Policy, Weights
from strongroom.attestation.measurement import launch_measurements
from strongroom.attestation.platform_record import PLATFORM_TYPE
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.audit.merkle import Frontier, leaf_hash, make_consistency, make_inclusion, node_hash
from strongroom.audit.succession import Prepared
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.default_policy import default_policy
from strongroom.client.wallet import publishing_signer
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import Clock, Instant, SystemClock
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import NotFoundError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId, ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer, HybridSigner
from strongroom.framework.levels import SecurityLevel
from strongroom.ipc.frames import Call
from strongroom.keeper.collateral import CollateralRegistry
from strongroom.keeper.founding import found
from strongroom.keeper.journal import Appended, Journal
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.leases import Leases
from strongroom.keeper.people import People
from strongroom.keeper.pins import Pins
from strongroom.keeper.records import PersonRecords
from strongroom.keeper.registry import PlatformRegistry
from strongroom.keeper.rotation import Rotation
from strongroom.keeper.routes import KeeperRoutes
from strongroom.keeper.service import Keeper
from strongroom.keeper.shards import SHARD_LIMITS, Shards
from strongroom.keeper.shredding import Shredding
from strongroom.keeper.shredding_routes import ShreddingRoutes
from strongroom.keeper.vault import Vault
from strongroom.keys.split_root import make_root
from strongroom.keys.wiring import key_provider
from strongroom.personnel.roster import ROSTER_TYPE, Person, Roster
from strongroom.release.decided import Decided
from strongroom.release.dossier import Dossier, WrappedDataKey
from support.collateral import MemoryCollateral
from support.cosigners import LOG_COSIGNER
from support.deployment import CHEAP, PASSPHRASE, vetted, vetting
from support.room import LOCAL, MemoryDecisions, MemoryKeyrings, MemoryRecords, unlocked

DAY = 86400
IMAGE = ImageId("embedder")
MODELS = {
    "small": SecurityLevel.SL1,
    "minilm": SecurityLevel.SL2,
    "atlas": SecurityLevel.SL3,
}
PEOPLE = {
    "dana": ("research", ("publisher", "requester", "responder")),
    "sam": ("security", ("approver-security", "responder")),
    "rina": ("research", ("approver-research",)),
    "olga": ("security", ("auditor",)),
    "vera": ("people", ("vetting-officer",)),
    "otto": ("people", ("vetting-officer", "access-reviewer")),
}
ROOTS = ("root-0", "root-1", "root-2")


def seed(name: str) -> bytes:
    """Return the seed of the key that a name stands for."""
    return Digest.of(name.encode()).value


def signer(name: str) -> Ed25519Signer:
    """Return the signing key that a name stands for."""
    return Ed25519Signer.from_seed(seed(name))


def publisher(name: str) -> HybridSigner:
    """Return the publishing key that a name stands for."""
    return publishing_signer(seed(name))


class MemoryLog:
    """The log writer: appends to a list and signs checkpoints with a real key."""

    def __init__(self, key: Ed25519Signer) -> None:
        self.key = key
        self.origin = ""
        self.entries: list[bytes] = []

    def open(self, origin: str, genesis: Digest, at: Instant) -> None:
        """Write the first entry."""
        self.origin = origin
        facts = {"genesis": genesis}
        self.entries.append(make_entry(EventName.LOG_OPENED, at=at, by=Producer.LOG, seq=0, facts=facts, signer=None))

    def checkpoint(self, size: int | None = None) -> bytes:
        """Sign the head of the first ``size`` entries."""
        size = len(self.entries) if size is None else size
        frontier = Frontier()
        for entry in self.entries[:size]:
            frontier.append(leaf_hash(entry))
        return Checkpoint(self.origin, size, frontier.root()).sign(self.key)

    def prove(self, old: int, new: int) -> tuple[bytes, ...]:
        """Prove that the first ``old`` entries are a prefix of the first ``new``."""
        return make_consistency(old, new, self._node)

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Prove that an entry is among the first ``size``."""
        return make_inclusion(index, size, self._node)

    def _node(self, level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(self.entries[index])
        return node_hash(self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1))

    async def append(self, entries: tuple[bytes, ...]) -> Appended:
        """Append entries."""
        first = len(self.entries)
        self.entries += entries
        return Appended(first, self.checkpoint())

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries."""
        return tuple(self.entries[start : start + count])

    async def head(self) -> tuple[int, bytes | None]:
        """Return size and checkpoint."""
        return len(self.entries), self.checkpoint()

    async def tight(self) -> bool:
        """Return whether space is short."""
        return False

    async def prepare(self) -> Prepared:
        """Refuse: this log has one shard."""
        raise UnavailableError("this log writer prepares no shard")

    async def cosigned(self) -> bytes | None:
        """Return nothing: no witness is asked."""
        return None


class _Pins:
    def __init__(self) -> None:
        self.kept: Pins | None = None

    def load(self) -> Pins | None:
        return self.kept

    def save(self, pins: Pins) -> None:
        self.kept = pins


class _Documents:
    def __init__(self) -> None:
        self.kept: dict[Digest, bytes] = {}

    def load(self, _kind: str, digest: Digest) -> bytes | None:
        return self.kept.get(digest)

    def save(self, _kind: str, digest: Digest, envelope: bytes) -> None:
        self.kept[digest] = envelope


@dataclass
class Stored:
    """What the broker's store holds of one request."""

    envelope: Envelope
    approvals: list[Envelope] = field(default_factory=list)
    denials: list[Envelope] = field(default_factory=list)


class InMemoryDeployment:
    """The deployment, and a transport to it. ``forge`` may change any answer on its way out."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.log = MemoryLog(signer("log"))
        self.loop = asyncio.new_event_loop()
        self.documents: dict[str, Envelope] = {}
        self.proposed: dict[str, Envelope] = {}
        self.requests: dict[str, Stored] = {}
        self.manifests: dict[tuple[str, str], Envelope] = {}
        self.wrapped: dict[tuple[Json, Json], WrappedDataKey] = {}
        """By model and version."""
        self.platforms: list[Envelope] = []
        self.calls: list[tuple[str, str]] = []
        self.forge: Callable[[str, Json], Json] = lambda _path, answer: answer
        self.while_waiting: Callable[[], object] = lambda: None
        """What happens while a client waits for notices."""
        self.genesis, vault = self._found()
        self.log.open(self.genesis.log_origin, self.genesis.digest, self.clock.now())
        decisions = MemoryDecisions()
        self.keeper = Keeper(
            genesis=self.genesis,
            vault=vault,
            journal=Journal(self.genesis, self.log, self.clock),
            pins=_Pins(),
            keyrings=MemoryKeyrings(),
            documents=_Documents(),
            decisions=decisions,
            attested=MemoryDecisions(),
            clock=self.clock,
            random_bytes=os.urandom,
        )
        records = PersonRecords(self.genesis.digest, vault, MemoryRecords(), os.urandom)
        people = People(self.keeper, records, decisions, self.clock)
        self._run(self.keeper.start())
        platforms = PlatformRegistry(self.keeper, self.clock, os.urandom)
        self.collateral = CollateralRegistry(self.keeper, MemoryCollateral(), self.clock)
        leases = Leases(self.keeper, self.clock)
        shards = Shards(self.keeper, self.clock, SHARD_LIMITS)
        rotation = Rotation(keeper=self.keeper, records=records, random_bytes=os.urandom)
        self.keeper.found_tree = rotation.found_tree
        keys = KeyRoutes(self.keeper, rotation, self.clock)
        self.shredding = Shredding(keeper=self.keeper, rotation=rotation, notes=_Documents(), clock=self.clock)
        ShreddingRoutes(self.shredding).join(keys)
        self.routes = KeeperRoutes(
            self.keeper, platforms, people, leases, decisions, self.clock, self.collateral, shards=shards, keys=keys
        )
        self.roster = Roster(genesis=self.genesis.digest, epoch=1, predecessor=None, people=self._people())
        terms = tuple(
            ModelTerms(model=ModelId(name), level=level, least_isolation="vm-simulated", weights=Weights.TEST)
            for name, level in MODELS.items()
        )
        default = default_policy(self.genesis.digest)
        # Everybody here signs with a key in a file; what security keys change has tests of its own.
        rules = tuple(replace(rule, hardware=False) for rule in default.rules)
        self.policy = replace(default, rules=rules, models=terms)

    def _found(self) -> tuple[Genesis, Vault]:
        with SecretBytes(bytearray(PASSPHRASE)) as passphrase:
            local = key_provider(LOCAL, passphrase=passphrase, cost=CHEAP)
            founded = found(
                deployment="memory",
                root_keys=[signer(name).public_key for name in ROOTS],
                root_threshold=2,
                log_key=self.log.key.public_key,
                log_cosigner=LOG_COSIGNER,
                at=self.clock.now(),
                random_bytes=os.urandom,
                root_of=lambda genesis: make_root(genesis, [local], os.urandom),
            )
        return founded.genesis, unlocked(founded)

    def _people(self) -> tuple[Person, ...]:
        return tuple(
            Person(
                id=PersonId(name),
                org=org,
                active=True,
                roles=frozenset(roles),
                keys=(signer(name).public_key, *([publisher(name).public_key] if "publisher" in roles else [])),
            )
            for name, (org, roles) in PEOPLE.items()
        )

    # --- preparing ----------------------------------------------------------------------------------------------------

    def adopt_first(self) -> None:
        """Take roster, policy and reference values into force, vet everybody, and enrol one platform."""
        for kind, payload_type, payload in (
            ("roster", ROSTER_TYPE, self.roster.to_bytes()),
            ("policy", POLICY_TYPE, self.policy.to_bytes()),
            ("reference-values", REFERENCE_VALUES_TYPE, self.reference_values().to_bytes()),
        ):
            self.adopt(kind, sign(payload_type, payload, signer("root-0"), signer("root-1")))
        for name in PEOPLE:
            self.vet(name)
        record = sign(PLATFORM_TYPE, attester().record().to_bytes(), self.keeper.vault.signer)
        facts: dict[str, Fact] = {
            "platform": attester().record().platform,
            "record": record.digest,
            "hardware": Digest.of(b"ek"),
            "isolation": "vm-simulated",
        }
        self._run(self.keeper.record_pinned(EventName.PLATFORM_ENROLLED, facts))
        self.platforms.append(record)

    def adopt(self, kind: str, envelope: Envelope) -> None:
        """Take a document into force."""
        answer = self._ask("adopt", kind=kind, envelope=envelope.to_json())
        self.proposed[str(envelope.digest)] = envelope
        if answer["effective"] is None:
            self.documents[kind] = envelope

    def vet(self, name: str, **members: object) -> None:
        """Have a person's next vetting record recorded, signed by the root quorum."""
        before = self.keeper.journal.ledger.vetting.get(PersonId(name))
        serial, now = before.epoch + 1 if before else 1, self.clock.now()
        record = vetting(self.genesis.digest, name, at=now, until=now + 30 * DAY, serial=serial, **members)
        self._ask("state", kind="vetting", envelope=vetted(record).to_json())

    def change_roster(self, change: Callable[[Person], Person]) -> None:
        """Take the next roster into force, with every person changed as told."""
        people = tuple(change(person) for person in self.roster.people)
        before = Digest.of(self.roster.to_bytes())
        self.roster = replace(self.roster, epoch=self.roster.epoch + 1, predecessor=before, people=people)
        self.adopt("roster", sign(ROSTER_TYPE, self.roster.to_bytes(), signer("root-1"), signer("root-2")))

    def next_policy(self, policy: Policy) -> None:
        """Take the next policy into force."""
        before = Digest.of(self.policy.to_bytes())
        self.policy = replace(policy, epoch=self.policy.epoch + 1, predecessor=before)
        self.adopt("policy", sign(POLICY_TYPE, self.policy.to_bytes(), signer("root-1"), signer("root-2")))

    def reference_values(self) -> ReferenceValues:
        """Return reference values with one image."""
        events = launch_measurements(
            interpreter=Digest.of(b"interpreter"),
            files=Digest.of(b"files"),
            command=Digest.of(b"command"),
            sandbox=Digest.of(b"sandbox"),
            genesis=self.genesis.digest,
        )
        return ReferenceValues(
            genesis=self.genesis.digest,
            epoch=1,
            images=(ReferenceImage.launched(IMAGE, events),),
            anchors=(),
            appraisal=APPRAISAL,
            not_after=self.clock.now() + 90 * DAY,
        )

    def wallet(self, folder: Path, name: str) -> Path:
        """Make the wallet of a person or root holder, bound to this deployment."""
        path = folder / name
        WalletFolder.create(path, PersonId(name), lambda _size: seed(name), passphrase=None)
        WalletFolder(path, _nothing).bind("https://127.0.0.1:8443", self.genesis, b"no authority is asked")
        return path

    # --- the transport ------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None) -> Json:
        """Answer as the broker would."""
        self.calls.append((method, path))
        parts = path.removeprefix("/v1/").split("/")
        members = body if isinstance(body, dict) else {}
        return self.forge(path, self._answer(method, parts, members, dict(query or {})))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Keep the loop: another command may call."""

    def close(self) -> None:
        """End the loop."""
        self.loop.close()

    def _answer(  # noqa: C901, PLR0911, PLR0912 - one case and return for each route
        self, method: str, parts: list[str], body: dict[str, Json], query: dict[str, str | int]
    ) -> Json:
        match method, *parts:
            case "GET", "state":
                return self._state()
            case "GET", "genesis":
                return parse(self.genesis.to_bytes())
            case "POST", "documents", kind:
                envelope = _envelope(body["envelope"])
                answer = self._ask("adopt", kind=kind, envelope=body["envelope"])
                self.proposed[str(envelope.digest)] = envelope
                if answer["effective"] is None:
                    self.documents[kind] = envelope
                return answer
            case "GET", "documents", _kind, digest if digest in self.proposed:
                return {"envelope": self.proposed[digest].to_json()}
            case "GET", "keys":
                return self._ask("keys", **query)
            case ("GET" | "POST") as verb, "destructions", model:
                return self._ask("certificate" if verb == "GET" else "certify", model=model)
            case "POST", "key-orders":
                return self._ask("key-order", envelope=body["envelope"])
            case "POST", "statements", kind:
                return self._ask("state", kind=kind, envelope=body["envelope"])
            case "GET", ("people" | "grants") as what:
                return self._ask(what)
            case "GET", "statements", kind, digest:
                return self._ask("statement", kind=kind, digest=digest)
            case "GET", "people", "fallen", digest:
                return self._ask("fallen", digest=digest)
            case "POST", "chips":
                return self._ask("chip-begin", kind=body["kind"])
            case "POST", "chips", session:
                return self._ask("chip-finish", session=session, evidence=body["evidence"])
            case "GET", "attested", digest:
                return self._ask("attested", digest=digest)
            case "GET", "decisions":
                return self._ask("decisions", **query)
            case "GET", "releases", index, "explanation":
                return self._decided(int(index))
            case "POST", "requests":
                answer = self._ask("submit", request=body["request"])
                self.requests[str(answer["request"])] = Stored(_envelope(body["request"]))
                self._grant(self.requests[str(answer["request"])])
                return answer
            case "GET", "requests":
                return {"requests": [self._listed(digest) for digest in self.requests], "next": None}
            case _, "requests", digest, *rest:
                return self._about(digest, rest[0] if rest else "", body)
            case "GET", "notices":
                if "after" in query:
                    self.while_waiting()
                return {"notices": [], "after": len(self.log.entries) - 1}
            case "GET", "manifests", model, version if (model, version) in self.manifests:
                return {"manifest": self.manifests[model, version].to_json()}
            case "POST", "manifests":
                envelope = _envelope(body["manifest"])
                answer = self._ask("register", manifest=body["manifest"], request=body["request"])
                manifest = parse(envelope.payload)
                assert isinstance(manifest, dict)
                self.manifests[str(manifest["model"]), str(manifest["version"])] = envelope
                return answer
            case "GET", "platforms":
                shown: list[Json] = [
                    {"platform": str(attester().record().platform), "record": record.to_json()}
                    for record in self.platforms
                ]
                return {"platforms": shown, "next": None}
            case "GET", "egress", model:
                return self._ask("odometer", model=model)
            case "GET", "collateral":
                return self._ask("collateral", **query)
            case "POST", "collateral":
                return self._ask("import-collateral", by="dana", **body)
            case "GET", "log", "checkpoint":
                return {"size": len(self.log.entries), "checkpoint": self.log.checkpoint().decode()}
            case "GET", "log", "entries":
                start, count = int(query["start"]), int(query["count"])
                entries = self.log.entries[start : start + count]
                return {"start": start, "entries": [to_base64(entry) for entry in entries]}
            case "GET", "log", "proof", "inclusion":
                place = int(query["index"])
                proof = self.log.prove_inclusion(place, int(query["size"]))
                leaf = to_base64(leaf_hash(self.log.entries[place]))
                return {"leaf": leaf, "proof": [to_base64(value) for value in proof]}
            case "GET", "log", "proof", "entries":
                places = [int(place) for place in str(query["at"]).split(",")]
                return {"entries": [self._proven(place, int(query["size"])) for place in places]}
            case "GET", "log", "proof", "consistency":
                proof = self.log.prove(int(query["old"]), int(query["new"]))
                return {"proof": [to_base64(value) for value in proof]}
            case _:
                raise NotFoundError("there is nothing at this address")

    def _proven(self, place: int, size: int) -> Json:
        proof = self.log.prove_inclusion(place, size)
        return {"entry": to_base64(self.log.entries[place]), "proof": [to_base64(value) for value in proof]}

    def _state(self) -> dict[str, Json]:
        status = self._ask("status")
        documents: dict[str, Json] = {kind: envelope.to_json() for kind, envelope in self.documents.items()}
        return {**status, "documents": documents, "checkpoint": self.log.checkpoint().decode()}

    def _listed(self, digest: str) -> Json:
        stored = self.requests[digest]
        body = parse(stored.envelope.payload)
        assert isinstance(body, dict)
        return {
            "digest": digest,
            "action": body["action"],
            "model": body["model"],
            "requester": body["requester"],
            "created": body["not_before"],
            "expires": body["expires"],
            "approvals": len(stored.approvals),
            "denials": len(stored.denials),
        }

    def _decided(self, index: int) -> Json:
        named = read_entry(self.log.entries[index]).facts.get("decision")
        record = self._ask("decision", digest=str(named))["decision"]
        decided = Decided.parse(from_base64(str(record)))
        return {
            "allowed": decided.allowed,
            "checks": [check.to_json() for check in decided.checks],
            "others": [{"reason": reason, "remedy": remedy} for reason, remedy in decided.others],
            "record": record,
        }

    def _about(self, digest: str, what: str, body: dict[str, Json]) -> Json:  # noqa: PLR0911 - one return for each route
        stored = self.requests.get(digest)
        if stored is None:
            raise NotFoundError("no such request")
        dossier = self._dossier(stored)
        match what:
            case "":
                return {
                    "request": stored.envelope.to_json(),
                    "approvals": [envelope.to_json() for envelope in stored.approvals],
                    "denials": [envelope.to_json() for envelope in stored.denials],
                }
            case "approvals":
                answer = self._ask("approve", envelope=body["envelope"])
                stored.approvals.append(_envelope(body["envelope"]))
                self._grant(stored)
                return answer
            case "denials":
                answer = self._ask("deny", envelope=body["envelope"])
                stored.denials.append(_envelope(body["envelope"]))
                return answer
            case "explanation":
                return self._ask("explain", dossier=dossier.to_json())
            case "control":
                return self._ask("control", dossier=dossier.to_json())
            case "export":
                shown = dossier.to_json()
                assert isinstance(shown, dict)
                return self._ask("export", dossier={**shown, "recipient_key": body["recipient_key"]})
            case "seal":
                recipient = {"recipient_key": body["recipient_key"]}
                shown = dossier.to_json()
                assert isinstance(shown, dict)
                answer = self._ask("seal", dossier={**shown, **recipient})
                with Fields({"wrapped": answer["wrapped"]}, "seal") as fields, fields.child("wrapped") as child:
                    self.wrapped[_version(stored.envelope)] = WrappedDataKey.read(child)
                return {"delivery": answer["delivery"]}
            case _:
                raise NotFoundError("there is nothing at this address")

    def _dossier(self, stored: Stored) -> Dossier:
        approvals = tuple(stored.approvals)
        return Dossier(request=stored.envelope, approvals=approvals, wrapped=self._wrapped(stored.envelope))

    def _grant(self, stored: Stored) -> None:
        """Let the keeper issue the grant if the quorum agreed, as the broker does."""
        with suppress(StrongroomError):
            self._ask("grant", dossier=self._dossier(stored).to_json())

    def _wrapped(self, envelope: Envelope) -> WrappedDataKey | None:
        return self.wrapped.get(_version(envelope))

    def _ask(self, operation: str, **members: Json) -> dict[str, Json]:
        return self._run(self.routes.serve(Call(1, operation, Fields(dict(members), operation)), os.geteuid()))

    def _run(self, work: Awaitable[dict[str, Json]] | Awaitable[object]) -> dict[str, Json]:
        async def inside() -> object:
            return await work

        answer = self.loop.run_until_complete(inside())
        return answer if isinstance(answer, dict) else {}


def _version(envelope: Envelope) -> tuple[Json, Json]:
    """Return the model and the version that a request is about."""
    body = parse(envelope.payload)
    assert isinstance(body, dict)
    return body["model"], body["version"]


def _envelope(value: Json) -> Envelope:
    with Fields(value, "envelope") as fields:
        return Envelope.read(fields)


def _nothing() -> SecretBytes:
    raise StrongroomError("no passphrase is needed")
