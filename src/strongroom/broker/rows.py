"""Reading what the store holds. It may hold anything: a row that can't be read stops the act that needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from strongroom.broker.errors import StoredRowError
from strongroom.core.canonical import encode, parse
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError
from strongroom.core.fields import reading
from strongroom.release.dossier import WrappedDataKey

T = TypeVar("T")


def stored_envelope(text: str, what: str) -> Envelope:
    """Read an envelope that the store holds.

    :raises StoredRowError: the row was changed into something that isn't an envelope.
    """
    return _stored(lambda: Envelope.parse(text.encode("utf-8", "surrogatepass")), what)


def stored_wrapped(text: str) -> WrappedDataKey:
    """Read a wrapped data key that the store holds.

    :raises StoredRowError: the row isn't one.
    """
    return _stored(lambda: _wrapped(text), "wrapped data key")


def envelope_text(envelope: Envelope) -> str:
    """Return the one text under which an envelope is stored: two spellings of one approval are one row."""
    return envelope.to_bytes().decode()


def wrapped_text(wrapped: WrappedDataKey) -> str:
    """Return the text under which a wrapped data key is stored."""
    return encode(wrapped.to_json()).decode()


def _wrapped(text: str) -> WrappedDataKey:
    with reading(parse(text.encode("utf-8", "surrogatepass")), "wrapped") as fields:
        return WrappedDataKey.read(fields)


def _stored(read: Callable[[], T], what: str) -> T:
    try:
        return read()
    except MalformedError:
        raise StoredRowError(
            f"the stored {what} can't be read",
            remedy="the database was changed by somebody else: treat this as an incident, and post the object again",
        ) from None
