"""A model folder in the library's own form, read by transformers and run by torch on the processor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.enclave.engine.adapters.transformers_encoder import TransformersEncoder
from strongroom.enclave.engine.sampling import agreement, choose
from strongroom.enclave.engine.schedule import Agreed, Generating, Model
from strongroom.enclave.metered import Kind, Order

_REPLAYED: Final = 32
"""Tokens of an answer that are replayed in one step."""


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
        self._numpy = need("numpy", extra="transformers")
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

    def begin(self, order: Order) -> Generating | Agreed | None:
        """Begin an answer; None if it is longer than the model's context or names tokens that the model hasn't."""
        if order.kind not in {Kind.GENERATE, Kind.REPLAY} or max(order.prompt) >= self._vocabulary:
            return None
        if len(order.prompt) + (order.most if order.kind is Kind.GENERATE else 0) > self._context:
            return None
        if order.kind is Kind.REPLAY:
            return Agreed(agreement(self._numpy, self._rows(order), order))
        return _Answer(_Reading(self._torch, self._model), self._numpy, self._stops, order)

    def _rows(self, order: Order) -> Iterator[Any]:
        """Yield the logits after the question of an order to replay, then after each token that was said."""
        reading, tokens = _Reading(self._torch, self._model), order.prompt
        before = len(tokens) - order.most
        yield reading.logits(tokens[:before])[-1]
        for at in range(before, len(tokens) - 1, _REPLAYED):
            yield from reading.logits(tokens[at : min(at + _REPLAYED, len(tokens) - 1)], every=_REPLAYED)


class _Reading:
    """One sequence of tokens, with its own cache."""

    def __init__(self, torch: Any, model: Any) -> None:
        self._torch, self._model = torch, model
        self._cache: Any = None

    def logits(self, tokens: Sequence[int], *, every: int = 1) -> Any:
        """Read on; returns the logits of the last ``every`` of the tokens, as numpy has them."""
        with self._torch.inference_mode():
            said = self._model(input_ids=self._torch.tensor([tokens]), past_key_values=self._cache, use_cache=True)
            self._cache = said.past_key_values
            return said.logits[0, -every:].float().numpy()


class _Answer:
    """One answer."""

    def __init__(self, reading: _Reading, numpy: Any, stops: frozenset[int], order: Order) -> None:
        self._reading, self._numpy, self._stops, self._order = reading, numpy, stops, order
        self._next: Sequence[int] = order.prompt
        self._said = 0

    def step(self) -> int | None:
        """Return the next token, or None at a stop token."""
        token = choose(self._numpy, self._reading.logits(self._next)[-1], self._order, self._said)
        self._next, self._said = (token,), self._said + 1
        return None if token in self._stops else token
