"""A witness's judgement: each refusal of tlog-witness, and that no order of submissions makes it cosign a fork."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosigner
from strongroom.audit.errors import (
    InconsistentError,
    LogUnknownError,
    OldSizeError,
    SubmissionForgedError,
    SubmissionMalformedError,
    WitnessRefusedError,
)
from strongroom.audit.merkle import EMPTY_ROOT, leaf_hash, make_consistency, node_hash, tree_root
from strongroom.audit.note import Note, VerifierKey, sign_note
from strongroom.audit.witness import MAX_SUBMISSION, Submission, judge, kept_signatures
from strongroom.core.encoding import to_base64
from strongroom.core.signature import Ed25519Signer
from support.cosigners import LOG_SEED, witness
from support.examples import examples
from support.logs import AT, LOG_KEY, LOG_SIGNER, ORIGIN

STRANGER = Ed25519Signer.from_seed(b"s" * 32)


class History:
    """Leaves of one possible log."""

    def __init__(self, count: int, *, branch: int = 0, at: int = 1 << 30) -> None:
        self.leaves = [leaf_hash(f"{branch if n >= at else 0}/{n}".encode()) for n in range(count)]

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self.leaves[index]
        return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(ORIGIN, size, tree_root(self.leaves[:size]))

    def submission(self, old: int, size: int, signer: Ed25519Signer = LOG_SIGNER) -> Submission:
        proof = make_consistency(min(old, size), size, self.node)
        return Submission(old=old, proof=proof, note=Note.parse(self.checkpoint(size).sign(signer)))


LOG, FORK = History(40), History(40, branch=1, at=10)
KEYS = (LOG_KEY,)


def refused(kind: type[WitnessRefusedError], status: int, submission: Submission, latest: Checkpoint | None) -> None:
    with pytest.raises(kind) as caught:
        judge(Submission.parse(submission.to_bytes()), KEYS, latest)
    assert caught.value.http_status == status


def test_a_log_that_grows_is_cosigned() -> None:
    latest: Checkpoint | None = None
    for size in (0, 1, 7, 7, 8, 39, 40):
        old = latest.size if latest else 0
        latest = judge(Submission.parse(LOG.submission(old, size).to_bytes()), KEYS, latest)
        assert latest == LOG.checkpoint(size)


def test_each_refusal_has_the_status_of_the_specification() -> None:
    at_20 = LOG.checkpoint(20)
    with pytest.raises(LogUnknownError) as unknown:
        judge(LOG.submission(20, 30), (), at_20)
    assert unknown.value.http_status == 404
    refused(SubmissionForgedError, 403, LOG.submission(20, 30, STRANGER), at_20)
    refused(SubmissionMalformedError, 400, LOG.submission(20, 19), at_20)
    refused(OldSizeError, 409, LOG.submission(19, 30), at_20)
    refused(OldSizeError, 409, LOG.submission(0, 30), at_20)
    refused(OldSizeError, 409, LOG.submission(1, 30), None)
    refused(InconsistentError, 422, FORK.submission(20, 30), at_20)
    refused(InconsistentError, 422, FORK.submission(20, 20), at_20)
    refused(InconsistentError, 422, replace(LOG.submission(20, 30), proof=()), at_20)
    refused(InconsistentError, 422, replace(LOG.submission(0, 30), proof=(EMPTY_ROOT,)), None)
    refused(InconsistentError, 422, replace(LOG.submission(20, 20), proof=(EMPTY_ROOT,)), at_20)
    with pytest.raises(OldSizeError) as known:
        judge(LOG.submission(3, 30), KEYS, at_20)
    assert known.value.size == 20


def test_a_line_by_a_known_key_that_does_not_verify_is_forbidden_even_beside_a_good_one() -> None:
    good = LOG.submission(0, 5)
    bad = replace(good.note.signatures[0], value=bytes(64))
    refused(SubmissionForgedError, 403, replace(good, note=Note(good.note.text, (*good.note.signatures, bad))), None)
    other = LOG.submission(0, 5, STRANGER).note.signatures
    both = replace(good, note=Note(good.note.text, (*other, *good.note.signatures)))
    assert judge(both, KEYS, None) == LOG.checkpoint(5)


def test_an_empty_log_has_one_root_and_extension_lines_are_refused() -> None:
    wrong = sign_note(f"{ORIGIN}\n0\n{to_base64(bytes(32))}\n", name=ORIGIN, signer=LOG_SIGNER)
    refused(InconsistentError, 422, Submission(old=0, proof=(), note=wrong), None)
    text = LOG.checkpoint(3).text() + "extension\n"
    extended = sign_note(text, name=ORIGIN, signer=LOG_SIGNER)
    refused(SubmissionMalformedError, 400, Submission(old=0, proof=(), note=extended), None)


def test_a_log_may_sign_with_its_post_quantum_key() -> None:
    cosigner = Cosigner.of_log(ORIGIN, LOG_SEED)
    checkpoint = LOG.checkpoint(9)
    note = Note(checkpoint.text(), (cosigner.cosign(checkpoint, AT),))
    submission = Submission(old=0, proof=(), note=note)
    assert judge(submission, (cosigner.key,), None) == checkpoint
    with pytest.raises(SubmissionForgedError):
        judge(submission, (LOG_KEY,), None)
    forged = replace(submission, note=Note(LOG.checkpoint(10).text(), note.signatures))
    with pytest.raises(SubmissionForgedError):
        judge(forged, (LOG_KEY, cosigner.key), None)


HASH = to_base64(bytes(32)) + "\n"
TAIL = LOG.submission(0, 5).note.to_bytes().decode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\n\n",
        f"old 0\n{TAIL}",
        f"old 00\n\n{TAIL}",
        f"old -1\n\n{TAIL}",
        f"old  0\n\n{TAIL}",
        f"Old 0\n\n{TAIL}",
        f"old 0 \n\n{TAIL}",
        f"old 99999999999999999999\n\n{TAIL}",
        f"old 5\n{HASH * 64}\n{TAIL}",
        f"old 5\nAAAA\n\n{TAIL}",
        f"old 5\nnot base64\n\n{TAIL}",
        f"old 5\n{HASH}\n{HASH}\n{TAIL}",
        "old 0\n\nno note",
        f"old 0\n\n{TAIL}" + "x" * MAX_SUBMISSION,
        f"old \N{DIGIT ZERO}\N{COMBINING ACUTE ACCENT}\n\n{TAIL}",
    ],
)
def test_another_form_is_a_bad_request(body: str) -> None:
    with pytest.raises(SubmissionMalformedError) as caught:
        judge(Submission.parse(body.encode()), KEYS, None)
    assert caught.value.http_status == 400


def test_sixty_three_hashes_are_read() -> None:
    assert len(Submission.parse(f"old 5\n{HASH * 63}\n{TAIL}".encode()).proof) == 63


def test_a_witness_keeps_the_logs_signatures_and_its_own() -> None:
    note = LOG.submission(0, 5).note
    stranger = LOG.submission(0, 5, STRANGER).note.signatures
    own = witness(1).cosign(LOG.checkpoint(5), AT)
    kept = kept_signatures(Note(note.text, (*stranger, *note.signatures)), KEYS, own)
    assert kept.signatures == (*note.signatures, own)
    assert kept_signatures(kept, KEYS, own) == kept
    assert VerifierKey.parse(str(LOG_KEY)) == LOG_KEY


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40)), max_size=25))
@settings(max_examples=examples(60))
def test_no_order_of_submissions_makes_it_cosign_two_histories(asked: list[tuple[bool, int, int]]) -> None:
    latest: Checkpoint | None = None
    for fork, old, size in asked:
        history = FORK if fork else LOG
        try:
            following = judge(history.submission(old, size), KEYS, latest)
        except WitnessRefusedError:
            continue
        assert following.size >= (latest.size if latest else 0)
        latest = following
        # What was cosigned is a prefix of one history, and stays one.
        assert latest in (LOG.checkpoint(size), FORK.checkpoint(size))
        if size > 10:
            other = FORK if latest == LOG.checkpoint(size) else LOG
            with pytest.raises(WitnessRefusedError):
                judge(other.submission(size, 40), KEYS, latest)
