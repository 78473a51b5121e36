"""A screen on this machine: a text-classification model in transformers' form, run in a thread of the gateway.

A passage that is longer than the model takes is judged in pieces that overlap by half; the worst one counts.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.enclave.gateway.screen_settings import ClassifierSettings
from strongroom.enclave.gateway.screens import Direction, Passage, ScreenUnavailableError, Verdict, worst

MAX_PIECES: Final = 512
"""Pieces of one passage. A longer one can't be judged, and what can't be judged doesn't pass."""
SECONDS: Final = 60.0
"""How long a passage may take, with those that were there before it."""
_BATCH: Final = 16
_MOST_TOKENS: Final = 8192


class Classifier:
    """One such model."""

    def __init__(self, settings: ClassifierSettings) -> None:
        """Read it.

        :raises MalformedError: it can't be read, or has no label of that name.
        :raises MissingExtraError: torch or transformers isn't installed.
        """
        self._settings = settings
        self._torch = need("torch", extra="transformers")
        transformers = need("transformers", extra="transformers")
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                settings.folder, local_files_only=True, trust_remote_code=False
            )
            self._model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
                settings.folder, local_files_only=True, trust_remote_code=False
            ).eval()
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise
            raise MalformedError(f"the classifier `{settings.name}` can't be read: {type(error).__name__}") from None
        labels = {str(label): int(index) for index, label in self._model.config.id2label.items()}
        missing = sorted(settings.labels.keys() - labels.keys())
        if missing:
            raise MalformedError(f"the classifier `{settings.name}` has no label `{missing[0][:64]}`")
        self._rules = {labels[name]: rule for name, rule in settings.labels.items()}
        self._longest = min(
            int(getattr(self._model.config, "max_position_embeddings", 0) or _MOST_TOKENS),
            int(self._tokenizer.model_max_length),
            _MOST_TOKENS,
        )
        if not self._tokenizer.is_fast:
            raise MalformedError(f"the classifier `{settings.name}` has a tokenizer that can't cut long passages")
        # One after the other: torch has the machine's cores for each, and the event loop goes on meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"screen-{settings.name}")

    @property
    def name(self) -> str:
        """What it is called."""
        return self._settings.name

    @property
    def directions(self) -> frozenset[Direction]:
        """What it is asked about."""
        return self._settings.directions

    async def judge(self, passage: Passage) -> Verdict:
        """Classify a passage.

        :raises ScreenUnavailableError: it is too long, others' took too long, or the library fails.
        """
        try:
            # What waits is dropped then: whoever sends more than can be judged fills no memory with it.
            async with asyncio.timeout(SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._judged, passage.text)
        except ScreenUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the library raises, nothing passes
            raise ScreenUnavailableError(f"the screen `{self.name}` can't say: {type(error).__name__}") from None

    def _judged(self, text: str) -> Verdict:
        pieces = self._pieces(text)
        if len(pieces) > MAX_PIECES:
            raise ScreenUnavailableError(f"the screen `{self.name}` can't judge so long a passage")
        found: list[Verdict] = []
        with self._torch.inference_mode():
            for at in range(0, len(pieces), _BATCH):
                batch = self._tokenizer.pad({"input_ids": pieces[at : at + _BATCH]}, return_tensors="pt")
                chances = self._torch.softmax(self._model(**batch).logits.float(), dim=-1)
                found += (rule.verdict(float(row[index])) for row in chances for index, rule in self._rules.items())
        return worst(found)

    def _pieces(self, text: str) -> list[list[int]]:
        room = self._longest - int(self._tokenizer.num_special_tokens_to_add())
        cut = self._tokenizer(
            text, truncation=True, max_length=self._longest, stride=room // 2, return_overflowing_tokens=True
        )
        return [list(piece) for piece in cut["input_ids"]]

    async def close(self) -> None:
        """End its thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
