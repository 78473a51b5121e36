"""The real responder, which kills itself by SIGKILL between an alert's line in its record and the alert's incident."""

from __future__ import annotations

import os
import signal

from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.wiring import main
from strongroom.response.entries import IncidentEntry


def die(_store: CaseFiles, _incident: str, _entry: IncidentEntry) -> None:
    """Die where the incident's first entry would be written."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    CaseFiles.append = die  # type: ignore[assignment,method-assign]  # what this program is for
    main()
