"""Who and what could have had a model's bytes, and when: a pure fold over the log's entries.

Three ways lead to the bytes. A publisher's client had them in clear when it sealed them, and before: since when isn't
on record, so it is named whatever time is asked about. A plaintext export hands them over for good. A release hands
them to one enclave on one platform, which may hold them for as long as its lease lives.

When a lease ended isn't always in the log, but it can't have lived for ever: it must end before the evidence that it
rests on is older than the appraisal policy allows, and an end that the keeper recorded reaches the enclave within one
lease period. What is said here is the last moment that these leave possible, never an earlier one.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

from strongroom.audit.entries import Entry
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import LATEST, Instant, format_instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.events import EventName

UNKNOWABLE: Final = (
    "copies that anybody made of bytes in clear: publishers and recipients of exports have them for ever",
    "who read an enclave's memory from outside: see the class of isolation beside each release",
    "machines that were paused, or whose agent was stopped from outside: they outlive their lease",
    "recipients beside the keeper, whom a sealed directory names: they open it without the log's knowledge",
    "holders of the root key or of enough escrow shares, and whoever broke into the keeper",
)
"""What no log can tell, printed with every answer."""
LEAVES_WITHIN: Final = 7200
"""Seconds after an entry of the odometer in which what it counted may leave: an answer is begun on it for an hour, and
takes an hour at most. It is counted before it leaves, never after."""
TOLD: Final = 1000
"""Holdings that one answer names, the most exposed first, and freezes, the newest. Its totals count all of them."""
TOLD_BYTES: Final = 768 << 10
"""Bytes of canonical JSON that those holdings take: however long each is, an answer stays below a mebibyte."""
TOLD_PARTS: Final = 32
"""Entries that an answer names for one holding, and classes: the first ones and the last ones."""


class Way(StrEnum):
    """How somebody came to the bytes."""

    SEALED = "sealed"
    RELEASED = "released"
    EXPORTED = "exported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The longest that this deployment ever allowed, in seconds; the defaults are the most that any may allow."""

    evidence: int = 3600
    """How old evidence may grow before a lease needs new evidence (``reattest_seconds``)."""
    lease: int = 3600
    """A lease's period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time that is asked about; ``None`` is without end. ``until`` isn't included."""

    since: Instant | None = None
    until: Instant | None = None

    def overlaps(self, since: Instant, until: Instant | None) -> bool:
        """Tell whether a time from ``since`` up to and including ``until`` has a moment in the window."""
        return (self.until is None or since < self.until) and (
            self.since is None or until is None or until >= self.since
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Somebody or something that could have had the bytes, from ``since`` to ``until`` (None: for ever)."""

    way: Way
    version: int
    request: str
    use: int
    recipient: str
    person: str
    """Who asked; empty where the log doesn't hold the request."""
    approvers: tuple[str, ...]
    platform: str | None = None
    image: str | None = None
    isolation: tuple[str, ...] = ()
    """The classes that the machine was found to be of, in the order of its evidence."""
    weights: str | None = None
    since: Instant
    """When the log recorded it. A publisher's client had the bytes before that as well."""
    proved: Instant | None = None
    """When evidence was judged last; None for people."""
    ended: Instant | None = None
    """When the keeper recorded the lease's end."""
    reason: str = ""
    until: Instant | None = None
    deliveries: int = 1
    bits: int = 0
    """What the meter counted out of this release: at least as much as left it. Nothing is counted for people."""
    proof: tuple[int, ...]
    """The entries that say so, but for the meter's."""

    def to_json(self) -> dict[str, Json]:
        """Return the holding as a JSON object."""
        return {
            "way": self.way.value,
            "version": self.version,
            "person": self.person,
            "approvers": list(self.approvers),
            "platform": self.platform,
            "image": self.image,
            "isolation": list(self.isolation),
            "weights": self.weights,
            "request": self.request,
            "use": self.use,
            "recipient": self.recipient,
            "since": format_instant(self.since),
            "proved": _moment(self.proved),
            "ended": _moment(self.ended),
            "reason": self.reason or None,
            "until": _moment(self.until),
            "deliveries": self.deliveries,
            "bits": self.bits,
            "entries": list(self.proof),
        }

    def told(self) -> dict[str, Json]:
        """Return it as an answer names it: of a lease that was renewed for years, not every proof of it."""
        return {
            **self.to_json(),
            "isolation": list[Json](_ends(self.isolation)),
            "entries": list[Json](_ends(self.proof)),
            "more_entries": max(0, len(self.proof) - TOLD_PARTS),
        }

    @property
    def exposed(self) -> tuple[int, int, int, int]:
        """By what the most exposed come first: bytes for ever, the latest possible end, bits, and who came first."""
        return (-LATEST - 1 if self.until is None else -self.until, -self.bits, self.since, self.proof[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A time in which nothing of the model could be released."""

    since: Instant
    until: Instant | None
    proof: tuple[int, ...]

    def to_json(self) -> dict[str, Json]:
        """Return the freeze as a JSON object."""
        return {"since": format_instant(self.since), "until": _moment(self.until), "entries": list(self.proof)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LetOut:
    """What the meters of all releases and workspaces counted out of a model, in bits: at least as much as left it."""

    ever: int
    """Up to the end of the window."""
    within: int
    """Within the window: also what was counted shortly before it, and may not have left by then."""
    last: int | None
    """The entry with the reading; None where nothing was metered."""

    def to_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return {"ever": self.ever, "within": self.within, "entry": self.last}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """The answer: holdings in the order of versions and beginnings, and the freezes in between."""

    model: str
    holdings: tuple[Holding, ...]
    freezes: tuple[Freeze, ...]
    let_out: LetOut
    registered: Mapping[int, int]
    """Version -> the entry that registered it; all versions, whatever was asked about."""
    entries: int
    """How many entries of the log were read."""

    def to_json(self) -> dict[str, Json]:
        """Return the answer as a JSON object of less than a mebibyte, however many holdings there are.

        It names the most exposed and counts all. ``list`` is the digest of :meth:`lines`: it stands for the others.
        """
        told = self._told()
        versions = {one.version for one in told}
        return {
            "model": self.model,
            "totals": {
                "holdings": len(self.holdings),
                "for_ever": sum(one.until is None for one in self.holdings),
                "people": len({one.person for one in self.holdings if one.person}),
                "hosts": len({one.platform for one in self.holdings if one.platform is not None}),
                "freezes": len(self.freezes),
                "versions": len(self.registered),
            },
            "holdings": [one.told() for one in told],
            "list": self._list(),
            "freezes": [one.to_json() for one in self.freezes[-TOLD:]],
            "let_out": self.let_out.to_json(),
            "registered": {str(one): at for one, at in sorted(self.registered.items()) if one in versions},
            "entries": self.entries,
            "unknowable": list(UNKNOWABLE),
        }

    def lines(self) -> Iterator[bytes]:
        """Yield every holding whole, a line of canonical JSON for each."""
        return (encode(one.to_json()) + b"\n" for one in self.holdings)

    def _told(self) -> list[Holding]:
        told, left = list[Holding](), TOLD_BYTES
        for one in heapq.nsmallest(TOLD, self.holdings, key=lambda one: one.exposed):
            left -= len(encode(one.told()))
            if left < 0:
                break
            told.append(one)
        return told

    def _list(self) -> str:
        hashed = hashlib.sha256()
        for line in self.lines():
            hashed.update(line)
        return str(Digest(DigestAlgorithm.SHA256, hashed.digest()))


EVENTS: Final = frozenset(
    {
        EventName.REQUEST_CREATED,
        EventName.GRANT_ISSUED,
        EventName.DATA_KEY_CREATED,
        EventName.VERSION_REGISTERED,
        EventName.EXPORTED,
        EventName.RELEASED,
        EventName.REDELIVERED,
        EventName.LEASE_ATTESTED,
        EventName.LEASE_ENDED,
        EventName.ODOMETER_ADVANCED,
        EventName.DROP_CHARGED,
        EventName.MODEL_FROZEN,
        EventName.EGRESS_BREACHED,
        EventName.MODEL_RESUMED,
    }
)
"""All that the fold takes anything from: whoever has an index reads these of a model, and no others."""

_Name = tuple[str, int]
_T = TypeVar("_T")


@dataclass(slots=True)
class ExposureFold:
    """Takes the log's entries in order and keeps what they say of one model."""

    model: str
    limits: Limits = field(default_factory=Limits)
    _size: int = 0
    _requesters: dict[str, str] = field(default_factory=dict)
    _approvers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _holdings: list[Holding] = field(default_factory=list)
    _newest: dict[_Name, int] = field(default_factory=dict)
    """(request, use) -> its place among the holdings. Were a use handed over twice, both would stay."""
    _readings: list[tuple[int, Instant, int]] = field(default_factory=list)
    """Entry, time and the model's total after it."""
    _freezes: list[Freeze] = field(default_factory=list)
    _registered: dict[int, int] = field(default_factory=dict)

    def apply(self, index: int, entry: Entry) -> None:
        """Take the next entry."""
        self._size = index + 1
        handler = self._handlers().get(entry.event)
        if handler is not None and entry.facts.get("model", self.model) == self.model:
            handler(index, entry)

    def answer(self, *, version: int | None = None, window: Window | None = None) -> Exposure:
        """Return what was found, for one version or all, of whatever touches the window."""
        asked = window or Window()
        found = [one for one in self._holdings if version in (None, one.version)]
        return Exposure(
            model=self.model,
            holdings=tuple(
                sorted(
                    (one for one in found if one.way is Way.SEALED or asked.overlaps(one.since, one.until)),
                    key=lambda one: (one.version, one.since, one.proof[0]),
                )
            ),
            freezes=tuple(one for one in self._freezes if asked.overlaps(one.since, one.until)),
            let_out=self._let_out(asked),
            registered=MappingProxyType(dict(self._registered)),
            entries=self._size,
        )

    # --- one method for each kind of entry ----------------------------------------------------------------------------

    def _handlers(self) -> Mapping[EventName, Callable[[int, Entry], None]]:
        return {
            EventName.REQUEST_CREATED: self._created,
            EventName.GRANT_ISSUED: self._granted,
            EventName.DATA_KEY_CREATED: self._sealed,
            EventName.VERSION_REGISTERED: self._registers,
            EventName.EXPORTED: self._exported,
            EventName.RELEASED: self._released,
            EventName.REDELIVERED: self._redelivered,
            EventName.LEASE_ATTESTED: self._attested,
            EventName.LEASE_ENDED: self._ended,
            EventName.ODOMETER_ADVANCED: self._metered,
            EventName.DROP_CHARGED: self._metered,
            EventName.MODEL_FROZEN: self._frozen,
            EventName.EGRESS_BREACHED: self._frozen,
            EventName.MODEL_RESUMED: self._resumed,
        }

    def _created(self, _index: int, entry: Entry) -> None:
        self._requesters.setdefault(entry.text("request"), entry.text("requester"))

    def _granted(self, _index: int, entry: Entry) -> None:
        self._approvers.setdefault(entry.text("request"), entry.texts("approvers"))

    def _sealed(self, index: int, entry: Entry) -> None:
        request = entry.text("request")
        # The client had the plaintext before it asked for a key; that moment isn't on record.
        self._hold(index, entry, Way.SEALED, self._requesters.get(request, ""), self._approvers.get(request, ()))

    def _exported(self, index: int, entry: Entry) -> None:
        self._hold(index, entry, Way.EXPORTED, entry.text("requester"), entry.texts("approvers"))

    def _released(self, index: int, entry: Entry) -> None:
        self._hold(index, entry, Way.RELEASED, entry.text("requester"), entry.texts("approvers"))
        self._holdings[-1] = replace(
            self._holdings[-1],
            platform=entry.text("platform"),
            image=entry.text("image"),
            isolation=(entry.text("isolation"),),
            weights=entry.text("weights"),
            proved=entry.at,
            until=entry.at + self.limits.evidence,
        )

    def _hold(self, index: int, entry: Entry, way: Way, person: str, approvers: tuple[str, ...]) -> None:
        name = _name(entry)
        self._newest[name] = len(self._holdings)
        self._holdings.append(
            Holding(
                way=way,
                version=entry.integer("version"),
                request=name[0],
                use=name[1],
                recipient=entry.text("recipient"),
                person=person,
                approvers=approvers,
                since=entry.at,
                proof=(index,),
            )
        )

    def _change(self, index: int, entry: Entry, how: Callable[[Holding], Holding]) -> None:
        place = self._newest.get(_name(entry))
        if place is not None:
            known = how(self._holdings[place])
            self._holdings[place] = replace(known, proof=(*known.proof, index))

    def _redelivered(self, index: int, entry: Entry) -> None:
        self._change(
            index, entry, lambda known: self._proved(replace(known, deliveries=known.deliveries + 1), entry.at)
        )

    def _attested(self, index: int, entry: Entry) -> None:
        now = entry.text("isolation")

        def attested(known: Holding) -> Holding:
            classes = known.isolation if known.isolation[-1:] == (now,) else (*known.isolation, now)
            return self._proved(replace(known, isolation=classes), entry.at)

        self._change(index, entry, attested)

    def _proved(self, known: Holding, at: Instant) -> Holding:
        if known.proved is None:
            return known
        # Clocks may be set back: the latest counts, so that what is said is never too early. And a key that is handed
        # over again after an end, to the same recipient, opens the bytes again.
        proved = max(known.proved, at)
        return replace(known, proved=proved, ended=None, reason="", until=proved + self.limits.evidence)

    def _ended(self, index: int, entry: Entry) -> None:
        def ended(known: Holding) -> Holding:
            if known.until is None:
                return known
            until = max(known.since, min(known.until, entry.at + self.limits.lease))
            return replace(known, ended=entry.at, reason=entry.text("reason"), until=until)

        self._change(index, entry, ended)

    def _metered(self, index: int, entry: Entry) -> None:
        # Both kinds of entry carry the model's total over all ways out, after what they add to it.
        before, total = self._readings[-1][2] if self._readings else 0, entry.integer("total")
        self._readings.append((index, entry.at, total))
        place = self._newest.get(_name(entry))
        if place is not None:
            known = self._holdings[place]
            self._holdings[place] = replace(known, bits=known.bits + max(0, total - before))

    def _let_out(self, window: Window) -> LetOut:
        gone = None if window.since is None else window.since - LEAVES_WITHIN
        before = [total for _i, at, total in self._readings if gone is not None and at < gone]
        upto = [one for one in self._readings if window.until is None or one[1] < window.until]
        ever = max((total for _i, _at, total in upto), default=0)
        return LetOut(ever=ever, within=max(0, ever - max(before, default=0)), last=upto[-1][0] if upto else None)

    def _registers(self, index: int, entry: Entry) -> None:
        self._registered.setdefault(entry.integer("version"), index)

    def _frozen(self, index: int, entry: Entry) -> None:
        if not self._freezes or self._freezes[-1].until is not None:
            self._freezes.append(Freeze(since=entry.at, until=None, proof=(index,)))

    def _resumed(self, index: int, entry: Entry) -> None:
        if self._freezes and self._freezes[-1].until is None:
            last = self._freezes[-1]
            self._freezes[-1] = replace(last, until=entry.at, proof=(*last.proof, index))


def _name(entry: Entry) -> _Name:
    return entry.text("request"), entry.integer("use")


def _ends(items: tuple[_T, ...]) -> tuple[_T, ...]:
    half = TOLD_PARTS // 2
    return items if len(items) <= TOLD_PARTS else (*items[:half], *items[-half:])


def _moment(at: Instant | None) -> str | None:
    return None if at is None else format_instant(at)
