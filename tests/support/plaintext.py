"""Finding plaintext: does any 64-byte window of one file's bytes stand anywhere in another file?

Every 64-byte window holds seven whole 8-byte words that begin at multiples of eight. So each such word of the plaintext
is indexed (but for words of one byte eight times, which stand everywhere), every offset of the other file is looked up,
and where a word fits, the 64-byte windows around it are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW = 64
WORD = 8
DISTINCT = 12
_BITS = 28
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_PIECE = 1 << 22


def _slots(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return np.asarray((words * _FACTOR) >> np.uint64(64 - _BITS))


class Plaintext:
    """An index of one file's windows with more than 12 distinct byte values: duller ones may stand anywhere."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        words = np.frombuffer(data[: len(data) // WORD * WORD], "<u8")
        order = np.argsort(words, kind="stable")
        order = order[words[order] != (words[order] & np.uint64(0xFF)) * np.uint64(0x0101010101010101)]
        self._order, self._words = order, words[order]
        self._maybe = np.zeros(1 << _BITS, np.bool_)
        self._maybe[_slots(words)] = True

    def found_in(self, path: Path) -> int | None:
        """Return the offset of a window of the plaintext in a file, or None."""
        data = path.read_bytes()
        for start in range(0, len(data), _PIECE):
            piece = data[max(0, start - WINDOW) : start + _PIECE]
            for shift in range(WORD):
                words = np.frombuffer(piece[shift : shift + (len(piece) - shift) // WORD * WORD], "<u8")
                for place in self._fitting(words):
                    offset = max(0, start - WINDOW) + shift + int(place) * WORD
                    if self._window_at(data, offset, int(words[place])):
                        return offset
        return None

    def _fitting(self, words: NDArray[np.uint64]) -> NDArray[np.intp]:
        places = np.flatnonzero(self._maybe[_slots(words)])
        nearest = np.minimum(np.searchsorted(self._words, words[places]), len(self._words) - 1)
        return np.asarray(places[self._words[nearest] == words[places]])

    def _window_at(self, data: bytes, offset: int, word: int) -> bool:
        first = int(np.searchsorted(self._words, np.uint64(word), "left"))
        last = int(np.searchsorted(self._words, np.uint64(word), "right"))
        for index in self._order[first : min(last, first + 64)]:
            begin = int(index) * WORD
            if any(self._same(data, offset - back, begin - back) for back in range(WINDOW - WORD + 1)):
                return True
        return False

    def _same(self, data: bytes, there: int, here: int) -> bool:
        if there < 0 or here < 0:
            return False
        window = self._data[here : here + WINDOW]
        return len(window) == WINDOW and data[there : there + WINDOW] == window and len(set(window)) > DISTINCT


def files_below(*folders: Path) -> Iterator[Path]:
    """Yield every regular file below some folders."""
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
