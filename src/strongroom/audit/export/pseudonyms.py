"""People and machines under other names, for a receiver that needn't know who they are.

``h1:<key id>:<HMAC-SHA-256 over what it is and its name, hex>``: the same person has the same name in every line that
one key made, so that lines can still be joined. Whoever has the key, and a list of people, can tell who is who, and
nobody else; throwing the key away makes that true of everybody. It is no encryption: names can't be had back from it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from strongroom.audit.export.record import Record
from strongroom.audit.facts import SCHEMA, Kind, StoredFact
from strongroom.core.errors import UsageError

KEY_BYTES: Final = 32
_KINDS: Final[Mapping[Kind, str]] = MappingProxyType(
    {Kind.PERSON: "person", Kind.PERSONS: "person", Kind.PLATFORM: "platform", Kind.PUBLIC_KEY: "key"}
)
_NAMES: Final[Mapping[str, str]] = MappingProxyType({"hardware": "hardware", "key": "key", "keys": "key"})
"""Facts that name one person or machine, though their kind doesn't say so: a key's id stands in the roster."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Makes pseudonyms under one key of 32 random bytes.

    :raises UsageError: a key of another length.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise UsageError(f"a key for pseudonyms has {KEY_BYTES} bytes")

    @property
    def key_id(self) -> str:
        """Eight hex characters that tell keys apart and say nothing about them."""
        return hmac.digest(self.key, b"strongroom pseudonyms key id v1", hashlib.sha256).hex()[:8]

    def name(self, what: str, value: str) -> str:
        """Return the pseudonym of a person (``person``), a machine (``platform``, ``hardware``) or a ``key``."""
        # The length in front: no two pairs of what and value give the same bytes.
        message = b"strongroom pseudonym v1\0" + bytes([len(what)]) + what.encode() + value.encode()
        return f"h1:{self.key_id}:{hmac.digest(self.key, message, hashlib.sha256).hex()}"

    def of(self, record: Record) -> Record:
        """Return the record with its people, their keys and its machines under their pseudonyms."""
        facts = {name: self._fact(record, name, value) for name, value in record.facts.items()}
        return replace(record, facts=MappingProxyType(facts))

    def _fact(self, record: Record, name: str, value: StoredFact) -> StoredFact:
        kind = SCHEMA[record.event][name]
        what = _KINDS.get(kind) or _NAMES.get(name)
        # `key` is a digest where it is a drop's encryption key: that one is a person's as well.
        if what is None or isinstance(value, int) or value is None:
            return value
        if isinstance(value, tuple):
            return tuple(self.name(what, one) for one in value)
        return self.name(what, value)
