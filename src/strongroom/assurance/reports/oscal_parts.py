"""What all OSCAL documents share."""

from __future__ import annotations

from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.printable import printable
from strongroom.core.stable_uuid import stable_uuid
from strongroom.framework.ids import MeasureId

Object = dict[str, Json]
OSCAL_VERSION: Final = "1.2.1"
CATALOG: Final = "oscal-catalog.json"
_NS: Final = "https://strongroom.invalid/oscal"
"""Ours; ``.invalid`` is nobody's (RFC 2606)."""


def document(kind: str, title: str, at: Instant, body: Object, *, remarks: str = "", **metadata: Json) -> Object:
    """Return a document of a kind; its id follows from what is in it, so that a changed one is another."""
    made: Object = {
        "metadata": {
            "title": line(title),
            "last-modified": format_instant(at),
            "version": "1",
            "oscal-version": OSCAL_VERSION,
            **metadata,
            **({"remarks": line(remarks)} if remarks else {}),
        },
        **body,
    }
    return {kind: {"uuid": stable_uuid("document", kind, repr(made)), **made}}


def prop(name: str, value: object) -> Json:
    """Return a property in our own namespace."""
    return {"name": name, "ns": _NS, "value": line(str(value))}


def line(text: str) -> str:
    """Return a text as OSCAL takes it: one line, no blanks around it, not empty."""
    return " ".join(printable(text).split()) or "none"


def control_id(measure: MeasureId) -> str:
    """Return a measure's id as OSCAL writes ids."""
    return measure.lower()


def statement_id(measure: MeasureId) -> str:
    """Return the id of what a measure asks."""
    return f"{control_id(measure)}_smt"


def observation_id(digest: Digest) -> str:
    """Return the id of what a collector saw."""
    return stable_uuid("observation", str(digest))


def word_id(digest: Digest) -> str:
    """Return the id of what a person said; no digest that is written in a statement makes it an observation's."""
    return stable_uuid("word", str(digest))
