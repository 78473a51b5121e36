"""What may be asked of the log writer, over the frames of :mod:`strongroom.ipc`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.audit.entries import MAX_ENTRY
from strongroom.audit.succession import MAX_SHARDS, Prepared, Seam
from strongroom.core.canonical import Json
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.genesis import ML_DSA_44_KEY_BYTES
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey

MAX_READ: Final = 256
MAX_READ_BYTES: Final = 512 * 1024
MAX_PROVEN: Final = 32
"""Entries, wherever they stand in a shard, that are asked for with their audit paths."""
MAX_SEAMS: Final = 32
"""Seams in one answer: each has some ten kilobytes."""


ProvenEntry = tuple[bytes, tuple[bytes, ...]]
"""An entry and its audit path."""


class Operation(StrEnum):
    """What can be asked of the log writer."""

    APPEND = "append"
    READ = "read"
    HEAD = "head"
    PROVE_INCLUSION = "prove-inclusion"
    PROVE_ENTRIES = "prove-entries"
    PROVE_CONSISTENCY = "prove-consistency"
    FLUSH = "flush"
    COSIGNED = "cosigned"
    PREPARE = "prepare"
    SEAMS = "seams"


@dataclass(frozen=True, slots=True)
class Head:
    """The state of the log, and the counter that the keeper's next entry must carry.

    ``size`` counts over all shards; ``checkpoint`` is of the newest shard that has an entry.
    """

    size: int
    checkpoint: bytes | None
    next_seq: int
    halted: bool
    tight: bool
    """Space is short: only what takes access away should be appended."""


def write_entries(entries: tuple[bytes, ...]) -> Json:
    """Return entries as the JSON list that frames carry."""
    return [to_base64(entry) for entry in entries]


def read_entries(fields: Fields, *, most: int) -> tuple[bytes, ...]:
    """Take the list ``entries``.

    :raises MalformedError: not a list of base64 texts.
    """
    return tuple(_binary(where, item, 88_000) for where, item in fields.items("entries", most=most))


def _binary(where: str, item: Json, most: int) -> bytes:
    if not isinstance(item, str) or len(item) > most:
        raise MalformedError(f"`{where}` must be base64 text of at most {most} characters")
    return from_base64(item)


def write_hashes(hashes: tuple[bytes, ...]) -> Json:
    """Return a proof as the JSON list that frames carry."""
    return [to_base64(value) for value in hashes]


def read_hashes(fields: Fields) -> tuple[bytes, ...]:
    """Take the list ``proof``.

    :raises MalformedError: not a list of base64 texts.
    """
    return tuple(_binary(where, item, 44) for where, item in fields.items("proof", most=128))


def read_places(fields: Fields) -> tuple[int, ...]:
    """Take the list ``places``.

    :raises MalformedError: none or too many, or one is no place.
    """
    told = [item for _where, item in fields.items("places", most=MAX_PROVEN)]
    places = tuple(item for item in told if isinstance(item, int) and not isinstance(item, bool) and item >= 0)
    if not places or len(places) < len(told):
        raise MalformedError("`places` are numbers, and there is one at least")
    return places


def write_proven(proven: tuple[ProvenEntry, ...]) -> Json:
    """Return entries with their audit paths as the JSON list that frames carry."""
    return [{"entry": to_base64(entry), "proof": write_hashes(proof)} for entry, proof in proven]


def read_proven(fields: Fields) -> tuple[ProvenEntry, ...]:
    """Take the list ``entries``, each with its audit path.

    :raises MalformedError: another form.
    """
    return fields.objects(
        "entries", lambda one: (one.binary("entry", max_length=MAX_ENTRY), read_hashes(one)), most=MAX_PROVEN
    )


def write_prepared(prepared: Prepared) -> dict[str, Json]:
    """Return the next shard's keys as the members that frames carry."""
    return {"number": prepared.number, "key": str(prepared.key), "cosigner": to_base64(prepared.cosigner)}


def read_prepared(fields: Fields) -> Prepared:
    """Take the next shard's keys.

    :raises MalformedError: another form.
    """
    return Prepared(
        number=fields.integer("number", most=MAX_SHARDS),
        key=fields.parsed("key", PublicKey.parse, max_length=MAX_KEY_TEXT),
        cosigner=fields.binary("cosigner", max_length=ML_DSA_44_KEY_BYTES),
    )


def read_seams(fields: Fields) -> tuple[Seam, ...]:
    """Take the list ``seams``.

    :raises MalformedError: another form.
    """
    return fields.objects("seams", Seam.read, most=MAX_SEAMS)
