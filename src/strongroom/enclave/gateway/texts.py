"""Tokens become text outside the enclave, a piece at a time, and stop sequences are looked for in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

_BROKEN: Final = "\ufffd"


class TextStream:
    """The text of one answer as its tokens come. The pieces joined are what decoding all tokens at once gives.

    A piece is held back while it may still become another one: half a character, or the beginning of a stop sequence.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self._tokens: list[int] = []
        self._from, self._read = 0, 0
        self._held = ""
        self.stopped = False
        """Whether a stop sequence was found; it and what follows are left out."""

    @property
    def tokens(self) -> int:
        """How many tokens there were."""
        return len(self._tokens)

    def push(self, tokens: Sequence[int]) -> str:
        """Take tokens; returns the text that is certain now."""
        self._tokens += tokens
        # Decoded beside its neighbours: many tokenizers put a space before a token only if it isn't the first.
        before = self._decode(self._tokens[self._from : self._read])
        after = self._decode(self._tokens[self._from :])
        if len(after) <= len(before) or after.endswith(_BROKEN):
            return ""
        self._from, self._read = self._read, len(self._tokens)
        return self._search(after[len(before) :])

    def finish(self) -> str:
        """Return what is left."""
        before = self._decode(self._tokens[self._from : self._read])
        rest = self._decode(self._tokens[self._from :])[len(before) :]
        self._read = len(self._tokens)
        said = self._search(rest)
        held, self._held = self._held, ""
        return said if self.stopped else said + held

    def _search(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max(
            (size for stop in self._stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]
