"""What the log only names by digest, weighed: signed requests, approvals, documents, decisions, evidence. Pure.

Whoever keeps such an object hands it in; it counts because its digest stands in a verified log. Each is checked as the
keeper must have checked it, by what the log held at that entry: who was in the roster, which rules were in force. By
the policy of that entry those who agreed to an act are counted, too. What nobody hands in is counted as missing, and
what can't be judged without a missing one as unjudged: never as good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from strongroom.access.decision import decide
from strongroom.access.policy import NoRuleError
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, Request
from strongroom.attestation import ear
from strongroom.attestation.platform_record import PLATFORM_TYPE, PlatformRecord
from strongroom.attestation.results import Status
from strongroom.audit.entries import Entry
from strongroom.core.canonical import decode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.webauthn import assertion_counter
from strongroom.personnel.roster import Roster
from strongroom.release.attested import MAX_BINDING, Attested
from strongroom.release.chronicle import CONTROLS, HANDS_OVER
from strongroom.release.decided import Decided
from strongroom.release.documents import ADOPTED_EVENTS, DocumentKind, Documents, change_refused, examine_document
from strongroom.release.errors import ExhibitError, agree
from strongroom.release.ledger import Ledger
from strongroom.release.recount import people_wanted
from strongroom.release.said import judge_said
from strongroom.release.statements import Case, StatementKind
from strongroom.release.what_if import reasons, recorded_reasons
from strongroom.sealing.manifest import ManifestExpectation, verify_manifest

FALLEN_TYPE: Final = payload_type("fallen.v1")


class ExhibitKind(StrEnum):
    """What a log names; also how the files of it are called. Documents and statements have their own kinds."""

    REQUEST = "request"
    APPROVAL = "approval"
    DENIAL = "denial"
    DECISION = "decision"
    ATTESTED = "attested"
    PLATFORM = "platform"
    MANIFEST = "manifest"
    FALLEN = "fallen"


Kind = ExhibitKind | DocumentKind | StatementKind


class Exhibits(Protocol):
    """Where handed-in objects are found. Never trusted: what is found is compared with the digest it is asked by."""

    def find(self, kind: Kind, digest: Digest) -> bytes | None:
        """Return an object's bytes: an envelope's JSON, or a record's canonical bytes."""
        ...


