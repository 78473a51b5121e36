"""The broker's HTTP interface, typed. It moves bytes; what they are worth is judged elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from strongroom.attestation.bundle.held import Held
from strongroom.attestation.collateral import MAX_ITEMS
from strongroom.attestation.ear import MAX_TOKEN
from strongroom.attestation.kinds import EvidenceKind
from strongroom.audit.entries import MAX_ENTRY
from strongroom.audit.protocol import MAX_SEAMS, ProvenEntry
from strongroom.audit.succession import Seam
from strongroom.client.keys_shown import EpochShown, KekShown, KeysShown
from strongroom.client.state import CapUse, PersonStanding, State, checkpoint_text
from strongroom.client.told import (
    Adopted,
    ChallengeTold,
    CheckShown,
    ChipTold,
    CollateralImported,
    CollateralShown,
    EnrolmentTold,
    Explanation,
    GrantShown,
    GrantTold,
    ListedRequest,
    NoticePage,
    NoticeTold,
    OdometerTold,
    Recorded,
    ReleaseTold,
    RequestFile,
    RequestPage,
    signed_object,
)
from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields, reading
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PlatformId, platform_id
from strongroom.egress.odometer import Block
from strongroom.release.attested import Attested
from strongroom.release.decided import MAX_DECIDED, MAX_REFUSALS
from strongroom.release.documents import DocumentKind
from strongroom.release.lease import LeaseAsk, LeaseProof
from strongroom.release.statements import StatementKind

PAGE: Final = 200
MAX_PAGES: Final = 50
KEYS_PAGE: Final = 500
MAX_EPOCHS: Final = 4096
MAX_PROOF: Final = 64
MAX_PEOPLE: Final = 2000
MAX_GRANTS: Final = 1000
COLLATERAL_PAGE: Final = 512
COLLATERAL_PART: Final = 128 * 1024
NOTICE_SECONDS: Final = 25
"""The longest that a call may wait for notices."""


class Transport(Protocol):
    """One call over whatever carries it.

    :raises UnavailableError: no answer. :raises StrongroomError: what the other side refused with.
    """

    def call(self, method: str, path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None) -> Json:
        """Call ``path`` and return the answer's JSON."""
        ...


