"""What a notice says: that an entry is in the log, so that people look. Nothing can be approved by reading one.

A notice is derived from one entry and from the entry that recorded its request, never from the store and never from
what the broker believes it did. It carries names and numbers of the log, no reason that somebody wrote and nothing
that a chat's button could act on: whoever is asked to approve runs a client, which shows the signed bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.access.request import Action
from strongroom.audit.entries import Entry
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName


class NoticeKind(StrEnum):
    """What happened: a closed list, which webhooks choose from."""

    REQUEST_CREATED = "request-created"
    REQUEST_APPROVED = "request-approved"
    REQUEST_DENIED = "request-denied"
    GRANT_ISSUED = "grant-issued"
    GRANT_REVOKED = "grant-revoked"
    RELEASED = "released"
    REFUSED = "refused"
    MODEL_FROZEN = "model-frozen"
    MODEL_RESUMED = "model-resumed"
    MODEL_DESTROYED = "model-destroyed"
    DESTRUCTION_CERTIFIED = "destruction-certified"
    BREAK_GLASS_USED = "break-glass-used"
    BREAK_GLASS_REVIEW_DUE = "break-glass-review-due"
    PERSON_SUSPENDED = "person-suspended"
    CHANGE_PROPOSED = "change-proposed"
    CHANGE_STOPPED = "change-stopped"
    KEYS_ENROLLED = "keys-enrolled"
    COUNTER_REGRESSED = "counter-regressed"
    LEASE_ENDED = "lease-ended"
    EGRESS_WARNED = "egress-warned"
    EGRESS_BREACHED = "egress-breached"
    KEEPER_LOCKED = "keeper-locked"
    RESPONDER_SILENT = "responder-silent"


class Priority(StrEnum):
    """Whether somebody should be woken up."""

    NORMAL = "normal"
    PAGE = "page"


KINDS: Final[Mapping[EventName, NoticeKind]] = MappingProxyType(
    {
        EventName.REQUEST_CREATED: NoticeKind.REQUEST_CREATED,
        EventName.REQUEST_APPROVED: NoticeKind.REQUEST_APPROVED,
        EventName.REQUEST_DENIED: NoticeKind.REQUEST_DENIED,
        EventName.GRANT_ISSUED: NoticeKind.GRANT_ISSUED,
        EventName.GRANT_REVOKED: NoticeKind.GRANT_REVOKED,
        EventName.RELEASED: NoticeKind.RELEASED,
        EventName.EXPORTED: NoticeKind.RELEASED,
        EventName.REFUSED: NoticeKind.REFUSED,
        EventName.MODEL_FROZEN: NoticeKind.MODEL_FROZEN,
        EventName.MODEL_RESUMED: NoticeKind.MODEL_RESUMED,
        EventName.MODEL_DESTROYED: NoticeKind.MODEL_DESTROYED,
        EventName.DESTRUCTION_CERTIFIED: NoticeKind.DESTRUCTION_CERTIFIED,
        EventName.PERSON_SUSPENDED: NoticeKind.PERSON_SUSPENDED,
        EventName.CHANGE_PROPOSED: NoticeKind.CHANGE_PROPOSED,
        EventName.CHANGE_STOPPED: NoticeKind.CHANGE_STOPPED,
        EventName.KEYS_ENROLLED: NoticeKind.KEYS_ENROLLED,
        EventName.AUTHENTICATOR_REGRESSED: NoticeKind.COUNTER_REGRESSED,
        EventName.LEASE_ENDED: NoticeKind.LEASE_ENDED,
        EventName.EGRESS_WARNED: NoticeKind.EGRESS_WARNED,
        EventName.EGRESS_BREACHED: NoticeKind.EGRESS_BREACHED,
        EventName.KEEPER_LOCKED: NoticeKind.KEEPER_LOCKED,
        EventName.RESPONDER_SILENT: NoticeKind.RESPONDER_SILENT,
    }
)
"""Which events make a notice. What a released key's request was for decides further: see :func:`notices_of`."""
PAGES: Final = frozenset(
    {
        NoticeKind.BREAK_GLASS_USED,
        NoticeKind.BREAK_GLASS_REVIEW_DUE,
        NoticeKind.COUNTER_REGRESSED,
        NoticeKind.MODEL_FROZEN,
        NoticeKind.MODEL_DESTROYED,
        NoticeKind.EGRESS_BREACHED,
        NoticeKind.KEEPER_LOCKED,
        NoticeKind.RESPONDER_SILENT,
    }
)
_HANDED_OVER: Final = frozenset({EventName.RELEASED, EventName.EXPORTED})
_AHEAD: Final = frozenset({NoticeKind.REQUEST_CREATED, NoticeKind.GRANT_ISSUED})
_OPEN: Final = frozenset({NoticeKind.REQUEST_CREATED, NoticeKind.REQUEST_APPROVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the entry that recorded a request says of it."""

    action: str
    model: str
    requester: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notice. ``index`` is where its entry stands in the log, ``at`` the entry's time."""

    kind: NoticeKind
    index: int
    at: Instant
    priority: Priority
    request: Digest | None
    asked: Asked | None

    def text(self) -> str:
        """Return one line for a person; it names the command that looks closer."""
        told = self.kind.value
        if self.asked is not None:
            told += f": {self.asked.action} of {self.asked.model}, asked by {self.asked.requester}"
        if self.request is None:
            return f"{told}; log entry {self.index}"
        verb = "review with: strongroom approve" if self.kind in _OPEN else "look with: strongroom request show"
        return f"{told}; {verb} {self.request}"

    def to_json(self) -> dict[str, Json]:
        """Return the notice as JSON; members that it has no value for are null."""
        asked = self.asked
        return {
            "kind": self.kind.value,
            "index": self.index,
            "at": format_instant(self.at),
            "priority": self.priority.value,
            "request": None if self.request is None else str(self.request),
            "action": asked.action if asked else None,
            "model": asked.model if asked else None,
            "requester": asked.requester if asked else None,
            "text": self.text(),
        }


def request_of(entry: Entry) -> Digest | None:
    """Return the request that an entry is about, if it is about one."""
    return entry.digest("request") if "request" in entry.facts else None


def asked_of(entry: Entry) -> Asked | None:
    """Return what an entry says of its request's action, model and requester; None unless it records the request."""
    if entry.event is not EventName.REQUEST_CREATED:
        return None
    return Asked(action=entry.text("action"), model=entry.text("model"), requester=entry.text("requester"))


def notices_of(index: int, entry: Entry, asked: Asked | None) -> tuple[Notice, ...]:
    """Return what the entry at ``index`` gives notice of, mostly nothing or one thing.

    :param asked: what the log says of the entry's request; None when it has none, or it wasn't found.
    """
    kind = KINDS.get(entry.event)
    if kind is None:
        return ()
    kinds = [kind]
    if entry.event in _HANDED_OVER and asked is not None and asked.action == Action.BREAK_GLASS:
        # The first use is what makes a review due; the log has no entry of its own for that.
        first = entry.integer("use") == 1
        kinds = [NoticeKind.BREAK_GLASS_USED, *([NoticeKind.BREAK_GLASS_REVIEW_DUE] if first else [])]
    # A key handed over under a request that can't be found may have been break-glass: who hid it mustn't gain silence.
    loud = entry.event in _HANDED_OVER and asked is None
    # What can't be undone is told so loudly while it can still be stopped.
    loud = loud or (kind in _AHEAD and asked is not None and asked.action == Action.DESTROY)
    return tuple(
        Notice(
            kind=each,
            index=index,
            at=entry.at,
            priority=Priority.PAGE if loud or each in PAGES else Priority.NORMAL,
            request=request_of(entry),
            asked=asked,
        )
        for each in kinds
    )
