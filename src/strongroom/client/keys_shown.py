"""The keys as a deployment says they are: states, ages, and what is due. The broker's word, for planning by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.keys.periods import Layer, due
from strongroom.keys.states import KeyState


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochShown:
    """An epoch key."""

    epoch: int
    escrowed: bool
    state: KeyState
    created: Instant

    @classmethod
    def read(cls, fields: Fields) -> EpochShown:
        """Read the JSON form."""
        return cls(
            epoch=fields.integer("epoch", least=1),
            escrowed=fields.boolean("escrowed"),
            state=fields.parsed("state", KeyState),
            created=fields.instant("created"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KekShown:
    """A model's KEK, and how many data keys stand under it."""

    model: ModelId
    kek: str
    epoch: int
    escrowed: bool
    state: KeyState
    created: Instant
    data_keys: int

    @classmethod
    def read(cls, fields: Fields) -> KekShown:
        """Read the JSON form."""
        return cls(
            model=fields.parsed("model", model_id),
            kek=fields.text("kek", max_length=64),
            epoch=fields.integer("epoch", least=1),
            escrowed=fields.boolean("escrowed"),
            state=fields.parsed("state", KeyState),
            created=fields.instant("created"),
            data_keys=fields.integer("data_keys"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysShown:
    """All keys above the data keys."""

    generation: int
    since: Instant
    epochs: tuple[EpochShown, ...]
    keks: tuple[KekShown, ...]

    def due(self, now: Instant) -> Iterator[str]:
        """Return what is to be done, each with its command."""
        if due(Layer.ROOT, self.since, now):
            yield f"root key generation {self.generation} is due: strongroom key order rotate-root"
        for epoch in self.epochs:
            if epoch.state is KeyState.ACTIVE and due(Layer.EPOCH, epoch.created, now):
                yield f"epoch {epoch.epoch} is due: strongroom key order rotate-epoch"
        for kek in self.keks:
            if kek.state is KeyState.ACTIVE and due(Layer.KEK, kek.created, now):
                yield f"the KEK of `{kek.model}` is due: strongroom key rotate {kek.model}"
            if kek.state is KeyState.DEACTIVATED and kek.data_keys:
                yield f"{kek.data_keys} data keys of `{kek.model}` aren't known to be moved from its KEK before"

    def to_json(self, now: Instant) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "generation": self.generation,
            "since": format_instant(self.since),
            "epochs": [
                {
                    "epoch": one.epoch,
                    "escrowed": one.escrowed,
                    "state": one.state.value,
                    "created": format_instant(one.created),
                }
                for one in self.epochs
            ],
            "keks": [
                {
                    "model": one.model,
                    "kek": one.kek,
                    "epoch": one.epoch,
                    "escrowed": one.escrowed,
                    "state": one.state.value,
                    "created": format_instant(one.created),
                    "data_keys": one.data_keys,
                }
                for one in self.keks
            ],
            "due": [*self.due(now)],
        }
