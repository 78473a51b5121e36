"""The signed documents in force, checked against the genesis and the log before anything is decided by them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.access.engine import CedarEngine
from strongroom.access.policy import POLICY_TYPE, Policy
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceValues
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, MalformedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.personnel.roster import ROSTER_TYPE, Roster
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


class StaleDocumentError(ConflictError):
    """A document whose epoch or predecessor doesn't follow the one in force: an older one, or a fork."""

    code = "stale-document"


@dataclass(slots=True)
class Documents:
    """The three documents in force and the policy engine made of one of them."""

    roster: Roster | None = None
    roster_digest: Digest | None = None
    policy: Policy | None = None
    policy_digest: Digest | None = None
    engine: CedarEngine | None = None
    reference_values: ReferenceValues | None = None
    reference_values_digest: Digest | None = None


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
    :raises StaleDocumentError: neither the one in force nor the next.
    """
    genesis.verify_root(envelope, PAYLOAD_TYPES[kind])
    document: Roster | Policy | ReferenceValues
    engine = None
    if kind is DocumentKind.ROSTER:
        document = Roster.parse(envelope.payload)
    elif kind is DocumentKind.POLICY:
        document = Policy.parse(envelope.payload)
        engine = CedarEngine(document)
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


def isolation_rank(name: str) -> int:
    """Return the rank of an isolation class named in a policy.

    :raises MalformedError: no such class; a misspelt demand must not become no demand.
    """
    try:
        return IsolationClass(name).rank
    except ValueError:
        raise MalformedError(f"`{name}` isn't an isolation class") from None
