"""What each event may say: a closed table. A field that isn't here has no place in the log, so secrets have none.

Every kind is narrow ASCII text, an integer or null: no quote, no backslash, no free text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import MAX_INTEGER, Json
from strongroom.core.clock import parse_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.genesis import ML_DSA_44_KEY_BYTES
from strongroom.core.ids import image_id, model_id, person_id, platform_id
from strongroom.core.signature import PublicKey

MAX_LIST: Final = 256
Fact = str | int | None | Digest | PublicKey | Sequence[str | Digest]
"""What a caller may pass for one fact; it is written as text, an integer, null or a list of texts."""
StoredFact = str | int | None | tuple[str, ...]
"""What a reader gets."""


class Producer(StrEnum):
    """Who made an entry. Each producer has its own counter without gaps."""

    KEEPER = "keeper"
    LOG = "log"


class Kind(StrEnum):
    """The form of one fact."""

    DIGEST = "digest"
    DIGEST_OR_NULL = "digest or null"
    DIGESTS = "list of digests"
    INTEGER = "integer"
    INTEGER_OR_NULL = "integer or null"
    INSTANT = "instant"
    INSTANT_OR_NULL = "instant or null"
    CODE = "code"
    ID = "id"
    ID_OR_NULL = "id or null"
    IDS = "list of ids"
    MODEL = "model id"
    PERSON = "person id"
    PERSONS = "list of person ids"
    PLATFORM = "platform id"
    IMAGE = "image id"
    PUBLIC_KEY = "public key"
    COSIGNER = "ML-DSA-44 key"


_CODE: Final = re.compile(r"[a-z0-9]+(?:[._:-][a-z0-9]+)*")
_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?")


_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def _digest(text: str) -> None:
    # Accepts exactly what `Digest.parse` accepts, without making the value: half of all facts are digests.
    if not _DIGEST.fullmatch(text):
        raise MalformedError("a digest must be written `sha256:<hex>`")


def _cosigner(text: str) -> None:
    if len(from_base64(text)) != ML_DSA_44_KEY_BYTES:
        raise MalformedError(f"an ML-DSA-44 key has {ML_DSA_44_KEY_BYTES} bytes")


def _matching(pattern: re.Pattern[str], most: int, what: str) -> Callable[[str], object]:
    def check(text: str) -> None:
        if len(text) > most or not pattern.fullmatch(text):
            raise MalformedError(f"{what} is at most {most} characters of a-z, 0-9 and separators")

    return check


_TEXT: Final[Mapping[Kind, Callable[[str], object]]] = {
    Kind.DIGEST: _digest,
    Kind.DIGEST_OR_NULL: _digest,
    Kind.DIGESTS: _digest,
    Kind.INSTANT: parse_instant,
    Kind.INSTANT_OR_NULL: parse_instant,
    Kind.CODE: _matching(_CODE, 96, "a code"),
    Kind.ID: _matching(_ID, 128, "an id"),
    Kind.ID_OR_NULL: _matching(_ID, 128, "an id"),
    Kind.IDS: _matching(_ID, 128, "an id"),
    Kind.MODEL: model_id,
    Kind.PERSON: person_id,
    Kind.PERSONS: person_id,
    Kind.PLATFORM: platform_id,
    Kind.IMAGE: image_id,
    Kind.PUBLIC_KEY: PublicKey.parse,
    Kind.COSIGNER: _cosigner,
}
_NULLABLE: Final = frozenset({Kind.DIGEST_OR_NULL, Kind.INTEGER_OR_NULL, Kind.INSTANT_OR_NULL, Kind.ID_OR_NULL})
_LISTS: Final = frozenset({Kind.DIGESTS, Kind.IDS, Kind.PERSONS})

_REQUEST: Final = {"request": Kind.DIGEST}
_VERSION: Final = {"model": Kind.MODEL, "version": Kind.INTEGER}
_DOCUMENT: Final = {"epoch": Kind.INTEGER, "document": Kind.DIGEST}
_ON_MODEL: Final = {"model": Kind.MODEL, "request": Kind.DIGEST}
_OFFICERS: Final = {"person": Kind.PERSON, "statement": Kind.DIGEST, "officers": Kind.PERSONS}
_VOICE: Final = {**_REQUEST, "person": Kind.PERSON, "key": Kind.ID, "counter": Kind.INTEGER}
_HANDED_OVER: Final = {
    **_REQUEST,
    **_VERSION,
    "use": Kind.INTEGER,
    "manifest": Kind.DIGEST,
    "data_key": Kind.ID,
    "recipient": Kind.DIGEST,
    "approvals": Kind.DIGESTS,
    "roster": Kind.DIGEST,
    "policy": Kind.DIGEST,
    "requester": Kind.PERSON,
    "approvers": Kind.PERSONS,
    "decision": Kind.DIGEST,
}
_AUTHORITY: Final = {"authority": Kind.DIGEST}
"""The root quorum's key order, or the request, under which an act on the deployment's keys was done."""
_KEK: Final = {"model": Kind.MODEL, "kek": Kind.ID}
_GENERATION: Final = {"generation": Kind.INTEGER}
_METERED: Final = {**_REQUEST, "use": Kind.INTEGER, "model": Kind.MODEL}
_PROVED: Final = {"evidence": Kind.DIGEST, "result": Kind.DIGEST, "attested": Kind.DIGEST}
_OWED: Final = {"sampling": Kind.CODE}
"""How many of its answers are to be replayed, as the gateway was told with it."""

SCHEMA: Final[Mapping[EventName, Mapping[str, Kind]]] = MappingProxyType(
    {
        EventName.LOG_OPENED: {"genesis": Kind.DIGEST},
        EventName.SHARD_CLOSED: {
            "next": Kind.INTEGER,
            "key": Kind.PUBLIC_KEY,
            "cosigner": Kind.COSIGNER,
            "base": Kind.INTEGER,
        },
        EventName.SHARD_CONTINUED: {
            "genesis": Kind.DIGEST,
            "shard": Kind.INTEGER,
            "base": Kind.INTEGER,
            "predecessor": Kind.DIGEST,
        },
        EventName.SHARD_PRUNED: {"shard": Kind.INTEGER, "minimum": Kind.INTEGER},
        EventName.KEEPER_UNLOCKED: {},
        EventName.KEEPER_LOCKED: {"cause": Kind.CODE},
        EventName.EPOCH_CREATED: {"epoch": Kind.INTEGER, "escrowed": Kind.INTEGER},
        EventName.EPOCH_ROTATED: {
            **_AUTHORITY,
            "epoch": Kind.INTEGER,
            "previous": Kind.INTEGER,
            "models": Kind.INTEGER,
        },
        EventName.EPOCH_DESTROYED: {**_AUTHORITY, "epoch": Kind.INTEGER},
        EventName.KEK_CREATED: {**_KEK, "epoch": Kind.INTEGER, "escrowed": Kind.INTEGER},
        EventName.KEK_ROTATED: {**_REQUEST, **_KEK, "previous": Kind.ID, "epoch": Kind.INTEGER},
        EventName.KEK_RETIRED: {**_KEK, "lost": Kind.IDS},
        EventName.ROOT_ROTATED: {**_AUTHORITY, **_GENERATION, "previous": Kind.INTEGER, "providers": Kind.DIGEST},
        EventName.ROOT_MOVED: {**_GENERATION, "providers": Kind.DIGEST},
        EventName.ESCROW_ADOPTED: {
            **_AUTHORITY,
            **_GENERATION,
            "escrow": Kind.DIGEST,
            "custodians": Kind.PERSONS,
            "threshold": Kind.INTEGER,
        },
        EventName.ESCROW_OPENED: {**_GENERATION, "escrow": Kind.DIGEST, "custodians": Kind.PERSONS},
        EventName.ESCROW_ANSWERED: {"custodian": Kind.PERSON, **_GENERATION, "statement": Kind.DIGEST},
        EventName.MODEL_DESTROYED: {**_REQUEST, **_KEK, "epoch": Kind.INTEGER, **_GENERATION},
        EventName.DESTRUCTION_CERTIFIED: {"model": Kind.MODEL, "certificate": Kind.DIGEST},
        EventName.RESPONDER_SILENT: {"responder": Kind.PERSON, "seconds": Kind.INTEGER},
        EventName.RESPONDER_HEARD: {"responder": Kind.PERSON},
        EventName.INCIDENT_RECORDED: {
            "incident": Kind.ID,
            "entry": Kind.DIGEST,
            "entries": Kind.INTEGER,
            "phase": Kind.CODE,
            "drill": Kind.INTEGER,
            "person": Kind.PERSON,
            "statement": Kind.DIGEST,
        },
        EventName.PRECAUTION_TAKEN: {
            "kind": Kind.CODE,
            "subject": Kind.ID_OR_NULL,
            "cause": Kind.CODE,
            "incident": Kind.ID_OR_NULL,
            "until": Kind.INSTANT_OR_NULL,
            "person": Kind.PERSON,
            "statement": Kind.DIGEST,
        },
        EventName.PRECAUTION_LIFTED: {**_ON_MODEL, "precaution": Kind.DIGEST},
        EventName.BACKUP_MADE: {"backup": Kind.DIGEST, "size": Kind.INTEGER},
        EventName.DEPLOYMENT_RESTORED: {
            "order": Kind.DIGEST,
            "backup": Kind.DIGEST,
            "size": Kind.INTEGER,
            "lost": Kind.IDS,
        },
        EventName.ROSTER_ADOPTED: _DOCUMENT,
        EventName.VETTING_RECORDED: {**_OFFICERS, "serial": Kind.INTEGER},
        EventName.KEYS_ENROLLED: {**_OFFICERS, "keys": Kind.IDS},
        EventName.PERSON_SUSPENDED: {
            "person": Kind.PERSON,
            "cause": Kind.CODE,
            "fell": Kind.DIGEST,
            "grants": Kind.INTEGER,
            "approvals": Kind.INTEGER,
            "leases": Kind.INTEGER,
        },
        EventName.PERSON_ERASED: _OFFICERS,
        EventName.POLICY_ADOPTED: _DOCUMENT,
        EventName.REFERENCE_VALUES_ADOPTED: _DOCUMENT,
        EventName.PLATFORM_ENROLLED: {
            "platform": Kind.PLATFORM,
            "record": Kind.DIGEST,
            "hardware": Kind.DIGEST,
            "isolation": Kind.CODE,
        },
        EventName.PLATFORM_REVOKED: {"platform": Kind.PLATFORM, "request": Kind.DIGEST},
        EventName.COLLATERAL_IMPORTED: {"digest": Kind.DIGEST, "items": Kind.INTEGER, "by": Kind.PERSON},
        EventName.REQUEST_CREATED: {
            **_REQUEST,
            "action": Kind.CODE,
            "requester": Kind.PERSON,
            "model": Kind.MODEL,
        },
        EventName.REQUEST_APPROVED: {**_VOICE, "approval": Kind.DIGEST},
        EventName.REQUEST_DENIED: {**_VOICE, "denial": Kind.DIGEST},
        EventName.AUTHENTICATOR_REGRESSED: {**_VOICE, "seen": Kind.INTEGER},
        EventName.GRANT_ISSUED: {
            **_REQUEST,
            "action": Kind.CODE,
            "model": Kind.MODEL,
            "requester": Kind.PERSON,
            "approvers": Kind.PERSONS,
            "access": Kind.CODE,
            "holders": Kind.INTEGER,
            "expires": Kind.INSTANT,
            "uses": Kind.INTEGER,
        },
        EventName.GRANT_REVOKED: {"grant": Kind.DIGEST, "request": Kind.DIGEST},
        EventName.ACCESS_REVIEWED: {
            "statement": Kind.DIGEST,
            "reviewer": Kind.PERSON,
            "kept": Kind.INTEGER,
            "removed": Kind.DIGESTS,
        },
        EventName.BREAK_GLASS_REVIEWED: {
            **_REQUEST,
            "statement": Kind.DIGEST,
            "reviewers": Kind.PERSONS,
            "outcome": Kind.CODE,
        },
        EventName.CHANGE_PROPOSED: {"kind": Kind.CODE, **_DOCUMENT, "effective": Kind.INSTANT},
        EventName.CHANGE_STOPPED: {"document": Kind.DIGEST, "statement": Kind.DIGEST, "person": Kind.PERSON},
        EventName.MODEL_FROZEN: _ON_MODEL,
        EventName.MODEL_RESUMED: _ON_MODEL,
        EventName.DATA_KEY_CREATED: {
            **_REQUEST,
            **_VERSION,
            "use": Kind.INTEGER,
            "data_key": Kind.ID,
            "kek": Kind.ID,
            "recipient": Kind.DIGEST,
        },
        EventName.VERSION_REGISTERED: {
            **_REQUEST,
            **_VERSION,
            "manifest": Kind.DIGEST,
            "predecessor": Kind.DIGEST_OR_NULL,
            "publisher": Kind.PERSON,
            "publisher_key": Kind.PUBLIC_KEY,
            "data_key": Kind.ID,
        },
        EventName.RELEASED: {
            **_HANDED_OVER,
            "platform": Kind.PLATFORM,
            "image": Kind.IMAGE,
            "isolation": Kind.CODE,
            "weights": Kind.CODE,
            "reset_count": Kind.INTEGER_OR_NULL,
            **_PROVED,
            "reference_values": Kind.DIGEST,
            "appraisal_policy": Kind.DIGEST,
            "collateral": Kind.DIGEST,
            **_OWED,
        },
        EventName.EXPORTED: _HANDED_OVER,
        EventName.REDELIVERED: {
            **_REQUEST,
            "use": Kind.INTEGER,
            "recipient": Kind.DIGEST,
            "released": Kind.INTEGER,
            **_PROVED,
            **_OWED,
        },
        EventName.REFUSED: {**_REQUEST, "step": Kind.CODE, "reason": Kind.CODE, "decision": Kind.DIGEST_OR_NULL},
        EventName.REFUSALS_SUMMED: {**_REQUEST, "count": Kind.INTEGER, "first": Kind.INSTANT, "last": Kind.INSTANT},
        EventName.LEASE_ATTESTED: {
            **_REQUEST,
            "use": Kind.INTEGER,
            "isolation": Kind.CODE,
            **_PROVED,
            "reference_values": Kind.DIGEST,
            "appraisal_policy": Kind.DIGEST,
            "collateral": Kind.DIGEST,
            **_OWED,
        },
        EventName.LEASE_ENDED: {
            **_REQUEST,
            "use": Kind.INTEGER,
            "recipient": Kind.DIGEST,
            "reason": Kind.CODE,
        },
        EventName.EGRESS_POLICIES_ADOPTED: _DOCUMENT,
        EventName.ODOMETER_ADVANCED: {
            **_METERED,
            "epoch": Kind.INTEGER,
            "run": Kind.INTEGER,
            "through": Kind.INTEGER,
            "settled": Kind.INTEGER,
            "tokens": Kind.INTEGER,
            "verified": Kind.INTEGER,
            "total": Kind.INTEGER,
            "recent": Kind.INTEGER,
            "limit": Kind.INTEGER,
            "day": Kind.INTEGER,
            "policy": Kind.DIGEST,
        },
        EventName.EGRESS_WARNED: {
            "model": Kind.MODEL,
            "limit": Kind.CODE,
            "permille": Kind.INTEGER,
            "used": Kind.INTEGER,
            "of": Kind.INTEGER,
        },
        EventName.EGRESS_BREACHED: {**_METERED, "cause": Kind.CODE},
        EventName.DROP_KEY_RECORDED: {"person": Kind.PERSON, "statement": Kind.DIGEST, "key": Kind.DIGEST},
        EventName.WORKSPACE_BEGUN: {**_METERED, "person": Kind.PERSON, "input": Kind.DIGEST, "bytes": Kind.INTEGER},
        EventName.DROP_CHARGED: {
            **_METERED,
            "person": Kind.PERSON,
            "drop": Kind.DIGEST,
            "bytes": Kind.INTEGER,
            "bits": Kind.INTEGER,
            "total": Kind.INTEGER,
        },
        EventName.DROP_REVIEWED: {
            **_REQUEST,
            "drop": Kind.DIGEST,
            "statement": Kind.DIGEST,
            "reviewer": Kind.PERSON,
            "outcome": Kind.CODE,
        },
        EventName.INTAKE_RECORDED: {
            "delivery": Kind.ID,
            "model": Kind.MODEL,
            "state": Kind.CODE,
            "made": Kind.INSTANT,
            "record": Kind.DIGEST,
            "artifact": Kind.DIGEST_OR_NULL,
            "statement": Kind.DIGEST,
            "person": Kind.PERSON,
        },
        EventName.INTAKE_REVIEWED: {
            "delivery": Kind.ID,
            "record": Kind.DIGEST,
            "statement": Kind.DIGEST,
            "reviewer": Kind.PERSON,
            "outcome": Kind.CODE,
        },
        EventName.COPY_RECORDED: {
            "copy": Kind.ID,
            "model": Kind.MODEL,
            "version": Kind.INTEGER,
            "kind": Kind.CODE,
            "place": Kind.DIGEST,
            "state": Kind.CODE,
            "made": Kind.INSTANT,
            "due": Kind.INSTANT,
            "expires": Kind.INSTANT,
            "hold": Kind.DIGEST_OR_NULL,
            "statement": Kind.DIGEST,
            "person": Kind.PERSON,
        },
        EventName.ASSESSMENT_RECORDED: {
            "assessment": Kind.DIGEST,
            "held": Kind.INTEGER,
            "goal": Kind.INTEGER,
            "made": Kind.INSTANT,
            "statement": Kind.DIGEST,
            "person": Kind.PERSON,
        },
    }
)


def producer_of(event: EventName) -> Producer:
    """Return who may write ``event``: the keeper, but for the very first entry, which it reads before it may write."""
    return Producer.LOG if event is EventName.LOG_OPENED else Producer.KEEPER


def plain(value: Fact) -> Json:
    """Return a fact as the JSON value that is stored."""
    if isinstance(value, (Digest, PublicKey)):
        return str(value)
    if value is None or isinstance(value, (str, int)):
        return value
    return [str(item) for item in value]


Form = Callable[[Json], StoredFact]
"""Checks one stored value and returns it as a reader sees it; raises MalformedError for one of another kind."""


def _integer(value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise MalformedError("an integer from 0 to 2^53 - 1 is wanted")
    return value


def _text(kind: Kind, parse: Callable[[str], object], value: Json) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"a {kind.value} is text")
    try:
        parse(value)
    except ValueError:
        raise MalformedError(f"the text isn't a {kind.value}") from None
    return value


def _list(item: Callable[[Json], str], value: Json) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise MalformedError(f"a list of at most {MAX_LIST} items is wanted")
    return tuple(map(item, value))


def _or_null(form: Form, value: Json) -> StoredFact:
    return None if value is None else form(value)


def form_of(kind: Kind) -> Form:
    """Return what checks a value of this kind."""
    if kind is Kind.INTEGER:
        return _integer
    if kind is Kind.INTEGER_OR_NULL:
        return partial(_or_null, _integer)
    text = partial(_text, kind, _TEXT[kind])
    if kind in _LISTS:
        return partial(_list, text)
    return partial(_or_null, text) if kind in _NULLABLE else text


FORMS: Final[Mapping[EventName, Mapping[str, Form]]] = MappingProxyType(
    {event: {name: form_of(kind) for name, kind in facts.items()} for event, facts in SCHEMA.items()}
)
"""The same table as what checks it: looked up once for each entry, not for each fact."""
