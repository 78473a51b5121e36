"""The keeper's operations on what leaves a model: odometers, breaches and drops (:mod:`strongroom.keeper.routes`).

odometer      {model}                     -> {total, recent, run, index, resumed, frozen, policy}
odometer-open {delivery, seen}            -> {index, entry}        the signed log entry; `seen`: newest kept, or null
odometer-advance {delivery, block}        -> {index, entry}
egress-breach {delivery, cause}           -> {index}               freezes the model; null when it was frozen before
workspace-begin {delivery, ask}           -> {word}                signed: the input `ask` names is recorded
workspace-leave {delivery, ask}           -> {word}                signed: the drop `ask` names is charged
drops         {model}                     -> {drops}               the newest 1,000
"""

from __future__ import annotations

from strongroom.audit.entries import MAX_ENTRY
from strongroom.core.encoding import to_base64
from strongroom.core.fields import Fields
from strongroom.core.ids import model_id
from strongroom.egress.odometer import Block
from strongroom.keeper.drops import Drops
from strongroom.keeper.egress import Meters
from strongroom.keeper.journal import Recorded
from strongroom.keeper.route_parts import Answer, Route, last_envelope
from strongroom.keeper.service import Keeper
from strongroom.release.drop import PassageAsk
from strongroom.release.metering import MAX_CAUSE, breach_cause


class EgressRoutes:
    """Serves what meters and workspaces ask."""

    def __init__(self, keeper: Keeper, meters: Meters, drops: Drops) -> None:
        self._keeper = keeper
        self._meters = meters
        self._drops = drops
        self.routes: dict[str, Route] = {
            "odometer": self._odometer,
            "odometer-open": self._open_odometer,
            "odometer-advance": self._advance_odometer,
            "egress-breach": self._breach,
            "workspace-begin": self._begin_workspace,
            "workspace-leave": self._leave_workspace,
            "drops": self._show_drops,
        }

    async def _odometer(self, fields: Fields) -> Answer:
        model = fields.parsed("model", model_id)
        fields.end()
        spent, policy = self._meters.spent(model), self._keeper.documents.egress.get(model)
        return {
            "total": spent.total,
            "recent": spent.recent,
            "run": spent.run,
            "index": spent.index,
            "resumed": spent.resumed,
            "frozen": spent.frozen,
            "policy": None if policy is None else str(policy.digest),
        }

    async def _open_odometer(self, fields: Fields) -> Answer:
        seen = fields.binary("seen", max_length=MAX_ENTRY) if fields.optional("seen") else None
        return _entry(await self._meters.open(last_envelope(fields, "delivery"), seen))

    async def _advance_odometer(self, fields: Fields) -> Answer:
        with fields.child("block") as child:
            block = Block.read(child)
        return _entry(await self._meters.advance(last_envelope(fields, "delivery"), block))

    async def _breach(self, fields: Fields) -> Answer:
        cause = fields.parsed("cause", breach_cause, max_length=MAX_CAUSE)
        recorded = await self._meters.breach(last_envelope(fields, "delivery"), cause)
        return {"index": recorded.index if recorded else None}

    async def _begin_workspace(self, fields: Fields) -> Answer:
        ask = _passage(fields)
        return {"word": (await self._drops.begin(last_envelope(fields, "delivery"), ask)).to_json()}

    async def _leave_workspace(self, fields: Fields) -> Answer:
        ask = _passage(fields)
        return {"word": (await self._drops.leave(last_envelope(fields, "delivery"), ask)).to_json()}

    async def _show_drops(self, fields: Fields) -> Answer:
        model = fields.parsed("model", model_id)
        fields.end()
        return {"drops": self._drops.shown(model)}


def _entry(recorded: Recorded) -> Answer:
    return {"index": recorded.index, "entry": to_base64(recorded.entry)}


def _passage(fields: Fields) -> PassageAsk:
    with fields.child("ask") as child:
        return PassageAsk.read(child)
