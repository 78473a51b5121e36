"""Is what the server shows the deployment that I know, no older than what I saw? Pure; refuses, never warns.

1 deployment  the answer is about the pinned genesis
2 checkpoint  signed by the log's own key
3 log         continues the log that was seen last: no rollback, no fork
4 documents   signed by the root quorum, for this deployment; epochs never fall, and one epoch has one document
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from strongroom.access.policy import Policy
from strongroom.access.request import LogHead
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.audit.errors import ForkError
from strongroom.audit.succession import Succession
from strongroom.client.followed import FollowedLog
from strongroom.client.state import ModelStatus, State, WaitingChange
from strongroom.client.wallet import Seen, SeenDocument
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, TamperedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.egress.policies import EgressPolicies
from strongroom.egress.policy import EgressPolicy
from strongroom.personnel.roster import Roster
from strongroom.release.documents import PAYLOAD_TYPES, Document, DocumentKind, parse_document
from strongroom.release.pending import Pending
from strongroom.release.precaution_ledger import Standing

Prove = Callable[[int, int], tuple[bytes, ...]]
"""(old size, new size) -> the consistency proof, fetched from a server that isn't believed."""


class LogRolledBackError(TamperedError):
    """The log that is shown is shorter than the one that this client saw."""

    code = "log-rolled-back"


class LogWithheldError(TamperedError):
    """Somebody else signed having seen a longer log than the one that is shown here."""

    code = "log-withheld"


class DocumentRolledBackError(TamperedError):
    """An older roster, policy or set of reference values is shown than the one that this client saw."""

    code = "document-rolled-back"


class DocumentForkError(TamperedError):
    """Two documents of one epoch, or one that doesn't follow the document seen before it."""

    code = "document-forked"


class StateMismatchError(TamperedError):
    """What is shown belongs to another deployment, or contradicts itself."""

    code = "state-mismatch"


_INCIDENT = "treat this as an incident: tell the other approvers and compare `strongroom status`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The deployment as this client may believe it now."""

    genesis: Genesis
    log: Succession
    """The log's shards."""
    head: LogHead
    roster: Roster | None
    policy: Policy | None
    reference_values: ReferenceValues | None
    egress: EgressPolicies | None = None
    digests: Mapping[DocumentKind, Digest]
    models: Mapping[ModelId, ModelStatus]
    """The broker's word. A lie here makes requests that the keeper refuses; it grants nothing."""
    locked: bool
    """The broker's word too, as is ``cause``."""
    cause: str
    suspended: tuple[PersonId, ...] = ()
    """The broker's word: who lost everything until vetted anew."""
    waiting: tuple[WaitingChange, ...] = ()
    """The broker's word: what the root quorum signed and any approver may still stop."""
    destructions: tuple[Pending, ...] = ()
    """The broker's word: what was agreed to be destroyed, and a denial, revocation or freeze still stops."""
    destroyed: tuple[ModelId, ...] = ()
    """The broker's word: models whose keys are gone. The certificate is the keeper's."""
    irrecoverable: tuple[ModelId, ...] = ()
    """The broker's word: models whose keys are in no escrow."""
    closed: tuple[ModelId, ...] = ()
    """The broker's word: irrecoverable ones that the keeper can't open as it is unlocked now."""
    lost: tuple[ModelId, ...] = ()
    """The broker's word: models whose keys are gone, and nobody destroyed them."""
    precautions: tuple[Standing, ...] = ()
    """The broker's word: what responders had taken away for a while."""
    seen: Seen

    @property
    def egress_by_model(self) -> Mapping[ModelId, EgressPolicy]:
        """The egress policies in force; empty where there are none."""
        return {} if self.egress is None else self.egress.by_model

    def egress_of(self, model: ModelId) -> EgressPolicy:
        """Return a model's egress policy.

        :raises DeniedError: none is in force.
        """
        found = self.egress_by_model.get(model)
        if found is None:
            raise DeniedError(
                f"no egress policy of `{model}` is in force",
                reason="egress-policy-missing",
                remedy="have the root quorum sign one: strongroom egress propose",
            )
        return found

    def require_documents(self) -> tuple[Roster, Policy]:
        """Return roster and policy.

        :raises DeniedError: one of them isn't in force.
        """
        if self.roster is None or self.policy is None:
            raise DeniedError(
                "no roster or no policy is in force",
                reason="no-documents",
                remedy="have the root quorum sign and adopt them",
            )
        return self.roster, self.policy


