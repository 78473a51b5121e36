"""What the parts of the keeper's socket protocol share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope
from strongroom.core.fields import Fields

Answer = dict[str, Json]
Route = Callable[[Fields], Awaitable[Answer]]


def last_envelope(fields: Fields, name: str) -> Envelope:
    """Take an envelope that is the last member of a call.

    :raises MalformedError: it isn't one, or more members follow.
    """
    with fields.child(name) as child:
        envelope = Envelope.read(child)
    fields.end()
    return envelope
