"""A Llama in safetensors' form, read and run by numpy alone, in float32: an engine of a few megabytes.

For where torch is too much: a small image, an emulated machine, a model whose answers are checked and not raced. The
architecture is transformers' ``LlamaForCausalLM``: RMSNorm, rotary positions (plain or ``llama3``), grouped queries,
SiLU. Anything else in the configuration is refused, not guessed at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.enclave.engine.sampling import agreement, choose
from strongroom.enclave.engine.schedule import Agreed, Generating
from strongroom.enclave.metered import Kind, Order

_EXTRA: Final = "numpy"
_FLOATS: Final = {"F32": "<f4", "F16": "<f2"}
_LAYER: Final = "model.layers.{}."
_REPLAYED: Final = 32
"""Tokens of an answer that are replayed in one step: large enough to be faster than saying them, and small enough
that their logits fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """What ``config.json`` says, as far as it decides what the model says."""

    layers: int
    heads: int
    key_heads: int
    head: int
    """Numbers in one head."""
    vocabulary: int
    context: int
    """Tokens of prompt and answer together."""
    epsilon: float
    theta: float
    stretch: tuple[float, float, float, float] | None
    """``llama3``'s rotary scaling: factor, low and high frequency factor, context before it."""
    tied: bool
    """The output's weights are the embedding's."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> LlamaShape:
        """Read a configuration.

        :raises MalformedError: another architecture, or a variant of this one that isn't computed here.
        """
        if config.get("model_type") != "llama" or config.get("hidden_act", "silu") != "silu":
            raise MalformedError("the numpy engine runs Llamas only")
        heads = int(config["num_attention_heads"])
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in {"default", "llama3"} or float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
            raise MalformedError("the numpy engine knows plain and `llama3` rotary positions only")
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        factors = [float(rope[name]) for name in names] if kind == "llama3" else []
        return cls(
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            key_heads=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
            epsilon=float(config["rms_norm_eps"]),
            theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
            stretch=(factors[0], factors[1], factors[2], factors[3]) if factors else None,
            tied=bool(config.get("tie_word_embeddings")),
        )


class NumpyLlama:
    """An opened Llama."""

    def __init__(self, folder: Path) -> None:
        """Read the model.

        :raises MalformedError: it can't be read; nothing says why, since nobody outside may know.
        :raises MissingExtraError: numpy or safetensors isn't installed.
        """
        self._numpy = need("numpy", extra=_EXTRA)
        try:
            config = json.loads((folder / "config.json").read_bytes())
            self.shape = LlamaShape.read(config)
            self._weights = _weights(self._numpy, folder)
            self._frequencies = _frequencies(self._numpy, self.shape)
            self._check()
            self._stops = _stops(folder, config)
        except MalformedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library raises, it goes no further
            raise MalformedError(f"the model can't be read: {type(error).__name__}") from None

    def begin(self, order: Order) -> Generating | Agreed | None:
        """Begin an answer; None if it is longer than the model's context or names tokens that the model hasn't."""
        if order.kind not in {Kind.GENERATE, Kind.REPLAY} or max(order.prompt) >= self.shape.vocabulary:
            return None
        if len(order.prompt) + (order.most if order.kind is Kind.GENERATE else 0) > self.shape.context:
            return None
        if order.kind is Kind.REPLAY:
            return Agreed(agreement(self._numpy, self._rows(order), order))
        return _Answer(self, order)

    def _rows(self, order: Order) -> Iterator[Any]:
        """Yield the logits after the question of an order to replay, then after each token that was said."""
        tokens, memory = self._numpy.array(order.prompt), self.memory(len(order.prompt))
        before = len(tokens) - order.most
        yield self.logits(tokens[:before], memory, 0)[-1]
        for at in range(before, len(tokens) - 1, _REPLAYED):
            yield from self.logits(tokens[at : min(at + _REPLAYED, len(tokens) - 1)], memory, at, every=_REPLAYED)

    def says_no_more(self, token: int) -> bool:
        """Return whether this is a stop token."""
        return token in self._stops

    def memory(self, tokens: int) -> Any:
        """Return room for the keys and values of so many tokens: (layer, key or value, head, token, number)."""
        shape = self.shape
        return self._numpy.zeros((shape.layers, 2, shape.key_heads, tokens, shape.head), dtype="float32")

    def logits(self, tokens: Any, memory: Any, before: int, *, every: int = 1) -> Any:
        """Return the logits of the last ``every`` tokens; ``memory`` holds the ``before`` that came first."""
        positions = self._numpy.arange(before, before + len(tokens), dtype="float32")
        angles = positions[:, None] * self._frequencies[None, :]
        turn = self._numpy.cos(angles), self._numpy.sin(angles)
        state = self._weights["model.embed_tokens.weight"][tokens]
        for number in range(self.shape.layers):
            name = _LAYER.format(number)
            normal = self._norm(state, name + "input_layernorm")
            state = state + self._attend(name + "self_attn.", normal, memory[number], before, turn)
            normal = self._norm(state, name + "post_attention_layernorm")
            state = state + self._widen(name + "mlp.", normal)
        last = self._norm(state[-every:], "model.norm")
        return self._linear(last, "model.embed_tokens" if self.shape.tied else "lm_head")

    def _attend(self, name: str, state: Any, memory: Any, before: int, turn: tuple[Any, Any]) -> Any:
        shape, count = self.shape, len(state)

        def split(part: str, heads: int) -> Any:
            return self._linear(state, name + part).reshape(count, heads, shape.head).transpose(1, 0, 2)

        asked = self._turned(split("q_proj", shape.heads), turn)
        memory[0, :, before : before + count] = self._turned(split("k_proj", shape.key_heads), turn)
        memory[1, :, before : before + count] = split("v_proj", shape.key_heads)
        keys, values = memory[:, :, : before + count]
        # Several heads of questions share one of keys and values.
        asked = asked.reshape(shape.key_heads, -1, count, shape.head)
        scores = asked @ keys[:, None].transpose(0, 1, 3, 2) * self._numpy.float32(shape.head**-0.5)
        later = self._numpy.arange(before + count)[None, :] > self._numpy.arange(before, before + count)[:, None]
        weights = _softmax(self._numpy, self._numpy.where(later, self._numpy.float32(-math.inf), scores))
        mixed = (weights @ values[:, None]).reshape(shape.heads, count, shape.head)
        return self._linear(mixed.transpose(1, 0, 2).reshape(count, -1), name + "o_proj")

    def _widen(self, name: str, state: Any) -> Any:
        gate = self._linear(state, name + "gate_proj")
        # x * sigmoid(x), without an overflow for large negative x.
        gate = gate * (0.5 * (1 + self._numpy.tanh(0.5 * gate)))
        return self._linear(gate * self._linear(state, name + "up_proj"), name + "down_proj")

    def _turned(self, heads: Any, turn: tuple[Any, Any]) -> Any:
        half = self.shape.head // 2
        first, second, (cosine, sine) = heads[..., :half], heads[..., half:], turn
        return self._numpy.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)

    def _norm(self, state: Any, name: str) -> Any:
        mean = self._numpy.mean(state * state, axis=-1, keepdims=True)
        length = self._numpy.sqrt(mean + self._numpy.float32(self.shape.epsilon))
        return state / length * self._weights[name + ".weight"]

    def _linear(self, state: Any, name: str) -> Any:
        product = state @ self._weights[name + ".weight"].T
        bias = self._weights.get(name + ".bias")
        return product if bias is None else product + bias

    def _check(self) -> None:
        """Compute one token: a tensor that is missing or of another shape shows now and not in the first answer."""
        said = self.logits(self._numpy.array([0]), self.memory(1), 0)
        if said.shape != (1, self.shape.vocabulary):
            raise MalformedError("the model's tensors aren't of the shape that its configuration says")


class _Answer:
    """One answer, with its own memory."""

    def __init__(self, model: NumpyLlama, order: Order) -> None:
        self._numpy = need("numpy", extra=_EXTRA)
        self._model, self._order, self._said = model, order, 0
        self._memory, self._before = model.memory(len(order.prompt) + order.most), 0
        self._next = self._numpy.array(order.prompt)

    def step(self) -> int | None:
        """Return the next token, or None at a stop token."""
        logits = self._model.logits(self._next, self._memory, self._before)[-1]
        self._before += len(self._next)
        token = choose(self._numpy, logits, self._order, self._said)
        self._said += 1
        self._next = self._numpy.array([token])
        return None if self._model.says_no_more(token) else token


def _softmax(numpy: Any, scores: Any) -> Any:
    raised = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _frequencies(numpy: Any, shape: LlamaShape) -> Any:
    """Return the angle that each pair of a head's numbers turns by, from one position to the next."""
    plain = 1.0 / (shape.theta ** (numpy.arange(0, shape.head, 2, dtype="float32") / numpy.float32(shape.head)))
    if shape.stretch is None:
        return plain.astype("float32")
    factor, low, high, before = shape.stretch
    length = 2 * math.pi / plain
    smooth = (before / length - low) / (high - low)
    between = (1 - smooth) * plain / factor + smooth * plain
    turned = numpy.where(length > before / low, plain / factor, numpy.where(length < before / high, plain, between))
    return turned.astype("float32")


def _weights(numpy: Any, folder: Path) -> dict[str, Any]:
    safetensors = need("safetensors", extra=_EXTRA)
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in safetensors.deserialize(path.read_bytes()):
            found[name] = _float32(numpy, tensor["dtype"], bytes(tensor["data"])).reshape(tensor["shape"])
    return found


def _float32(numpy: Any, kind: str, data: bytes) -> Any:
    if kind == "BF16":
        # The upper half of a float32.
        return (numpy.frombuffer(data, dtype="<u2").astype("uint32") << 16).view("float32")
    if kind not in _FLOATS:
        raise MalformedError("the numpy engine reads F32, F16 and BF16 tensors only")
    return numpy.frombuffer(data, dtype=_FLOATS[kind]).astype("float32")


def _stops(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    path = folder / "generation_config.json"
    told = json.loads(path.read_bytes()) if path.is_file() else {}
    stops = told.get("eos_token_id", config.get("eos_token_id"))
    return frozenset([stops] if isinstance(stops, int) else stops or [])
