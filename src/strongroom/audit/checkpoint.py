"""C2SP checkpoints (c2sp.org/tlog-checkpoint, v1.0.0): a signed note that states origin, size and root of a log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.audit.errors import ForgedCheckpointError, NoteError, WrongKeyError
from strongroom.audit.merkle import EMPTY_ROOT, HASH_SIZE
from strongroom.audit.note import Note, VerifierKey, sign_note
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.signature import Signer

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: every entry below ``size`` is fixed by ``root`` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise MalformedError("a checkpoint's origin is one line of text")
        if self.size < 0 or len(self.root) != HASH_SIZE:
            raise MalformedError("a checkpoint has a size and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise MalformedError("a checkpoint of size 0 has the root of the empty tree")

    @classmethod
    def parse_text(cls, text: str) -> Checkpoint:
        """Read a note's text. Extension lines are refused: nothing of ours writes them and no auditor can check them.

        :raises MalformedError: another form.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise MalformedError("a checkpoint is three lines: origin, size and root")
        if not _SIZE.fullmatch(lines[1]):
            raise MalformedError("a checkpoint's size is a decimal number without leading zeros")
        return cls(lines[0], int(lines[1]), from_base64(lines[2]))

    def text(self) -> str:
        """Return the note's text."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"

    def sign(self, signer: Signer) -> bytes:
        """Return the signed note. The key name is the origin.

        :raises MalformedError: an origin that can't be a key name.
        """
        return sign_note(self.text(), name=self.origin, signer=signer).to_bytes()


def read_checkpoint(data: bytes, key: VerifierKey) -> Checkpoint:
    """Verify a signed checkpoint and return it; its text isn't read before the signature holds.

    :raises MalformedError: not a note, or not a checkpoint.
    :raises WrongKeyError: another key's, or another log's.
    :raises ForgedCheckpointError: the named key didn't sign these bytes.
    """
    note = Note.parse(data)
    try:
        note.verify(key)
    except NoteError as error:
        if error.reason == "note-key-absent":
            raise WrongKeyError(
                f"the checkpoint isn't signed by log key `{key.name}+{key.key_id.hex()}`",
                remedy="Check that the verifier key is this log's, from the deployment's genesis.",
            ) from None
        raise ForgedCheckpointError("the checkpoint's signature by the log's key doesn't verify") from None
    checkpoint = Checkpoint.parse_text(note.text)
    if checkpoint.origin != key.name:
        raise WrongKeyError("the checkpoint's origin isn't the log that the key is named for")
    return checkpoint
