"""Names of the events that the log records: ``family:subject:action``. A typo can't become an event."""

from __future__ import annotations

from enum import StrEnum


class EventName(StrEnum):
    """Every event that may stand in the log. What facts each one carries is declared in :mod:`strongroom.audit`."""

    LOG_OPENED = "log:shard:opened"
    KEEPER_UNLOCKED = "keeper:process:unlocked"
    KEEPER_LOCKED = "keeper:process:locked"
    EPOCH_CREATED = "keys:epoch:created"
    ROSTER_ADOPTED = "personnel:roster:adopted"
    VETTING_RECORDED = "personnel:vetting:recorded"
    KEYS_ENROLLED = "personnel:keys:enrolled"
    PERSON_SUSPENDED = "personnel:person:suspended"
    PERSON_ERASED = "personnel:person:erased"
    POLICY_ADOPTED = "access:policy:adopted"
    REFERENCE_VALUES_ADOPTED = "attestation:reference-values:adopted"
    PLATFORM_ENROLLED = "attestation:platform:enrolled"
    PLATFORM_REVOKED = "attestation:platform:revoked"
    COLLATERAL_IMPORTED = "attestation:collateral:imported"
    REQUEST_CREATED = "access:request:created"
    REQUEST_APPROVED = "access:request:approved"
    REQUEST_DENIED = "access:request:denied"
    AUTHENTICATOR_REGRESSED = "access:authenticator:regressed"
    GRANT_ISSUED = "access:grant:issued"
    GRANT_REVOKED = "access:grant:revoked"
    ACCESS_REVIEWED = "access:review:recorded"
    BREAK_GLASS_REVIEWED = "access:break-glass:reviewed"
    CHANGE_PROPOSED = "access:change:proposed"
    CHANGE_STOPPED = "access:change:stopped"
    MODEL_FROZEN = "access:model:frozen"
    MODEL_RESUMED = "access:model:resumed"
    DATA_KEY_CREATED = "keys:data-key:created"
    VERSION_REGISTERED = "sealing:version:registered"
    RELEASED = "release:data-key:released"
    EXPORTED = "release:data-key:exported"
    REDELIVERED = "release:data-key:redelivered"
    REFUSED = "release:request:refused"
    REFUSALS_SUMMED = "release:refusals:summed"
    LEASE_ATTESTED = "release:lease:attested"
    LEASE_ENDED = "release:lease:ended"
    EGRESS_POLICIES_ADOPTED = "egress:policies:adopted"
    ODOMETER_ADVANCED = "egress:odometer:advanced"
    EGRESS_WARNED = "egress:model:warned"
    EGRESS_BREACHED = "egress:model:breached"
    DROP_KEY_RECORDED = "egress:drop-key:recorded"
    WORKSPACE_BEGUN = "egress:workspace:begun"
    DROP_CHARGED = "egress:drop:charged"
    DROP_REVIEWED = "egress:drop:reviewed"

    @property
    def family(self) -> str:
        """The shelf that the event belongs to."""
        return self.value.partition(":")[0]
