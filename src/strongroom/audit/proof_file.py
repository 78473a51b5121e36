"""Proof files (c2sp.org/tlog-proof): everything that shows, offline, that one entry is in a log and was witnessed.

A format line, an index, the inclusion proof, an empty line, and the checkpoint with its cosignatures, verbatim.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.merkle import HASH_SIZE, NodeReader, leaf_hash, make_inclusion, verify_inclusion
from strongroom.audit.note import MAX_BYTES, Note
from strongroom.audit.witness_policy import Witnessed, WitnessPolicy, check_note
from strongroom.core.clock import Instant
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError

FORMAT: Final = "c2sp.org/tlog-proof@v1"
MAX_EXTRA: Final = 1 << 16
MAX_HASHES: Final = 63
MAX_PROOF: Final = MAX_BYTES + MAX_EXTRA * 2
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofFile:
    """A proof, not yet verified. ``extra`` is authenticated by nothing; ``checkpoint`` is a signed note's bytes."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> ProofFile:
        """Read a proof file.

        :raises MalformedError: another form.
        """
        if len(data) > MAX_PROOF:
            raise MalformedError(f"a proof file has at most {MAX_PROOF} bytes")
        head, gap, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            lines = []
        if not gap or not lines or lines.pop(0) != FORMAT:
            raise MalformedError(f"a proof file begins with the line `{FORMAT}`")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = from_base64(lines.pop(0).removeprefix("extra "))
            if len(extra) > MAX_EXTRA:
                raise MalformedError(f"a proof file's extra data has at most {MAX_EXTRA} bytes")
        index = _INDEX.fullmatch(lines.pop(0)) if lines else None
        if index is None:
            raise MalformedError("a proof file says `index` and a decimal number without leading zeros")
        hashes = tuple(from_base64(line) for line in lines)
        if len(hashes) > MAX_HASHES or any(len(value) != HASH_SIZE for value in hashes):
            raise MalformedError(f"a proof file holds at most {MAX_HASHES} hashes of {HASH_SIZE} bytes")
        Checkpoint.parse_text(Note.parse(checkpoint).text)
        return cls(index=int(index[1]), hashes=hashes, checkpoint=checkpoint, extra=extra)

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        lines = [FORMAT]
        if self.extra is not None:
            lines.append(f"extra {to_base64(self.extra)}")
        lines += [f"index {self.index}", *(to_base64(value) for value in self.hashes)]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.checkpoint

    def verify(self, entry: bytes, policy: WitnessPolicy, *, now: Instant) -> Witnessed:
        """Check that ``entry`` is in a log that the policy trusts, under a checkpoint that its quorum cosigned.

        How old the cosignatures are doesn't matter: what was in the log then is in it for ever.

        :raises ProofError: the entry isn't proven. :raises StrongroomError: as :func:`check_note`.
        """
        witnessed = check_note(self.checkpoint, policy, now=now)
        head = witnessed.checkpoint
        verify_inclusion(index=self.index, size=head.size, leaf=leaf_hash(entry), proof=self.hashes, root=head.root)
        return witnessed


def make_proof(index: int, checkpoint: bytes, node: NodeReader) -> ProofFile:
    """Make the proof of the entry at ``index`` under a signed checkpoint; ``node`` reads the tree's hashes.

    :raises ProofError: the checkpoint covers no such entry. :raises MalformedError: not a checkpoint.
    """
    size = Checkpoint.parse_text(Note.parse(checkpoint).text).size
    return ProofFile(index=index, hashes=make_inclusion(index, size, node), checkpoint=checkpoint)
