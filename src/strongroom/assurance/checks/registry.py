"""The checks by measure. Each measure has at most one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.assurance.seen import Part, Seen
from strongroom.core.errors import ConflictError
from strongroom.framework.ids import MeasureId, measure_id

Decide = Callable[[Seen], Iterable[Part]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How one measure is decided.

    :ivar left: what the measure asks besides, that no observation shows; empty where they show it all.
    :ivar step: what to do where it isn't met; ``command`` does it, where one does; ``effort`` is 1 to 5.
    """

    measure: MeasureId
    decide: Decide
    left: str
    step: str
    command: str
    effort: int


CHECKS: Final[dict[MeasureId, Check]] = {}


def check(measure: str, *, step: str, command: str = "", effort: int = 2, left: str = "") -> Callable[[Decide], Decide]:
    """Register a function as the check of a measure.

    :raises ConflictError: the measure has one.
    """

    def register(decide: Decide) -> Decide:
        name = measure_id(measure)
        if name in CHECKS:
            raise ConflictError(f"`{measure}` has two checks")
        CHECKS[name] = Check(measure=name, decide=decide, left=left, step=step, command=command, effort=effort)
        return decide

    return register
