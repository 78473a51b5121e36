"""The unlocked keeper's operations on its escrow; a part of its socket protocol (:mod:`strongroom.keeper.routes`).

escrow        {}                          -> {escrow}              the signed escrow in force
escrow-state  {}                          -> {generation, backup, escrow}   what a doctor asks
escrow-plan   {plan}                      -> {plan}                kept for the order that names its digest
unlock-offer, unlock-share                                         refused: the keeper isn't locked
"""

from __future__ import annotations

from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD
from strongroom.core.errors import ConflictError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.keeper.escrow import Escrows
from strongroom.keeper.journal import Recorded
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.route_parts import Answer, Route
from strongroom.keys.escrow import EscrowPlan
from strongroom.release.key_orders import KeyAct, KeyOrder

MAX_PLANS: Final = 8
"""Plans that wait for their order. The oldest makes room: who hands in junk delays an adoption, and no more."""


class EscrowRoutes:
    """Serves what concerns the escrow."""

    def __init__(self, escrows: Escrows) -> None:
        self._escrows = escrows
        self._plans: dict[Digest, EscrowPlan] = {}
        self.routes: dict[str, Route] = {
            "escrow": self._show,
            "escrow-state": self._state,
            "escrow-plan": self._plan,
            "unlock-offer": self._not_locked,
            "unlock-share": self._not_locked,
        }

    def join(self, keys: KeyRoutes) -> None:
        """Serve beside the other operations on keys, and carry out orders to adopt an escrow."""
        keys.routes.update(self.routes)
        keys.orders[KeyAct.ADOPT_ESCROW] = self._adopt

    async def _show(self, fields: Fields) -> Answer:
        fields.end()
        return {"escrow": self._escrows.in_force().to_json()}

    async def _state(self, fields: Fields) -> Answer:
        fields.end()
        return self._escrows.state()

    async def _plan(self, fields: Fields) -> Answer:
        plan = EscrowPlan.parse(fields.binary("plan", max_length=MAX_PAYLOAD))
        fields.end()
        self._escrows.require_ours(plan)
        self._plans.pop(plan.digest, None)
        while len(self._plans) >= MAX_PLANS:
            del self._plans[next(iter(self._plans))]
        self._plans[plan.digest] = plan
        return {"plan": str(plan.digest)}

    async def _adopt(self, order: KeyOrder, digest: Digest) -> Recorded:
        plan = None if order.subject is None else self._plans.get(order.subject)
        if plan is None:
            raise NotFoundError("the plan that the order names wasn't handed in", remedy="hand it in with the order")
        return await self._escrows.adopt(plan, digest)

    async def _not_locked(self, _fields: Fields) -> Answer:
        raise ConflictError("the keeper isn't locked: it needs no share", reason="keeper-unlocked")
