"""Reporting clocks: which reports may be owed, from when on, and until when. Data and sums, no legal advice.

The instruments are those of :mod:`strongroom.framework` (``EU-COP-9.3``, ``CA-SB53-INC``, ``NY-RAISE-INC``), with what
was read of them. Whether one applies is for people with the role `legal` to say: a clock here is started by a person or
by a playbook's step, and shown with what it would take for it to apply.

Days are counted as 24 hours from the moment of awareness, in UTC. Rules for counting days (holidays, ends of days,
time zones) give the same time or a later one, so what is shown is never too late; a deadline doesn't move when clocks
are put forward or back. None of the texts that were read lets a clock pause, so nothing here pauses one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Final

from strongroom.core.clock import LATEST, Instant, format_instant
from strongroom.core.errors import NotFoundError
from strongroom.response.incident import Incident

HOUR: Final = 3600
DAY: Final = 24 * HOUR


class Begins(StrEnum):
    """What starts a clock."""

    AWARE = "aware"
    """Somebody knows of the incident, or has reason enough to suspect it."""
    DISCOVERED = "discovered"
    DETERMINED = "determined"
    """Somebody determined that it is one, or has facts enough to believe it."""
    DANGER_SEEN = "danger-seen"
    """Somebody saw that death or serious injury is imminent."""
    REPORTED = "reported"
    """The report before was sent."""
    RESOLVED = "resolved"
    """The incident is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """One report that may be owed."""

    id: str
    requirement: str
    """The framework's id of the requirement."""
    instrument: str
    reference: str
    applies: str
    """What it takes for the duty to apply, in few words: to be judged by people."""
    to: str
    begins: Begins
    within: int
    """Seconds."""
    again: bool = False
    """Whether it is owed again, that long after each one, until the incident is resolved."""
    since: Instant = 0
    """From when on the instrument applies; 0: it does already."""
    read: str
    """How well its text is known to us."""


_DANGER: Final = "a critical safety incident that poses an imminent risk of death or serious physical injury"
_EU: Final = partial(
    Duty,
    requirement="EU-COP-9.3",
    instrument="EU GPAI Code of Practice, Safety and Security chapter (10 July 2025)",
    reference="Measure 9.3(2)",
    applies=(
        "a signatory's model with systemic risk; a serious cybersecurity breach, exfiltration of weights included,"
        " known or suspected with reasonable likelihood"
    ),
    to="European AI Office, and national authorities where they must know",
    read="as the framework quotes measure 9.3(2)",
)
_CA: Final = partial(
    Duty,
    requirement="CA-SB53-INC",
    instrument="California SB 53, Bus. & Prof. Code 22757.10 ff.",
    read="section 22757.13(c) was read",
)
_NY: Final = partial(
    Duty,
    requirement="NY-RAISE-INC",
    instrument="New York RAISE Act, Gen. Bus. Law 1420 ff., as amended by S8828",
    reference="Gen. Bus. Law 1422",
    since=1_798_761_600,  # 2027-01-01T00:00:00Z, the day from which article 44-B applies (S8828)
    read="from a summary of section 1422; its wording about weights wasn't read",
)
_ALL: Final = (
    _EU(id="eu-cop-initial", begins=Begins.AWARE, within=5 * DAY),
    _EU(id="eu-cop-update", begins=Begins.REPORTED, within=28 * DAY, again=True),
    _EU(id="eu-cop-final", begins=Begins.RESOLVED, within=60 * DAY),
    _CA(
        id="ca-sb53-report",
        reference="22757.13(c)(1)",
        applies=(
            "a frontier developer's frontier model; unauthorised access to, modification or exfiltration of its weights"
            " that results in death or injury"
        ),
        to="California Office of Emergency Services",
        begins=Begins.DISCOVERED,
        within=15 * DAY,
    ),
    _CA(
        id="ca-sb53-danger",
        reference="22757.13(c)(2)",
        applies=_DANGER,
        to="an authority fit for the incident, law enforcement or public safety included",
        begins=Begins.DANGER_SEEN,
        within=24 * HOUR,
    ),
    _NY(
        id="ny-raise-report",
        applies="a frontier developer's critical safety incident",
        to="the office within New York's Department of Financial Services",
        begins=Begins.DETERMINED,
        within=72 * HOUR,
    ),
    _NY(
        id="ny-raise-danger",
        applies=_DANGER,
        to="a law-enforcement or public-safety agency",
        begins=Begins.DANGER_SEEN,
        within=24 * HOUR,
    ),
)
_BY_KNOWING: Final = frozenset({Begins.AWARE, Begins.DISCOVERED, Begins.DETERMINED})
"""What may have been so from the first alert on, whoever starts the clock when."""
DUTIES: Final[Mapping[str, Duty]] = MappingProxyType({duty.id: duty for duty in _ALL})
"""Every duty by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A running clock."""

    duty: Duty
    began: Instant
    due: Instant
    earliest: Instant
    """When it is due if what starts the clock was so when the incident was found. A clock is started by hand, which may
    be later than what it counts from; nothing on record tells that moment."""

    def left(self, now: Instant) -> int:
        """Return the seconds that are left; negative once it is over."""
        return self.due - now

    def told(self, zone: tzinfo) -> str:
        """Return the deadline as a person reads it, in their zone and in UTC."""
        local = datetime.fromtimestamp(self.due, UTC).astimezone(zone)
        return f"{local.isoformat(timespec='seconds')} ({format_instant(self.due)})"


def deadline(name: str, began: Instant, *, found: Instant | None = None) -> Deadline:
    """Return when a report is due.

    :param began: when what starts the clock happened; see the duty's ``begins``.
    :param found: when the incident was found, where that was before.
    :raises NotFoundError: there is no such clock.
    """
    duty = DUTIES.get(name)
    if duty is None:
        raise NotFoundError("no reporting clock is called so", remedy=f"name one of: {', '.join(DUTIES)}")
    known = found if found is not None and duty.begins in _BY_KNOWING else began
    return Deadline(
        duty=duty,
        began=began,
        due=min(began + duty.within, LATEST),
        earliest=min(min(known, began) + duty.within, LATEST),
    )


def running(incident: Incident) -> tuple[Deadline, ...]:
    """Return an incident's running clocks, the most pressing first.

    :raises NotFoundError: its record names a clock that isn't known.
    """
    found = (deadline(name, began, found=incident.opened) for name, began in incident.clocks.items())
    return tuple(sorted(found, key=lambda one: (one.due, one.duty.id)))
