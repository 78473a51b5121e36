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
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from strongroom.personnel.vetting import VettingRecord
from strongroom.release.ledger import Adopted, Ledger


class DocumentKind(StrEnum):
    """The documents that the root quorum signs."""

    ROSTER = "roster"
    POLICY = "policy"
    REFERENCE_VALUES = "reference-values"


PAYLOAD_TYPES = {
    DocumentKind.ROSTER: ROSTER_TYPE,
    DocumentKind.POLICY: POLICY_TYPE,
    DocumentKind.REFERENCE_VALUES: REFERENCE_VALUES_TYPE,
}
ADOPTED_EVENTS = {
    DocumentKind.ROSTER: EventName.ROSTER_ADOPTED,
    DocumentKind.POLICY: EventName.POLICY_ADOPTED,
    DocumentKind.REFERENCE_VALUES: EventName.REFERENCE_VALUES_ADOPTED,
}


CHANGES: Mapping[DocumentKind, Change] = {
    DocumentKind.ROSTER: Change.ROSTER,
    DocumentKind.POLICY: Change.POLICY,
    DocumentKind.REFERENCE_VALUES: Change.MEASUREMENTS,
}


class KeyNotEnrolledError(ConflictError):
    """The roster lists a security key that its person didn't enrol before two vetting officers."""

    code = "key-not-enrolled"


class StaleDocumentError(ConflictError):
    """A document whose epoch or predecessor doesn't follow the one in force: an older one, or a fork."""

    code = "stale-document"


@dataclass(slots=True)
class Documents:
    """The three documents in force, the policy engine made of one of them, and each person's vetting record."""

    roster: Roster | None = None
    roster_digest: Digest | None = None
    policy: Policy | None = None
    policy_digest: Digest | None = None
    engine: CedarEngine | None = None
    reference_values: ReferenceValues | None = None
    reference_values_digest: Digest | None = None
    vetting: dict[PersonId, VettingRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may be taken into force: read, signed by the root quorum, and following the one before it."""

    kind: DocumentKind
    epoch: int
    digest: Digest
    document: Roster | Policy | ReferenceValues
    engine: CedarEngine | None

    def put_into(self, documents: Documents) -> None:
        """Take this document into force."""
        if isinstance(self.document, Roster):
            documents.roster, documents.roster_digest = self.document, self.digest
        elif isinstance(self.document, Policy):
            documents.policy, documents.policy_digest = self.document, self.digest
            documents.engine = self.engine
        else:
            documents.reference_values, documents.reference_values_digest = self.document, self.digest


def adopted(ledger: Ledger, kind: DocumentKind) -> Adopted | None:
    """Return which document of a kind the log has in force."""
    return {
        DocumentKind.ROSTER: ledger.roster,
        DocumentKind.POLICY: ledger.policy,
        DocumentKind.REFERENCE_VALUES: ledger.reference_values,
    }[kind]


def examine_document(
    kind: DocumentKind, envelope: Envelope, genesis: Genesis, ledger: Ledger
) -> tuple[Candidate, bool]:
    """Check a document; returns it, and whether it is the one already in force (then nothing is to be logged).

    :raises SignatureError: too few root keys signed.
    :raises MalformedError: another form, another deployment, or a policy that doesn't validate.
    :raises PolicyUnsafeError: a policy that allows what every policy must deny, or the other way round.
    :raises StaleDocumentError: neither the one in force nor the next.
    """
    genesis.verify_root(envelope, PAYLOAD_TYPES[kind])
    document: Roster | Policy | ReferenceValues
    engine = None
    if kind is DocumentKind.ROSTER:
        document = Roster.parse(envelope.payload)
        _require_enrolled(document, ledger)
    elif kind is DocumentKind.POLICY:
        document = Policy.parse(envelope.payload)
        engine = safe_engine(document)
        for terms in document.models:
            isolation_rank(terms.least_isolation)
    else:
        document = ReferenceValues.parse(envelope.payload)
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


def change_refused(
    kind: DocumentKind, envelope: Envelope, genesis: Genesis, documents: Documents, ledger: Ledger, now: Instant
) -> tuple[str, str] | None:
    """Say why a document that :func:`examine_document` passed may not come into force now, or None.

    It is judged by the policy in force, not by the one that it may bring: who proposes laxer rules waits by the old.
    """
    policy, engine = documents.policy, documents.engine
    if policy is None or engine is None:
        return None
    proposal = ledger.proposals.get(envelope.digest)
    roots = {key.key_id for key in genesis.root_keys}
    facts = ChangeFacts(
        now=now,
        change=CHANGES[kind],
        level=policy.level,
        loosens=adopted(ledger, kind) is not None and not _only_takes_away(kind, envelope, documents),
        signatures=len({signature.key_id for signature in envelope.signatures} & roots),
        threshold=genesis.root_threshold,
        proposed_at=proposal.at if proposal else now,
        stopped=envelope.digest in ledger.stopped,
    )
    return may_change(facts, engine)


def _only_takes_away(kind: DocumentKind, envelope: Envelope, documents: Documents) -> bool:
    if kind is not DocumentKind.REFERENCE_VALUES or documents.reference_values is None:
        return False
    return ReferenceValues.parse(envelope.payload).only_takes_away_from(documents.reference_values)


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
