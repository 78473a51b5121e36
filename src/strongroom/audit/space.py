"""What the log still takes when its disk is nearly full: whatever takes access away, or ends something.

A file of the log writer's own keeps space in reserve. When the disk runs short, ordinary entries are refused, before
anything is queued, and the reserve is given back: a freeze, a suspension or a denial still fits. A refused ordinary
entry costs a release; a freeze that can't be recorded would cost more.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from strongroom.audit.errors import LogFullError
from strongroom.core.events import EventName


class Space(StrEnum):
    """How much room the log's disk has."""

    AMPLE = "ample"
    TIGHT = "tight"
    """Told to the keeper, which begins nothing more that needs an ordinary entry. What is under way still fits."""
    RESERVE = "reserve"
    """The reserve was given back: only what takes access away is taken."""


TAKES_AWAY: Final = frozenset(
    {
        EventName.SHARD_CONTINUED,  # nothing else may follow a shard that was closed
        EventName.KEEPER_UNLOCKED,  # else nobody could freeze anything after a restart on a full disk
        EventName.KEEPER_LOCKED,
        EventName.RESPONDER_SILENT,
        EventName.EPOCH_DESTROYED,  # their bytes are gone already: what is recorded is that it is so
        EventName.KEK_RETIRED,
        EventName.MODEL_DESTROYED,
        EventName.PERSON_SUSPENDED,
        EventName.PRECAUTION_TAKEN,
        EventName.PLATFORM_REVOKED,
        EventName.REQUEST_DENIED,
        EventName.AUTHENTICATOR_REGRESSED,
        EventName.GRANT_REVOKED,
        EventName.CHANGE_STOPPED,
        EventName.MODEL_FROZEN,
        EventName.EGRESS_BREACHED,
        EventName.REFUSED,
        EventName.REFUSALS_SUMMED,
        EventName.LEASE_ENDED,
    }
)


def require_space(events: Iterable[EventName]) -> None:
    """Check that events may be recorded while space is short.

    :raises LogFullError: one of them isn't of those that take access away.
    """
    for event in events:
        if event not in TAKES_AWAY:
            raise LogFullError(
                f"the log's disk is nearly full: `{event}` isn't recorded any more, only what takes access away is",
                remedy="make room on the log's disk; entries are taken again within a second",
            )
