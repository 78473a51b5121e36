"""Who and what could have had which bytes, and when: as an incident and its reports show it.

The answer is made from the log by the audit shelf (`strongroom audit exposure`), and comes in here as its JSON. The
theft bound comes from the model's egress policy: the least number of bits that a thief must move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode, parse
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import model_id

MAX_TOLD: Final = 1000
"""Holdings and freezes that an answer names; it counts all of them."""
MAX_PARTS: Final = 32
"""Entries and classes that it names for one holding."""
MAX_EXPOSURE: Final = 1 << 20
ALL_PARTS: Final = 1000
"""Shares are told in thousandths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Somebody or something that could have had the bytes, from ``since`` to ``until`` (None: for ever)."""

    way: str
    version: int
    person: str
    host: str
    """The platform that an enclave ran on; empty for people."""
    request: str
    since: Instant
    until: Instant | None
    bits: int
    """What the meter counted out of this release."""

    @classmethod
    def read(cls, fields: Fields) -> Holder:
        """Read one holding of the audit shelf's answer."""
        holder = cls(
            way=fields.text("way", max_length=32),
            version=fields.integer("version"),
            person=fields.text("person", max_length=64),
            host=fields.text("platform", max_length=128) if fields.optional("platform") else "",
            request=fields.text("request", max_length=96),
            since=fields.instant("since"),
            until=fields.instant("until") if fields.optional("until") else None,
            bits=fields.integer("bits"),
        )
        _others(fields)
        return holder


def _others(fields: Fields) -> None:
    """Read what a report doesn't show, so that another form of the answer is noticed."""
    fields.texts("approvers", most=256, max_length=64)
    fields.texts("isolation", most=MAX_PARTS, max_length=64)
    for name in ("image", "weights", "reason"):
        if fields.optional(name):
            fields.text(name)
    for name in ("proved", "ended"):
        if fields.optional(name):
            fields.instant(name)
    fields.text("recipient", max_length=96)
    for name in ("use", "deliveries", "more_entries"):
        fields.integer(name)
    list(fields.items("entries", most=MAX_PARTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How many there are of what an answer names the most exposed of."""

    holdings: int
    for_ever: int
    """Whose time has no end: whoever had the bytes in clear has them for ever."""
    people: int
    hosts: int

    @classmethod
    def read(cls, fields: Fields) -> Totals:
        """Read the audit shelf's totals."""
        for name in ("freezes", "versions"):
            fields.integer(name)
        return cls(**{name: fields.integer(name) for name in ("holdings", "for_ever", "people", "hosts")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the log's last answer about one model came to. ``bound`` is its theft bound in bits; 0: none is known."""

    answer: Digest
    bits: int
    bound: int
    people: int
    hosts: int
    holders: int

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "bits": self.bits,
            "bound": self.bound,
            "people": self.people,
            "hosts": self.hosts,
            "holders": self.holders,
            "answer": str(self.answer),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """What of one model is exposed."""

    model: str
    totals: Totals
    holders: tuple[Holder, ...]
    """The most exposed first, as many as an answer names."""
    let_out_bits: int
    """The most that ever left, as the odometer counts it."""
    within_bits: int
    """The most that left in the time that was asked about."""
    theft_bits: int
    """The theft bound; 0 where none is known."""
    entries: int
    """How many entries of the log the answer rests on."""
    unknowable: tuple[str, ...]

    @property
    def people(self) -> tuple[str, ...]:
        """Who among those named could have had bytes, or asked for what had them."""
        return tuple(sorted({holder.person for holder in self.holders if holder.person}))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The platforms among those named that had them."""
        return tuple(sorted({holder.host for holder in self.holders if holder.host}))

    @property
    def thousandths(self) -> int | None:
        """What ever left, in thousandths of the theft bound, rounded up; None where no bound is known."""
        return None if self.theft_bits <= 0 else -(-self.let_out_bits * ALL_PARTS // self.theft_bits)

    @property
    def could_be_whole(self) -> bool:
        """Whether as much left as a thief needs, or somebody has the bytes in clear."""
        return self.totals.for_ever > 0 or (0 < self.theft_bits <= self.let_out_bits)

    def facts(self, answer: Digest) -> dict[str, str | int]:
        """Return the facts of the entry that says what was read; ``answer`` is the digest of the whole answer."""
        return {
            "model": self.model,
            "exposure": str(answer),
            "bits": self.let_out_bits,
            "bound": self.theft_bits,
            "people": self.totals.people,
            "hosts": self.totals.hosts,
            "holders": self.totals.holdings,
        }

    def lines(self) -> Sequence[str]:
        """Return what a person reads, a line for each holder that is named."""
        return [
            f"{one.way} v{one.version}: {one.person or 'nobody named'}"
            f"{' on ' + one.host if one.host else ''}, from {format_instant(one.since)}"
            f" {'for ever' if one.until is None else 'to ' + format_instant(one.until)}, {one.bits} bits counted"
            for one in self.holders
        ]


def answer_name(answer: Digest) -> str:
    """Return the name under which an answer is kept with its incident."""
    return f"exposure-{answer.value.hex()}.json"


def read_answer(data: bytes, *, theft_bits: int) -> Exposed:
    """Read the audit shelf's answer from its bytes, as `strongroom audit exposure --json` prints them or shorter.

    :param theft_bits: as in :func:`read_exposure`. :raises MalformedError: another form.
    """
    value: Json = parse(data, max_bytes=MAX_EXPOSURE)
    if isinstance(value, dict):
        # Whether each entry's signature was checked is the reading's own remark, no part of the answer.
        value.pop("signed", None)
    return read_exposure(value, theft_bits=theft_bits)


def read_exposure(data: Json, *, theft_bits: int) -> Exposed:
    """Read the audit shelf's answer.

    :param theft_bits: the model's theft bound in bits; 0 if none is known.
    :raises MalformedError: another form.
    """
    with Fields(decode(encode(data), max_bytes=MAX_EXPOSURE), "exposure") as fields:
        model = fields.parsed("model", model_id)
        with fields.child("totals") as child:
            totals = Totals.read(child)
        holders = fields.objects("holdings", Holder.read, most=MAX_TOLD)
        fields.digest("list")
        list(fields.items("freezes", most=MAX_TOLD))
        fields.value("registered")
        with fields.child("let_out") as let_out:
            ever, within = let_out.integer("ever"), let_out.integer("within")
            if let_out.optional("entry"):
                let_out.integer("entry")
        exposed = Exposed(
            model=model,
            totals=totals,
            holders=holders,
            let_out_bits=ever,
            within_bits=within,
            theft_bits=theft_bits,
            entries=fields.integer("entries"),
            unknowable=fields.texts("unknowable", most=16),
        )
    # What is counted for an incident are the totals: they can't be fewer than those who are named.
    named = Totals(
        holdings=len(holders),
        for_ever=sum(one.until is None for one in holders),
        people=len(exposed.people),
        hosts=len(exposed.hosts),
    )
    counts = ("holdings", "for_ever", "people", "hosts")
    if any(getattr(named, name) > getattr(totals, name) for name in counts):
        raise MalformedError("`exposure.totals` counts fewer than the answer names")
    # One holding is one person's, on one platform.
    if any(getattr(totals, name) > totals.holdings for name in counts):
        raise MalformedError("`exposure.totals` counts more than there are holdings")
    return exposed
