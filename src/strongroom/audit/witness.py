"""A witness's judgement (c2sp.org/tlog-witness), pure: from what it cosigned last and a submission to what it cosigns.

1. the request has the form, 400; 2. its log is followed, 404; 3. a key of that log signed it, 403;
4. the old size isn't above the checkpoint's, 400; 5. it is the one cosigned last, 409;
6. the proof shows that nothing was taken away, 422. Then the new checkpoint is made durable, and only then cosigned.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import (
    CosignatureForgedError,
    ForgedCheckpointError,
    InconsistentError,
    LogUnknownError,
    OldSizeError,
    ProofError,
    SubmissionForgedError,
    SubmissionMalformedError,
    WrongKeyError,
)
from strongroom.audit.merkle import EMPTY_ROOT, HASH_SIZE, verify_consistency
from strongroom.audit.note import Note, NoteSignature
from strongroom.audit.witness_policy import LogKey, signed_checkpoint
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError

MAX_PROOF_LINES: Final = 63
MAX_SUBMISSION: Final = 1 << 16
"""Bytes of a request's body: 63 hashes, and a checkpoint with a dozen post-quantum signatures."""
SIZE_TYPE: Final = "text/x.tlog.size"
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_EMPTY: Final = Checkpoint("nothing yet", 0, EMPTY_ROOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """An add-checkpoint request: the size cosigned last as the client knows it, a proof, and a signed checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Read a request's body (step 1).

        :raises SubmissionMalformedError: another form.
        """
        if len(body) > MAX_SUBMISSION:
            raise SubmissionMalformedError(f"a submission has at most {MAX_SUBMISSION} bytes")
        head, gap, note = body.partition(b"\n\n")
        try:
            first, *lines = head.decode("ascii").split("\n")
            proof = tuple(from_base64(line) for line in lines)
            parsed = Note.parse(note)
        except (UnicodeDecodeError, MalformedError):
            raise SubmissionMalformedError("the submission isn't an old size, hashes and a checkpoint") from None
        old, stated = _OLD.fullmatch(first), parsed.text.split("\n")[:-1]
        if not gap or len(stated) < 3 or not all(stated):
            raise SubmissionMalformedError("a checkpoint has three lines or more, none of them empty")
        if old is None or len(proof) > MAX_PROOF_LINES or any(len(value) != HASH_SIZE for value in proof):
            raise SubmissionMalformedError("the submission isn't an old size, at most 63 hashes and a checkpoint")
        return cls(old=int(old[1]), proof=proof, note=parsed)

    def to_bytes(self) -> bytes:
        """Return the request's body."""
        lines = [f"old {self.old}", *(to_base64(value) for value in self.proof)]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.note.to_bytes()

    @property
    def origin(self) -> str:
        """The origin that the checkpoint states; nothing vouches for it yet."""
        return self.note.text.partition("\n")[0]


def judge(submission: Submission, keys: Collection[LogKey], latest: Checkpoint | None) -> Checkpoint:
    """Return the checkpoint that may be cosigned once it is durable in the place of ``latest`` (steps 2 to 6).

    :param keys: the keys trusted for the submission's origin; none where its log isn't followed.
    :param latest: what was cosigned last for that origin, or None.
    :raises LogUnknownError: 404. :raises SubmissionForgedError: 403. :raises SubmissionMalformedError: 400.
    :raises OldSizeError: 409. :raises InconsistentError: 422.
    """
    if not any(key.name == submission.origin for key in keys):
        raise LogUnknownError("this witness doesn't follow the checkpoint's log")
    checkpoint = _signed(submission.note, keys)
    before = latest or _EMPTY
    if submission.old > checkpoint.size:
        raise SubmissionMalformedError("the old size is above the checkpoint's")
    if submission.old != before.size:
        raise OldSizeError("the old size isn't the one that was cosigned last", size=before.size)
    try:
        verify_consistency(
            old=before.size,
            new=checkpoint.size,
            old_root=before.root,
            new_root=checkpoint.root,
            proof=submission.proof,
        )
    except ProofError as error:
        raise InconsistentError(f"the checkpoint doesn't continue what was cosigned: {error.message}") from None
    return checkpoint


def _signed(note: Note, keys: Collection[LogKey]) -> Checkpoint:
    try:
        return signed_checkpoint(note, keys)
    except (WrongKeyError, ForgedCheckpointError, CosignatureForgedError):
        raise SubmissionForgedError("no trusted key of the log signed the checkpoint") from None
    except MalformedError:
        # Where the key is Ed25519 the log itself signed this; what ML-DSA-44 signs can't be told before it is read.
        if note.text.split("\n")[1:2] == ["0"]:
            raise InconsistentError("a log of no entries has one root, the hash of nothing") from None
        raise SubmissionMalformedError("the log signed something that isn't a checkpoint of three lines") from None


def kept_signatures(note: Note, keys: Collection[LogKey], own: NoteSignature) -> Note:
    """Return the note that a witness keeps and shows: the log's signatures that it verified, and its own."""
    known = {(key.name, key.key_id) for key in keys}
    return Note(note.text, tuple(one for one in note.signatures if (one.name, one.key_id) in known)).signed_also((own,))
