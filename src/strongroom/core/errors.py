"""One error root with three faces: a paragraph for a person, an exit code for the shell, a problem type for HTTP.

Messages are lower case, name the thing in backticks, carry no secret, and never repeat hostile input at length.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final

PROBLEM_BASE: Final = "urn:strongroom:problem:"


class ExitCode(IntEnum):
    """The shell's view of an outcome; stable, part of the command's contract."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    PENDING = 4
    LOCKED = 5
    TAMPERED = 6
    UNAVAILABLE = 7
    NOT_FOUND = 8
    CONFLICT = 9


class StrongroomError(Exception):
    """Root of every error raised on purpose.

    ``code`` is stable and machine-readable (dotted, lower case), ``message`` says what was wrong and where,
    ``remedy`` says what to do next.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, remedy: str = "", reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.reason = reason or self.code
        """The finest stable code: equal to ``code`` unless the raiser names a narrower cause."""

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """Return the codes of this class and of the ones it refines, nearest first: what another process may know."""
        return tuple(str(vars(kind)["code"]) for kind in cls.__mro__ if "code" in vars(kind))

    @property
    def problem_type(self) -> str:
        """The RFC 9457 ``type`` of this error."""
        return PROBLEM_BASE + self.reason

    def diagnosis(self) -> str:
        """Return the paragraph that a person needs: what happened, and what to do next."""
        text = f"{self.message} [{self.reason}]"
        return f"{text}\n{self.remedy}" if self.remedy else text

    def problem(self) -> dict[str, str | int]:
        """Return the RFC 9457 body. It never echoes input values beyond what the message says."""
        body: dict[str, str | int] = {
            "type": self.problem_type,
            "title": self.code,
            "status": self.http_status,
            "detail": self.message,
            "code": self.reason,
        }
        if self.remedy:
            body["remedy"] = self.remedy
        return body


class UsageError(StrongroomError):
    """The caller asked for something that has no meaning."""

    code = "usage"
    exit_code = ExitCode.USAGE
    http_status = 400


class MalformedError(StrongroomError):
    """Bytes that don't have the form that their specification demands."""

    code = "malformed"
    exit_code = ExitCode.TAMPERED
    http_status = 400


class TamperedError(StrongroomError):
    """Bytes whose integrity or authenticity check failed."""

    code = "tampered"
    exit_code = ExitCode.TAMPERED
    http_status = 422


class DeniedError(StrongroomError):
    """A decision refused. ``reason`` names the failed step."""

    code = "denied"
    exit_code = ExitCode.DENIED
    http_status = 403


class PendingError(StrongroomError):
    """Not refused, not yet allowed: more approvals are needed."""

    code = "pending"
    exit_code = ExitCode.PENDING
    http_status = 409


class LockedError(StrongroomError):
    """The keeper holds no root key."""

    code = "locked"
    exit_code = ExitCode.LOCKED
    http_status = 503


class UnavailableError(StrongroomError):
    """A part that the operation depends on can't be reached or has halted. Nothing was done."""

    code = "unavailable"
    exit_code = ExitCode.UNAVAILABLE
    http_status = 503


class NotFoundError(StrongroomError):
    """The named thing doesn't exist, or the caller may not know that it does."""

    code = "not-found"
    exit_code = ExitCode.NOT_FOUND
    http_status = 404


class ConflictError(StrongroomError):
    """The operation clashes with what already stands (an epoch, a version, a name)."""

    code = "conflict"
    exit_code = ExitCode.CONFLICT
    http_status = 409
