"""The keeper's operations on destructions; a part of its socket protocol (:mod:`strongroom.keeper.routes`).

certificate   {model}                     -> {certificate}         the newest destruction certificate of a model
certify       {model}                     -> {certificate}         another one, if there is something new to say
"""

from __future__ import annotations

from strongroom.core.fields import Fields
from strongroom.core.ids import model_id
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.route_parts import Answer
from strongroom.keeper.shredding import Shredding


class ShreddingRoutes:
    """Serves what concerns destructions. A request to destroy is carried out by `control`, as others are."""

    def __init__(self, shredding: Shredding) -> None:
        self._shredding = shredding

    def join(self, keys: KeyRoutes) -> None:
        """Have these operations served beside the others about keys."""
        keys.routes["certificate"] = self._show
        keys.routes["certify"] = self._certify

    async def _show(self, fields: Fields) -> Answer:
        model = fields.parsed("model", model_id)
        fields.end()
        return {"certificate": self._shredding.certificate(model).to_json()}

    async def _certify(self, fields: Fields) -> Answer:
        model = fields.parsed("model", model_id)
        fields.end()
        return {"certificate": (await self._shredding.certify_again(model)).to_json()}
