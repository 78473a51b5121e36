"""An item of collateral as it is shown: what it is, whose, and from when to when it counts; not its data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.attestation.collateral import MAX_NAME, CollateralItem, CollateralKind
from strongroom.attestation.trust_anchors import Vendor
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields


class State(StrEnum):
    """What an item is worth at an instant."""

    CURRENT = "current"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    UNPROVEN = "unproven"
    """No pinned root of a maker vouches for it, or what would show that isn't installed: no verifier will use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An item as it is shown."""

    kind: CollateralKind
    name: str
    maker: Vendor | None
    """Whose root vouches for it; None when none does."""
    issued: Instant
    ends: Instant
    size: int
    digest: Digest

    @classmethod
    def of(cls, item: CollateralItem, maker: Vendor | None) -> Held:
        """Show an item."""
        return cls(
            kind=item.kind,
            name=item.name,
            maker=maker,
            issued=item.not_before,
            ends=item.not_after,
            size=len(item.data),
            digest=item.digest,
        )

    @classmethod
    def read(cls, fields: Fields) -> Held:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            kind=fields.parsed("kind", CollateralKind),
            name=fields.text("name", max_length=MAX_NAME),
            maker=fields.parsed("maker", Vendor) if fields.optional("maker") else None,
            issued=fields.instant("issued"),
            ends=fields.instant("ends"),
            size=fields.integer("size"),
            digest=fields.digest("digest"),
        )

    def to_json(self) -> dict[str, Json]:
        """Return ``{kind, name, maker, issued, ends, size, digest}``."""
        return {
            "kind": self.kind.value,
            "name": self.name,
            "maker": self.maker.value if self.maker else None,
            "issued": format_instant(self.issued),
            "ends": format_instant(self.ends),
            "size": self.size,
            "digest": str(self.digest),
        }

    def state(self, at: Instant) -> State:
        """Tell what the item is worth at an instant."""
        if self.maker is None:
            return State.UNPROVEN
        if at < self.issued:
            return State.NOT_YET
        return State.CURRENT if at <= self.ends else State.EXPIRED
