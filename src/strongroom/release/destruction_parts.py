"""What a destruction certificate is made of: versions, acts, who had a data key, and copies that may still exist."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id
from strongroom.keys.provider import MAX_REFERENCE, Finality
from strongroom.keys.uri import MAX_URI

MAX_NAME: Final = MAX_URI


class Medium(StrEnum):
    """What may hold a copy; a closed list."""

    PROVIDER = "provider-key"
    """A key service's key that closed an old generation of the root key. ``name`` is its URI."""
    MOVED = "moved-root"
    """A key service that held a generation of the root key before it was moved to others. The log doesn't name it."""
    KEYRINGS = "old-keyrings"
    """Copies of the keeper's keyring from before: in key packages, safes and snapshots of disks. Nobody counts them."""
    DISK = "keeper-disk"
    """Blocks of the keeper's disk that held the old keyring, until the disk uses them again."""
    SHARE = "custodian-share"
    """A custodian's share of an old generation of the root key. ``name`` is the person."""
    BACKUP = "backup"
    """A backup. It holds data keys under the destroyed key-encryption key, and opens only with an old keyring."""
    STANZA = "recipient-stanza"
    """Sealed files that somebody opened to a recipient of their own: they need no keeper."""
    PLAINTEXT = "plaintext"
    """What the model was sealed from, and what was made of it outside."""


class Because(StrEnum):
    """Why a copy couldn't be reached; a closed list."""

    NO_VERSIONS = "no-versions"
    """The service destroys whole keys only, or nothing; or the key isn't said to be this deployment's alone."""
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    SCHEDULED = "scheduled"
    """The service refuses it now, and erases it later."""
    NOT_ANSWERED = "not-answered"
    ELSEWHERE = "elsewhere"
    """Outside of what the keeper can reach."""
    UNKNOWN = "unknown"
    """Nobody knows whether there is one."""


class Exposure(StrEnum):
    """How a data key of the model was handed over."""

    PUBLISHER = "publisher"
    ENCLAVE = "enclave"
    EXPORT = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A version whose data key can't be unwrapped any more."""

    version: int
    manifest: Digest
    data_key: str

    @classmethod
    def read(cls, fields: Fields) -> Sealed:
        """Read the JSON form."""
        return cls(
            version=fields.integer("version", least=1),
            manifest=fields.digest("manifest"),
            data_key=fields.text("data_key", max_length=128),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"version": self.version, "manifest": str(self.manifest), "data_key": self.data_key}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destroyed:
    """What a key service did: every version of its key before ``kept`` is gone, or will be."""

    provider: str
    kept: str
    """The version that the present root key is closed by."""
    finality: Finality

    @classmethod
    def read(cls, fields: Fields) -> Destroyed:
        """Read the JSON form."""
        return cls(
            provider=fields.text("provider", max_length=MAX_URI),
            kept=fields.text("kept", max_length=MAX_REFERENCE),
            finality=fields.parsed("finality", Finality),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"provider": self.provider, "kept": self.kept, "finality": self.finality.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Who had a data key of the model, under which request, how often, and when first and last."""

    request: Digest
    how: Exposure
    person: PersonId
    uses: int
    first: int
    """Log index of the first use."""
    first_at: Instant
    last: int
    last_at: Instant

    @classmethod
    def read(cls, fields: Fields) -> Exposed:
        """Read the JSON form."""
        return cls(
            request=fields.digest("request"),
            how=fields.parsed("how", Exposure),
            person=fields.parsed("person", person_id),
            uses=fields.integer("uses", least=1),
            first=fields.integer("first"),
            first_at=fields.instant("first_at"),
            last=fields.integer("last"),
            last_at=fields.instant("last_at"),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "request": str(self.request),
            "how": self.how.value,
            "person": self.person,
            "uses": self.uses,
            "first": self.first,
            "first_at": format_instant(self.first_at),
            "last": self.last,
            "last_at": format_instant(self.last_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy that may still exist, and why it wasn't reached."""

    medium: Medium
    because: Because
    name: str = ""
    """A URI, a person, or a digest, as the medium says; empty where there is none."""
    generation: int = 0
    """Of the root key that it belongs to: this one and every older; 0 where that plays no part."""
    index: int | None = None
    """The log entry that tells of it."""

    @classmethod
    def read(cls, fields: Fields) -> Copy:
        """Read the JSON form."""
        return cls(
            medium=fields.parsed("medium", Medium),
            because=fields.parsed("because", Because),
            name=fields.text("name", max_length=MAX_NAME),
            generation=fields.integer("generation"),
            index=fields.integer("index") if fields.optional("index") else None,
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "medium": self.medium.value,
            "because": self.because.value,
            "name": self.name,
            "generation": self.generation,
            "index": self.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A share of an old generation of the root key that its custodian signed to be destroyed."""

    custodian: PersonId
    generation: int
    statement: Digest
    index: int

    @classmethod
    def read(cls, fields: Fields) -> Answered:
        """Read the JSON form."""
        return cls(
            custodian=fields.parsed("custodian", person_id),
            generation=fields.integer("generation", least=1),
            statement=fields.digest("statement"),
            index=fields.integer("index"),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "custodian": self.custodian,
            "generation": self.generation,
            "statement": str(self.statement),
            "index": self.index,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One act of the destruction, where it stands in the log."""

    index: int
    at: Instant
    before: int
    """The epoch or generation that is gone."""
    after: int
    """The one that follows."""

    @classmethod
    def read(cls, fields: Fields) -> Step:
        """Read the JSON form."""
        with fields:
            return cls(
                index=fields.integer("index"),
                at=fields.instant("at"),
                before=fields.integer("before"),
                after=fields.integer("after"),
            )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"index": self.index, "at": format_instant(self.at), "before": self.before, "after": self.after}
