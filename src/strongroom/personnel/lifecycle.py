"""Joiners, movers, leavers: why a person's access is ended. Serves NIST SP 800-53 PS-4, PS-5 and AC-2(13).

An identity provider can only lower eligibility. Nothing here raises it: a person who was suspended comes back by a
vetting record that two officers sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

MAX_SUSPENDED: Final = 1 << 16
"""People who are suspended, as readers take them. More than a roster has: who left, or was erased, stays suspended."""


class SuspensionCause(StrEnum):
    """Why a person is suspended. A closed list: the codes stand in the log."""

    LEFT = "left"
    """SCIM DELETE of the user, or employment `left`; SCIM event `prov:delete` (RFC 9967); RISC account-purged."""
    DEACTIVATED = "deactivated"
    """SCIM `active: false`; SCIM event `prov:deactivate` (RFC 9967); RISC account-disabled."""
    REMOVED = "removed-from-members"
    """The user left the configured group of members, or that group was deleted or renamed."""
    NOTICE = "notice"
    """Employment `notice`: who is about to go keeps no access to weights."""
    LEAVE = "leave"
    """Employment `leave`: who is away needs none."""
    SESSION_REVOKED = "session-revoked"
    """CAEP session-revoked; RISC sessions-revoked."""
    CREDENTIAL_CHANGED = "credential-changed"
    """CAEP credential-change, when a credential was revoked or deleted (not when one was made or renewed)."""
    CREDENTIAL_COMPROMISED = "credential-compromised"
    """RISC credential-compromise."""
    ASSURANCE_LOWERED = "assurance-lowered"
    """CAEP assurance-level-change, unless it says `increase`."""
    DEVICE_NOT_COMPLIANT = "device-not-compliant"
    """CAEP device-compliance-change, unless the device is now compliant."""
    RISK_RAISED = "risk-raised"
    """CAEP risk-level-change to HIGH."""
    INCIDENT = "incident"
    """The responder, in an incident about them: people decide within days whether it stays so."""


class Employment(StrEnum):
    """How somebody stands with the organisation, in SCIM's extension and in the CSV file."""

    ACTIVE = "active"
    LEAVE = "leave"
    NOTICE = "notice"
    LEFT = "left"

    @property
    def cause(self) -> SuspensionCause | None:
        """Why this standing ends access; None for ``active``."""
        return _CAUSES.get(self)


_CAUSES: Final[Mapping[Employment, SuspensionCause]] = MappingProxyType(
    {
        Employment.LEAVE: SuspensionCause.LEAVE,
        Employment.NOTICE: SuspensionCause.NOTICE,
        Employment.LEFT: SuspensionCause.LEFT,
    }
)
