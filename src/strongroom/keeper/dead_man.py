"""The keeper's dead man: if a responder that the policy names isn't heard, no key leaves and no lease goes on.

In memory alone: after a start nobody was heard yet, and the first heartbeat comes within seconds. What only takes
access away is never asked.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.access.policy import MAX_HEARTBEAT_AGE, DeadMan
from strongroom.access.request import OPENS, Action, Request
from strongroom.audit.errors import LogFullError
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.release.documents import Documents
from strongroom.release.heartbeat import HeartbeatRefusedError, read_heartbeat
from strongroom.release.ledger import Ledger

HANDS_OUT: Final = frozenset({*OPENS, Action.EXPORT_PLAINTEXT})
"""What hands out a key that opens weights. Whoever seals has them already."""
Record = Callable[[EventName, Mapping[str, Fact]], Any]


class ResponderSilentError(UnavailableError):
    """A responder that the policy names wasn't heard in time. Nothing was decided, nothing is recorded."""

    code = "responder-silent"


@dataclass(slots=True, kw_only=True)
class DeadManGate:
    """Remembers how young each responder's word is."""

    genesis: Genesis
    documents: Documents
    ledger: Ledger
    clock: Clock
    _heard: dict[PersonId, Instant] = field(default_factory=dict)
    _of: Digest | None = None
    _sizes: deque[tuple[Instant, int]] = field(default_factory=lambda: deque(maxlen=2 * MAX_HEARTBEAT_AGE))
    """How long the log was, second by second; longer than the oldest heartbeat may be."""
    _since: Instant = 0
    """When the policy in force was first looked at: nobody can have been silent for longer."""

    def hear(self, envelope: Envelope) -> None:
        """Take a heartbeat. One that the policy doesn't ask for is forgotten.

        :raises StrongroomError: as :func:`strongroom.release.heartbeat.read_heartbeat`; it counts for nothing.
        """
        section, roster = self._section(), self.documents.roster
        if roster is None:
            raise DeniedError("no roster is in force", reason="no-documents", remedy="have the root quorum sign one")
        told = read_heartbeat(
            envelope, genesis=self.genesis.digest, roster=roster, ledger=self.ledger, now=self.clock.now()
        )
        if section is not None and told.log.size < self._least_read(section.max_age_seconds):
            # Somebody keeps the log from it: it watches what was.
            raise HeartbeatRefusedError(f"`{told.responder}` reads an old log", reason="log-behind")
        if section is not None and told.responder in section.responders:
            self._heard[told.responder] = max(told.at, self._heard.get(told.responder, 0))

    def require(self) -> None:
        """Pass if every responder that the policy names was heard lately, or it names none.

        :raises ResponderSilentError: one wasn't.
        """
        section = self._section()
        if section is None:
            return
        for name in section.responders:
            # Somebody who was suspended since isn't heard any more, whatever they said before.
            if name in self.ledger.suspended or self._silent_for(name, 0) > section.max_age_seconds:
                raise ResponderSilentError(
                    f"the responder `{name}` wasn't heard in time",
                    remedy="see that it runs and that its sensors are heard; freezing works meanwhile",
                )

    def require_for(self, payload: bytes) -> None:
        """Pass as :meth:`require` does, for a request that hands a key out. Everything else always passes.

        :raises ResponderSilentError: as :meth:`require`.
        """
        if self._section() is None:
            return
        try:
            request = Request.parse(payload)
        except StrongroomError:
            # Not a request: what is asked is judged next, and refused by name.
            return
        if request.action in HANDS_OUT:
            self.require()

    def look(self, record: Record) -> None:
        """Called every second: record who fell silent, and who is heard again: once each, so that people are told.

        :raises StrongroomError: the log takes nothing.
        """
        section = self._section()
        self._sizes.append((self.clock.now(), self.ledger.size))
        if section is None:
            return
        for name in section.responders:
            seconds = self._silent_for(name, self._since)
            silent = seconds > section.max_age_seconds
            if silent and name not in self.ledger.silent:
                record(EventName.RESPONDER_SILENT, {"responder": name, "seconds": seconds})
            elif not silent and name in self._heard and name in self.ledger.silent:
                # It gives something back: on a disk that is nearly full it waits.
                with contextlib.suppress(LogFullError):
                    record(EventName.RESPONDER_HEARD, {"responder": name})

    def _least_read(self, seconds: int) -> int:
        """Return how long the log was so many seconds ago; 0 where nobody looked then."""
        before = self.clock.now() - seconds
        return max((size for at, size in self._sizes if at <= before), default=0)

    def _silent_for(self, name: PersonId, least: Instant) -> int:
        return self.clock.now() - max(least, self._heard.get(name, 0))

    def _section(self) -> DeadMan | None:
        policy = self.documents.policy
        if self._of != self.documents.policy_digest:
            self._of, self._since = self.documents.policy_digest, self.clock.now()
        return policy.dead_man if policy else None