@dataclass(slots=True)
class Tally:
    """How many objects of a kind the log names, and what became of them."""

    named: int = 0
    verified: int = 0
    missing: int = 0
    unjudged: int = 0

    def to_json(self) -> dict[str, int]:
        """Return it as a JSON object."""
        return {
            "named": self.named,
            "verified": self.verified,
            "missing": self.missing,
            "unjudged": self.unjudged,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One object that an entry names. ``of_payload`` says that the digest is over an envelope's payload alone."""

    kind: Kind
    digest: Digest
    of_payload: bool


_ACTS: Final = frozenset({EventName.GRANT_ISSUED, *HANDS_OVER, *CONTROLS})
"""What people must have agreed to."""
_DOCUMENTS: Final = {event: kind for kind, event in ADOPTED_EVENTS.items()}
_STATEMENTS: Final = {
    EventName.KEYS_ENROLLED: StatementKind.ENROLMENT,
    EventName.CHANGE_STOPPED: StatementKind.OBJECTION,
    EventName.BREAK_GLASS_REVIEWED: StatementKind.BREAK_GLASS_REVIEW,
    EventName.ACCESS_REVIEWED: StatementKind.ACCESS_REVIEW,
    EventName.DROP_KEY_RECORDED: StatementKind.DROP_KEY,
    EventName.DROP_REVIEWED: StatementKind.DROP_REVIEW,
    EventName.INTAKE_RECORDED: StatementKind.INTAKE_RECORD,
    EventName.INTAKE_REVIEWED: StatementKind.INTAKE_REVIEW,
    EventName.COPY_RECORDED: StatementKind.COPY,
    EventName.ASSESSMENT_RECORDED: StatementKind.ASSESSMENT,
    EventName.INCIDENT_RECORDED: StatementKind.INCIDENT,
    EventName.PRECAUTION_TAKEN: StatementKind.PRECAUTION,
    EventName.ESCROW_ANSWERED: StatementKind.SHARE_DESTROYED,
}
_ENVELOPES: Final = {
    EventName.REQUEST_CREATED: (ExhibitKind.REQUEST, "request"),
    EventName.PLATFORM_ENROLLED: (ExhibitKind.PLATFORM, "record"),
    EventName.VERSION_REGISTERED: (ExhibitKind.MANIFEST, "manifest"),
    EventName.PERSON_SUSPENDED: (ExhibitKind.FALLEN, "fell"),
}
_WHOLE: Final = {
    EventName.REQUEST_APPROVED: ((ExhibitKind.APPROVAL, "approval"),),
    EventName.REQUEST_DENIED: ((ExhibitKind.DENIAL, "denial"),),
    EventName.RELEASED: ((ExhibitKind.DECISION, "decision"), (ExhibitKind.ATTESTED, "attested")),
    EventName.EXPORTED: ((ExhibitKind.DECISION, "decision"),),
    EventName.REFUSED: ((ExhibitKind.DECISION, "decision"),),
    EventName.REDELIVERED: ((ExhibitKind.ATTESTED, "attested"),),
    EventName.LEASE_ATTESTED: ((ExhibitKind.ATTESTED, "attested"),),
}


def named_by(entry: Entry) -> tuple[Named, ...]:
    """Return the objects that an entry names and that somebody may hand in.

    What is said of one person's vetting or erasure isn't among them: only the keeper has it.
    """
    if entry.event in _DOCUMENTS:
        return (Named(kind=_DOCUMENTS[entry.event], digest=entry.digest("document"), of_payload=True),)
    if entry.event in _STATEMENTS:
        return (Named(kind=_STATEMENTS[entry.event], digest=entry.digest("statement"), of_payload=True),)
    if entry.event in _ENVELOPES:
        kind, fact = _ENVELOPES[entry.event]
        return (Named(kind=kind, digest=entry.digest(fact), of_payload=True),)
    wanted = _WHOLE.get(entry.event, ())
    return tuple(
        Named(kind=kind, digest=entry.digest(fact), of_payload=False)
        for kind, fact in wanted
        if entry.facts[fact] is not None
    )


def require_named(named: Named, data: bytes) -> None:
    """Check that bytes are the object that the log names.

    :raises ExhibitError: they aren't. :raises MalformedError: they should be an envelope and aren't.
    """
    found = Envelope.parse(data).digest if named.of_payload else Digest.of(data)
    if found != named.digest:
        raise ExhibitError(f"this isn't the {named.kind.value} that the log names", reason="exhibit-of-another")


@dataclass(slots=True)
class Scales:
    """Weighs what is handed in for one entry after the other, by the ledger as it was before that entry."""

    genesis: Genesis
    exhibits: Exhibits
    ledger: Ledger
    documents: Documents = field(default_factory=Documents)
    tallies: dict[str, Tally] = field(default_factory=dict)
    disputes: list[tuple[int, str]] = field(default_factory=list)
    """Requests whose makers signed to have seen another log: their word against the log's."""

    def weigh(self, index: int, entry: Entry) -> tuple[StrongroomError, ...]:
        """Weigh everything that an entry names; returns what is wrong with it."""
        wrong = [*self._too_few(entry)]
        for named in named_by(entry):
            tally = self.tallies.setdefault(named.kind.value, Tally())
            tally.named += 1
            data = self.exhibits.find(named.kind, named.digest)
            if data is None:
                tally.missing += 1
                self._forget(named.kind)
                continue
            try:
                require_named(named, data)
                judged = self._judge(index, entry, named.kind, data)
            except StrongroomError as error:
                self._forget(named.kind)
                wrong.append(error)
            else:
                tally.verified += judged
                tally.unjudged += not judged
        return tuple(wrong)

    def _too_few(self, entry: Entry) -> Iterator[StrongroomError]:
        """Count who agreed to an act by the policy that was in force, and by the precautions: the log has no rules."""
        policy, ledger = self.documents.policy, self.ledger
        if policy is None or entry.event not in _ACTS:
            return
        request = entry.digest("request")
        created = ledger.created.get(request)
        if created is None:
            return  # said by the chronicle
        try:
            action = Action(created.action)
            rule = policy.rule(action, policy.terms(created.model).level)
        except (ValueError, NoRuleError):
            yield ExhibitError(f"the policy has no rule to `{created.action}` this model", reason="act-without-rule")
            return
        agreed = ledger.approvals.get(request, {}).keys() - ledger.suspended - {created.requester}
        wanted = people_wanted(action, created.requester, rule, ledger, entry.at)
        if len(agreed) < wanted:
            yield ExhibitError(f"{len(agreed)} had agreed, of {wanted} that must", reason="act-below-quorum")

    def _judge(self, index: int, entry: Entry, kind: Kind, data: bytes) -> bool:
        """Judge one object; False where what it would be judged by isn't at hand."""
        if isinstance(kind, DocumentKind):
            return self._document(entry, kind, Envelope.parse(data))
        if isinstance(kind, StatementKind):
            case = Case(
                envelope=Envelope.parse(data),
                genesis=self.genesis,
                documents=self.documents,
                ledger=self.ledger,
                now=entry.at,
            )
            return judge_said(case, kind, entry)
        if kind is ExhibitKind.REQUEST:
            return self._request(index, entry, Envelope.parse(data))
        return _JUDGES[kind](self, entry, data)

    def _forget(self, kind: Kind) -> None:
        # A document that came into force and isn't at hand: nothing later may be judged by the one before it.
        match kind:
            case DocumentKind.ROSTER:
                self.documents.roster = self.documents.roster_digest = None
            case DocumentKind.POLICY:
                self.documents.policy = self.documents.policy_digest = self.documents.engine = None
            case DocumentKind.REFERENCE_VALUES:
                self.documents.reference_values = None
            case DocumentKind.EGRESS:
                self.documents.egress, self.documents.egress_digest = {}, None
            case _:
                pass

    # --- documents ----------------------------------------------------------------------------------------------------

    def _document(self, entry: Entry, kind: DocumentKind, envelope: Envelope) -> bool:
        candidate, _known = examine_document(kind, envelope, self.genesis, self.ledger)
        agree(what=kind.value, epoch=(candidate.epoch, entry.integer("epoch")))
        judged = self.documents.policy is not None or self.ledger.policy is None
        if judged:
            refused = change_refused(kind, envelope, self.genesis, self.documents, self.ledger, entry.at)
            if refused is not None:
                raise ExhibitError(f"the {kind.value} might not come into force: {refused[1]}", reason=refused[0])
        candidate.put_into(self.documents)
        return judged

    # --- people's words -----------------------------------------------------------------------------------------------

    def _request(self, index: int, entry: Entry, envelope: Envelope) -> bool:
        request = Request.parse(envelope.payload)
        agree(
            what="request",
            genesis=(request.genesis, self.genesis.digest),
            action=(request.action.value, entry.text("action")),
            requester=(request.requester, entry.text("requester")),
            model=(request.model, entry.text("model")),
        )
        seen = request.log
        if seen.size > self.ledger.size or (seen.size and seen.root.value != self.ledger.root_at(seen.size)):
            self.disputes.append(
                (index, f"`{request.requester}` signed to have seen another log of {seen.size} entries")
            )
        if self.documents.roster is None:
            return False
        verify(envelope, REQUEST_TYPE, self.documents.roster.person(request.requester).keys, threshold=1)
        return True

    def voice(self, entry: Entry, kind: str, envelope: Envelope) -> bool:
        """Check an approval's or denial's signature, by who held its key then."""
        agree(
            what="signature",
            request=(envelope.digest, entry.digest("request")),
            signatures=(len(envelope.signatures), 1),
        )
        signature = envelope.signatures[0]
        agree(what="signature", key=(signature.key_id, entry.text("key")))
        if self.documents.roster is None:
            return False
        person, key = self.documents.roster.holder(signature.key_id)
        verify(envelope, kind, [key], threshold=1)
        counter = assertion_counter(signature.value) if key.hardware else 0
        agree(
            what="signature",
            person=(person.id, entry.text("person")),
            counter=(counter, entry.integer("counter")),
        )
        return True

    # --- the keeper's own ---------------------------------------------------------------------------------------------

    def platform(self, entry: Entry, envelope: Envelope) -> bool:
        """Check an enrolment record that the keeper signed."""
        verify(envelope, PLATFORM_TYPE, [self.genesis.keeper_key], threshold=1)
        record = PlatformRecord.parse(envelope.payload)
        agree(
            what="platform record",
            platform=(record.platform, entry.text("platform")),
            hardware=(record.hardware, entry.digest("hardware")),
            isolation=(record.isolation.value, entry.text("isolation")),
        )
        return True

    def fallen(self, envelope: Envelope) -> bool:
        """Check the keeper's signature over what a suspension ended."""
        verify(envelope, FALLEN_TYPE, [self.genesis.keeper_key], threshold=1)
        return True

    def manifest(self, entry: Entry, envelope: Envelope) -> bool:
        """Check a version's manifest against its publisher's key."""
        expected = ManifestExpectation(
            genesis=self.genesis.digest,
            model=ModelId(entry.text("model")),
            version=entry.integer("version"),
            digest=entry.digest("manifest"),
        )
        key = entry.public_key("publisher_key")
        manifest = verify_manifest(envelope, key, expect=expected)
        agree(what="manifest", data_key=(manifest.data_key_id, entry.text("data_key")))
        roster = self.documents.roster
        return roster is not None and key in _keys_of(roster, PersonId(entry.text("publisher")))

    def decision(self, entry: Entry, decided: Decided) -> bool:
        """Make a decision again, on the facts that were kept, once these are found to be what the log says."""
        facts, request, ledger = decided.facts, entry.digest("request"), self.ledger
        allowed = entry.event is not EventName.REFUSED
        created = ledger.created.get(request)
        agree(
            what="decision",
            request=(facts.request.digest, request),
            allowed=(decided.allowed, allowed),
            recorded_at=(facts.recorded_at, created.at if created else None),
            frozen=(facts.frozen, facts.request.model in ledger.frozen),
            approver_more=(
                facts.approver_more,
                ledger.precautions.approver(facts.request.requester, facts.now) is not None,
            ),
            denied=(facts.denied, request in ledger.denied | ledger.revoked | ledger.fallen),
            approvals=(
                {person.id: person.approved_at for person in facts.approvers},
                {person.id: ledger.approvals.get(request, {}).get(person.id) for person in facts.approvers},
            ),
        )
        if allowed:
            left = facts.request.max_uses - ledger.times_used(request)
            agree(what="decision", uses_left=(facts.uses_left, left))
        else:
            agree(what="decision", reason=(recorded_reasons(decided)[:1], (entry.text("reason"),)))
        policy, engine = self.documents.policy, self.documents.engine
        if policy is None or engine is None:
            return False
        terms = policy.terms(facts.request.model)
        agree(
            what="decision",
            terms=(facts.terms, terms),
            rule=(facts.rule, policy.rule(facts.request.action, terms.level)),
            caps=(facts.caps, policy.caps),
        )
        again = decide(facts, engine)
        if again.allowed is not allowed or (not allowed and reasons(again) != recorded_reasons(decided)):
            raise ExhibitError("the same facts under the same rules decide otherwise", reason="decided-otherwise")
        return True

    def attested(self, entry: Entry, record: Attested) -> bool:
        """Check an attestation result and what it was made of, as far as no collateral of that day is needed."""
        released = self.ledger.released.get((entry.digest("request"), entry.integer("use")))
        told = ear.verify(record.result, [self.genesis.keeper_key], entry.at)
        agree(
            what="attestation result",
            result=(record.result_digest, entry.digest("result")),
            evidence=(Digest.of(record.evidence), entry.digest("evidence")),
            evidence_told=(told.evidence, entry.digest("evidence")),
            status=(told.status, Status.WANTED),
            platform=(
                told.platform,
                entry.text("platform") if "platform" in entry.facts else released and released.platform,
            ),
        )
        for fact, said in {
            "image": told.image,
            "isolation": told.isolation.value,
            "reference_values": str(told.reference_values),
            "collateral": str(told.collateral),
        }.items():
            if fact in entry.facts:
                agree(what="attestation result", **{fact: (said, entry.facts[fact])})
        bound = decode(record.binding, max_bytes=MAX_BINDING)
        if not isinstance(bound, dict):
            raise MalformedError("a binding is a JSON object")
        for member, fact in (("request", "request"), ("recipient_key", "recipient"), ("manifest", "manifest")):
            if fact in entry.facts:
                agree(what="binding", **{member: (bound.get(member), entry.facts[fact])})
        return True


def _keys_of(roster: Roster, person: PersonId) -> tuple[object, ...]:
    return next((one.keys for one in roster.people if one.id == person), ())


_JUDGES: Final[Mapping[ExhibitKind, Callable[[Scales, Entry, bytes], bool]]] = {
    ExhibitKind.APPROVAL: lambda scales, entry, data: scales.voice(entry, APPROVAL_TYPE, Envelope.parse(data)),
    ExhibitKind.DENIAL: lambda scales, entry, data: scales.voice(entry, DENIAL_TYPE, Envelope.parse(data)),
    ExhibitKind.DECISION: lambda scales, entry, data: scales.decision(entry, Decided.parse(data)),
    ExhibitKind.ATTESTED: lambda scales, entry, data: scales.attested(entry, Attested.parse(data)),
    ExhibitKind.PLATFORM: lambda scales, entry, data: scales.platform(entry, Envelope.parse(data)),
    ExhibitKind.MANIFEST: lambda scales, entry, data: scales.manifest(entry, Envelope.parse(data)),
    ExhibitKind.FALLEN: lambda scales, _entry, data: scales.fallen(Envelope.parse(data)),
}
