"""The keeper's operations on keys; a part of its socket protocol (:mod:`strongroom.keeper.routes`).

keys          {after, count}              -> {generation, since, epochs, keks, more}   states and ages, never bytes
key-moves     {after, count}              -> {models}              whose data keys the broker is to hand in for moving
rewrap        {model, rows, complete}     -> {rows, left, retired} each row as it is to be stored now, or null
backup-made   {backup, size, log}         -> {index}               a backup of so many of the log's entries; served by
                                                                   :class:`strongroom.keeper.restoring.Restoring`
key-order     {envelope}                  -> {index, checkpoint}   an order that the root quorum signed
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.keeper.journal import Recorded
from strongroom.keeper.rotation import MAX_ROWS, Rotation
from strongroom.keeper.route_parts import Answer, Route, last_envelope
from strongroom.keeper.service import Keeper
from strongroom.release.dossier import WrappedDataKey
from strongroom.release.key_ledger import KekRecord
from strongroom.release.key_orders import KeyAct, KeyOrder, examine_order

MAX_KEYS_SHOWN: Final = 1024
MAX_LEFT: Final = 64
"""Names of data keys that aren't moved yet, in one answer."""
CarryOut = Callable[[KeyOrder, Digest], Awaitable[Recorded]]


class KeyRoutes:
    """Serves what concerns keys. Other parts that carry out an order's act put themselves into :attr:`orders`."""

    def __init__(self, keeper: Keeper, rotation: Rotation, clock: Clock) -> None:
        self._keeper = keeper
        self._rotation = rotation
        self._clock = clock
        self.orders: dict[KeyAct, CarryOut] = {
            KeyAct.ROTATE_EPOCH: lambda _order, digest: rotation.rotate_epoch(digest),
            KeyAct.ROTATE_ROOT: lambda _order, digest: rotation.rotate_root(digest),
        }
        self.routes: dict[str, Route] = {
            "keys": self._show,
            "key-moves": self._moves,
            "rewrap": self._rewrap,
            "key-order": self._order,
        }
        keeper.carries_out[Action.ROTATE] = rotation.rotate_kek

    async def _show(self, fields: Fields) -> Answer:
        after, count = _page(fields)
        fields.end()
        keys = self._keeper.journal.ledger.keys
        models = sorted(model for model in keys.by_model if model > after)
        keks: list[Json] = []
        shown = 0
        # Whole models, up to about as many KEKs: whoever asks goes on behind the last model.
        while shown < len(models) and len(keks) < count:
            keks += [self._kek(kek) for kek in reversed([*keys.of(models[shown])])]
            shown += 1
        return {
            "generation": keys.generation,
            "since": format_instant(keys.generation_at),
            "epochs": [
                {
                    "epoch": epoch.epoch,
                    "escrowed": epoch.escrowed,
                    "state": epoch.state.value,
                    "created": format_instant(epoch.at),
                }
                for epoch in keys.epochs.values()
            ],
            "keks": keks,
            "more": shown < len(models),
        }

    def _kek(self, kek: KekRecord) -> Json:
        keys = self._keeper.journal.ledger.keys
        under = sum(name == kek.kek for name in keys.data_keys.get(kek.model, {}).values())
        return {
            "model": kek.model,
            "kek": kek.kek,
            "epoch": kek.epoch,
            "escrowed": kek.escrowed,
            "state": kek.state.value,
            "created": format_instant(kek.at),
            "data_keys": under,
        }

    async def _moves(self, fields: Fields) -> Answer:
        after, count = _page(fields)
        fields.end()
        keys = self._keeper.journal.ledger.keys
        moving = (model for model in sorted(keys.by_model) if model > after and keys.previous(model))
        return {"models": [*islice(moving, count)]}

    async def _rewrap(self, fields: Fields) -> Answer:
        model = fields.parsed("model", model_id)
        rows, complete = fields.objects("rows", WrappedDataKey.read, most=MAX_ROWS), fields.boolean("complete")
        fields.end()
        done = await self._rotation.rewrap(model, rows, complete=complete)
        return {
            "rows": [None if row is None else row.to_json() for row in done.rows],
            "left": [*done.left[:MAX_LEFT]],
            "retired": done.retired,
        }

    async def _order(self, fields: Fields) -> Answer:
        recorded = await self.carry_out(last_envelope(fields, "envelope"))
        return {"index": recorded.index, "checkpoint": recorded.checkpoint.decode()}

    async def carry_out(self, envelope: Envelope) -> Recorded:
        """Carry out an order that the root quorum signed. Waits until it is recorded.

        :raises SignatureError: too few root keys signed.
        :raises KeyOrderRefusedError: it may not be carried out, now or ever again.
        :raises NotFoundError: nothing here carries out such an act.
        :raises WitnessQuorumStaleError: no quorum of witnesses has seen the log lately.
        """
        self._keeper.require_unlocked()
        await self._keeper.witnesses.require()
        async with self._rotation.ordered:
            # Under the lock: of one order handed in twice, the second finds the first one's record.
            ledger, now = self._keeper.journal.ledger, self._clock.now()
            order = examine_order(envelope, self._keeper.genesis, ledger, now)
            act = self.orders.get(order.act)
            if act is None:
                raise NotFoundError(f"this keeper carries out no order to `{order.act.value}`")
            self._keeper.keep("key-order", envelope)
            return await act(order, envelope.digest)


def _page(fields: Fields) -> tuple[ModelId, int]:
    after = ModelId(fields.text("after", max_length=64))
    return after, fields.integer("count", least=1, most=MAX_KEYS_SHOWN)
