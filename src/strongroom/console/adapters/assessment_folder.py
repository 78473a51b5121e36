"""The folder in which assessments are kept: `assessment.json`, as `strongroom assess` writes it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Final

from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.assurance.reports.forms import FORMS
from strongroom.console.assessments import Kept
from strongroom.core.adapters.reading import FileState, state_of
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError, TamperedError, UnavailableError
from strongroom.framework.catalogue import Catalogue

FILE: Final = "assessment.json"


class AssessmentFolder:
    """An :class:`strongroom.console.assessments.AssessmentShelf`. A file that didn't change isn't judged twice.

    One visit at a time judges, or writes a report: many at once take neither the memory nor the time many times over.
    """

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self._path = folder / FILE
        self._catalogue = catalogue
        self._known: tuple[FileState, Kept | StrongroomError] | None = None
        self._reports: dict[tuple[Digest, str], Mapping[str, bytes]] = {}
        self._turn = threading.Lock()

    def report(self, kept: Kept, form: str) -> Mapping[str, bytes]:
        """Return the files of a report by name; one that was made of the same assessment before is the same."""
        with self._turn:
            if any(digest != kept.digest for digest, _form in self._reports):
                self._reports.clear()
            found = self._reports.get((kept.digest, form))
            if found is None:
                found = FORMS[form].writer()(kept.assessment, self._catalogue)
                self._reports[kept.digest, form] = found
            return found

    def newest(self) -> Kept | StrongroomError | None:
        """Return the assessment, judged again; or what is wrong with it; or None: there is none."""
        with self._turn:
            found = self._newest()
        # Whoever raises theirs hangs their own frames on it.
        return copy(found) if isinstance(found, StrongroomError) else found

    def _newest(self) -> Kept | StrongroomError | None:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError:
            return UnavailableError(
                f"`{FILE}` can't be opened in the folder of assessments",
                remedy="let the console's user read it; it is no link",
            )
        with os.fdopen(handle, "rb") as file:
            told = os.fstat(file.fileno())
            state = state_of(told)
            known = self._known
            if known is not None and known[0] == state:
                return known[1]
            if not stat.S_ISREG(told.st_mode):
                return TamperedError(f"`{FILE}` isn't a file")
            found = self._judged(file.read(MAX_ASSESSMENT + 1))
        self._known = (state, found)
        return found

    def _judged(self, data: bytes) -> Kept | StrongroomError:
        try:
            if len(data) > MAX_ASSESSMENT:
                raise MalformedError(f"an assessment has at most {MAX_ASSESSMENT} bytes")
            made = Assessment.parse(data)
            made.check(self._catalogue)
        except StrongroomError as error:
            # It is kept: not with the frames that it went through, which hold all that was read.
            return copy(error)
        if made.to_bytes() != data:
            return MalformedError(f"`{FILE}` isn't in its one form", remedy="write it anew: strongroom assess --record")
        return Kept(made, Digest.of(data))