class BrokerApi:
    """Every route, one method each. All raise what the transport raises, and MalformedError for another form."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def state(self) -> State:
        """Return what the deployment says is in force."""
        return State.read(self._get("/v1/state"))

    def genesis(self) -> Genesis:
        """Return the genesis that the server shows; compare its digest with one from elsewhere."""
        return Genesis.parse(encode(self._get("/v1/genesis")))

    def adopt(self, kind: DocumentKind, envelope: Envelope) -> Adopted:
        """Hand in a document signed by the root quorum."""
        with self._post(f"/v1/documents/{kind.value}", {"envelope": envelope.to_json()}) as fields:
            return Adopted(
                index=fields.integer("index") if fields.optional("index") else None,
                effective=fields.instant("effective") if fields.optional("effective") else None,
            )

    def keys(self) -> KeysShown:
        """Return the states and ages of the keys that open models."""
        keks: list[KekShown] = []
        for _page in range(MAX_PAGES):
            query: dict[str, str | int] = {"after": keks[-1].model if keks else "", "count": KEYS_PAGE}
            with reading(self._get("/v1/keys", query), "keys") as fields:
                generation, since = fields.integer("generation", least=1), fields.instant("since")
                epochs = fields.objects("epochs", EpochShown.read, most=MAX_EPOCHS)
                page = fields.objects("keks", KekShown.read, most=64 * KEYS_PAGE)
                more = fields.boolean("more")
            keks += page
            if not more or not page:
                break
        return KeysShown(generation=generation, since=since, epochs=epochs, keks=tuple(keks))

    def certificate(self, model: ModelId) -> Envelope:
        """Return the newest destruction certificate of a model."""
        with reading(self._get(f"/v1/destructions/{model}"), "certificate answer") as fields:
            return signed_object(fields, "certificate")

    def certify(self, model: ModelId) -> Envelope:
        """Have the keeper sign another destruction certificate, if there is something new to say."""
        with self._post(f"/v1/destructions/{model}", None) as fields:
            return signed_object(fields, "certificate")

    def carry_out(self, order: Envelope) -> Recorded:
        """Have the keeper carry out an order that the root quorum signed."""
        return self._act("/v1/key-orders", {"envelope": order.to_json()})

    def document(self, kind: DocumentKind, digest: Digest) -> Envelope:
        """Return a document, in force or waiting."""
        with reading(self._get(f"/v1/documents/{kind.value}/{digest}"), "document") as fields:
            return signed_object(fields, "envelope")

    def hand_in(self, kind: StatementKind, envelope: Envelope) -> Recorded:
        """Hand in a signed statement about people or access."""
        return self._act(f"/v1/statements/{kind.value}", {"envelope": envelope.to_json()})

    def people(self) -> tuple[tuple[PersonStanding, ...], tuple[CapUse, ...]]:
        """Return who is who today, and how many hold access of each class."""
        with reading(self._get("/v1/people"), "people") as fields:
            return (
                fields.objects("people", PersonStanding.read, most=MAX_PEOPLE),
                fields.objects("caps", CapUse.read, most=8),
            )

    def grants(self) -> tuple[GrantShown, ...]:
        """Return the newest grants, newest first."""
        with reading(self._get("/v1/grants"), "grants") as fields:
            return fields.objects("grants", GrantShown.read, most=MAX_GRANTS)

    def fallen(self, digest: Digest) -> Envelope:
        """Return the keeper's signed record of what fell with a suspension."""
        with reading(self._get(f"/v1/people/fallen/{digest}"), "fallen") as fields:
            return signed_object(fields, "envelope")

    def statement(self, kind: StatementKind, digest: Digest) -> Envelope:
        """Return a signed statement that the log names; for auditors."""
        with reading(self._get(f"/v1/statements/{kind.value}/{digest}"), "statement") as fields:
            return signed_object(fields, "envelope")

    def decisions(self, count: int, before: Digest | None = None) -> tuple[bytes, ...]:
        """Return the newest kept decisions, or those right before one, oldest first; for auditors. None: no more are.

        :raises DecisionNotKeptError: the one isn't kept, or no longer.
        """
        query: dict[str, str | int] = {"count": count} if before is None else {"count": count, "before": str(before)}
        with reading(self._get("/v1/decisions", query), "decisions") as fields:
            page = fields.texts("decisions", most=count, max_length=1 << 20)
        return tuple(from_base64(text) for text in page)

    def submit(self, request: Envelope) -> Recorded:
        """Submit a signed request."""
        with self._post("/v1/requests", {"request": request.to_json()}) as fields:
            fields.constant("request", str(request.digest))
            return _recorded(fields)

    def requests_page(self, *, state: str, limit: int, cursor: str) -> RequestPage:
        """List ``open`` requests or ``all``, newest first: at most ``limit``, behind ``cursor`` (empty: the newest)."""
        query: dict[str, str | int] = {"state": state, "limit": limit}
        if cursor:
            query["cursor"] = cursor
        with reading(self._get("/v1/requests", query), "requests") as fields:
            return RequestPage(
                requests=fields.objects("requests", ListedRequest.read, most=limit),
                next=fields.text("next") if fields.optional("next") else "",
            )

    def requests(self, *, everything: bool = False) -> tuple[ListedRequest, ...]:
        """List requests, newest first: the open ones, or all."""
        found: list[ListedRequest] = []
        cursor = ""
        for _page in range(MAX_PAGES):
            page = self.requests_page(state="all" if everything else "open", limit=PAGE, cursor=cursor)
            found += page.requests
            cursor = page.next
            if not cursor:
                break
        return tuple(found)

    def request(self, digest: Digest) -> RequestFile:
        """Return a request and what was said about it."""
        with reading(self._get(f"/v1/requests/{digest}"), "request file") as fields:
            with fields.child("request") as child:
                envelope = Envelope.read(child)
            return RequestFile(
                request=envelope,
                approvals=fields.objects("approvals", Envelope.read, most=256),
                denials=fields.objects("denials", Envelope.read, most=256),
            )

    def approve(self, approval: Envelope) -> Recorded:
        """Hand in a signed approval."""
        return self._act(f"/v1/requests/{approval.digest}/approvals", {"envelope": approval.to_json()})

    def deny(self, denial: Envelope) -> Recorded:
        """Hand in a signed denial."""
        return self._act(f"/v1/requests/{denial.digest}/denials", {"envelope": denial.to_json()})

    def notices(self, after: int | None = None, *, wait: int = 0, request: Digest | None = None) -> NoticePage:
        """Return notices of log entries after ``after``; without any, the server waits up to ``wait`` seconds.

        With no place given, the page is empty and tells the log's end. A page may be empty before the time is over.

        :param request: only notices about this request.
        """
        query: dict[str, str | int] = {"wait": wait}
        if after is not None:
            query["after"] = after
        if request is not None:
            query["request"] = str(request)
        with reading(self._get("/v1/notices", query), "notices answer") as fields:
            notices = fields.objects("notices", NoticeTold.read, most=2 * PAGE)
            return NoticePage(notices=notices, after=fields.integer("after", least=after or 0))

    def explain(self, digest: Digest) -> Explanation:
        """Return how the keeper would judge a request now."""
        with reading(self._get(f"/v1/requests/{digest}/explanation"), "explanation") as fields:
            return Explanation(
                allowed=fields.boolean("allowed"),
                checks=fields.objects("checks", CheckShown.read, most=64),
                others=_others(fields),
                grant=_grant(fields),
            )

    def decided(self, index: int) -> bytes:
        """Return the record of the decision that a log entry names; its digest is to be compared with the entry's."""
        with reading(self._get(f"/v1/releases/{index}/explanation"), "decision") as fields:
            fields.boolean("allowed")
            fields.objects("checks", CheckShown.read, most=64)
            _others(fields)
            return fields.binary("record", max_length=MAX_DECIDED)

    def control(self, digest: Digest) -> Recorded:
        """Carry out a freeze, resume or revocation."""
        return self._act(f"/v1/requests/{digest}/control", None)

    def seal(self, digest: Digest, recipient_key: bytes) -> Envelope:
        """Ask for the data key of a ``seal`` request; returns the signed delivery."""
        body: Json = {"recipient_key": to_base64(recipient_key)}
        with self._post(f"/v1/requests/{digest}/seal", body) as fields:
            return signed_object(fields, "delivery")

    def export(self, digest: Digest, recipient_key: bytes) -> Envelope:
        """Ask for the data key of an ``export-plaintext`` request; returns the signed delivery."""
        body: Json = {"recipient_key": to_base64(recipient_key)}
        with self._post(f"/v1/requests/{digest}/export", body) as fields:
            return signed_object(fields, "delivery")

    def register(self, manifest: Envelope, request: Digest) -> Recorded:
        """Register a sealed version."""
        return self._act("/v1/manifests", {"manifest": manifest.to_json(), "request": str(request)})

    def manifest(self, model: ModelId, version: int) -> Envelope:
        """Return a registered manifest."""
        with reading(self._get(f"/v1/manifests/{model}/{version}"), "manifest answer") as fields:
            return signed_object(fields, "manifest")

    def platforms(self) -> tuple[Envelope, ...]:
        """Return the keeper's signed records of the enrolled platforms."""
        found: list[Envelope] = []
        cursor = ""
        for _page in range(MAX_PAGES):
            query: dict[str, str | int] = {"limit": PAGE}
            if cursor:
                query["cursor"] = cursor
            with reading(self._get("/v1/platforms", query), "platforms") as fields:
                found += fields.objects("platforms", _platform, most=PAGE)
                cursor = fields.text("next") if fields.optional("next") else ""
            if not cursor:
                break
        return tuple(found)

    def enrol(self, enrolment: bytes) -> EnrolmentTold:
        """Begin to enrol a platform."""
        with self._post("/v1/enrolments", {"enrolment": to_base64(enrolment)}) as fields:
            return EnrolmentTold(
                session=fields.text("session", max_length=64),
                credential_blob=fields.binary("credential_blob", max_length=4096),
                encrypted_secret=fields.binary("encrypted_secret", max_length=4096),
                platform=fields.parsed("platform", platform_id),
                isolation=fields.text("isolation", max_length=32),
            )

    def finish_enrolment(self, session: str, answer: bytes) -> Envelope:
        """Answer an enrolment's credential; returns the platform's signed record."""
        with self._post(f"/v1/enrolments/{session}", {"answer": to_base64(answer)}) as fields:
            return signed_object(fields, "platform")

    def enrol_chip(self, kind: EvidenceKind) -> ChipTold:
        """Begin to enrol a confidential-computing chip; its evidence must commit to the session and nonce."""
        with self._post("/v1/chips", {"kind": kind.value}) as fields:
            return ChipTold(
                session=fields.text("session", max_length=64),
                nonce=fields.binary("nonce", max_length=64),
                expires=fields.instant("expires"),
            )

    def finish_chip(self, session: str, evidence: bytes) -> Envelope:
        """Hand in the evidence of an enrolling chip; returns the platform's signed record."""
        with self._post(f"/v1/chips/{session}", {"evidence": to_base64(evidence)}) as fields:
            return signed_object(fields, "platform")

    def challenge(self, digest: Digest, platform: PlatformId) -> ChallengeTold:
        """Step 3: ask for a challenge."""
        with self._post(f"/v1/requests/{digest}/challenges", {"platform": platform}) as fields:
            return ChallengeTold(
                challenge=fields.text("challenge", max_length=64),
                nonce=fields.binary("nonce", max_length=64),
                expires=fields.instant("expires"),
            )

    def release(self, digest: Digest, *, challenge: str, platform: PlatformId, evidence: bytes) -> ReleaseTold:
        """Steps 4 to 6: hand in evidence; returns the signed delivery, and the attestation result as a token."""
        body: Json = {"challenge": challenge, "platform": platform, "evidence": to_base64(evidence)}
        with self._post(f"/v1/requests/{digest}/release", body) as fields:
            return ReleaseTold(signed_object(fields, "delivery"), fields.text("result", max_length=MAX_TOKEN))

    def renew_lease(self, digest: Digest, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope:
        """Step 7: have a release judged again, by new evidence if any; returns the signed lease for this asking.

        :raises ReattestationDueError: it holds, and new evidence must come with the asking.
        """
        body: Json = {**ask.to_json(), "proof": None if proof is None else proof.to_json()}
        with self._post(f"/v1/requests/{digest}/leases", body) as fields:
            return signed_object(fields, "lease")

    def attested(self, digest: Digest) -> Attested:
        """Return what a release or renewal was proved by; whoever asks compares its digest with the log's."""
        with reading(self._get(f"/v1/attested/{digest}"), "attested answer") as fields:
            return Attested.read(fields.value("attested"))

    def lease_end(self, digest: Digest, use: int, *, wait: int) -> str:
        """Return why a lease ended; empty when it hasn't within ``wait`` seconds, or when there was no room to wait."""
        with reading(self._get(f"/v1/requests/{digest}/leases/{use}", {"wait": wait}), "lease answer") as fields:
            return fields.text("ended", max_length=96) if fields.optional("ended") else ""

    def odometer(self, model: ModelId) -> OdometerTold:
        """Return how far a model's odometer stands."""
        with reading(self._get(f"/v1/egress/{model}"), "odometer answer") as fields:
            return OdometerTold.read(fields)

    def open_odometer(self, delivery: Envelope, seen: bytes | None) -> bytes:
        """Begin a run for the governor of a release; returns the log entry, for whoever asks to check.

        :param seen: the newest entry that the governor kept.
        :raises StrongroomError: the release doesn't hold, no egress policy is in force, or the model is frozen.
        """
        told = None if seen is None else to_base64(seen)
        return self._logged("/v1/egress/runs", {"delivery": delivery.to_json(), "seen": told})

    def advance_odometer(self, delivery: Envelope, block: Block) -> bytes:
        """Have the log say that more may leave; returns the log entry, for whoever asks to check.

        :raises MeterSupersededError: another governor opened the model's odometer since.
        :raises OdometerRegressedError: the log never saw this run, or the readings go back.
        :raises LimitReachedError: nothing is left of the model's life.
        """
        return self._logged("/v1/egress/blocks", {"delivery": delivery.to_json(), "block": block.to_json()})

    def report_breach(self, delivery: Envelope, cause: str) -> None:
        """Have a model frozen out of which something came that nothing explains."""
        with self._post("/v1/egress/breaches", {"delivery": delivery.to_json(), "cause": cause}) as fields:
            if fields.optional("index"):
                fields.integer("index")

    def _logged(self, path: str, body: Json) -> bytes:
        with self._post(path, body) as fields:
            fields.integer("index")
            return fields.binary("entry", max_length=MAX_ENTRY)

    def collateral(self) -> CollateralShown:
        """Return what collateral the keeper holds."""
        items: list[Held] = []
        for _page in range(MAX_ITEMS // COLLATERAL_PAGE + 1):
            query: dict[str, str | int] = {"skip": len(items), "count": COLLATERAL_PAGE}
            with reading(self._get("/v1/collateral", query), "collateral") as fields:
                digest, lost = fields.digest("digest"), fields.boolean("lost")
                count = fields.integer("count", most=MAX_ITEMS)
                page = fields.objects("items", Held.read, most=COLLATERAL_PAGE)
            items += page
            if not page or len(items) >= count:
                break
        return CollateralShown(digest=digest, lost=lost, items=tuple(items))

    def import_collateral(self, bundle: bytes) -> CollateralImported:
        """Hand a bundle in, part by part. Nothing of it is imported unless all of it is.

        :raises CollateralUnprovenError: no pinned root vouches for an item.
        :raises CollateralRollbackError: an item is older than the one that is held.
        """
        digest = str(Digest.of(bundle))
        for offset in range(0, len(bundle), COLLATERAL_PART):
            part = bundle[offset : offset + COLLATERAL_PART]
            body: Json = {"bundle": digest, "size": len(bundle), "offset": offset, "part": to_base64(part)}
            with self._post("/v1/collateral", body) as fields:
                fields.constant("received", offset + len(part))
                if fields.optional("imported"):
                    with fields.child("imported") as imported:
                        return CollateralImported.read(imported)
        raise MalformedError("the deployment took a whole bundle and didn't say what came of it")

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""
        with reading(self._get("/v1/log/checkpoint"), "checkpoint answer") as fields:
            fields.integer("size")
            return checkpoint_text(fields)

    def seams(self, first: int) -> tuple[Seam, ...]:
        """Return how shards of the log were closed, from shard ``first`` (counted from 1) on, some at a time."""
        with reading(self._get("/v1/log/seams", {"first": first}), "seams answer") as fields:
            return fields.objects("seams", Seam.read, most=MAX_SEAMS)

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries of the log from ``start`` on, fewer than asked for where the answer would grow too large."""
        query: dict[str, str | int] = {"start": start, "count": count}
        with reading(self._get("/v1/log/entries", query), "entries answer") as fields:
            fields.constant("start", start)
            return tuple(from_base64(text) for text in fields.texts("entries", most=count, max_length=1 << 18))

    def inclusion(self, index: int, size: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a leaf hash and its audit path."""
        query: dict[str, str | int] = {"index": index, "size": size}
        with reading(self._get("/v1/log/proof/inclusion", query), "inclusion answer") as fields:
            return fields.binary("leaf", max_length=32), _proof(fields)

    def together(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Return entries of one shard with their audit paths, fewer where the answer would grow too large."""
        query: dict[str, str | int] = {"at": ",".join(str(place) for place in places), "size": size}
        with reading(self._get("/v1/log/proof/entries", query), "entries answer") as fields:
            return fields.objects("entries", _proven, most=len(places))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log of ``old`` entries is a prefix of that of ``new``."""
        query: dict[str, str | int] = {"old": old, "new": new}
        with reading(self._get("/v1/log/proof/consistency", query), "consistency answer") as fields:
            return _proof(fields)

    def _get(self, path: str, query: Mapping[str, str | int] | None = None) -> Json:
        return self._transport.call("GET", path, query=query)

    def _post(self, path: str, body: Json) -> Fields:
        return Fields(self._transport.call("POST", path, body=body), "answer")

    def _act(self, path: str, body: Json) -> Recorded:
        with self._post(path, body) as fields:
            return _recorded(fields)


def _recorded(fields: Fields) -> Recorded:
    return Recorded(index=fields.integer("index"), checkpoint=checkpoint_text(fields))


def _platform(fields: Fields) -> Envelope:
    fields.text("platform", max_length=96)
    return signed_object(fields, "record")


def _proof(fields: Fields) -> tuple[bytes, ...]:
    return tuple(from_base64(text) for text in fields.texts("proof", most=MAX_PROOF, max_length=44))


def _proven(fields: Fields) -> ProvenEntry:
    return fields.binary("entry", max_length=MAX_ENTRY), _proof(fields)


def _others(fields: Fields) -> tuple[tuple[str, str], ...]:
    return fields.objects("others", lambda f: (f.text("reason"), f.text("remedy", max_length=4096)), most=MAX_REFUSALS)


def _grant(fields: Fields) -> GrantTold | None:
    if not fields.optional("grant"):
        return None
    with fields.child("grant") as grant:
        return GrantTold.read(grant)
