"""What is in a backup: a closed list of names, and in which section each of them stands.

A file that isn't named here is in no backup. So a new secret of the keeper's doesn't slip into one by accident, and
what a forged backup writes to can't be anything but these places.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from strongroom.core.errors import MalformedError

MAX_PARTS: Final = 65536


class Section(StrEnum):
    """The parts of a backup that are encrypted together."""

    RECORDS = "records"
    """Signed, wrapped or public before it was encrypted: databases, log, documents, records, decisions, evidence."""
    MACHINE = "machine"
    """What makes a machine this deployment's: the log's key, the development authority, the broker's settings."""


GENESIS: Final = "genesis.json"
LOG_ENTRIES: Final = "log/entries"
BROKER_DATABASE: Final = "broker/broker.db"
WITNESS_POLICY: Final = "log/witnesses.policy"

_RECORDS: Final = re.compile(
    r"genesis\.json|log\.pub|log-cosigner\.pub"
    r"|log/entries|log/finals/[1-9][0-9]{0,3}\.checkpoint|log/witnesses\.policy|log/witnesses-ca\.pem"
    r"|broker/broker\.db"
    r"|keeper/genesis\.digest|keeper/pins\.json"
    r"|keeper/(?!keyring|escrow)[a-z][a-z-]{0,31}-[0-9a-f]{64}\.json"
    r"|keeper/people/[0-9a-f]{32}\.(key|record-0|record-1)"
    r"|keeper/(decisions|attested)(\.older|\.held-[1-8])?\.jsonl"
)
_MACHINE: Final = re.compile(
    r"log/(shards/[1-9][0-9]{0,3}/)?log\.key"
    r"|broker/ca/ca\.(pem|key)"
    r"|broker/(oidc|spiffe|webhooks|scim|ssf)\.toml"
    r"|broker/(oidc-pinned|scim-tokens)\.json"
    r"|broker/webhooks/[A-Za-z0-9_-]{1,64}(\.(?!place)[a-z]{1,8})?"
)


def log_key_name(folder: str) -> str:
    """Return the name of the part with the key of the shard of the log that lies in ``folder`` (see :class:`Shard`)."""
    return f"log/{folder}log.key"


def final_name(shard: int) -> str:
    """Return the name of the part with the checkpoint that closed a shard of the log."""
    return f"log/finals/{shard}.checkpoint"


class PartName(str):
    """A part's name: its place under a deployment's home, and one of those that a backup may hold."""

    __slots__ = ()

    def belongs_to(self, section: Section) -> bool:
        """Tell whether the part stands in ``section``."""
        return section_of(self) is section


def section_of(name: str) -> Section | None:
    """Return the section that a place under the home belongs to, or None when it is in no backup."""
    if _RECORDS.fullmatch(name):
        return Section.RECORDS
    return Section.MACHINE if _MACHINE.fullmatch(name) else None


def part_name(text: str) -> PartName:
    """Read a part's name.

    :raises MalformedError: it isn't one that a backup may hold.
    """
    if section_of(text) is None:
        raise MalformedError("a backup holds no part of that name")
    return PartName(text)
