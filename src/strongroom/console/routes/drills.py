"""Drills: what was practised, how long it took, and what was missed; and holding one, or reading one out at a table.

A drill's token is signed in the browser, as acts in incidents are, and the responder judges who may hold it. Shown to
those who may see incidents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from strongroom.console.browser_wallet import ASSERTION_FIELDS, read_assertion
from strongroom.console.door import Draft
from strongroom.console.errors import FormError, NoPageError, NotShownError
from strongroom.console.forms import need_fields
from strongroom.console.incident_access import by_desk, reader_of, require_may_see
from strongroom.console.plots import HEIGHT, WIDTH, dot_plot
from strongroom.console.routes.incidents import measured
from strongroom.console.signing_in import to_sign
from strongroom.console.visits import GoTo, Page, Visit, page_of
from strongroom.console.words import micros
from strongroom.core.canonical import Json
from strongroom.core.clock import LATEST, Instant, format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.responder.people import may_act
from strongroom.responder.reading import AT_ONCE, Brief, DeskReader, Listed, StillReadingError
from strongroom.response.cacao import Playbook
from strongroom.response.drills import (
    DRILL_TYPE,
    MOST_PACE,
    NONCE_BYTES,
    PACE,
    PRACTISED,
    DrillToken,
    Measured,
    drill_of,
    tabletop,
)

DRILLS: Final = 25
"""Drills on one page: the record of each is read."""
_MICROS: Final = 1_000_000


def drills(visit: Visit) -> Page:
    """Show drills, newest first, with what each came to, and plots of the times."""
    empty: dict[str, Json] = {
        "drills": [],
        "next": "",
        "plots": [],
        "means": {},
        "asked": None,
        "reading": 0,
        "read": {"entries": 0, "of": 0},
    }
    data: dict[str, Json] = {
        **by_desk(visit, empty, _held),
        "playbooks": [{"playbook": name, "event": event} for name, event in sorted(PRACTISED.items())],
        "may_hold": may_act(visit.trust, visit.me.person),
    }
    return Page("drills.html", "Drills", data)


def _held(visit: Visit, reader: DeskReader) -> dict[str, Json]:
    until = reader.until()
    listed, _broken = reader.incidents()
    held = sorted((one for one in listed if one.drill is not None), key=_place)
    shown, following = page_of(held, _place, visit.query.get("after", ""), DRILLS)
    rows: list[Json] = []
    known: list[tuple[Instant, Measured]] = []
    behind: list[Listed] = []
    room = AT_ONCE
    for one in shown:
        aside = reader.put_off(one, room)
        room -= 0 if aside else reader.new(one)
        brief, whole = (reader.known(one), False) if aside else _brief(reader, one, until)
        told = None if brief is None else measured(visit, brief)
        if whole and told is not None:
            known.append((one.opened, told))
        if not whole:
            behind.append(one)
        rows.append(_row(one, brief, told, None if whole else reader.far(one)))
    asked = _asked(visit)
    return {
        "drills": rows,
        "next": following,
        "reading": len(behind),
        "read": {"entries": sum(map(reader.far, behind)), "of": sum(one.entries for one in behind)},
        "plots": [_plot(name, title, read, known) for name, title, read in _READ],
        "means": {name: _mean([value for _at, told in known if (value := read(told)) is not None])
                  for name, _title, read in _READ},
        "asked": None if asked is None else {
            "token": str(asked),
            "incident": next((one.incident for one in listed if one.drill == asked), None),
        },
    }  # fmt: skip


def _brief(reader: DeskReader, one: Listed, until: float) -> tuple[Brief | None, bool]:
    """Return what a drill's record comes to, as far as it is known, and whether no more of it is to be read."""
    try:
        return reader.brief(one, until=until), True
    except StillReadingError:
        # It has more than the list said.
        return reader.known(one), False
    except UnavailableError:
        raise
    except StrongroomError:
        # One record that can't be read hides no other.
        return None, True


def _asked(visit: Visit) -> Digest | None:
    """Return the token that was handed in just now, by the address."""
    text = visit.query.get("asked", "")
    try:
        return Digest.parse(f"sha256:{text}") if text else None
    except MalformedError:
        raise FormError("that address holds no digest") from None


def _place(one: Listed) -> str:
    return f"{LATEST - one.opened:012d}{one.incident}"


def _acknowledged(told: Measured) -> int | None:
    return None if told.acknowledge_seconds is None else told.acknowledge_seconds * _MICROS


_READ: Final[tuple[tuple[str, str, Callable[[Measured], int | None]], ...]] = (
    ("detect", "Time to detect (MTTD)", lambda told: told.detect_micros),
    ("acknowledge", "Time until somebody took a role (MTTA)", _acknowledged),
    ("contain", "Time to contain (MTTC)", lambda told: told.contain_micros),
)
"""What is measured, in microseconds."""


