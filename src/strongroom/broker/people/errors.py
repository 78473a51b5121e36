"""What the directory of people refuses."""

from __future__ import annotations

from strongroom.core.errors import ConflictError, DeniedError, MalformedError, TamperedError, UsageError


class RecordRefusedError(TamperedError):
    """A stored record of a person isn't what the broker stored: changed, or put in another's place."""

    code = "person-record-refused"


class TakenError(ConflictError):
    """Another record has this unique value."""

    code = "person-record-taken"


class TokenRefusedError(DeniedError):
    """No bearer token, or one that isn't valid."""

    code = "scim-token-refused"
    http_status = 401


class EventSettingsError(UsageError):
    """The settings for security events can't be used."""

    code = "event-settings"


class ListingError(MalformedError):
    """The CSV file has bad lines: none of it is used."""

    code = "people-file"
