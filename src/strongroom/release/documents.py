"""The signed documents in force, checked against the genesis and the log before anything is decided by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from strongroom.access.decision import may_change
from strongroom.access.engine import CedarEngine
from strongroom.access.governance import Change, ChangeFacts
from strongroom.access.policy import POLICY_TYPE, Policy
from strongroom.access.self_test import safe_engine
from strongroom.attestation.isolation import IsolationClass, caps
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceValues
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, MalformedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.egress.policies import EGRESS_TYPE, LEAST_SIGNERS, EgressPolicies, changes, only_tightens
from strongroom.egress.policy import EgressPolicy
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from strongroom.personnel.vetting import VettingRecord
from strongroom.release.ledger import Ledger
from strongroom.release.ledger_parts import Adopted
from strongroom.release.witnesses import witness_terms


class DocumentKind(StrEnum):
    """The documents that the root quorum signs."""

    ROSTER = "roster"
    POLICY = "policy"
    REFERENCE_VALUES = "reference-values"
    EGRESS = "egress"


PAYLOAD_TYPES = {
    DocumentKind.ROSTER: ROSTER_TYPE,
    DocumentKind.POLICY: POLICY_TYPE,
    DocumentKind.REFERENCE_VALUES: REFERENCE_VALUES_TYPE,
    DocumentKind.EGRESS: EGRESS_TYPE,
}
ADOPTED_EVENTS = {
    DocumentKind.ROSTER: EventName.ROSTER_ADOPTED,
    DocumentKind.POLICY: EventName.POLICY_ADOPTED,
    DocumentKind.REFERENCE_VALUES: EventName.REFERENCE_VALUES_ADOPTED,
    DocumentKind.EGRESS: EventName.EGRESS_POLICIES_ADOPTED,
}


CHANGES: Mapping[DocumentKind, Change] = {
    DocumentKind.ROSTER: Change.ROSTER,
    DocumentKind.POLICY: Change.POLICY,
    DocumentKind.REFERENCE_VALUES: Change.MEASUREMENTS,
    DocumentKind.EGRESS: Change.EGRESS,
}


class KeyNotEnrolledError(ConflictError):
    """The roster lists a security key that its person didn't enrol before two vetting officers."""

    code = "key-not-enrolled"


class StaleDocumentError(ConflictError):
    """A document whose epoch or predecessor doesn't follow the one in force: an older one, or a fork."""

    code = "stale-document"


Document = Roster | Policy | ReferenceValues | EgressPolicies


