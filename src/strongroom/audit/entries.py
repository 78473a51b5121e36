"""The leaf of the log: canonical JSON with a closed schema; the keeper signs its own entries (spec: audit-entries).

The log writer can order entries, but can't invent one for the keeper: whoever replays the log checks each signature.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.audit.errors import EntryError, EntryForgedError
from strongroom.audit.facts import FORMS, Fact, Producer, StoredFact, plain, producer_of
from strongroom.core.canonical import MAX_INTEGER, Json
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import pae, payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.signature import PublicKey, SignatureError, Signer

VERSION: Final = 1
MAX_ENTRY: Final = 65_535
"""An entry bundle counts an entry's length in two bytes (c2sp.org/tlog-tiles)."""
PAYLOAD_TYPE: Final = payload_type("entry.v1")
_SIGNATURE_SIZE: Final = 64
_UNSIGNED: Final = frozenset({"v", "event", "at", "by", "seq", "facts"})
_MEMBERS: Final = _UNSIGNED | {"sig"}
_END: Final = f',"v":{VERSION}}}'
_instant = functools.lru_cache(maxsize=1024)(parse_instant)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry that was read: well formed, its signature not checked unless :func:`verify_entry` was called."""

    event: EventName
    at: Instant
    by: Producer
    seq: int
    facts: Mapping[str, StoredFact]
    signature: bytes | None
    signed_bytes: bytes
    """The canonical bytes without the signature: what the signature covers, under DSSE."""

    def text(self, name: str) -> str:
        """Return a fact that is text (an id, a code)."""
        value = self.facts[name]
        if not isinstance(value, str):
            raise EntryError(f"fact `{name}` of `{self.event}` isn't text")
        return value

    def integer(self, name: str) -> int:
        """Return a fact that is an integer."""
        value = self.facts[name]
        if not isinstance(value, int):
            raise EntryError(f"fact `{name}` of `{self.event}` isn't an integer")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a fact that is a list of ids."""
        value = self.facts[name]
        if not isinstance(value, tuple):
            raise EntryError(f"fact `{name}` of `{self.event}` isn't a list")
        return value

    def digest(self, name: str) -> Digest:
        """Return a fact that is a digest."""
        return Digest.parse(self.text(name))

    def digests(self, name: str) -> tuple[Digest, ...]:
        """Return a fact that is a list of digests."""
        return tuple(Digest.parse(item) for item in self.texts(name))

    def public_key(self, name: str) -> PublicKey:
        """Return a fact that is a public key."""
        return PublicKey.parse(self.text(name))

    def to_json(self) -> dict[str, Json]:
        """Return the entry as a JSON object for showing; not the bytes that were hashed."""
        facts: dict[str, Json] = {k: list(v) if isinstance(v, tuple) else v for k, v in self.facts.items()}
        shown: dict[str, Json] = {
            "v": VERSION,
            "event": self.event.value,
            "at": format_instant(self.at),
            "by": self.by.value,
            "seq": self.seq,
            "facts": facts,
        }
        if self.signature is not None:
            shown["sig"] = to_base64(self.signature)
        return shown


_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)


def _canonical(value: Json) -> bytes:
    # Equal to RFC 8785 here, and faster: the schema leaves only integers, null and ASCII text without escapes,
    # for which sorting by code point and by UTF-16 unit agree. A property test compares both encoders.
    return _ENCODER.encode(value).encode()


def _parse(data: bytes) -> Json:
    # The plain parser serves: a name that stands twice, or another spelling, doesn't come out as the same bytes, and a
    # float or a deep nesting isn't of any fact's kind. A property test compares it with the strict one.
    if len(data) > MAX_ENTRY:
        raise EntryError(f"a log entry has at most {MAX_ENTRY} bytes")
    try:
        value: Json = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise EntryError("a log entry is JSON text") from None
    return value


def make_entry(
    event: EventName,
    *,
    at: Instant,
    by: Producer,
    seq: int,
    facts: Mapping[str, Fact],
    signer: Signer | None,
) -> bytes:
    """Return the bytes of an entry: exactly what will be hashed into the log.

    ``seq`` counts this producer's entries from 0. The keeper's entries need ``signer``; the log's own take none.

    :raises EntryError: a fact is missing, unknown or of another kind; a wrong producer, counter or signer.
    """
    stored: dict[str, Json] = {name: plain(value) for name, value in facts.items()}
    body: dict[str, Json] = {
        "v": VERSION,
        "event": event.value,
        "at": format_instant(at),
        "by": by.value,
        "seq": seq,
        "facts": stored,
    }
    _check_head(event, by, seq)
    _read_facts(event, stored)
    if (signer is not None) != (by is Producer.KEEPER):
        raise EntryError("entries of the keeper are signed, those of the log itself aren't")
    if signer is not None:
        body["sig"] = to_base64(signer.sign(pae(PAYLOAD_TYPE, _canonical(body))))
    data = _canonical(body)
    if len(data) > MAX_ENTRY:
        raise EntryError(f"the entry has {len(data)} bytes; at most {MAX_ENTRY} can be logged")
    return data