def _row(one: Listed, brief: Brief | None, told: Measured | None, far: int | None) -> dict[str, Json]:
    """Return a drill's row; ``far`` is how many entries of its record are read while it is read on."""
    return {
        "incident": one.incident,
        "playbook": "" if brief is None or brief.token is None else brief.token.playbook,
        "opened": format_instant(one.opened),
        "phase": one.phase.value,
        "running": one.running,
        "measured": None if told is None else told.to_json(),
        "read": None if far is None else {"entries": far, "of": one.entries},
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
        "when": drawn.when,
    }
    return {"name": name, "title": title, "drawn": {**marks}}


def _units(value: float) -> str:
    return f"{value:g}"


# --- holding one ------------------------------------------------------------------------------------------------------


def begin(visit: Visit) -> GoTo:
    """Make the token of a drill, and show it to be signed."""
    _require_may_hold(visit)
    need_fields(visit.form, ("playbook",))
    playbook = visit.form["playbook"]
    if playbook not in PRACTISED:
        raise FormError("playbooks are chosen from the list")
    made = drill_of(playbook, genesis=visit.trust.genesis.digest, now=visit.now, nonce=visit.random_bytes(NONCE_BYTES))
    return GoTo(f"/drills/drafts/{visit.me.put_draft(Draft(DRILL_TYPE, made.to_bytes()))}")


def draft(visit: Visit) -> Page:
    """Show a drill's token that waits for its signature."""
    _require_may_hold(visit)
    made, keys = _draft(visit), visit.me.keys.keys
    data: dict[str, Json] = {
        "hex": visit.path["digest"],
        "playbook": made.playbook,
        "event": made.event,
        "subjects": [str(one) for one in made.subjects],
        "not_before": format_instant(made.not_before),
        "expires": format_instant(made.expires),
        "sign": to_sign(DRILL_TYPE, made.to_bytes(), keys[0].key.credential.rp_id, [one.credential_id for one in keys]),
    }
    return Page("drill-draft.html", "Sign the drill", data)


def submit(visit: Visit) -> GoTo:
    """Hand in a drill's token that the person's key signed: the responder holds it, once."""
    _require_may_hold(visit)
    need_fields(visit.form, ASSERTION_FIELDS)
    made = _draft(visit)
    token = sign(DRILL_TYPE, made.to_bytes(), read_assertion(visit.form, visit.me.keys, visit.origin))
    reader_of(visit).hold_drill(token)
    visit.me.drafts.pop(visit.path["digest"], None)
    return GoTo(f"/drills?asked={token.digest.value.hex()}")


def _require_may_hold(visit: Visit) -> None:
    # The responder would refuse it; whoever only looks isn't led to touch a key for nothing.
    if not may_act(visit.trust, visit.me.person):
        raise NotShownError("drills are held by people with the role `responder`, and approvers of a resume")


def _draft(visit: Visit) -> DrillToken:
    return DrillToken.parse(visit.me.draft(visit.path["digest"], DRILL_TYPE))


# --- at a table -------------------------------------------------------------------------------------------------------


def table(visit: Visit) -> Page:
    """Show a playbook's questions as cards, each from its minute on: ``began`` and ``pace`` stand in the address.

    Nothing is kept or touched. The cards that are due are in the twin, so a page that is left open says when the next
    one is there.
    """
    book = _book(visit)
    began, pace = _began(visit), _pace(visit.query.get("pace", str(PACE)))
    cards = tabletop(book, pace=pace)
    times = [visit.now if began is None else began + 60 * one.minute for one in cards]
    due = 0 if began is None else sum(1 for at in times if at <= visit.now)
    data: dict[str, Json] = {
        "playbook": book.name,
        "pace": pace,
        "most_pace": MOST_PACE,
        "began": None if began is None else format_instant(began),
        "cards": [
            {"minute": one.minute, "at": format_instant(at), "asks": one.asks, "text": one.text}
            for one, at in zip(cards[:due], times, strict=False)
        ],
        "count": len(cards),
        "next": None if began is None or due == len(cards) else format_instant(times[due]),
    }
    return Page("tabletop.html", f"{book.name} at a table", data)


def sit_down(visit: Visit) -> GoTo:
    """Begin a drill at a table now: where it began stands in the address from then on."""
    need_fields(visit.form, ("pace",))
    book, pace = _book(visit), _pace(visit.form["pace"])
    return GoTo(f"/drills/tabletop/{book.name}?pace={pace}&began={quote(format_instant(visit.now))}")


def _book(visit: Visit) -> Playbook:
    require_may_see(visit)
    found = next((one for one in visit.beside.playbooks.values() if one.name == visit.path["playbook"]), None)
    if found is None:
        raise NoPageError("no playbook is called so")
    return found


def _began(visit: Visit) -> Instant | None:
    try:
        began = parse_instant(visit.query["began"]) if "began" in visit.query else None
    except MalformedError:
        raise FormError("`began` isn't a time") from None
    if began is not None and began > visit.now:
        raise FormError("a drill that begins later has no cards yet")
    return began


def _pace(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST_PACE)) and 0 < int(text) <= MOST_PACE):
        raise FormError(f"cards come every 1 to {MOST_PACE} minutes")
    return int(text)