@dataclass(slots=True)
class Documents:
    """The documents in force, the policy engine made of one of them, and each person's vetting record."""

    roster: Roster | None = None
    roster_digest: Digest | None = None
    policy: Policy | None = None
    policy_digest: Digest | None = None
    engine: CedarEngine | None = None
    reference_values: ReferenceValues | None = None
    egress: Mapping[ModelId, EgressPolicy] = field(default_factory=dict)
    """What may leave each model. Nothing leaves one that isn't here."""
    egress_digest: Digest | None = None
    vetting: dict[PersonId, VettingRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may be taken into force: read, signed by the root quorum, and following the one before it."""

    kind: DocumentKind
    epoch: int
    digest: Digest
    document: Document
    engine: CedarEngine | None

    def put_into(self, documents: Documents) -> None:
        """Take this document into force."""
        if isinstance(self.document, Roster):
            documents.roster, documents.roster_digest = self.document, self.digest
        elif isinstance(self.document, Policy):
            documents.policy, documents.policy_digest = self.document, self.digest
            documents.engine = self.engine
        elif isinstance(self.document, ReferenceValues):
            documents.reference_values = self.document
        else:
            documents.egress, documents.egress_digest = self.document.by_model, self.digest


def adopted(ledger: Ledger, kind: DocumentKind) -> Adopted | None:
    """Return which document of a kind the log has in force."""
    return {
        DocumentKind.ROSTER: ledger.roster,
        DocumentKind.POLICY: ledger.policy,
        DocumentKind.REFERENCE_VALUES: ledger.reference_values,
        DocumentKind.EGRESS: ledger.egress,
    }[kind]


def examine_document(
    kind: DocumentKind, envelope: Envelope, genesis: Genesis, ledger: Ledger
) -> tuple[Candidate, bool]:
    """Check a document; returns it, and whether it is the one already in force (then nothing is to be logged).

    :raises SignatureError: too few root keys signed.
    :raises MalformedError: another form, another deployment, or a policy that doesn't validate.
    :raises PolicyUnsafeError: a policy that allows what every policy must deny, or the other way round.
    :raises BoundBrokenError: an egress policy under which its model could be stolen too soon.
    :raises StaleDocumentError: neither the one in force nor the next.
    """
    genesis.verify_root(envelope, PAYLOAD_TYPES[kind])
    document, engine = parse_document(kind, envelope.payload), None
    if isinstance(document, Roster):
        _require_enrolled(document, ledger)
    elif isinstance(document, Policy):
        engine = safe_engine(document)
        witness_terms(document, genesis)
    elif isinstance(document, EgressPolicies):
        document.check()
    if document.genesis != genesis.digest:
        raise MalformedError(f"the {kind.value} belongs to another deployment")
    candidate = Candidate(kind, document.epoch, envelope.digest, document, engine)
    before = adopted(ledger, kind)
    if before is not None and before.document == candidate.digest:
        return candidate, True
    expected = before.epoch + 1 if before else 1
    if document.epoch != expected or document.predecessor != (before.document if before else None):
        raise StaleDocumentError(
            f"the {kind.value} of epoch {document.epoch} doesn't follow the one in force",
            remedy=f"make one of epoch {expected} that names the document in force as its predecessor",
        )
    return candidate, False


def parse_document(kind: DocumentKind, payload: bytes) -> Document:
    """Parse a document's payload.

    :raises MalformedError: another form, or an isolation class that doesn't exist.
    """
    match kind:
        case DocumentKind.ROSTER:
            return Roster.parse(payload)
        case DocumentKind.POLICY:
            policy = Policy.parse(payload)
            for terms in policy.models:
                isolation_rank(terms.least_isolation)
            return policy
        case DocumentKind.REFERENCE_VALUES:
            return ReferenceValues.parse(payload)
        case DocumentKind.EGRESS:
            return EgressPolicies.parse(payload)


def change_refused(
    kind: DocumentKind, envelope: Envelope, genesis: Genesis, documents: Documents, ledger: Ledger, now: Instant
) -> tuple[str, str] | None:
    """Say why a document that :func:`examine_document` passed may not come into force now, or None.

    It is judged by the policy in force, not by the one that it may bring: who proposes laxer rules waits by the old.
    """
    policy, engine = documents.policy, documents.engine
    if policy is None or engine is None:
        if kind is DocumentKind.EGRESS:
            # Without a policy nobody judges whether it may come; nothing is served then that it could bound.
            return "no-documents", "have the root quorum sign a roster and a policy first"
        return None
    proposal = ledger.proposals.get(envelope.digest)
    roots = {key.key_id for key in genesis.root_keys}
    loosens = adopted(ledger, kind) is not None and not only_takes_away(kind, envelope, documents, ledger)
    # One holder alone never lets more of a model out than before, also where one is the whole root quorum.
    least = LEAST_SIGNERS if loosens and kind is DocumentKind.EGRESS else 1
    facts = ChangeFacts(
        now=now,
        change=CHANGES[kind],
        level=policy.level,
        loosens=loosens,
        signatures=len({signature.key_id for signature in envelope.signatures} & roots),
        threshold=max(genesis.root_threshold, least),
        proposed_at=proposal.at if proposal else now,
        stopped=envelope.digest in ledger.stopped,
    )
    return may_change(facts, engine)


def only_takes_away(kind: DocumentKind, envelope: Envelope, documents: Documents, ledger: Ledger) -> bool:
    """Tell whether a document, of whom it may be, gives nobody and nothing more than the one in force.

    :raises MalformedError: another form.
    """
    if kind is DocumentKind.EGRESS and documents.egress_digest is not None:
        after = EgressPolicies.parse(envelope.payload).by_model
        return only_tightens(changes(documents.egress, after, metered=ledger.odometers.mirrors))
    if kind is DocumentKind.REFERENCE_VALUES and documents.reference_values is not None:
        return ReferenceValues.parse(envelope.payload).only_takes_away_from(documents.reference_values)
    return False


def _require_enrolled(roster: Roster, ledger: Ledger) -> None:
    for person in roster.people:
        enrolled = ledger.enrolled.get(person.id, set())
        for key in person.keys:
            if key.hardware and key.key_id not in enrolled:
                raise KeyNotEnrolledError(
                    f"the roster lists a security key of `{person.id}` that wasn't enrolled",
                    remedy="enrol it before two vetting officers: strongroom key enrol",
                )


def isolation_rank(name: str) -> int:
    """Return the rank of an isolation class named in a policy.

    :raises MalformedError: no such class; a misspelt demand must not become no demand.
    """
    try:
        return IsolationClass(name).rank
    except ValueError:
        raise MalformedError(f"`{name}` isn't an isolation class") from None


def level_cap(name: str) -> int:
    """Return the rank of the highest level at which evidence of a class may serve production weights; 0 for none.

    :raises MalformedError: no such class.
    """
    try:
        isolation = IsolationClass(name)
    except ValueError:
        raise MalformedError(f"`{name}` isn't an isolation class") from None
    # Simulated evidence is worse than none: it looks like some.
    return 0 if isolation.simulated else caps(isolation).rank
