"""Suspended credentials: who had too much blocked within a time is served no more, until a person says so. Pure.

Limits per credential (SL3-AOP-01). A credential here is a principal with all of its keys: another key of the same
principal is no fresh start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.errors import DeniedError, MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.enclave.gateway.keys import principal_name
from strongroom.enclave.gateway.screens import Category

MAX_RECORD: Final = 64 << 10
"""Bytes of one credential's record. Each has its own, so that however many there are, each of them can be read."""
MAX_BLOCKS: Final = 1000
MAX_WINDOW: Final = 366 * 86400
MAX_REASON: Final = 256
MAX_LIFTED: Final = 16


class CredentialSuspendedError(DeniedError):
    """The credential had too much blocked. It stays so until a person lifts it."""

    code = "credential-suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLimit:
    """How much may be blocked before a credential is suspended.

    :raises MalformedError: (construction) a number out of its range.
    """

    blocks: int
    """This many within the window suspend it."""
    seconds: int
    """The window."""

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= MAX_BLOCKS or not 1 <= self.seconds <= MAX_WINDOW:
            raise MalformedError(f"a limit has 1 to {MAX_BLOCKS} blocks within 1 to {MAX_WINDOW} seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """That a credential isn't served."""

    since: Instant
    category: Category
    """Of the last block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifting:
    """A suspension that a person ended."""

    at: Instant
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How one credential stands."""

    principal: str
    blocks: tuple[Instant, ...] = ()
    """When something of it was blocked, oldest first; nothing is counted while it is suspended."""
    suspended: Suspension | None = None
    lifted: tuple[Lifting, ...] = ()
    """The last few, oldest first."""

    def check(self) -> None:
        """Refuse a credential that is suspended.

        :raises CredentialSuspendedError: it is.
        """
        if self.suspended is not None:
            since = format_instant(self.suspended.since)
            raise CredentialSuspendedError(
                f"`{self.principal}` is suspended since {since}: too much of it was blocked",
                remedy="whoever runs the gateway looks at it and lifts it",
            )

    def blocked(self, category: Category, limit: BlockLimit, now: Instant) -> Standing:
        """Return how it stands after something was blocked."""
        if self.suspended is not None:
            return self
        blocks = (*(at for at in self.blocks if at > now - limit.seconds), now)[-MAX_BLOCKS:]
        if len(blocks) < limit.blocks:
            return replace(self, blocks=blocks)
        return replace(self, blocks=(), suspended=Suspension(since=now, category=category))

    def lift(self, reason: str, now: Instant) -> Standing:
        """Return how it stands once a person ended its suspension. What was blocked before doesn't count any more.

        :raises NotFoundError: it isn't suspended.
        :raises MalformedError: no reason, or one that isn't a line.
        """
        if self.suspended is None:
            raise NotFoundError(f"`{self.principal}` isn't suspended")
        if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
            raise MalformedError(f"a reason is one line of 1 to {MAX_REASON} characters")
        return Standing(self.principal, lifted=(*self.lifted, Lifting(at=now, reason=reason))[-MAX_LIFTED:])

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        blocks: list[Json] = [format_instant(at) for at in self.blocks]
        lifted: list[Json] = [{"at": format_instant(one.at), "reason": one.reason} for one in self.lifted]
        suspended: Json = None
        if self.suspended is not None:
            since, category = format_instant(self.suspended.since), self.suspended.category.value
            suspended = {"since": since, "category": category}
        return canonical.encode(
            {"v": 2, "principal": self.principal, "blocks": blocks, "suspended": suspended, "lifted": lifted}
        )

    @classmethod
    def parse(cls, data: bytes) -> Standing:
        """Read what :meth:`to_bytes` wrote.

        :raises MalformedError: another form.
        """
        with Fields(canonical.decode(data, max_bytes=MAX_RECORD), "suspension") as fields:
            fields.constant("v", 2)
            principal = fields.parsed("principal", principal_name)
            blocks = tuple(map(parse_instant, fields.texts("blocks", most=MAX_BLOCKS, max_length=32)))
            suspended = None
            if fields.optional("suspended"):
                with fields.child("suspended") as child:
                    suspended = Suspension(since=child.instant("since"), category=child.parsed("category", Category))
            lifted = fields.objects("lifted", _lifting, most=MAX_LIFTED)
        return cls(principal, blocks, suspended, lifted)


def _lifting(fields: Fields) -> Lifting:
    return Lifting(at=fields.instant("at"), reason=fields.text("reason", max_length=MAX_REASON))
