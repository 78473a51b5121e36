"""Why something may not leave."""

from __future__ import annotations

from enum import StrEnum

from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import ConflictError, DeniedError, TamperedError, UnavailableError


class Limit(StrEnum):
    """What bounds the output, narrowest first."""

    PRINCIPAL_DAY = "principal-day"
    MODEL_DAY = "model-day"
    FLEET_DAY = "fleet-day"
    LIFETIME = "lifetime"
    WORKSPACE_PERSON_YEAR = "workspace-person-year"
    WORKSPACE_YEAR = "workspace-year"
    QUOTA_HOLDERS = "quota-holders"


class LimitReachedError(DeniedError):
    """A limit has less left than what was asked for. ``reason`` is ``egress-limit.`` and the limit."""

    code = "egress-limit"
    http_status = 429

    def __init__(self, limit: Limit, *, seen: int, wanted: int, passes_at: Instant | None, unit: str = "bits") -> None:
        later = f"at {format_instant(passes_at)} at the earliest" if passes_at is not None else "not by waiting"
        super().__init__(
            f"the limit `{limit.value}` has {seen} {unit} left; {wanted} are asked for",
            remedy=f"it would pass {later}; a shorter answer may pass now",
            reason=f"{self.code}.{limit.value}",
        )
        self.limit, self.seen, self.wanted, self.passes_at = limit, seen, wanted, passes_at


class OutputNotAllowedError(DeniedError):
    """The model's policy doesn't let this kind of output leave."""

    code = "egress-output"


class EgressFrozenError(DeniedError):
    """Nothing leaves this model any more until people resume it."""

    code = "egress-frozen"


class OverspentError(TamperedError):
    """More came out than was reserved, or after its time: the engine isn't what it was, and its model is frozen."""

    code = "egress-overspent"


class MirrorBehindError(UnavailableError):
    """The log doesn't vouch for enough bits yet: mirror a block first, then ask again."""

    code = "egress-mirror-behind"


class OdometerRegressedError(TamperedError):
    """The log shows less than it acknowledged before: it was rolled back, or another one is shown."""

    code = "egress-odometer-regressed"


class MeterSupersededError(ConflictError):
    """A newer governor has opened this model's odometer: this one must stop."""

    code = "egress-superseded"


class BoundBrokenError(DeniedError):
    """The model could be stolen sooner than its policy allows, so it isn't served."""

    code = "egress-bound"
