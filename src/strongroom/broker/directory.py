"""What the broker shows and keeps beside requests: documents in force, enrolled platforms, lists, the log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from strongroom.audit.entries import read_entry
from strongroom.broker.bodies import DecisionsQuery, EntriesQuery, ListQuery, PageQuery, SeamsQuery
from strongroom.broker.ports import PlatformRow, RequestSummary
from strongroom.broker.rows import envelope_text, stored_envelope
from strongroom.broker.service import Broker, Members
from strongroom.core.canonical import Json, decode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import LockedError, MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, platform_id
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from strongroom.release.decided import MAX_DECIDED, Decided
from strongroom.release.documents import DocumentKind
from strongroom.release.statements import StatementKind

_CURSOR: Final = re.compile(r"([0-9]{1,16})\.(sha256:[0-9a-f]{64})", re.ASCII)

_STATUS: Final = (
    "locked",
    "cause",
    "genesis",
    "documents",
    "models",
    "frozen",
    "suspended",
    "waiting",
    "destructions",
    "destroyed",
    "irrecoverable",
    "closed",
    "lost",
    "precautions",
    "log",
    "latest",
)


class Directory:
    """Reads for everybody, and the two kinds of object that aren't about a request."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def state(self) -> Members:
        """Return the keeper's status, the documents in force and the newest checkpoint.

        A document that the store has lost is left out: the root quorum can post the one in force again.
        """
        status = await self._status()
        _size, checkpoint = await self._broker.log.checkpoint()
        documents: dict[str, Json] = {}
        with Fields(status.pop("documents"), "documents") as in_force:
            for kind in DocumentKind:
                if in_force.optional(kind.value):
                    with in_force.child(kind.value) as adopted:
                        adopted.integer("epoch")
                        digest = str(adopted.digest("digest"))
                    text = await self._broker.store.document(kind.value, digest)
                    if text is not None:
                        documents[kind.value] = stored_envelope(text, f"{kind.value} document").to_json()
        return {**status, "documents": documents, "checkpoint": checkpoint}

    async def _status(self) -> Members:
        with await self._broker.keeper.call("status") as answer:
            return {name: answer.value(name) for name in _STATUS}

    def genesis(self) -> Json:
        """Return the genesis."""
        return decode(self._broker.genesis.to_bytes())

    async def ready(self) -> None:
        """Return when keeper, log and store answer and releases are possible.

        :raises LockedError: the keeper is locked.
        :raises UnavailableError: one of them doesn't answer.
        """
        status = await self._status()
        if status["locked"] is not False:
            raise LockedError("the keeper is locked", remedy="start the deployment again")
        await self._broker.log.checkpoint()
        await self._broker.store.platforms(after="", limit=1)

    # --- documents ----------------------------------------------------------------------------------------------------

    async def adopt(self, kind: DocumentKind, envelope: Envelope) -> Members:
        """Have the keeper take a document into force, then store it."""
        return await self._broker.whole(self._adopt(kind, envelope))

    async def _adopt(self, kind: DocumentKind, envelope: Envelope) -> Members:
        epoch = _epoch(envelope)
        with await self._broker.keeper.call("adopt", kind=kind.value, envelope=envelope.to_json()) as answer:
            index, effective = answer.value("index"), answer.value("effective")
        await self._broker.store.put_document(
            kind=kind.value,
            epoch=epoch,
            digest=str(envelope.digest),
            envelope=envelope_text(envelope),
        )
        return {"index": index, "effective": effective}

    async def proposed(self, kind: DocumentKind, digest: Digest) -> Members:
        """Return a document by its digest, in force or waiting: so that everybody sees what is coming."""
        text = await self._broker.store.document(kind.value, str(digest))
        if text is None:
            raise NotFoundError("no such document is stored")
        return {"envelope": stored_envelope(text, f"{kind.value} document").to_json()}

    # --- people -------------------------------------------------------------------------------------------------------

    async def state_of(self, kind: StatementKind, envelope: Envelope) -> Members:
        """Have the keeper judge and record a statement. The broker keeps nothing of it."""
        return await self._broker.whole(self._state_of(kind, envelope))

    async def _state_of(self, kind: StatementKind, envelope: Envelope) -> Members:
        with await self._broker.keeper.call("state", kind=kind.value, envelope=envelope.to_json()) as answer:
            return {name: answer.value(name) for name in ("index", "checkpoint")}

    async def people(self) -> Members:
        """Return who is who today, and how many hold access of each class."""
        with await self._broker.keeper.call("people") as answer:
            return {name: answer.value(name) for name in ("people", "caps")}

    async def holds_role(self, person: PersonId, role: str) -> bool:
        """Tell whether somebody active in the roster in force has a role.

        :raises SignatureError: the stored roster isn't signed by the root quorum.
        """
        status = await self._status()
        with Fields(status["documents"], "documents") as documents:
            names = {kind: documents.value(kind.value) for kind in DocumentKind if documents.optional(kind.value)}
        in_force = names.get(DocumentKind.ROSTER)
        digest = in_force.get("digest") if isinstance(in_force, dict) else None
        text = await self._broker.store.document(DocumentKind.ROSTER.value, str(digest))
        if text is None:
            return False
        envelope = stored_envelope(text, "roster document")
        self._broker.genesis.verify_root(envelope, ROSTER_TYPE)
        roster = Roster.parse(envelope.payload)
        gone = status["suspended"] if isinstance(status["suspended"], list) else []
        return envelope.digest == Digest.parse(str(digest)) and any(
            one.id == person and one.active and role in one.roles and one.id not in gone for one in roster.people
        )

    async def grants(self) -> Members:
        """Return the newest grants."""
        with await self._broker.keeper.call("grants") as answer:
            return {"grants": answer.value("grants")}

    async def fallen(self, digest: Digest) -> Members:
        """Return the keeper's signed record of what fell with a suspension."""
        with await self._broker.keeper.call("fallen", digest=str(digest)) as answer:
            return {"envelope": answer.value("envelope")}

    async def statement(self, kind: StatementKind, digest: Digest) -> Members:
        """Return a signed statement that the log names.

        :raises NotFoundError: the keeper doesn't show it, or never had it.
        """
        with await self._broker.keeper.call("statement", kind=kind.value, digest=str(digest)) as answer:
            return {"envelope": answer.value("envelope")}

    async def decisions(self, query: DecisionsQuery) -> Members:
        """Return kept decisions, oldest first, those before one that is named; fewer where it would be too much.

        :raises DecisionNotKeptError: the one that is named isn't kept any more.
        """
        before = str(Digest.parse(query.before)) if query.before else None
        with await self._broker.keeper.call("decisions", count=query.count, before=before) as answer:
            return {"decisions": answer.value("decisions")}

    async def decided(self, index: int) -> Members:
        """Return the decision that a log entry names, in the words of a dry run, and its record.

        :raises NotFoundError: the entry isn't there or names none, or the decision isn't kept any more.
        """
        entries = await self._broker.log.read(index, 1)
        entry = read_entry(entries[0]) if entries else None
        named = entry.facts.get("decision") if entry else None
        if not isinstance(named, str):
            raise NotFoundError(f"log entry {index} records no decision")
        with await self._broker.keeper.call("decision", digest=named) as answer:
            record = answer.binary("decision", max_length=MAX_DECIDED)
        decided = Decided.parse(record)
        return {
            "allowed": decided.allowed,
            "checks": [check.to_json() for check in decided.checks],
            "others": [{"reason": reason, "remedy": remedy} for reason, remedy in decided.others],
            "record": to_base64(record),
        }

    # --- collateral ---------------------------------------------------------------------------------------------------

    async def collateral(self, *, skip: int, count: int) -> Members:
        """Return a page of the collateral in force."""
        with await self._broker.keeper.call("collateral", skip=skip, count=count) as answer:
            return {name: answer.value(name) for name in ("digest", "lost", "count", "items")}

    async def import_part(self, by: PersonId, *, bundle: Digest, size: int, offset: int, part: bytes) -> Members:
        """Hand on the next part of a bundle; the keeper checks what the parts make up, and keeps it."""
        return await self._broker.whole(self._import_part(by, bundle, size, offset, to_base64(part)))

    async def _import_part(self, by: PersonId, bundle: Digest, size: int, offset: int, part: str) -> Members:
        members: Members = {"by": by, "bundle": str(bundle), "size": size, "offset": offset, "part": part}
        with await self._broker.keeper.call("import-collateral", **members) as answer:
            return {name: answer.value(name) for name in ("received", "imported")}

    async def attested(self, digest: Digest) -> Members:
        """Return what a release or renewal was proved by.

        :raises NotFoundError: it isn't kept any more.
        """
        with await self._broker.keeper.call("attested", digest=str(digest)) as answer:
            return {"attested": answer.value("attested")}

    # --- platforms ----------------------------------------------------------------------------------------------------

    async def enrol(self, enrolment: bytes) -> Members:
        """Begin an enrolment."""
        names = ("session", "credential_blob", "encrypted_secret", "platform", "isolation")
        with await self._broker.keeper.call("enrol-begin", enrolment=to_base64(enrolment)) as answer:
            return {name: answer.value(name) for name in names}

    async def finish_enrolment(self, session: str, secret: bytes) -> Members:
        """Finish an enrolment and store the signed record."""
        members: dict[str, Json] = {"session": session, "answer": to_base64(secret)}
        return await self._broker.whole(self._finished("enrol-finish", members))

    async def enrol_chip(self, kind: str) -> Members:
        """Begin to enrol a chip."""
        with await self._broker.keeper.call("chip-begin", kind=kind) as answer:
            return {name: answer.value(name) for name in ("session", "nonce", "expires")}

    async def finish_chip(self, session: str, evidence: bytes) -> Members:
        """Finish a chip's enrolment and store the signed record."""
        members: dict[str, Json] = {"session": session, "evidence": to_base64(evidence)}
        return await self._broker.whole(self._finished("chip-finish", members))

    async def _finished(self, operation: str, members: dict[str, Json]) -> Members:
        with (
            await self._broker.keeper.call(operation, **members) as answer,
            answer.child("platform") as child,
        ):
            record = Envelope.read(child)
        platform = platform_id(str(_member(record, "platform")))
        await self._broker.store.put_platform(PlatformRow(platform=platform, envelope=envelope_text(record)))
        return {"platform": record.to_json()}

    async def platforms(self, query: PageQuery) -> Members:
        """Return a page of enrolled platforms, as stored."""
        after = platform_id(query.cursor) if query.cursor else ""
        rows = await self._broker.store.platforms(after=after, limit=query.limit + 1)
        page = rows[: query.limit]
        shown: list[Json] = [
            {"platform": row.platform, "record": stored_envelope(row.envelope, "platform record").to_json()}
            for row in page
        ]
        return {"platforms": shown, "next": page[-1].platform if len(rows) > query.limit else None}

    # --- lists --------------------------------------------------------------------------------------------------------

    async def requests(self, query: ListQuery) -> Members:
        """Return a page of requests, newest first."""
        before = _place(query.cursor) if query.cursor else None
        rows = await self._broker.store.requests(
            query.state, now=self._broker.clock.now(), before=before, limit=query.limit + 1
        )
        page = rows[: query.limit]
        last = f"{page[-1].row.created}.{page[-1].row.digest}" if len(rows) > query.limit else None
        return {"requests": [_summary(row) for row in page], "next": last}

    # --- the log ------------------------------------------------------------------------------------------------------

    async def checkpoint(self) -> Members:
        """Return the newest signed checkpoint."""
        size, checkpoint = await self._broker.log.checkpoint()
        return {"size": size, "checkpoint": checkpoint}

    async def seams(self, query: SeamsQuery) -> Members:
        """Return how shards of the log were closed."""
        return {"seams": [seam.to_json() for seam in await self._broker.log.seams(query.first)]}

    async def entries(self, query: EntriesQuery) -> Members:
        """Return entries of the log."""
        entries = await self._broker.log.read(query.start, query.count)
        return {"start": query.start, "entries": [to_base64(entry) for entry in entries]}

    async def inclusion(self, index: int, size: int) -> Members:
        """Return an inclusion proof."""
        leaf, proof = await self._broker.log.prove_inclusion(index, size)
        return {"leaf": to_base64(leaf), "proof": [to_base64(step) for step in proof]}

    async def together(self, places: Sequence[int], size: int) -> Members:
        """Return entries with their audit paths."""
        proven = await self._broker.log.prove_entries(places, size)
        told: list[Json] = [
            {"entry": to_base64(entry), "proof": [to_base64(step) for step in proof]} for entry, proof in proven
        ]
        return {"entries": told}

    async def consistency(self, old: int, new: int) -> Members:
        """Return a consistency proof."""
        return {"proof": [to_base64(step) for step in await self._broker.log.prove_consistency(old, new)]}


def _epoch(envelope: Envelope) -> int:
    epoch = _member(envelope, "epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        raise MalformedError("the document carries no epoch")
    return epoch


def _member(envelope: Envelope, name: str) -> Json:
    # Only to file the object under its name: whoever uses it verifies and parses all of it.
    body = decode(envelope.payload, max_bytes=MAX_PAYLOAD)
    return body.get(name) if isinstance(body, dict) else None


def _place(cursor: str) -> tuple[Instant, str]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise MalformedError("the cursor isn't one that a list returned")
    return int(found[1]), found[2]


def _summary(summary: RequestSummary) -> Members:
    row = summary.row
    return {
        "digest": row.digest,
        "action": row.action,
        "model": row.model,
        "requester": row.requester,
        "created": format_instant(row.created),
        "expires": None if row.expires is None else format_instant(row.expires),
        "approvals": summary.approvals,
        "denials": summary.denials,
    }