def read_entry(data: bytes) -> Entry:
    """Parse an entry strictly: canonical bytes, known event, exactly its facts, each of its kind.

    :raises EntryError: anything else.
    """
    try:
        return _read(data)
    except EntryError:
        raise
    except MalformedError as error:
        raise EntryError(f"not a log entry: {error.message}") from None


def _read(data: bytes) -> Entry:
    body = _parse(data)
    if not isinstance(body, dict):
        raise EntryError("a log entry is a JSON object")
    if body.keys() != _MEMBERS and body.keys() != _UNSIGNED:
        raise EntryError("a log entry has exactly the members v, event, at, by, seq, facts and perhaps sig")
    if body["v"] != VERSION or type(body["v"]) is not int:
        raise EntryError("the log entry is of a version that this program doesn't know")
    event, by, seq, at = body["event"], body["by"], body["seq"], body["at"]
    try:
        known, producer = EventName(str(event)), Producer(str(by))
    except ValueError:
        raise EntryError("the log entry names an event or a producer that this version doesn't know") from None
    if not isinstance(seq, int) or isinstance(seq, bool) or not isinstance(at, str):
        raise EntryError("a log entry's `seq` is an integer and its `at` an instant")
    _check_head(known, producer, seq)
    instant = _instant(at)
    facts = _read_facts(known, body["facts"])
    signature = _read_signature(body, producer)
    if _canonical(body) != data:
        raise EntryError("the log entry isn't in canonical form (RFC 8785)")
    if signature is None:
        return Entry(known, instant, producer, seq, facts, None, data)
    # In canonical form the signature stands before the version, which is last: cut out, the rest is what was signed.
    signed = data[: -len(f',"sig":"{body["sig"]}"{_END}')] + _END.encode()
    return Entry(known, instant, producer, seq, facts, signature, signed)


def _read_signature(body: dict[str, Json], by: Producer) -> bytes | None:
    text = body.get("sig")
    if by is Producer.LOG:
        if "sig" in body:
            raise EntryError("an entry of the log itself carries no signature")
        return None
    if not isinstance(text, str):
        raise EntryError("an entry of the keeper must carry its signature")
    signature = from_base64(text)
    if len(signature) != _SIGNATURE_SIZE:
        raise EntryError(f"an entry's signature has {_SIGNATURE_SIZE} bytes")
    return signature


def _check_head(event: EventName, by: Producer, seq: int) -> None:
    if producer_of(event) is not by:
        raise EntryError(f"`{event}` isn't an event that `{by}` may write")
    if not 0 <= seq <= MAX_INTEGER:
        raise EntryError("an entry's `seq` counts from 0")


def _read_facts(event: EventName, facts: Json) -> Mapping[str, StoredFact]:
    forms = FORMS[event]
    if not isinstance(facts, dict):
        raise EntryError("a log entry's facts are a JSON object")
    if facts.keys() != forms.keys():
        odd = min(facts.keys() ^ forms.keys())
        place = "is missing" if odd in forms else "isn't one that this event has"
        named = f"`{odd}`" if odd in forms else "a fact"
        raise EntryError(f"`{event}`: {named} {place}")
    read: dict[str, StoredFact] = {}
    for name, form in forms.items():
        try:
            read[name] = form(facts[name])
        except MalformedError as error:
            raise EntryError(f"`{event}`: fact `{name}`: {error.message}") from None
    return MappingProxyType(read)


def verify_entry(entry: Entry, keeper_key: PublicKey) -> None:
    """Check the keeper's signature. Entries of the log itself carry none: the checkpoint covers them.

    :raises EntryForgedError: the keeper's key didn't sign this entry.
    """
    if entry.by is Producer.LOG:
        return
    if entry.signature is None:
        raise EntryForgedError(f"entry {entry.seq} of the keeper isn't signed")
    try:
        keeper_key.verify(entry.signature, pae(PAYLOAD_TYPE, entry.signed_bytes))
    except SignatureError:
        raise EntryForgedError(f"entry {entry.seq} of the keeper isn't signed by the keeper's key") from None
