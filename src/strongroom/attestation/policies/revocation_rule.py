"""Whether certificates must have been looked up in revocation lists."""

from __future__ import annotations

from enum import StrEnum

from strongroom.attestation.claims import Aspect, Claim


class RevocationRule(StrEnum):
    """What a missing list means. A revoked certificate is refused either way."""

    REQUIRED = "required"
    """Every certificate that can be revoked was looked up in a current list."""
    WHEN_PRESENT = "when-present"
    """What lists there are were looked at."""

    def claim(self, checked: bool) -> Claim:  # noqa: FBT001 - a fact, not a choice
        """Claim that the rule is met."""
        seen = "looked up" if checked else "no current list"
        return Claim("revocation", Aspect.INSTANCE_IDENTITY, seen, self.value, ok=checked or self is self.WHEN_PRESENT)
