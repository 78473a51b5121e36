"""A model folder in the library's own form, read by transformers and run by torch on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.enclave.engine.adapters.transformers_encoder import TransformersEncoder
from strongroom.enclave.engine.schedule import Generating, Model
from strongroom.enclave.metered import MILLI, Kind, Order


def open_model(folder: Path) -> Model:
    """Read a model: an encoder where the folder says how vectors are made of it, else one that generates.

    :raises MalformedError: it can't be read. :raises MissingExtraError: torch or transformers isn't installed.
    """
    return TransformersEncoder(folder) if (folder / "modules.json").exists() else TransformersModel(folder)


class TransformersModel:
    """A causal language model of any architecture that transformers knows without code from the folder."""

    def __init__(self, folder: Path) -> None:
        """Read the model.

        :raises MalformedError: it can't be read; nothing says why, since nobody outside may know.
        :raises MissingExtraError: torch or transformers isn't installed.
        """
        self._torch = need("torch", extra="transformers")
        transformers = need("transformers", extra="transformers")
        try:
            self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, dtype="auto"
            ).eval()
        except Exception as error:  # noqa: BLE001 - whatever the library raises, it goes no further
            raise MalformedError(f"the model can't be read: {type(error).__name__}") from None
        stops = getattr(self._model.generation_config, "eos_token_id", None)
        self._stops = frozenset([stops] if isinstance(stops, int) else stops or [])
        self._context = int(getattr(self._model.config, "max_position_embeddings", 0) or 1 << 62)
        self._vocabulary = int(self._model.config.vocab_size)

    def begin(self, order: Order) -> Generating | None:
        """Begin an answer; None if it is longer than the model's context or names tokens that the model hasn't."""
        if order.kind is not Kind.GENERATE:
            return None
        if len(order.prompt) + order.most > self._context or max(order.prompt) >= self._vocabulary:
            return None
        return _Answer(self._torch, self._model, self._stops, order)


class _Answer:
    """One answer, with its own cache and its own source of chance."""

    def __init__(self, torch: Any, model: Any, stops: frozenset[int], order: Order) -> None:
        self._torch, self._model, self._stops, self._order = torch, model, stops, order
        self._next = torch.tensor([order.prompt])
        self._cache: Any = None
        # torch takes 64 bits, and has them signed in some of its builds.
        self._chance = torch.Generator().manual_seed(order.seed >> 1)

    def step(self) -> int | None:
        """Return the next token, or None at a stop token."""
        with self._torch.inference_mode():
            said = self._model(input_ids=self._next, past_key_values=self._cache, use_cache=True)
            self._cache = said.past_key_values
            token = self._pick(said.logits[0, -1].float())
            self._next = self._torch.tensor([[token]])
        return None if token in self._stops else token

    def _pick(self, logits: Any) -> int:
        if not self._order.temperature:
            return int(logits.argmax())
        torch = self._torch
        chances = torch.softmax(logits * MILLI / self._order.temperature, dim=-1)
        ordered, ids = chances.sort(descending=True)
        # The smallest set whose chances reach top_p; the likeliest is always in it.
        outside = ordered.cumsum(0) - ordered >= self._order.top_p / MILLI
        if self._order.top_p < MILLI:
            ordered[outside] = 0.0
        return int(ids[torch.multinomial(ordered, 1, generator=self._chance)])
