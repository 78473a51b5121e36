"""Why a gate refuses, or was shut."""

from __future__ import annotations

from strongroom.core.errors import ConflictError, DeniedError, TamperedError, UnavailableError


class GateTamperedError(TamperedError):
    """The kernel's rules aren't the ones that were loaded, or a counter went back. The gate is shut."""

    code = "gate-tampered"


class GateFrozenError(DeniedError):
    """The gate was shut, and stays so until people have looked."""

    code = "gate-frozen"


class GateSpentError(DeniedError):
    """All bytes of the gate's life are used up."""

    code = "gate-spent"


class GateTakenError(ConflictError):
    """Another process has this gate, or its namespace exists already."""

    code = "gate-taken"


class GateUnavailableError(UnavailableError):
    """The kernel or its tools can't do what a gate needs."""

    code = "gate-unavailable"
