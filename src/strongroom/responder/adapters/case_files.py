"""Incidents on the disk: a folder for each. Its record is appended to and synced; everything else is replaced whole.

incidents/inc-…/record.jsonl    the entries, one canonical line each
incidents/inc-…/run-000.json    a playbook's run, and whose signal it began with
incidents/inc-…/acts/           what people signed
incidents/inc-…/kept/           evidence, drafts and words, each written once
incidents/inc-…/drill.json      a drill's token
incidents/inc-…/told.json       who was told of how many entries
incidents/budget.json           what began by itself today
incidents/heard.json            how many lines of the responder's record are in incidents, or belong in none
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.adapters.durable import append_durably, sync_folder, write_durably
from strongroom.core.adapters.reading import read_at_most
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.ids import incident_name
from strongroom.responder.cases import MAX_ACTS, Cause, Stored
from strongroom.response.drills import DrillToken
from strongroom.response.entries import IncidentEntry
from strongroom.response.limits import MAX_BUDGET
from strongroom.response.run import MAX_RUN, Run

MAX_RUN_FILE: Final = 2 * MAX_RUN
MAX_TOLD: Final = 65536
MAX_NAMES: Final = 128
_RUN: Final = re.compile(r"run-[0-9]{3}")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,160}")
BUDGET: Final = "budget.json"
HEARD: Final = "heard.json"
RECORD: Final = "record.jsonl"
HOLD: Final = "hold.json"


class IncidentsUnwritableError(UnavailableError):
    """The folder of incidents can't be read or written."""

    code = "incidents-unwritable"


