"""What the keeper pins outside the log and the database, so that neither can be rolled back under it unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId


class RolledBackError(TamperedError):
    """The log, a document or the clock is behind what was seen before."""

    code = "rolled-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """The newest state that the keeper has seen. Epochs are 0 before the first document."""

    genesis: Digest
    log_size: int
    log_root: Digest
    roster_epoch: int
    policy_epoch: int
    reference_values_epoch: int
    latest: Instant

    @classmethod
    def parse(cls, data: bytes) -> Pins:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=4096), "pins") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                log_size=fields.integer("log_size"),
                log_root=fields.digest("log_root"),
                roster_epoch=fields.integer("roster_epoch"),
                policy_epoch=fields.integer("policy_epoch"),
                reference_values_epoch=fields.integer("reference_values_epoch"),
                latest=fields.instant("latest"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "log_size": self.log_size,
                "log_root": str(self.log_root),
                "roster_epoch": self.roster_epoch,
                "policy_epoch": self.policy_epoch,
                "reference_values_epoch": self.reference_values_epoch,
                "latest": format_instant(self.latest),
            }
        )


def pins_go_back(before: Pins, now: Pins) -> bool:
    """Tell whether ``now`` is older than ``before`` in anything, or another deployment's."""
    return now.genesis != before.genesis or any(new < old for new, old in zip(_ages(now), _ages(before), strict=True))


def _ages(pins: Pins) -> tuple[int, ...]:
    return (pins.log_size, pins.roster_epoch, pins.policy_epoch, pins.reference_values_epoch, pins.latest)


class PinStore(Protocol):
    """Where pins are kept: a file of the keeper's own here; a TPM counter or witnesses elsewhere."""

    def load(self) -> Pins | None:
        """Return what was pinned last, or None at the very first start."""
        ...

    def save(self, pins: Pins) -> None:
        """Make pins durable.

        :raises UnavailableError: they couldn't be written.
        """
        ...


class KeyringStore(Protocol):
    """Where the keyring is kept: a file of the keeper's own."""

    def save(self, keyring: bytes) -> None:
        """Replace the keyring durably.

        :raises UnavailableError: it couldn't be written; the old one stands.
        """
        ...


class DocumentStore(Protocol):
    """The keeper's own copies of the signed documents in force, checked again at each start."""

    def load(self, kind: str, digest: Digest) -> bytes | None:
        """Return the envelope of the document with this digest."""
        ...

    def save(self, kind: str, digest: Digest, envelope: bytes) -> None:
        """Make an envelope durable."""
        ...


class RecordStore(Protocol):
    """The keeper's encrypted records about people, two files each: a wrapped key, and what it encrypts."""

    def load(self, name: str) -> bytes | None:
        """Return a file's bytes."""
        ...

    def save(self, name: str, data: bytes) -> None:
        """Make a file durable."""
        ...

    def erase(self, name: str) -> None:
        """Remove a file for good."""
        ...


class AttestedStore(Protocol):
    """What releases were proved by: evidence and signed results. The log holds the digest of each record."""

    def append(self, record: bytes) -> None:
        """Keep one record's canonical bytes; the oldest make room for new ones, and a crash may lose the last."""
        ...

    def find(self, digest: Digest) -> bytes | None:
        """Return the record with this digest, if it is kept."""
        ...


class DecisionStore(Protocol):
    """Kept decisions, for explaining and for trying other rules on them. The log holds their digests."""

    def append(self, record: bytes) -> None:
        """Keep one decision's canonical bytes; may be lost in a crash."""
        ...

    def newest(self, count: int, before: Digest | None = None) -> tuple[bytes, ...]:
        """Return the newest decisions, oldest first and each once; or those right before one of them.

        :raises DecisionNotKeptError: ``before`` isn't kept, or no longer.
        """
        ...

    def find(self, digest: Digest) -> bytes | None:
        """Return the decision with this digest, if it is kept."""
        ...

    def forget(self, person: PersonId) -> None:
        """Remove every decision that a person was part of."""
        ...
