"""The keeper's gate of witnesses: before anything new is let out, a quorum must have seen this very log lately.

The log writer hands over what was cosigned and isn't believed: the keeper verifies each signature and compares the
cosigned tree with the log that it replayed. Proof of a fork, or of a log that went back, locks the keeper.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from strongroom.access.request import STOPS, Request
from strongroom.audit.errors import ForkError, LogRolledBackError
from strongroom.audit.succession import Succession
from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId
from strongroom.release.documents import Documents
from strongroom.release.ledger import Ledger
from strongroom.release.witnesses import WitnessTerms, quorum_seen, require_fresh, witness_terms


@dataclass(slots=True, kw_only=True)
class WitnessGate:
    """Remembers when a quorum was last seen, and asks the log writer again once that is too old."""

    genesis: Genesis
    documents: Documents
    ledger: Ledger
    log: Callable[[], Succession]
    cosigned: Callable[[], Awaitable[bytes | None]]
    lock: Callable[[str], None]
    clock: Clock
    _of: Digest | None = None
    _terms: WitnessTerms | None = None
    _seen: Instant = field(default=0)

    async def require(self, model: ModelId | None = None) -> None:
        """Pass if no witnesses are asked for, or their word is fresh enough for ``model`` (without one, the strictest).

        :raises WitnessQuorumStaleError: it isn't.
        :raises StrongroomError: what the log writer hands over is forged, or proves that the log isn't whole.
        """
        while True:
            terms, of = self._terms_in_force(), self._of
            if terms is None:
                return
            level = terms.level(model)
            if self.clock.now() - self._seen <= terms.max_age(level):
                return
            note = await self.cosigned()
            if self.documents.policy_digest != of:
                # Another policy came into force meanwhile: by its own witnesses it must be, not by those of before.
                continue
            try:
                self._seen = max(self._seen, quorum_seen(note, terms, self.log(), self.ledger, self.clock.now()))
            except (ForkError, LogRolledBackError) as error:
                self.lock(error.reason)
                raise
            require_fresh(self._seen, terms, level, self.clock.now())
            return

    async def require_for(self, payload: bytes) -> None:
        """Pass as :meth:`require` does for the model that a request names. What only takes access away always passes.

        :raises StrongroomError: as :meth:`require`.
        """
        try:
            request = Request.parse(payload)
        except StrongroomError:
            # Not a request: what is asked is judged next, and refused by name.
            return
        # What only takes access away never waits for a witness: whoever cuts the network would else hinder it.
        if request.action not in STOPS:
            await self.require(request.model)

    def _terms_in_force(self) -> WitnessTerms | None:
        policy = self.documents.policy
        if policy is None or policy.witnesses is None:
            return None
        if self._of != self.documents.policy_digest:
            self._terms, self._seen = witness_terms(policy, self.genesis), 0
            self._of = self.documents.policy_digest
        return self._terms