def verify_state(log: FollowedLog, seen: Seen, state: State, prove: Prove) -> Trust:
    """Carry out steps 1 to 4; returns what may be believed, and what to remember of it.

    :raises StateMismatchError: step 1, or the keeper and the log disagree.
    :raises ForgedCheckpointError: step 2, the log's key didn't sign; WrongKeyError: another log's.
    :raises LogRolledBackError: step 3, the log is shorter than it was. :raises ForkError: it is another log.
    :raises SignatureError: step 4, too few root keys signed.
    :raises DocumentRolledBackError: step 4. :raises DocumentForkError: step 4.
    """
    genesis = log.genesis
    if state.genesis != genesis.digest:
        raise StateMismatchError("the server belongs to another deployment than the one pinned in this wallet")
    head = log.log_head(state.checkpoint)
    check_continues(seen.log, head, log.succession, prove)
    if state.log.size == head.size and state.log.root != head.root:
        raise StateMismatchError("the keeper and the log disagree about the log's root", remedy=_INCIDENT)
    documents = {kind: _document(genesis, kind, state, seen.documents.get(kind)) for kind in DocumentKind}
    digests = {kind: state.documents[kind].digest for kind in DocumentKind if kind in state.documents}
    roster, policy, values, egress = (documents[kind] for kind in DocumentKind)
    return Trust(
        genesis=genesis,
        log=log.succession,
        head=head,
        roster=roster if isinstance(roster, Roster) else None,
        policy=policy if isinstance(policy, Policy) else None,
        reference_values=values if isinstance(values, ReferenceValues) else None,
        egress=egress if isinstance(egress, EgressPolicies) else None,
        digests=digests,
        models=state.models,
        locked=state.locked,
        cause=state.cause,
        suspended=state.suspended,
        waiting=state.waiting,
        destructions=state.destructions,
        destroyed=state.destroyed,
        irrecoverable=state.irrecoverable,
        closed=state.closed,
        lost=state.lost,
        precautions=state.precautions,
        seen=Seen(
            documents={
                kind: SeenDocument(epoch=document.epoch, digest=digests[kind])
                for kind, document in documents.items()
                if document is not None
            },
            log=head,
        ),
    )


def check_continues(old: LogHead, new: LogHead, log: Succession, prove: Prove) -> None:
    """Step 3: the log with head ``new``, one of these shards', begins with the one with head ``old``.

    :raises LogRolledBackError: it is shorter.
    :raises ForkError: it isn't proven to be the same log.
    """
    if new.size < old.size:
        raise LogRolledBackError(
            f"the log has {new.size} entries; this client saw one of {old.size}",
            remedy=_INCIDENT,
        )
    try:
        log.require_extends(log.head(new.size, new.root.value), size=old.size, root=old.root.value, prove=prove)
    except ForkError as error:
        raise ForkError(error.message, remedy=_INCIDENT) from None


def check_witnessed(theirs: LogHead, trust: Trust, prove: Prove) -> None:
    """Check the log head that another person signed against this client's own: both must have seen one log.

    :raises LogWithheldError: theirs is longer than what is shown here.
    :raises ForkError: they are heads of two logs.
    """
    if theirs.size > trust.head.size:
        raise LogWithheldError(
            f"the requester saw a log of {theirs.size} entries; only {trust.head.size} are shown here", remedy=_INCIDENT
        )
    check_continues(theirs, trust.head, trust.log, prove)


def _document(genesis: Genesis, kind: DocumentKind, state: State, seen: SeenDocument | None) -> Document | None:
    envelope = state.documents.get(kind)
    if envelope is None:
        if seen is not None:
            raise DocumentRolledBackError(
                f"no {kind.value} is shown, though this client saw one in force", remedy=_INCIDENT
            )
        return None
    genesis.verify_root(envelope, PAYLOAD_TYPES[kind])
    document = parse_document(kind, envelope.payload)
    if document.genesis != genesis.digest:
        raise StateMismatchError(f"the {kind.value} belongs to another deployment")
    if seen is not None:
        _follows(kind, document, envelope.digest, seen)
    return document


def _follows(kind: DocumentKind, document: Document, digest: Digest, seen: SeenDocument) -> None:
    if document.epoch < seen.epoch:
        raise DocumentRolledBackError(
            f"the {kind.value} shown is of epoch {document.epoch}; this client saw epoch {seen.epoch}",
            remedy=_INCIDENT,
        )
    same_epoch = document.epoch == seen.epoch and digest != seen.digest
    not_next = document.epoch == seen.epoch + 1 and document.predecessor != seen.digest
    if same_epoch or not_next:
        raise DocumentForkError(
            f"the {kind.value} of epoch {document.epoch} isn't or doesn't follow the one that this client saw",
            remedy=_INCIDENT,
        )
