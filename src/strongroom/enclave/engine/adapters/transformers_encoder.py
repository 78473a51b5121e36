"""An encoder in sentence-transformers' form: one vector of a text's tokens, pooled as the model's folder says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.enclave.engine.pooling import MAX_CONFIG, Pooling, read_form
from strongroom.enclave.engine.schedule import Vector
from strongroom.enclave.metered import Kind, Order


class TransformersEncoder:
    """An encoder of any architecture that transformers knows without code from the folder."""

    def __init__(self, folder: Path) -> None:
        """Read the model.

        :raises MalformedError: it can't be read; nothing says why, since nobody outside may know.
        :raises MissingExtraError: torch or transformers isn't installed.
        """
        self._torch = need("torch", extra="transformers")
        transformers = need("transformers", extra="transformers")
        self._form = read_form(lambda name: _file(folder / name))
        try:
            self._model: Any = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, dtype="auto"
            ).eval()
        except Exception as error:  # noqa: BLE001 - whatever the library raises, it goes no further
            raise MalformedError(f"the model can't be read: {type(error).__name__}") from None
        context = int(getattr(self._model.config, "max_position_embeddings", 0) or 1 << 62)
        self._longest = min(context, self._form.longest or context)
        self._vocabulary = int(self._model.config.vocab_size)

    @property
    def values(self) -> int:
        """How many numbers a vector has."""
        return int(self._model.config.hidden_size)

    def begin(self, order: Order) -> Vector | None:
        """Make a vector; None if the text is longer than the model takes, or names tokens that it hasn't.

        A text that is too long isn't cut: its vector would be another text's.
        """
        if order.kind is not Kind.EMBED:
            return None
        if len(order.prompt) > self._longest or max(order.prompt) >= self._vocabulary or order.most != self.values:
            return None
        torch = self._torch
        with torch.inference_mode():
            tokens = torch.tensor([order.prompt])
            states = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0].float()
            match self._form.pooling:
                case Pooling.MEAN:
                    pooled = states.mean(dim=0)
                case Pooling.FIRST:
                    pooled = states[0]
                case Pooling.LAST:
                    pooled = states[-1]
            if self._form.normalised:
                pooled = torch.nn.functional.normalize(pooled, dim=0)
        return Vector(tuple(pooled.tolist()))


def _file(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return stream.read(MAX_CONFIG + 1)
