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
from types import MappingProxyType
from typing import Final

from strongroom.core.clock import Instant, format_instant
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


_EU: Final = "EU GPAI Code of Practice, Safety and Security chapter (10 July 2025)"
_EU_APPLIES: Final = (
    "a signatory's model with systemic risk; a serious cybersecurity breach, exfiltration of weights included, known or"
    " suspected with reasonable likelihood"
)
_CA: Final = "California SB 53, Bus. & Prof. Code 22757.10 ff."
_NY: Final = "New York RAISE Act, Gen. Bus. Law 1420 ff., as amended by S8828"
_NY_SINCE: Final = 1_798_761_600
"""2027-01-01T00:00:00Z, the day from which article 44-B applies (S8828)."""
_READ_EU: Final = "as the framework quotes measure 9.3(2)"
_READ_CA: Final = "section 22757.13(c) was read"
_READ_NY: Final = "from a summary of section 1422; its wording about weights wasn't read"
_CA_APPLIES: Final = (
    "a frontier developer's frontier model; unauthorised access to, modification or exfiltration of its weights that"
    " results in death or injury"
)
DUTIES: Final[Mapping[str, Duty]] = MappingProxyType(
    {
        duty.id: duty
        for duty in (
            Duty(
                id="eu-cop-initial",
                requirement="EU-COP-9.3",
                instrument=_EU,
                reference="Measure 9.3(2)",
                applies=_EU_APPLIES,
                to="European AI Office, and national authorities where they must know",
                begins=Begins.AWARE,
                within=5 * DAY,
                read=_READ_EU,
            ),
            Duty(
                id="eu-cop-update",
                requirement="EU-COP-9.3",
                instrument=_EU,
                reference="Measure 9.3(2)",
                applies=_EU_APPLIES,
                to="European AI Office, and national authorities where they must know",
                begins=Begins.REPORTED,
                within=28 * DAY,
                again=True,
                read=_READ_EU,
            ),
            Duty(
                id="eu-cop-final",
                requirement="EU-COP-9.3",
                instrument=_EU,
                reference="Measure 9.3(2)",
                applies=_EU_APPLIES,
                to="European AI Office, and national authorities where they must know",
                begins=Begins.RESOLVED,
                within=60 * DAY,
                read=_READ_EU,
            ),
            Duty(
                id="ca-sb53-report",
                requirement="CA-SB53-INC",
                instrument=_CA,
                reference="22757.13(c)(1)",
                applies=_CA_APPLIES,
                to="California Office of Emergency Services",
                begins=Begins.DISCOVERED,
                within=15 * DAY,
                read=_READ_CA,
            ),
            Duty(
                id="ca-sb53-danger",
                requirement="CA-SB53-INC",
                instrument=_CA,
                reference="22757.13(c)(2)",
                applies="a critical safety incident that poses an imminent risk of death or serious physical injury",
                to="an authority fit for the incident, law enforcement or public safety included",
                begins=Begins.DANGER_SEEN,
                within=24 * HOUR,
                read=_READ_CA,
            ),
            Duty(
                id="ny-raise-report",
                requirement="NY-RAISE-INC",
                instrument=_NY,
                reference="Gen. Bus. Law 1422",
                applies="a frontier developer's critical safety incident",
                to="the office within New York's Department of Financial Services",
                begins=Begins.DETERMINED,
                within=72 * HOUR,
                since=_NY_SINCE,
                read=_READ_NY,
            ),
            Duty(
                id="ny-raise-danger",
                requirement="NY-RAISE-INC",
                instrument=_NY,
                reference="Gen. Bus. Law 1422",
                applies="a critical safety incident that poses an imminent risk of death or serious physical injury",
                to="a law-enforcement or public-safety agency",
                begins=Begins.DANGER_SEEN,
                within=24 * HOUR,
                since=_NY_SINCE,
                read=_READ_NY,
            ),
        )
    }
)
"""Every duty by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A running clock."""

    duty: Duty
    began: Instant
    due: Instant

    def left(self, now: Instant) -> int:
        """Return the seconds that are left; negative once it is over."""
        return self.due - now

    def told(self, zone: tzinfo) -> str:
        """Return the deadline as a person reads it, in their zone and in UTC."""
        local = datetime.fromtimestamp(self.due, UTC).astimezone(zone)
        return f"{local.isoformat(timespec='seconds')} ({format_instant(self.due)})"


def duty_called(name: str) -> Duty:
    """Return a duty.

    :raises NotFoundError: there is none of this id.
    """
    found = DUTIES.get(name)
    if found is None:
        raise NotFoundError("no reporting clock is called so", remedy=f"name one of: {', '.join(DUTIES)}")
    return found


def deadline(name: str, began: Instant) -> Deadline:
    """Return when a report is due.

    :param began: when what starts the clock happened; see the duty's ``begins``.
    :raises NotFoundError: there is no such clock.
    """
    duty = duty_called(name)
    return Deadline(duty=duty, began=began, due=began + duty.within)


def running(incident: Incident) -> tuple[Deadline, ...]:
    """Return an incident's running clocks, the most pressing first.

    :raises NotFoundError: its record names a clock that isn't known.
    """
    found = (deadline(name, began) for name, began in incident.clocks.items())
    return tuple(sorted(found, key=lambda one: (one.due, one.duty.id)))


def applying(at: Instant, begins: Begins) -> tuple[Duty, ...]:
    """Return the duties that such an event may start at a time: what to ask people with the role `legal` about."""
    return tuple(duty for duty in DUTIES.values() if duty.begins is begins and at >= duty.since)
