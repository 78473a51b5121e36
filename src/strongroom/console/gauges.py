"""How much of a model's budget is spent, and how long its theft takes: by the policy in force and the odometer."""

from __future__ import annotations

from typing import Final

from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import Hit
from strongroom.console.visits import Visit
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.events import EventName
from strongroom.egress.bits import MILLI
from strongroom.egress.bound import theft_bound
from strongroom.egress.odometer import OdometerEntry
from strongroom.egress.policy import EgressPolicy
from strongroom.release.metering import odometer_of

LOOKED_AT: Final = 24
"""Models whose odometers are read for one page."""
SHOWN: Final = 6
POINTS: Final = 24
"""Readings of a kind in a plot: each is proven."""
_METERED: Final = (EventName.ODOMETER_ADVANCED, EventName.DROP_CHARGED)
"""Both carry the model's total over all ways out."""


def gauges(visit: Visit) -> Json:
    """Return the gauges of those that spent most of their life, of the first :data:`LOOKED_AT` models by name."""
    policies = visit.trust.egress.policies if visit.trust.egress is not None else ()
    looked_at = sorted(policies, key=lambda one: one.model)[:LOOKED_AT]
    found: list[tuple[int, dict[str, Json]]] = []
    for rules in looked_at:
        index, reading = newest_reading(visit, rules.model) or (None, None)
        spent, index = in_all(visit, rules.model, reading, index)
        left = (rules.lifetime_bits - spent) * MILLI // max(1, rules.lifetime_bits)
        found.append((left, gauge(rules, reading, spent, index)))
    found.sort(key=lambda one: one[0])
    return {"models": [one for _left, one in found[:SHOWN]], "looked_at": len(looked_at), "all": len(policies)}


def newest_reading(visit: Visit, model: str) -> tuple[int, OdometerEntry] | None:
    """Return a model's newest odometer entry that the log's index knows, and its place; None where it has none."""
    found = _newest(visit, model, EventName.ODOMETER_ADVANCED)
    return None if found is None else (found[0], odometer_of(found[1]))


def in_all(visit: Visit, model: str, reading: OdometerEntry | None, index: int | None) -> tuple[int, int | None]:
    """Return how many bits of a model left in all, and the entry that says so.

    What leaves a workspace counts in the same odometer, and a gateway may say nothing after it.

    :param reading: the newest of a gateway, at entry ``index``; None where it metered nothing.
    """
    drop = _newest(visit, model, EventName.DROP_CHARGED)
    if drop is not None and (reading is None or index is None or drop[0] > index):
        return drop[1].integer("total"), drop[0]
    return (0, None) if reading is None else (reading.total, index)


def gauge(rules: EgressPolicy, reading: OdometerEntry | None, spent: int, index: int | None) -> dict[str, Json]:
    """Return what of a model's life and day is spent, in bits, and how long theft takes, in seconds.

    :param reading: the newest of a gateway, which counts its day; None where it metered nothing.
    :param spent: in all, by entry ``index``.
    """
    recent = reading.recent if reading is not None else 0
    bound = theft_bound(rules, spent=spent)
    return {
        "model": rules.model,
        "spent": spent,
        "lifetime": rules.lifetime_bits,
        "life_permille": _permille(spent, rules.lifetime_bits),
        "recent": recent,
        "day": rules.model_day_bits,
        "day_permille": _permille(recent, rules.model_day_bits),
        "warned": any(spent * MILLI >= mark * rules.lifetime_bits for mark in rules.warn_permille),
        "steal_seconds": bound.seconds,
        "demanded_seconds": rules.min_days_to_steal * 86400,
        "tokens_per_day": bound.tokens_per_day,
        "rows": [
            {
                "millibits": row.millibits,
                "size": row.size,
                "seconds": row.seconds,
                "seconds_left": row.seconds_left,
                "before_stop_permille": row.before_stop_permille,
            }
            for row in bound.rows
        ],
        "index": index,
        "at": None if reading is None else format_instant(reading.at),
    }


def readings(visit: Visit, model: str) -> list[Json]:
    """Return readings of a model's odometer over its life, oldest first, each proven.

    They are at most :data:`POINTS` of its gateways, and as many of its workspaces.
    """
    hits = [hit for event in _METERED for hit in visit.reader.sample(visit.log, _about(model, event), POINTS).hits]
    return [
        {"at": format_instant(entry.at), "total": entry.integer("total"), "index": index}
        for index, entry in sorted(hits, key=lambda hit: hit[0])
    ]


def _newest(visit: Visit, model: str, event: EventName) -> Hit | None:
    return next(iter(visit.look(_about(model, event), 1).hits), None)


def _about(model: str, event: EventName) -> Query:
    return Query(model=model, event=event.value)


def _permille(part: int, whole: int) -> int:
    return min(MILLI, part * MILLI // whole) if whole else MILLI
