"""Refusals of security event tokens, with the codes of RFC 8935 section 2.4."""

from __future__ import annotations

from typing import ClassVar

from strongroom.core.errors import DeniedError


class EventRefusedError(DeniedError):
    """A token that isn't acted upon."""

    code = "event-refused"
    http_status = 400
    err: ClassVar[str] = "access_denied"
    """The code in the answer."""


class EventMalformedError(EventRefusedError):
    """Not a security event token in the form that is read here."""

    code = "event-malformed"
    err = "invalid_request"


class EventKeyError(EventRefusedError):
    """Signed by none of the pinned keys, or with another algorithm, or not at all."""

    code = "event-key"
    err = "invalid_key"


class EventIssuerError(EventRefusedError):
    """From somebody whom the settings don't name."""

    code = "event-issuer"
    err = "invalid_issuer"


class EventAudienceError(EventRefusedError):
    """Meant for somebody else."""

    code = "event-audience"
    err = "invalid_audience"


class EventStaleError(EventRefusedError):
    """Issued too long ago, or in the future."""

    code = "event-stale"
    err = "invalid_request"


class EventReplayedError(EventRefusedError):
    """Another token was received under this ``jti``."""

    code = "event-replayed"
    err = "invalid_request"
