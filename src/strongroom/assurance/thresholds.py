"""The figures that checks compare with: RAND's where the report has one, ours where it leaves the choice.

Whoever runs an assessment may set stricter ones. With a looser one the measures that use it are `partly` at best: a
check that was loosened satisfies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields

MOST: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The figures. Days, seconds and so on by the end of the name; at most so many, but for those in ``LEAST``."""

    updates_sl1_days: int = 14
    """SL1-NSW-01."""
    updates_sl2_days: int = 21
    """SL2-NSW-01, production."""
    updates_sl3_days: int = 7
    """SL3-NSW-01, production."""
    password_length: int = 8
    """SL1-NAC-03."""
    password_bits: int = 60
    """SL2-NAC-01."""
    backup_days: int = 30
    review_days: int = 183
    """Access and plan are reviewed twice a year."""
    assessment_days: int = 7
    suite_days: int = 30
    suite_attacks: int = 60
    """So many attacks have to be executed: a run of a chosen few shows nothing."""
    drill_days: int = 183
    incident_days: int = 30
    """How long an incident may lie open."""
    window_seconds: int = 7 * 86400
    """How long one grant of access may last (SL3-WAC-01: temporary)."""
    storage_places: int = 3
    """SL3-WST-01: a place each for training, research and production."""
    interface_permille: int = 10
    """SL3-WPI-01: 1 percent of the weights a year."""
    output_permille: int = 50
    """SL4-WST-03: 5 percent a year."""
    principal_tokens_per_second: int = 100
    """SL3-AOP-01."""
    hold_hours: int = 24
    """SL4-WMO-01."""
    log_age_seconds: int = 900
    """How old the newest word of witnesses may be."""

    @property
    def digest(self) -> Digest:
        """Digest of the canonical JSON: an observation's ``configuration``."""
        return Digest.of(encode(self.to_json()))

    @property
    def loosened(self) -> frozenset[str]:
        """The names of the figures that ask for less than the default."""
        default = Thresholds()
        found = set()
        for one in fields(self):
            mine, wanted = getattr(self, one.name), getattr(default, one.name)
            if (mine < wanted) if one.name in LEAST else (mine > wanted):
                found.add(one.name)
        return frozenset(found)

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def read(cls, f: Fields) -> Thresholds:
        """Read the JSON form; what is left out keeps its default.

        :raises MalformedError: an unknown figure, or one that isn't a number of 0 and up.
        """
        known = {one.name for one in fields(cls)}
        return cls(**{name: f.integer(name, most=MOST) for name in f.names(most=len(known)) if name in known})

    @classmethod
    def parse(cls, data: bytes) -> Thresholds:
        """Read JSON text.

        :raises MalformedError: as for :meth:`read`, or not JSON.
        """
        with Fields(parse(data, max_bytes=8192), "thresholds") as f:
            return cls.read(f)


LEAST: Final = frozenset({"password_length", "password_bits", "hold_hours", "suite_attacks"})
