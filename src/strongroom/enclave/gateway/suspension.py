"""Suspended credentials: who had too much blocked within a time is served no more, until a person says so. Pure.

Limits per credential (SL3-AOP-01). A credential here is a principal with all of its keys: another key of the same
principal is no fresh start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.errors import DeniedError, MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.enclave.gateway.keys import principal_name
from strongroom.enclave.gateway.screens import Category

MAX_RECORD: Final = 16 << 20
MAX_BLOCKS: Final = 1000
MAX_WINDOW: Final = 366 * 86400
MAX_REASON: Final = 256
_MAX_PRINCIPALS: Final = 65536
_MAX_LIFTED: Final = 256


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
    """One credential that isn't served."""

    principal: str
    since: Instant
    category: Category
    """Of the last block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifting:
    """A suspension that a person ended."""

    principal: str
    at: Instant
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How every credential stands. What never was blocked isn't in it."""

    blocks: Mapping[str, tuple[Instant, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """When something of a principal was blocked, oldest first."""
    suspended: Mapping[str, Suspension] = field(default_factory=lambda: MappingProxyType({}))
    lifted: tuple[Lifting, ...] = ()
    """The last few, oldest first."""

    def check(self, principal: str) -> None:
        """Refuse a credential that is suspended.

        :raises CredentialSuspendedError: it is.
        """
        found = self.suspended.get(principal)
        if found is not None:
            raise CredentialSuspendedError(
                f"`{principal}` is suspended since {format_instant(found.since)}: too much of it was blocked",
                remedy="whoever runs the gateway looks at it and lifts it",
            )

    def blocked(self, principal: str, category: Category, limit: BlockLimit, now: Instant) -> Standing:
        """Return how it stands after something was blocked."""
        recent = tuple(at for at in self.blocks.get(principal, ()) if at > now - limit.seconds)
        blocks = (*recent, now)[-MAX_BLOCKS:]
        others = {name: times for name, times in self.blocks.items() if times[-1] > now - limit.seconds}
        suspended = dict(self.suspended)
        if len(blocks) >= limit.blocks and principal not in suspended:
            suspended[principal] = Suspension(principal=principal, since=now, category=category)
        return replace(
            self,
            blocks=MappingProxyType({**others, principal: blocks}),
            suspended=MappingProxyType(suspended),
        )

    def lift(self, principal: str, reason: str, now: Instant) -> Standing:
        """Return how it stands once a person ended a suspension. What was blocked before doesn't count any more.

        :raises NotFoundError: that principal isn't suspended.
        :raises MalformedError: no reason, or one that isn't a line.
        """
        if principal not in self.suspended:
            raise NotFoundError(f"`{principal}` isn't suspended")
        if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
            raise MalformedError(f"a reason is one line of 1 to {MAX_REASON} characters")
        return Standing(
            MappingProxyType({name: times for name, times in self.blocks.items() if name != principal}),
            MappingProxyType({name: one for name, one in self.suspended.items() if name != principal}),
            (*self.lifted, Lifting(principal=principal, at=now, reason=reason))[-_MAX_LIFTED:],
        )

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        blocks: list[Json] = [
            {"principal": name, "at": [format_instant(at) for at in times]}
            for name, times in sorted(self.blocks.items())
        ]
        suspended: list[Json] = [
            {"principal": one.principal, "since": format_instant(one.since), "category": one.category.value}
            for _name, one in sorted(self.suspended.items())
        ]
        lifted: list[Json] = [
            {"principal": one.principal, "at": format_instant(one.at), "reason": one.reason} for one in self.lifted
        ]
        return canonical.encode({"v": 1, "blocks": blocks, "suspended": suspended, "lifted": lifted})

    @classmethod
    def parse(cls, data: bytes) -> Standing:
        """Read what :meth:`to_bytes` wrote.

        :raises MalformedError: another form.
        """
        with Fields(canonical.decode(data, max_bytes=MAX_RECORD), "suspensions") as fields:
            fields.constant("v", 1)
            blocks = fields.objects("blocks", _blocks, most=_MAX_PRINCIPALS)
            suspended = fields.objects("suspended", _suspension, most=_MAX_PRINCIPALS)
            lifted = fields.objects("lifted", _lifting, most=_MAX_LIFTED)
        read = cls(MappingProxyType(dict(blocks)), MappingProxyType({one.principal: one for one in suspended}), lifted)
        if read.to_bytes() != data:
            raise MalformedError("a record of suspensions names a principal twice, or out of order")
        return read


def _blocks(fields: Fields) -> tuple[str, tuple[Instant, ...]]:
    name = fields.parsed("principal", principal_name)
    times = tuple(map(parse_instant, fields.texts("at", most=MAX_BLOCKS, max_length=32)))
    if not times:
        raise MalformedError("a record of blocks has at least one")
    return name, times


def _suspension(fields: Fields) -> Suspension:
    return Suspension(
        principal=fields.parsed("principal", principal_name),
        since=fields.instant("since"),
        category=fields.parsed("category", Category),
    )


def _lifting(fields: Fields) -> Lifting:
    return Lifting(
        principal=fields.parsed("principal", principal_name),
        at=fields.instant("at"),
        reason=fields.text("reason", max_length=MAX_REASON),
    )
