"""Drills: what was practised, how long it took, and what was missed. Shown to those who may see incidents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from strongroom.console.incident_access import by_desk
from strongroom.console.plots import HEIGHT, WIDTH, dot_plot
from strongroom.console.routes.incidents import measured
from strongroom.console.visits import Page, Visit, page_of
from strongroom.console.words import micros
from strongroom.core.canonical import Json
from strongroom.core.clock import LATEST, Instant, format_instant
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.responder.reading import DeskReader, Listed
from strongroom.response.drills import PRACTISED, Measured

DRILLS: Final = 25
"""Drills on one page: the record of each is read."""
_MICROS: Final = 1_000_000


def drills(visit: Visit) -> Page:
    """Show drills, newest first, with what each came to, and plots of the times."""
    empty: dict[str, Json] = {"drills": [], "next": "", "playbooks": [*sorted(PRACTISED)], "plots": [], "means": {}}
    return Page("drills.html", "Drills", by_desk(visit, empty, _held))


def _held(visit: Visit, reader: DeskReader) -> dict[str, Json]:
    until = reader.until()
    listed, _broken = reader.incidents()
    held = sorted((one for one in listed if one.drill is not None), key=_place)
    shown, following = page_of(held, _place, visit.query.get("after", ""), DRILLS)
    found: list[tuple[Listed, str, Measured | None]] = []
    for one in shown:
        try:
            record = reader.as_far_as(one, until=until)
        except UnavailableError:
            raise
        except StrongroomError:
            # One record that can't be read hides no other.
            found.append((one, "", None))
            continue
        found.append((one, "" if record.token is None else record.token.playbook, measured(visit, record)))
    known = [(one.opened, told) for one, _playbook, told in found if told is not None]
    return {
        "drills": [_row(*one) for one in found],
        "next": following,
        "plots": [_plot(name, title, read, known) for name, title, read in _READ],
        "means": {name: _mean([value for _at, told in known if (value := read(told)) is not None])
                  for name, _title, read in _READ},
    }  # fmt: skip


def _place(one: Listed) -> str:
    return f"{LATEST - one.opened:012d}{one.incident}"


def _acknowledged(told: Measured) -> int | None:
    return None if told.acknowledge_seconds is None else told.acknowledge_seconds * _MICROS


_READ: Final[tuple[tuple[str, str, Callable[[Measured], int | None]], ...]] = (
    ("detect", "Time to detect", lambda told: told.detect_micros),
    ("acknowledge", "Time until somebody took a role", _acknowledged),
    ("contain", "Time to contain", lambda told: told.contain_micros),
)
"""What is measured, in microseconds."""


def _row(one: Listed, playbook: str, told: Measured | None) -> dict[str, Json]:
    return {
        "incident": one.incident,
        "playbook": playbook,
        "opened": format_instant(one.opened),
        "phase": one.phase.value,
        "running": one.running,
        "measured": None if told is None else told.to_json(),
    }


def _mean(values: Sequence[int]) -> Json:
    return sum(values) // len(values) if values else None


def _plot(
    name: str, title: str, read: Callable[[Measured], int | None], known: Sequence[tuple[Instant, Measured]]
) -> Json:
    series = [(at, value) for at, told in known if (value := read(told)) is not None]
    drawn = dot_plot(series, label=micros)
    if drawn is None:
        return {"name": name, "title": title, "drawn": None}
    marks: Mapping[str, Json] = {
        "width": WIDTH,
        "height": HEIGHT,
        "dots": [[_units(x), _units(y)] for x, y in drawn.dots],
        "across": [[_units(one.at), one.label] for one in drawn.across],
        "up": [[_units(one.at), one.label] for one in drawn.up],
    }
    return {"name": name, "title": title, "drawn": {**marks}}


def _units(value: float) -> str:
    return f"{value:g}"
