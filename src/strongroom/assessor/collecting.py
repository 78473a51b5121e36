"""The collectors by name, and how a look becomes an observation. Pure.

A collector's version rises whenever its facts come to mean something else; the digest of the thresholds stands in every
observation, so that none made under other figures can be passed off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.assurance.observations import MAX_NAMES, MAX_TEXT, Fact, Method, Observation
from strongroom.assurance.thresholds import Thresholds
from strongroom.core.clock import Instant
from strongroom.core.printable import printable

DEPLOYMENT: Final = "deployment"
_HOUR: Final = 3600
_DAY: Final = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """What is looked at, how, and for how many seconds what was seen counts."""

    name: str
    method: Method
    seconds: int
    version: int = 1


COLLECTORS: Final[Mapping[str, Collector]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Collector(name="access.policy", method=Method.REPLAYED, seconds=_DAY, version=2),
            Collector(name="access.grants", method=Method.TOLD, seconds=_DAY),
            Collector(name="access.login", method=Method.READ, seconds=_DAY),
            Collector(name="personnel.roster", method=Method.REPLAYED, seconds=_DAY),
            Collector(name="keys.states", method=Method.TOLD, seconds=_DAY),
            Collector(name="keys.provider", method=Method.READ, seconds=_DAY),
            Collector(name="keys.memory", method=Method.TOLD, seconds=_DAY),
            Collector(name="attestation.reference", method=Method.REPLAYED, seconds=_DAY),
            Collector(name="attestation.platform", method=Method.REPLAYED, seconds=_DAY),
            Collector(name="egress.model", method=Method.REPLAYED, seconds=_DAY),
            Collector(name="log.verified", method=Method.REPLAYED, seconds=_HOUR),
            Collector(name="log.witnesses", method=Method.REPLAYED, seconds=_HOUR),
            Collector(name="log.events", method=Method.REPLAYED, seconds=_DAY, version=2),
            Collector(name="response.incidents", method=Method.REPLAYED, seconds=_DAY),
            Collector(name="copies.register", method=Method.READ, seconds=_DAY),
            Collector(name="sealing.copy", method=Method.READ, seconds=_DAY),
            Collector(name="sealing.place", method=Method.READ, seconds=_DAY),
            Collector(name="sealing.spread", method=Method.READ, seconds=_DAY),
            Collector(name="detection.pack", method=Method.TRIED, seconds=_DAY),
            Collector(name="detection.responder", method=Method.READ, seconds=_HOUR),
            Collector(name="network.broker", method=Method.TRIED, seconds=_DAY),
            Collector(name="host.accounts", method=Method.READ, seconds=_DAY),
            Collector(name="host.boot", method=Method.READ, seconds=_DAY),
            Collector(name="host.cpu", method=Method.READ, seconds=_DAY),
            Collector(name="host.disk", method=Method.READ, seconds=_DAY),
            Collector(name="host.endpoint", method=Method.READ, seconds=_DAY),
            Collector(name="host.files", method=Method.READ, seconds=_DAY),
            Collector(name="host.firewall", method=Method.READ, seconds=_DAY),
            Collector(name="host.listeners", method=Method.READ, seconds=_DAY),
            Collector(name="host.machine", method=Method.READ, seconds=_DAY),
            Collector(name="host.memory", method=Method.READ, seconds=_DAY),
            Collector(name="host.passwords", method=Method.READ, seconds=_DAY),
            Collector(name="host.peripherals", method=Method.READ, seconds=_DAY),
            Collector(name="host.software", method=Method.READ, seconds=_DAY),
            Collector(name="host.time", method=Method.READ, seconds=_DAY),
            Collector(name="host.updates", method=Method.READ, seconds=_DAY),
            Collector(name="assurance.plan", method=Method.READ, seconds=_DAY),
            Collector(name="attacks.suite", method=Method.READ, seconds=_DAY),
            Collector(name="attacks.layers", method=Method.READ, seconds=_DAY, version=2),
            Collector(name="code.self", method=Method.READ, seconds=_DAY),
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one collector saw of one subject: facts, or why nothing could be seen."""

    collector: str
    subject: str = DEPLOYMENT
    facts: Mapping[str, Fact] | None = None
    missing: str = ""


def observe(look: Look, limits: Thresholds, now: Instant, *, log_index: int | None) -> Observation:
    """Return the observation that a look makes. Long lists and texts are cut to what an observation holds.

    A cut list still fails whatever asks it to be empty.

    :param log_index: entries of the verified log at that time.
    """
    collector = COLLECTORS[look.collector]
    facts = {} if look.facts is None else {name: _cut(fact) for name, fact in look.facts.items()}
    return Observation(
        collector=collector.name,
        version=collector.version,
        configuration=limits.digest,
        subject=printable(look.subject)[:256],
        method=collector.method,
        at=now,
        expires=now + collector.seconds,
        facts=MappingProxyType(facts),
        missing=printable(look.missing)[:MAX_TEXT],
        log_index=log_index if collector.method in {Method.REPLAYED, Method.TOLD} else None,
    )


def _cut(fact: Fact) -> Fact:
    # File and program names are an attacker's to choose.
    if isinstance(fact, tuple):
        return tuple(printable(one)[:MAX_TEXT] for one in fact[:MAX_NAMES])
    return printable(fact)[:MAX_TEXT] if isinstance(fact, str) else fact
