"""What a custodian signs once the share of an old root key is destroyed: every copy of it, on paper and in files.

Nobody can check that. It is their word, under their name; the destruction certificates that follow quote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id

SHARE_DESTROYED_TYPE: Final = payload_type("share-destroyed.v1")
_MAX: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareDestroyed:
    """A custodian destroyed the own share of one generation of the root key."""

    genesis: Digest
    custodian: PersonId
    generation: int

    @classmethod
    def parse(cls, payload: bytes) -> ShareDestroyed:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=_MAX), "share-destroyed") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                custodian=fields.parsed("custodian", person_id),
                generation=fields.integer("generation", least=1),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {"v": 1, "genesis": str(self.genesis), "custodian": self.custodian, "generation": self.generation}
        )
