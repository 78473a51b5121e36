"""What an assessor signs for the log: that an assessment with this digest was made, and which level it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.fields import Fields
from strongroom.framework.levels import SecurityLevel

NOTICE_TYPE: Final = payload_type("assessment-notice.v1")
ASSESSOR: Final = "assessor"
"""The role of those who may have an assessment recorded."""
_MAX: Final = 4096
_HIGHEST: Final = SecurityLevel.SL4.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentNotice:
    """One assessment, by digest. The log has no room for all of it, and no need.

    :ivar held: the rank of the level found, 0 for none to 4: nobody awards SL5 to themselves.
    """

    genesis: Digest
    assessment: Digest
    held: int
    goal: SecurityLevel
    at: Instant

    @classmethod
    def parse(cls, payload: bytes) -> AssessmentNotice:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=_MAX), "assessment-notice") as f:
            f.constant("v", 1)
            return cls(
                genesis=f.digest("genesis"),
                assessment=f.digest("assessment"),
                held=f.integer("held", most=_HIGHEST),
                goal=f.parsed("goal", SecurityLevel),
                at=f.instant("at"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "assessment": str(self.assessment),
                "held": self.held,
                "goal": self.goal.value,
                "at": format_instant(self.at),
            }
        )
