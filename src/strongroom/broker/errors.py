"""What the broker itself refuses. Everything else is the keeper's or the log writer's refusal, handed on."""

from __future__ import annotations

from strongroom.core.errors import DeniedError, StrongroomError, TamperedError, UnavailableError, UsageError


class NoIdentityError(DeniedError):
    """The connection carries no certificate that names somebody of this deployment, now."""

    code = "no-identity"


class OtherPartyError(DeniedError):
    """A person at an enclave's route, or an enclave at a person's."""

    code = "other-party"


class TooManyCallsError(UnavailableError):
    """This identity calls faster than it may."""

    code = "too-many-calls"
    http_status = 429


class TooLargeError(UsageError):
    """The body is larger than the route reads."""

    code = "body-too-large"
    http_status = 413


class TooSlowError(UnavailableError):
    """No answer in time. Whether the act happened is unknown; the log tells."""

    code = "too-slow"
    http_status = 504


class StoredRowError(TamperedError):
    """A stored row isn't what the broker once stored: it can't even be handed on."""

    code = "stored-row-malformed"


class RemoteAddressError(UsageError):
    """The development CA doesn't serve other machines unless it is told to."""

    code = "address-not-loopback"


class BrokerFaultError(StrongroomError):
    """A fault of the broker's own; the program log has its place."""

    code = "broker-fault"
