"""What a log makes of its witnesses' answers, pure. Nothing that a witness says is believed but what its key signed.

Only 200 counts. A 409's size is a hint, used once and within bounds: witnesses in the field answer it with no size, and
others of the statuses with codes that the specification doesn't give.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import CosignerKey
from strongroom.audit.errors import CosignatureForgedError, CosignatureFromFutureError
from strongroom.audit.note import Note, NoteSignature, read_signature_lines
from strongroom.audit.witness_policy import CLOCK_SKEW, WitnessPolicy
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError

ROUND_SECONDS: Final = 30
"""The rhythm at which witnesses are asked, unless it is set otherwise."""
MAX_ANSWER: Final = 1 << 15
"""Bytes of an answer that are read: a few post-quantum signature lines."""
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")


def read_cosignature(body: bytes, checkpoint: Checkpoint, key: CosignerKey, *, now: Instant) -> NoteSignature:
    """Return the line by ``key`` out of a witness's answer with status 200, verified; other lines are ignored.

    :raises MalformedError: the body isn't signature lines.
    :raises CosignatureForgedError: no line by the key, or it doesn't verify over this checkpoint.
    :raises CosignatureFromFutureError: the line states no time, or one that hasn't come.
    """
    try:
        lines = read_signature_lines(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedError("the witness's answer isn't lines of signatures") from None
    mine = [line for line in lines if key.signed_by(line)]
    if len(mine) != 1:
        raise CosignatureForgedError(f"the witness's answer holds no cosignature by `{key.shown}`")
    cosigned = key.verify(checkpoint, mine[0].value)
    if not 0 < cosigned.at <= now + CLOCK_SKEW:
        raise CosignatureFromFutureError(f"`{key.shown}` cosigned at a time that hasn't come, or at none")
    return mine[0]


def conflict_size(body: bytes) -> int | None:
    """Return the size that a witness's 409 states, or None where it states none."""
    found = _SIZE.fullmatch(body)
    return None if found is None else int(found[1])


@dataclass(frozen=True, slots=True)
class Gathered:
    """A checkpoint with the cosignatures that it has so far."""

    note: Note

    @classmethod
    def over(cls, note: Note, before: Gathered | None) -> Gathered:
        """Begin with a published note; what was gathered over the same text is kept."""
        kept: Iterable[NoteSignature] = ()
        if before is not None and before.note.text == note.text:
            kept = before.note.signatures
        return cls(Note(note.text, tuple(kept)).signed_also(note.signatures))

    def with_lines(self, lines: Mapping[CosignerKey, NoteSignature]) -> Gathered:
        """Add verified lines; a newer one takes the place of the same witness's older one."""
        return Gathered(self.note.signed_also(lines.values()))

    def has_quorum(self, policy: WitnessPolicy) -> bool:
        """Whether the lines on the note, all verified when they came, are by a quorum of witnesses."""
        names = {
            witness.name
            for witness in policy.witnesses
            if any(witness.key.signed_by(line) for line in self.note.signatures)
        }
        return policy.quorum is not None and policy.met_by(names)
