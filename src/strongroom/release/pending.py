"""Destructions that were agreed on and wait: shown to everybody, and stopped by a denial, a revocation or a freeze."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.access.facts import delay_of
from strongroom.access.policy import NoRuleError, Policy
from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId, model_id, person_id
from strongroom.release.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A destruction that waits. It happens only if somebody carries it out between ``effective`` and ``expires``."""

    request: Digest
    model: ModelId
    requester: PersonId
    agreed: Instant
    effective: Instant
    expires: Instant

    @classmethod
    def read(cls, fields: Fields) -> Pending:
        """Read the JSON form."""
        return cls(
            request=fields.digest("request"),
            model=fields.parsed("model", model_id),
            requester=fields.parsed("requester", person_id),
            agreed=fields.instant("agreed"),
            effective=fields.instant("effective"),
            expires=fields.instant("expires"),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "request": str(self.request),
            "model": self.model,
            "requester": self.requester,
            "agreed": format_instant(self.agreed),
            "effective": format_instant(self.effective),
            "expires": format_instant(self.expires),
        }


def pending(ledger: Ledger, policy: Policy | None, now: Instant) -> Iterator[Pending]:
    """Yield the destructions that were agreed on, weren't stopped or carried out, and can still be."""
    for name, agreed in ledger.destructions.agreed.items():
        grant = ledger.grants[name]
        stopped = name in ledger.denied or name in ledger.revoked or name in ledger.fallen
        if stopped or ledger.times_used(name) or now >= grant.expires or grant.model in ledger.keys.destroyed:
            continue
        try:
            level = policy.terms(grant.model).level if policy else None
            delay = delay_of(policy.rule(Action.DESTROY, level), level) if policy and level else 0
        except NoRuleError:
            # The policy changed: what it doesn't know can't be carried out under it.
            continue
        yield Pending(
            request=name,
            model=grant.model,
            requester=grant.requester,
            agreed=agreed.at,
            effective=agreed.at + delay,
            expires=grant.expires,
        )
