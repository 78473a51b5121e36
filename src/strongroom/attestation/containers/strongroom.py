"""Our own forms: the evidence envelope as an agent sends it, and statements as `strongroom attestation collect` writes
them: ``{"v": 1, "items": [{"kind", "body"}]}``, and the record that the keeper keeps of a release.
"""

from __future__ import annotations

from typing import Final

from strongroom.attestation.containers.contained import MAX_FILE, Contained
from strongroom.attestation.evidence import MAX_DEVICES, Evidence, EvidenceItem
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

_MEMBERS: Final = frozenset({"v", "platform", "main", "devices", "recipient_key"})
_KEPT: Final = frozenset({"v", "evidence", "binding", "result"})
_COLLECTED: Final = frozenset({"v", "items"})


def write(items: tuple[EvidenceItem, ...]) -> bytes:
    """Write collected statements."""
    return encode({"v": 1, "items": [item.to_json() for item in items]})


def read(data: bytes) -> Contained | None:
    """Read a file; None when it isn't of this form.

    :raises MalformedError: it is, but it is broken.
    """
    if not data.startswith(b"{") or len(data) > MAX_FILE:
        return None
    try:
        value = parse(data, max_bytes=MAX_FILE)
    except MalformedError:
        return None  # JSON of somebody else, with floats in it, say
    if isinstance(value, dict) and set(value) == _COLLECTED:
        return Contained(form="collected statements", items=_items(value))
    if isinstance(value, dict) and set(value) == _KEPT:
        with Fields(value, "kept") as kept:
            kept.constant("v", 1)
            kept.text("binding", max_length=MAX_FILE)
            kept.text("result", max_length=MAX_FILE)
            evidence = Evidence.parse(kept.binary("evidence", max_length=MAX_FILE))
        return Contained(form="kept record of a release", items=(evidence.main, *evidence.devices))
    if not isinstance(value, dict) or set(value) != _MEMBERS:
        return None
    evidence = Evidence.parse(data)
    return Contained(form="Strongroom evidence", items=(evidence.main, *evidence.devices))


def _items(value: Json) -> tuple[EvidenceItem, ...]:
    with Fields(value, "statements") as fields:
        fields.constant("v", 1)
        items = fields.objects("items", EvidenceItem.read, most=MAX_DEVICES + 1)
    if not items:
        raise MalformedError("`statements.items` must hold at least one statement")
    return items
