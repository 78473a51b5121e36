"""A client accepts nothing older than, or other than, what it saw: not a document, not the log, not a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulators.attester import APPRAISAL
from strongroom.access.policy import POLICY_TYPE
from strongroom.access.request import LogHead
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceValues
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import ForgedCheckpointError, ForkError, WrongKeyError
from strongroom.audit.merkle import Frontier, leaf_hash, make_consistency, node_hash
from strongroom.client.default_policy import default_policy
from strongroom.client.followed import FollowedLog
from strongroom.client.state import State
from strongroom.client.trust import (
    DocumentForkError,
    DocumentRolledBackError,
    LogRolledBackError,
    LogWithheldError,
    StateMismatchError,
    check_witnessed,
    verify_state,
)
from strongroom.client.wallet import Seen, SeenDocument
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope, sign
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.egress.policies import EGRESS_TYPE, EgressPolicies
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from strongroom.release.documents import DocumentKind
from support.cosigners import LOG_COSIGNER

AT = 1_795_471_717


def followed() -> FollowedLog:
    return FollowedLog(GENESIS, lambda _first: ())


def key(name: str) -> Ed25519Signer:
    return Ed25519Signer.from_seed(Digest.of(name.encode()).value)


ROOTS = tuple(key(f"root-{n}") for n in range(3))
GENESIS = Genesis(
    deployment="test",
    created=AT,
    root_keys=tuple(root.public_key for root in ROOTS),
    root_threshold=2,
    keeper_key=key("keeper").public_key,
    log_origin="strongroom/test",
    log_key=key("log").public_key,
    log_cosigner=LOG_COSIGNER,
)


class Log:
    """A log of small entries; ``name`` makes another one of the same size."""

    def __init__(self, name: str = "honest") -> None:
        self.name = name

    def leaf(self, index: int) -> bytes:
        return leaf_hash(f"{self.name} {index}".encode())

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self.leaf(index)
        return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def head(self, size: int) -> LogHead:
        frontier = Frontier()
        for index in range(size):
            frontier.append(self.leaf(index))
        return LogHead(size=size, root=Digest(DigestAlgorithm.SHA256, frontier.root()))

    def checkpoint(self, size: int, *, by: str = "log", origin: str = "strongroom/test") -> bytes:
        return Checkpoint(origin, size, self.head(size).root.value).sign(key(by))

    def prove(self, old: int, new: int) -> tuple[bytes, ...]:
        return make_consistency(old, new, self.node)


LOG = Log()


def roster(epoch: int, before: Digest | None = None, genesis: Digest = GENESIS.digest) -> Envelope:
    document = Roster(genesis=genesis, epoch=epoch, predecessor=before, people=())
    return sign(ROSTER_TYPE, document.to_bytes(), *ROOTS[:2])


def policy(epoch: int, before: Digest | None = None) -> Envelope:
    document = replace(default_policy(GENESIS.digest), epoch=epoch, predecessor=before)
    return sign(POLICY_TYPE, document.to_bytes(), *ROOTS[:2])


def values(epoch: int, before: Digest | None = None) -> Envelope:
    document = ReferenceValues(
        genesis=GENESIS.digest,
        epoch=epoch,
        images=(),
        anchors=(),
        appraisal=APPRAISAL,
        not_after=AT,
        predecessor=before,
    )
    return sign(REFERENCE_VALUES_TYPE, document.to_bytes(), *ROOTS[:2])


def egress(epoch: int, before: Digest | None = None) -> Envelope:
    document = EgressPolicies(genesis=GENESIS.digest, epoch=epoch, predecessor=before, policies=())
    return sign(EGRESS_TYPE, document.to_bytes(), *ROOTS[:2])


MAKERS: dict[DocumentKind, Callable[..., Envelope]] = {
    DocumentKind.ROSTER: roster,
    DocumentKind.POLICY: policy,
    DocumentKind.REFERENCE_VALUES: values,
    DocumentKind.EGRESS: egress,
}


def state(size: int = 9, **changes: object) -> State:
    base = State(
        genesis=GENESIS.digest,
        locked=False,
        cause="",
        documents={kind: make(1) for kind, make in MAKERS.items()},
        models={},
        frozen=(),
        suspended=(),
        waiting=(),
        destructions=(),
        precautions=(),
        destroyed=(),
        irrecoverable=(),
        closed=(),
        lost=(),
        log=LOG.head(size),
        latest=AT,
        checkpoint=LOG.checkpoint(size),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def seen_at(size: int = 5) -> Seen:
    return verify_state(followed(), Seen(), state(size), LOG.prove).seen


def test_what_is_seen_moves_forward() -> None:
    first = verify_state(followed(), Seen(), state(5), LOG.prove)
    assert first.head == LOG.head(5) == first.seen.log
    second = verify_state(followed(), first.seen, state(9), LOG.prove)
    assert second.seen.log == LOG.head(9)
    assert {kind: item.epoch for kind, item in second.seen.documents.items()} == dict.fromkeys(DocumentKind, 1)
    assert Seen.parse(second.seen.to_bytes()) == second.seen


def test_another_deployment_is_refused() -> None:
    with pytest.raises(StateMismatchError, match="another deployment"):
        verify_state(followed(), Seen(), state(genesis=Digest.of(b"other")), LOG.prove)


# --- the log ----------------------------------------------------------------------------------------------------------


def test_a_shorter_log_is_a_rollback() -> None:
    with pytest.raises(LogRolledBackError) as caught:
        verify_state(followed(), seen_at(5), state(4), LOG.prove)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("size", [5, 6, 8, 31])
def test_another_log_of_any_size_is_a_fork(size: int) -> None:
    other = Log("forked")
    shown = state(size, checkpoint=other.checkpoint(size), log=other.head(size))
    for prove in (other.prove, LOG.prove, lambda _old, _new: (), lambda _old, _new: (bytes(32),) * 6):
        with pytest.raises(ForkError):
            verify_state(followed(), seen_at(5), shown, prove)


def test_a_checkpoint_by_another_key_is_refused() -> None:
    with pytest.raises(WrongKeyError):
        verify_state(followed(), Seen(), state(checkpoint=LOG.checkpoint(9, by="keeper")), LOG.prove)
    with pytest.raises(WrongKeyError):
        verify_state(followed(), Seen(), state(checkpoint=LOG.checkpoint(9, origin="strongroom/other")), LOG.prove)


def test_a_checkpoint_whose_text_was_changed_is_forged() -> None:
    changed = LOG.checkpoint(9).replace(b"\n9\n", b"\n8\n")
    with pytest.raises(ForgedCheckpointError):
        verify_state(followed(), Seen(), state(checkpoint=changed), LOG.prove)


def test_keeper_and_log_that_disagree_are_refused() -> None:
    with pytest.raises(StateMismatchError, match="disagree"):
        verify_state(followed(), Seen(), state(log=Log("forked").head(9)), LOG.prove)


def test_a_requester_who_saw_more_means_that_the_log_is_withheld() -> None:
    trust = verify_state(followed(), Seen(), state(9), LOG.prove)
    check_witnessed(LOG.head(7), trust, LOG.prove)
    check_witnessed(LOG.head(9), trust, LOG.prove)
    with pytest.raises(LogWithheldError):
        check_witnessed(LOG.head(10), trust, LOG.prove)


@pytest.mark.parametrize("size", [1, 4, 8, 9])
def test_a_requester_who_saw_another_log_means_a_fork(size: int) -> None:
    trust = verify_state(followed(), Seen(), state(9), LOG.prove)
    with pytest.raises(ForkError):
        check_witnessed(Log("forked").head(size), trust, LOG.prove)


def test_no_proof_is_asked_for_an_unchanged_log() -> None:
    def never(_old: int, _new: int) -> tuple[bytes, ...]:
        raise AssertionError

    verify_state(followed(), seen_at(9), state(9), never)


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_a_rollback_of_each_document_is_refused(kind: DocumentKind) -> None:
    first = MAKERS[kind](1)
    second = MAKERS[kind](2, first.digest)
    newest = verify_state(followed(), seen_at(), state(documents={**state().documents, kind: second}), LOG.prove)
    assert newest.seen.documents[kind] == SeenDocument(epoch=2, digest=second.digest)
    with pytest.raises(DocumentRolledBackError) as caught:
        verify_state(followed(), newest.seen, state(), LOG.prove)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_a_document_that_vanished_is_a_rollback(kind: DocumentKind) -> None:
    left = {name: envelope for name, envelope in state().documents.items() if name is not kind}
    with pytest.raises(DocumentRolledBackError, match=r"no .* is shown"):
        verify_state(followed(), seen_at(), state(documents=left), LOG.prove)


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_a_document_that_does_not_follow_is_a_fork(kind: DocumentKind) -> None:
    stranger = MAKERS[kind](2, Digest.of(b"another first one"))
    with pytest.raises(DocumentForkError):
        verify_state(followed(), seen_at(), state(documents={**state().documents, kind: stranger}), LOG.prove)


def test_two_documents_of_one_epoch_are_a_fork() -> None:
    other = sign(
        REFERENCE_VALUES_TYPE,
        ReferenceValues(
            genesis=GENESIS.digest, epoch=1, images=(), anchors=(), appraisal=APPRAISAL, not_after=AT + 1
        ).to_bytes(),
        *ROOTS[1:],
    )
    shown = state(documents={**state().documents, DocumentKind.REFERENCE_VALUES: other})
    with pytest.raises(DocumentForkError):
        verify_state(followed(), seen_at(), shown, LOG.prove)


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_a_document_without_the_root_quorum_is_refused(kind: DocumentKind) -> None:
    good = MAKERS[kind](1)
    single = replace(good, signatures=good.signatures[:1])
    stranger = sign(good.kind, good.payload, ROOTS[0], key("mallory"))
    twice = replace(good, signatures=(good.signatures[0], good.signatures[0]))
    for bad in (single, stranger, twice):
        with pytest.raises(SignatureError):
            verify_state(followed(), Seen(), state(documents={**state().documents, kind: bad}), LOG.prove)


def test_a_document_in_the_place_of_another_kind_is_refused() -> None:
    shown = state(documents={**state().documents, DocumentKind.POLICY: roster(1)})
    with pytest.raises(SignatureError):
        verify_state(followed(), Seen(), shown, LOG.prove)


def test_a_document_of_another_deployment_is_refused() -> None:
    foreign = {**state().documents, DocumentKind.ROSTER: roster(1, genesis=Digest.of(b"other"))}
    with pytest.raises(StateMismatchError):
        verify_state(followed(), Seen(), state(documents=foreign), LOG.prove)
