"""What a delivery's operator signs: one record of the intake gate, for one deployment. Reviewers sign
:class:`~strongroom.intake.reviews.Review`.

Records name each other by digest; in the log, the newest one of a delivery is named too. So whoever keeps the records
can neither take one back nor go two ways from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.fields import Fields
from strongroom.intake.states import MAX_RECORD, Record

INTAKE_RECORD_TYPE: Final = payload_type("intake-record.v1")
OPERATOR: Final = "publisher"
"""The role whose holders take deliveries in: whoever seals what is accepted."""
_MAX: Final = MAX_RECORD + 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeRecord:
    """One step of a delivery, as its operator signs it."""

    genesis: Digest
    """The deployment."""
    record: Record

    @classmethod
    def parse(cls, payload: bytes) -> IntakeRecord:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=_MAX), "intake-record") as fields:
            fields.constant("v", 1)
            return cls(genesis=fields.digest("genesis"), record=Record.parse(encode(fields.value("record"))))

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"v": 1, "genesis": str(self.genesis), "record": decode(self.record.to_bytes())})
