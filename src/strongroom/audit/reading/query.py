"""What one can ask the log for: pure, the same for a walk through every entry and for a search through an index."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.audit.facts import SCHEMA, Kind
from strongroom.core.clock import Instant, parse_instant
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.events import EventName

LEAST_PREFIX: Final = 6
_HEX: Final = re.compile(r"[0-9a-f]{1,64}")
_AGO: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Outcome(StrEnum):
    """What came of the act that an entry records."""

    DONE = "done"
    REFUSED = "refused"
    ENDED = "ended"
    """Something that held before was taken away: access, a lease, a person's standing, the keeper's own readiness."""


class Trait(StrEnum):
    """By what an entry is found, besides its event, outcome and time."""

    PERSON = "person"
    """In any role: who asked, agreed, refused, published, signed as an officer, or is spoken of."""
    MODEL = "model"
    REQUEST = "request"
    PLATFORM = "platform"
    DELIVERY = "delivery"


_REFUSED: Final = frozenset(
    {
        EventName.REQUEST_DENIED,
        EventName.REFUSED,
        EventName.REFUSALS_SUMMED,
        EventName.AUTHENTICATOR_REGRESSED,
        EventName.CHANGE_STOPPED,
    }
)
_ENDED: Final = frozenset(
    {
        EventName.KEEPER_LOCKED,
        EventName.RESPONDER_SILENT,
        EventName.EPOCH_DESTROYED,
        EventName.KEK_RETIRED,
        EventName.MODEL_DESTROYED,
        EventName.PERSON_SUSPENDED,
        EventName.PERSON_ERASED,
        EventName.PRECAUTION_LIFTED,
        EventName.PLATFORM_REVOKED,
        EventName.GRANT_REVOKED,
        EventName.MODEL_FROZEN,
        EventName.LEASE_ENDED,
        EventName.EGRESS_BREACHED,
    }
)
_TRAITS: Final[Mapping[Kind, Trait]] = MappingProxyType(
    {Kind.PERSON: Trait.PERSON, Kind.PERSONS: Trait.PERSON, Kind.MODEL: Trait.MODEL, Kind.PLATFORM: Trait.PLATFORM}
)
REQUESTS: Final = frozenset({"request", "grant", "authority"})
"""Facts that name a request; a grant has its request's name, and an act on keys may rest on a request."""
_DELIVERY: Final = "delivery"
"""The fact that names what a supplier delivered."""

ModelOf = Callable[[str], str | None]
"""Request digest -> the model that it is about, as the entry that recorded it says; None where none did."""
Traits = frozenset[tuple[Trait, str]]


def outcome_of(event: EventName) -> Outcome:
    """Return what came of the act that ``event`` records."""
    if event in _REFUSED:
        return Outcome.REFUSED
    return Outcome.ENDED if event in _ENDED else Outcome.DONE


def traits_of(entry: Entry, model_of: ModelOf) -> Traits:
    """Return everything that an entry is found by.

    What names a request and no model belongs to the request's model: approvals, refusals and the ends of leases too.
    """
    found: set[tuple[Trait, str]] = set()
    for name, kind in SCHEMA[entry.event].items():
        trait = Trait.REQUEST if kind is Kind.DIGEST and name in REQUESTS else _TRAITS.get(kind)
        if name == _DELIVERY:
            trait = Trait.DELIVERY
        value = entry.facts[name]
        if trait is not None:
            found.update((trait, item) for item in (value if isinstance(value, tuple) else (str(value),)))
    if "model" not in entry.facts:
        models = [model_of(value) for trait, value in found if trait is Trait.REQUEST]
        found.update((Trait.MODEL, model) for model in models if model is not None)
    return frozenset(found)


def recorded_request(entry: Entry) -> tuple[str, str] | None:
    """Return the request that an entry records, and its model; None unless it records one."""
    if entry.event is not EventName.REQUEST_CREATED:
        return None
    return entry.text("request"), entry.text("model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for; whatever is None is not asked about. All that is given must hold.

    :raises UsageError: a request named by too little, or an event that doesn't exist.
    """

    person: str | None = None
    model: str | None = None
    request: str | None = None
    """A digest, or the beginning of its hex."""
    platform: str | None = None
    delivery: str | None = None
    event: str | None = None
    """A whole name, or its beginning up to a colon: ``release``, ``release:lease``."""
    outcome: Outcome | None = None
    since: Instant | None = None
    until: Instant | None = None
    """Not included."""

    def __post_init__(self) -> None:
        if self.request is not None:
            text = self.request.removeprefix("sha256:")
            if len(text) < LEAST_PREFIX or not _HEX.fullmatch(text):
                raise UsageError(f"a request is named by its digest, or by {LEAST_PREFIX} or more of its hex")
            object.__setattr__(self, "request", f"sha256:{text}")
        if self.event is not None and not self.events:
            raise UsageError("no event has that name", remedy="they are listed in docs/spec/audit-entries.md")

    @property
    def events(self) -> frozenset[EventName]:
        """Which events are meant; all of them where none is asked for."""
        wanted = self.event
        if wanted is None:
            return frozenset(EventName)
        return frozenset(event for event in EventName if event == wanted or event.value.startswith(f"{wanted}:"))

    @property
    def traits(self) -> Mapping[Trait, str]:
        """The traits that are wanted, each with its value."""
        given = {
            Trait.PERSON: self.person,
            Trait.MODEL: self.model,
            Trait.REQUEST: self.request,
            Trait.PLATFORM: self.platform,
            Trait.DELIVERY: self.delivery,
        }
        return {trait: value for trait, value in given.items() if value is not None}

    def matches(self, entry: Entry, model_of: ModelOf) -> bool:
        """Tell whether an entry is one that is looked for."""
        if entry.event not in self.events or (self.outcome or outcome_of(entry.event)) is not outcome_of(entry.event):
            return False
        if (self.since is not None and entry.at < self.since) or (self.until is not None and entry.at >= self.until):
            return False
        traits = traits_of(entry, model_of)
        return all(
            any(trait is wanted and has(trait, have, value) for trait, have in traits)
            for wanted, value in self.traits.items()
        )


def has(trait: Trait, value: str, wanted: str) -> bool:
    """Tell whether a value is the wanted one; a request's may be wanted by its beginning."""
    return value.startswith(wanted) if trait is Trait.REQUEST else value == wanted


def read_moment(text: str, *, now: Instant) -> Instant:
    """Read a time: ``2026-11-23T22:08:37Z``, ``2026-11-23`` (its beginning, UTC), or how long ago: ``7d``, ``12h``.

    :raises UsageError: anything else.
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return max(0, now - int(ago[1]) * _SECONDS[ago[2]])
    try:
        return parse_instant(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
    except MalformedError:
        raise UsageError(
            "a time is written `2026-11-23T22:08:37Z`, `2026-11-23`, or as how long ago: `7d`, `12h`, `30m`"
        ) from None
