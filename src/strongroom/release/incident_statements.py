"""How far an incident's record has come, signed by the responder that keeps it, so that the log can hold it to that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import incident_name

INCIDENT_TYPE: Final = payload_type("incident.v1")
MAX_ENTRIES: Final = 1 << 31
_MAX: Final = 4096
_PHASE: Final = re.compile(r"[a-z]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentStanding:
    """An incident's record at a moment: ``entry`` is the digest of its newest entry, ``entries`` how many it has."""

    genesis: Digest
    incident: str
    entry: Digest
    entries: int
    phase: str
    drill: bool
    at: Instant

    @classmethod
    def parse(cls, payload: bytes) -> IncidentStanding:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=_MAX), "incident") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                incident=fields.parsed("incident", incident_name),
                entry=fields.digest("entry"),
                entries=fields.integer("entries", least=1, most=MAX_ENTRIES),
                phase=fields.parsed("phase", _phase),
                drill=fields.boolean("drill"),
                at=fields.instant("at"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "incident": self.incident,
                "entry": str(self.entry),
                "entries": self.entries,
                "phase": self.phase,
                "drill": self.drill,
                "at": format_instant(self.at),
            }
        )


def _phase(text: str) -> str:
    if not _PHASE.fullmatch(text):
        raise MalformedError("a phase is a word in lower case")
    return text
