"""The folder in which deliveries' folders lie, as `strongroom intake receive --into` makes them; or copies of them."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Final

from strongroom.console.deliveries import Found
from strongroom.core.adapters.reading import FileState, state_of
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.intake.verdict import FileList
from strongroom.quarantine.adapters.delivery_folder import TERMS, DeliveryFolder
from strongroom.quarantine.gate import checked, checks, listed_in, terms_of

MOST_FOLDERS: Final = 2_000
MOST_ALIKE: Final = 4
"""So many folders that say they are one delivery's are looked at."""
MOST_REPORT: Final = 4 << 20
"""Bytes of the list of files, and of the gate's report, that a page is made of."""


class DeliveryFolders:
    """A :class:`strongroom.console.deliveries.DeliveryShelf`. Nothing is written, locked or opened but small files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[FileState, str]] = {}
        """By the folder's name: its terms as they were read, and whose they are."""

    def find(self, delivery: str) -> tuple[Found | StrongroomError, ...]:
        """Return what folders say that they are this delivery's, or what is wrong with one that does."""
        try:
            names = self._names()
        except OSError:
            remedy = "let the console's user read it"
            return (UnavailableError("the folder of deliveries can't be read", remedy=remedy),)
        if len(names) > MOST_FOLDERS:
            remedy = "move deliveries that came to their end elsewhere"
            return (UnavailableError(f"the folder of deliveries holds more than {MOST_FOLDERS}", remedy=remedy),)
        alike = [name for name in sorted(names) if self._delivery(name) == delivery][:MOST_ALIKE]
        return tuple(self._read(name) for name in alike)

    def _names(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            # A link could lead to a folder of another's that the console may read.
            folders = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            return [*islice(folders, MOST_FOLDERS + 1)]

    def _delivery(self, name: str) -> str:
        path = self._folder / name / TERMS
        try:
            told = path.stat(follow_symlinks=False)
        except OSError:
            self._known.pop(name, None)
            return ""
        state = state_of(told)
        known = self._known.get(name)
        if known is None or known[0] != state:
            try:
                delivery = DeliveryFolder(path.parent).terms().delivery
            except StrongroomError:
                delivery = ""
            known = (state, delivery)
            if len(self._known) > MOST_FOLDERS:
                self._known.clear()
            self._known[name] = known
        return known[1]

    def _read(self, name: str) -> Found | StrongroomError:
        folder = DeliveryFolder(self._folder / name, most_document=MOST_REPORT)
        try:
            standing = checked(folder)
            listed = FileList(()) if standing.last.artifact is None else listed_in(folder, standing)
            return Found(
                name=name,
                terms=terms_of(folder, standing),
                standing=standing,
                files=listed.files,
                checks=checks(folder, standing),
                verdict=folder.verdict(),
            )
        except StrongroomError as error:
            return error
