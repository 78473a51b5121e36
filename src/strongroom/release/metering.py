"""An odometer's entry as the log holds it: what the keeper writes, the ledger folds and a governor's process believes.

A governor reads entries through a broker that it doesn't believe. The keeper signed each of them, and each names the
release, so that no entry of another release, nor of another model, can stand for the one that was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.signature import PublicKey
from strongroom.egress.odometer import LocalRecord, OdometerEntry

MAX_CAUSE: Final = 64
_CAUSE: Final = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


class OdometerForgedError(TamperedError):
    """What came back isn't the keeper's entry for this release: forged, or another's that is shown in its place."""

    code = "egress-odometer-forged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """The release under which a model is served, and metered."""

    request: Digest
    use: int
    model: ModelId


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedReading:
    """An odometer entry that the keeper signed."""

    entry: OdometerEntry
    policy: Digest
    """Of the model's egress policy in force when it was written."""
    seq: int
    """The keeper's own number of the log's entry: what the keeper signs later has a higher one."""
    data: bytes
    """The log's entry, as it was signed."""


def breach_cause(text: str) -> str:
    """Check and return the code of a breach.

    :raises MalformedError: it isn't a code of at most :data:`MAX_CAUSE` characters.
    """
    if len(text) > MAX_CAUSE or not _CAUSE.fullmatch(text):
        raise MalformedError(f"a cause is a code of at most {MAX_CAUSE} characters of a-z, 0-9, `.` and `-`")
    return text


def odometer_facts(metered: Metered, entry: OdometerEntry, policy: Digest) -> dict[str, Fact]:
    """Return the facts of an ``egress:odometer:advanced`` entry."""
    return {
        "request": metered.request,
        "use": metered.use,
        "model": metered.model,
        "epoch": entry.epoch,
        "run": entry.run,
        "through": entry.through,
        "settled": entry.settled,
        "tokens": entry.tokens,
        "verified": entry.verified,
        "total": entry.total,
        "recent": entry.recent,
        "limit": entry.limit,
        "day": entry.day,
        "policy": policy,
    }


def odometer_of(entry: Entry) -> OdometerEntry:
    """Return what an ``egress:odometer:advanced`` entry says."""
    return OdometerEntry(
        model=ModelId(entry.text("model")),
        epoch=entry.integer("epoch"),
        run=entry.integer("run"),
        through=entry.integer("through"),
        settled=entry.integer("settled"),
        tokens=entry.integer("tokens"),
        verified=entry.integer("verified"),
        total=entry.integer("total"),
        recent=entry.integer("recent"),
        limit=entry.integer("limit"),
        day=entry.integer("day"),
        at=entry.at,
    )


def metered_of(entry: Entry) -> Metered:
    """Return the release that an egress entry names."""
    return Metered(request=entry.digest("request"), use=entry.integer("use"), model=ModelId(entry.text("model")))


def read_reading(data: bytes, keeper_key: PublicKey, *, metered: Metered) -> LoggedReading:
    """Check and read the log entry that answers a governor. Needs the genesis' keeper key alone.

    :raises EntryError: not a log entry.
    :raises EntryForgedError: the keeper didn't sign it.
    :raises OdometerForgedError: it is about something else than this release's odometer.
    """
    entry = read_odometer(data, keeper_key, metered.model)
    if metered_of(entry) != metered:
        raise OdometerForgedError(f"the answer isn't an odometer entry of this release of `{metered.model}`")
    return LoggedReading(entry=odometer_of(entry), policy=entry.digest("policy"), seq=entry.seq, data=data)


def read_seen(data: bytes, keeper_key: PublicKey, model: ModelId) -> LocalRecord:
    """Check and read the entry that a governor kept, of whichever release: what the log knew once, should it have gone
    back since. Only what the keeper signed counts, or whoever asks could claim a model's whole life to be spent.

    :raises StrongroomError: as :func:`read_odometer`.
    """
    return odometer_of(read_odometer(data, keeper_key, model)).record


def read_odometer(data: bytes, keeper_key: PublicKey, model: ModelId) -> Entry:
    """Check and read an odometer entry of a model, of whichever release.

    :raises EntryError: not a log entry.
    :raises EntryForgedError: the keeper didn't sign it.
    :raises OdometerForgedError: it is another event, or another model's.
    """
    entry = read_entry(data)
    verify_entry(entry, keeper_key)
    if entry.event is not EventName.ODOMETER_ADVANCED or entry.text("model") != model:
        raise OdometerForgedError(f"the answer isn't an odometer entry of `{model}`")
    return entry


def read_resumption(data: bytes, keeper_key: PublicKey, model: ModelId) -> int:
    """Check that a log entry resumes a model; returns the keeper's number of it.

    :raises EntryError: not a log entry.
    :raises EntryForgedError: the keeper didn't sign it.
    :raises OdometerForgedError: it resumes nothing, or another model.
    """
    entry = read_entry(data)
    verify_entry(entry, keeper_key)
    if entry.event is not EventName.MODEL_RESUMED or entry.text("model") != model:
        raise OdometerForgedError(f"the entry that is shown doesn't resume `{model}`")
    return entry.seq
