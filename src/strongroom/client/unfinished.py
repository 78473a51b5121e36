"""A sealing that was begun: kept in the publisher's wallet, with its data key, until the version is registered.

An interruption then costs neither the approvals nor the hours of sealing that came before it. Whoever opens the wallet
opens this too; it is removed when the version is registered.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id, person_id
from strongroom.sealing.write import VersionFacts


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What was asked for and allowed."""

    facts: VersionFacts
    request: Digest
    """The ``seal`` request under which the data key was made."""

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        facts = self.facts
        return encode(
            {
                "v": 1,
                "genesis": str(facts.genesis),
                "model": facts.model,
                "version": facts.version,
                "predecessor": str(facts.predecessor) if facts.predecessor else None,
                "data_key": facts.data_key_id,
                "publisher": facts.publisher,
                "request": str(self.request),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Unfinished:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data), "unfinished") as fields:
            fields.constant("v", 1)
            facts = VersionFacts(
                genesis=fields.digest("genesis"),
                model=fields.parsed("model", model_id),
                version=fields.integer("version", least=1),
                predecessor=fields.digest("predecessor") if fields.optional("predecessor") else None,
                data_key_id=fields.text("data_key"),
                publisher=fields.parsed("publisher", person_id),
            )
            return cls(facts, fields.digest("request"))


def unfinished_name(model: ModelId, place: str) -> str:
    """Return under which name the wallet keeps the sealing of ``model`` to ``place``."""
    return hashlib.sha256(encode({"model": model, "place": place})).hexdigest()[:32]