class CaseFiles:
    """The folder of incidents. One process at a time has it: the one that has the responder's record."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "incidents"
        with _refusals():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> tuple[list[Stored], dict[str, str]]:
        """Return all incidents, oldest name first, and those that can't be read, each with the code of why."""
        found, broken = [], {}
        with _refusals():
            names = sorted(path.name for path in self._folder.iterdir() if _names_incident(path.name))
        for name in names:
            folder = self._folder / name
            try:
                stored = _stored(folder, name)
                if stored is not None:
                    found.append(stored)
            except StrongroomError as error:
                broken[name] = error.reason
            except OSError:
                broken[name] = IncidentsUnwritableError.code
        return found, broken

    def append(self, incident: str, entry: IncidentEntry) -> None:
        """Add an entry to a record."""
        folder, line = self._of(incident), entry.to_bytes() + b"\n"
        with _refusals():
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(folder / RECORD, flags, 0o600)
            try:
                if not os.fstat(handle).st_size:
                    # Its name before its first line: a line that stands is never refused, and so never added twice.
                    sync_folder(folder)
                append_durably(handle, line)
            finally:
                os.close(handle)

    def save_run(self, incident: str, name: str, cause: Cause, run: Run) -> None:
        """Replace a run."""
        data = encode({"source": cause.source, "event": str(cause.event), "run": to_base64(run.to_bytes())})
        self._write(self._of(incident) / f"{name}.json", data)

    def keep_act(self, incident: str, act: Envelope) -> None:
        """Keep what a person signed."""
        folder = self._of(incident) / "acts"
        with _refusals():
            folder.mkdir(mode=0o700, exist_ok=True)
        self._write(folder / f"{act.digest.value.hex()}.json", act.to_bytes())

    def keep_token(self, incident: str, token: DrillToken) -> None:
        """Keep a drill's token."""
        self._write(self._of(incident) / "drill.json", token.to_bytes())

    def keep(self, incident: str, name: str, data: bytes) -> Digest:
        """Keep something under a name; what is there already stays, and its digest is returned."""
        path = self._kept(incident, name)
        before = self.kept(incident, name)
        if before is not None:
            return Digest.of(before)
        with _refusals():
            path.parent.mkdir(mode=0o700, exist_ok=True)
        self._write(path, data)
        return Digest.of(data)

    def kept(self, incident: str, name: str) -> bytes | None:
        """Return what was kept under a name."""
        path = self._kept(incident, name)
        with _refusals():
            return path.read_bytes() if path.exists() else None

    def save_world(self, incident: str, data: bytes) -> None:
        """Replace how a drill's stand-ins stand."""
        self._write(self._of(incident) / "world.json", data)

    def world(self, incident: str) -> bytes | None:
        """Return how a drill's stand-ins stand."""
        path = self._of(incident) / "world.json"
        with _refusals():
            return read_at_most(path, MAX_TOLD) if path.exists() else None

    def save_hold(self, incident: str, data: bytes) -> None:
        """Replace the mark of a hold."""
        self._write(self._of(incident) / HOLD, data)

    def hold(self, incident: str) -> bytes:
        """Return the mark of a hold; no bytes where there is none."""
        path = self._of(incident) / HOLD
        with _refusals():
            return read_at_most(path, MAX_TOLD) if path.exists() else b""

    def save_told(self, incident: str, told: Mapping[str, int]) -> None:
        """Remember how far others were told."""
        self._write(self._of(incident) / "told.json", encode(dict(told)))

    def budget(self) -> bytes | None:
        """Return the budget as it was saved."""
        path = self._folder / BUDGET
        with _refusals():
            return read_at_most(path, MAX_BUDGET) if path.exists() else None

    def save_budget(self, data: bytes) -> None:
        """Replace the budget."""
        self._write(self._folder / BUDGET, data)

    def heard(self) -> int:
        """Return how many lines of the responder's record are dealt with."""
        path = self._folder / HEARD
        with _refusals():
            if not path.exists():
                return 0
            data = read_at_most(path, MAX_TOLD)
        with Fields(decode(data, max_bytes=MAX_TOLD), "heard") as fields:
            return fields.integer("lines")

    def save_heard(self, lines: int) -> None:
        """Remember how many lines are dealt with."""
        self._write(self._folder / HEARD, encode({"lines": lines}))

    def _of(self, incident: str) -> Path:
        folder = self._folder / incident_name(incident)
        if not folder.exists():
            with _refusals():
                folder.mkdir(mode=0o700)
                sync_folder(self._folder)
        return folder

    def _kept(self, incident: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise MalformedError("that is no name of something kept")
        return self._of(incident) / "kept" / name

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        with _refusals():
            write_durably(path, data)


def _names_incident(name: str) -> bool:
    try:
        incident_name(name)
    except MalformedError:
        return False
    return True


def _stored(folder: Path, name: str) -> Stored | None:
    data = (folder / RECORD).read_bytes() if (folder / RECORD).exists() else b""
    if data and not data.endswith(b"\n"):
        # Half a line, left by a crash: it was never said to be written.
        os.truncate(folder / RECORD, data.rfind(b"\n") + 1)
        data = data[: data.rfind(b"\n") + 1]
    if not data and not any((folder / name).exists() for name in ("told.json", "run-000.json", "kept")):
        # A crash came before its opening was there: it was never opened.
        return None
    runs = {path.stem: _run(path) for path in sorted(folder.glob("run-*.json")) if _RUN.fullmatch(path.stem)}
    acts = [Digest.parse(f"sha256:{path.stem}") for path in sorted((folder / "acts").glob("*.json"))[: 2 * MAX_ACTS]]
    drill, told = folder / "drill.json", folder / "told.json"
    stored = Stored(
        entries=tuple(IncidentEntry.parse(line) for line in data.split(b"\n") if line),
        runs=runs,
        acts=frozenset(acts),
        token=DrillToken.parse(read_at_most(drill, MAX_TOLD)) if drill.exists() else None,
        told=_told(told) if told.exists() else {},
        held=(folder / HOLD).exists() and bool(read_at_most(folder / HOLD, MAX_TOLD)),
    )
    if not stored.entries or stored.entries[0].incident != name:
        raise MalformedError(f"the record in `{name}` is another incident's, or gone")
    if len(stored.entries) < max(stored.told.values(), default=0):
        # A chain doesn't show that its end was cut off; what others were told of does.
        raise MalformedError(f"the record in `{name}` has fewer entries than others were told of")
    return stored


def _run(path: Path) -> tuple[Cause, Run]:
    with Fields(decode(read_at_most(path, MAX_RUN_FILE), max_bytes=MAX_RUN_FILE), "run") as fields:
        cause = Cause(source=fields.text("source", max_length=128), event=fields.digest("event"))
        return cause, Run.parse(fields.binary("run", max_length=MAX_RUN))


def _told(path: Path) -> dict[str, int]:
    with Fields(decode(read_at_most(path, MAX_TOLD), max_bytes=MAX_TOLD), "told") as fields:
        return {name: fields.integer(name) for name in fields.names(most=MAX_NAMES)}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IncidentsUnwritableError(
            f"incidents can't be kept: {error.strerror}", remedy="free the responder's disk, or mend its rights"
        ) from None
