"""Why the gateway refuses."""

from __future__ import annotations

from strongroom.core.errors import (
    ConflictError,
    DeniedError,
    StrongroomError,
    TamperedError,
    UnavailableError,
    UsageError,
)


class ChannelBreachError(TamperedError):
    """Something came out of the enclave that no answer explains. The model is frozen and the engine killed.

    ``reason`` is ``channel-breach.`` and what was found.
    """

    code = "channel-breach"
    http_status = 503

    def __init__(self, found: str, message: str) -> None:
        super().__init__(
            message,
            remedy="treat the engine as compromised; people must look before the model is served again",
            reason=f"{self.code}.{found}",
        )
        self.found = found


class EngineGoneError(UnavailableError):
    """The engine ended, or its channel is closed."""

    code = "engine-gone"


class ReplayLackingError(UnavailableError):
    """A precaution asks that every answer be replayed, and this one couldn't be."""

    code = "replay-lacking"


class UnknownKeyError(DeniedError):
    """No such API key."""

    code = "api-key"
    http_status = 401


class FieldRefusedError(UsageError):
    """A member of a request that isn't on the list, or has a value that isn't. ``field`` names it."""

    code = "field-refused"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, remedy="leave it out")
        self.field = field


class NotFiniteError(UnavailableError):
    """The model made a vector that isn't one. Its bits left, and are charged."""

    code = "engine-values"


class EgressPolicyStaleError(ConflictError):
    """The egress policy that the governor was given isn't the one by which the keeper writes the odometer."""

    code = "egress-policy-stale"


class FrozenBeforeError(DeniedError):
    """The model was frozen by an earlier run, and its quorum hasn't resumed it since."""

    code = "egress-frozen-before"


class OdometerFileError(StrongroomError):
    """A file of the odometer can't be read or written."""

    code = "odometer-file"
