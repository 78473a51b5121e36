"""Follows the deployment's log: each entry proven, from where this responder was before. It blocks; run it in a thread.

The place that was reached is a file of the responder's folder, written only when what was found in its entries is on
the disk. Entries before it are read again at a start, to be remembered by the rules' windows and not to be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.access.request import LogHead
from strongroom.audit.entries import Entry
from strongroom.audit.reading.growth import MAX_PLACE_FILE, Place, check_continues, grow, place_at
from strongroom.audit.reading.view import LogView, judged
from strongroom.core.adapters.durable import write_durably
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import UnavailableError

REMEMBERED: Final = 20_000
"""Entries before the place that the rules' windows are filled with at a start."""


@dataclass(frozen=True, slots=True)
class Step:
    """Some entries with their indexes, and the place after them."""

    entries: tuple[tuple[int, Entry], ...]
    after: Place


class LogTail:
    """One log, followed by one responder.

    :param view: where it is read; heads are verified there.
    :param path: the file with the place.
    :raises MalformedError: it isn't one. :raises UnavailableError: it can't be read.
    """

    def __init__(self, view: LogView, path: Path) -> None:
        self._view = view
        self._path = path
        self._before = self._load()
        self._at = Place.start("")
        self.kept = self._before.size if self._before else 0
        """How many entries were dealt with before; those that follow are new."""
        self.head = LogHead(size=0, root=Digest.of(b""))
        """The log up to there, as it was proven; known from :meth:`start` on."""

    def start(self) -> None:
        """Find the place again; the first time it is the log's end.

        :raises LogError: the log isn't the one that was read before, or lost entries since.
        :raises UnavailableError: nobody answers, or the place can't be read.
        """
        head = self._view.head()
        kept = self._before or place_at(self._view, head, head.size)
        if self._before is None:
            self._save(kept)
        check_continues(self._view, kept, head)
        self._before, self.kept = kept, kept.size
        self._at = place_at(self._view, head, max(0, kept.size - REMEMBERED))
        self.head = self._head(kept)

    def step(self) -> Step | None:
        """Return the next entries, or None where the log has none yet. They come again until :meth:`taken`.

        :raises LogError: the log isn't what it was. :raises UnavailableError: nobody answers.
        """
        for after, entries in grow(self._view, self._at, self._view.head()):
            first = after.size - len(entries)
            return Step(tuple((at, judged(self._view, at, data)) for at, data in enumerate(entries, first)), after)
        return None

    def taken(self, step: Step) -> None:
        """Go on behind a step: what was found in it is on the disk.

        :raises UnavailableError: the place can't be written.
        """
        if step.after.size > self.kept:
            self._save(step.after)
            self.kept, self.head = step.after.size, self._head(step.after)
        self._at = step.after

    def _head(self, place: Place) -> LogHead:
        tree = self._view.extent(place.size - 1)
        return LogHead(size=place.size, root=Digest(DigestAlgorithm.SHA256, place.frontier(tree.base).root()))

    def _save(self, place: Place) -> None:
        try:
            write_durably(self._path, place.to_bytes())
        except OSError as error:
            raise UnavailableError(f"`{self._path.name}` can't be written: {error.strerror}") from None

    def _load(self) -> Place | None:
        try:
            with self._path.open("rb") as file:
                return Place.parse(file.read(MAX_PLACE_FILE + 1))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"`{self._path.name}` can't be read: {error.strerror}") from None
