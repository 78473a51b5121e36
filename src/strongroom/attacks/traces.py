"""What an attack left behind: refusals in the log, the detector's alerts about them, lines of the program logs.

Looked for after each attack, from where things stood before its first attempt. A program log can be deleted by who
holds the machine; the transparency log can't. The signal says which of them it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.attacks.lab.lab import Lab
from strongroom.audit.entries import Entry
from strongroom.core.events import EventName
from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.wiring import linear_regex, shipped_pack

TELLING: Final = frozenset(
    {
        EventName.REFUSED,
        EventName.REFUSALS_SUMMED,
        EventName.AUTHENTICATOR_REGRESSED,
        EventName.KEEPER_LOCKED,
        EventName.EGRESS_BREACHED,
        EventName.CHANGE_STOPPED,
    }
)
"""Events that stand in the log only when something was wrong."""
_BAD_STATUS: Final = 400
_PROGRAMS: Final = ("broker", "keeper", "log")


class Traces:
    """Looks for what was added since :meth:`mark`. The detector sees every entry of the log once, in order."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._detector = Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: "")
        self._seen = 0
        self._sizes: dict[Path, int] = {}

    def mark(self) -> None:
        """Remember where everything stands."""
        for _ in self._alerts():
            pass
        self._sizes = {file: file.stat().st_size for file in self._files() if file.exists()}

    def found(self) -> tuple[str, ...]:
        """Return what was added, strongest first: alerts, entries of the log, lines of program logs."""
        start = self._seen
        alerts = list(dict.fromkeys(f"alert:{rule}" for rule in self._alerts()))
        entries = [entry.event for entry in self._entries(start) if entry.event in TELLING]
        told = [f"log:{event.value}" for event in dict.fromkeys(entries)]
        return (*alerts, *told, *dict.fromkeys(self._lines()))

    def _entries(self, start: int) -> list[Entry]:
        if not self._lab.has_scratch or not self._lab.scratch.serves:
            return []
        return self._lab.scratch.entries(start)

    def _alerts(self) -> Iterator[str]:
        entries = self._entries(self._seen)
        self._seen += len(entries)
        for entry in entries:
            event = read_event(
                {"event": entry.event.value, **{name: _plain(value) for name, value in entry.facts.items()}}
            )
            for alert in self._detector.observe(event, entry.at):
                yield alert.rule

    def _files(self) -> list[Path]:
        if not self._lab.has_scratch:
            return []
        return [self._lab.scratch.processes.errors(name) for name in _PROGRAMS]

    def _lines(self) -> Iterator[str]:
        for file in self._files():
            if not file.exists():
                continue
            with file.open("rb") as opened:
                opened.seek(self._sizes.get(file, 0))
                for line in opened:
                    yield from _telling(file.stem, line)


def _telling(program: str, line: bytes) -> Iterator[str]:
    try:
        told = json.loads(line)
    except ValueError:
        return
    if not isinstance(told, dict):
        return
    status = told.get("status")
    if isinstance(status, int) and status >= _BAD_STATUS:
        yield f"program-log:{program}:{status}"
    elif told.get("level") in {"warning", "error", "critical"}:
        yield f"program-log:{program}:{str(told.get('event', ''))[:48]}"


def _plain(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
