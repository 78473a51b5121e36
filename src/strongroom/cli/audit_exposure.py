"""``strongroom audit exposure``: who and what could have had a model's bytes, and when."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from strongroom.audit.reading.exposure import UNKNOWABLE, Exposure, ExposureFold, Freeze, Holding, Limits, Way, Window
from strongroom.audit.reading.growth import Place, read_from
from strongroom.cli.audit_reading import Source, moment, say_unverified, source_options
from strongroom.cli.files import json_option
from strongroom.cli.output import show
from strongroom.core.adapters.durable import write_durably
from strongroom.core.clock import Instant, SystemClock, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id


@click.command("exposure")
@click.argument("model")
@source_options
@click.option("--version", type=click.IntRange(min=1), help="Only this version.")
@click.option("--from", "since", help="Only what touches the time from then on: `2026-11-23T22:08:37Z`, or `7d` ago.")
@click.option("--until", help="Only what touches the time before then.")
@click.option(
    "--evidence-seconds",
    type=click.IntRange(60, 3600),
    default=3600,
    show_default=True,
    help="The longest `reattest_seconds` that your reference values ever had.",
)
@click.option(
    "--lease-seconds",
    type=click.IntRange(5, 3600),
    default=3600,
    show_default=True,
    help="The longest lease that your keeper ever gave.",
)
@click.option("--entries", type=click.IntRange(min=0), help="As the log was after its first so many entries.")
@click.option(
    "--list",
    "list_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all who could have had the bytes into this file, a line of JSON for each.",
)
@json_option
def exposure(
    model: str,
    source: Source,
    version: int | None,
    since: str | None,
    until: str | None,
    evidence_seconds: int,
    lease_seconds: int,
    *,
    entries: int | None,
    list_file: Path | None,
    as_json: bool,
) -> None:
    """Say who and what could have had MODEL's bytes, and when: publishers, enclaves, recipients of exports.

    Every line names the log entries that say so; `audit show` proves each of them. The whole log is read for it.
    With --json the 1000 most exposed are named and all are counted; --list writes all, to the digest that it names.
    """
    window = Window(since=moment(since), until=moment(until))
    if window.since is not None and window.until is not None and window.since >= window.until:
        raise UsageError("--from must be before --until")
    fold = ExposureFold(model_id(model), Limits(evidence=evidence_seconds, lease=lease_seconds))
    with source.opened() as view:
        head = view.head()
        if entries is not None and entries > head.size:
            raise UsageError(f"the log has {head.size} entries")
        for index, entry in islice(read_from(view, Place.start(head.origin), head), entries):
            fold.apply(index, entry)
        say_unverified(view)
        found, signed = fold.answer(version=version, window=window), view.signed
    if list_file is not None:
        # Whole or not at all, and for nobody else: it names people and platforms.
        write_durably(list_file, b"".join(found.lines()))
    show({**found.to_json(), "signed": signed}, _told(found, SystemClock().now()), as_json=as_json)


def _told(found: Exposure, now: Instant) -> Iterator[str]:
    yield f"{found.model}: {len(found.holdings)} could have had its bytes, by {found.entries} entries of the log"
    before = None
    for one in found.holdings:
        if one.version != before:
            before, registered = one.version, found.registered.get(one.version)
            place = "not registered" if registered is None else f"registered by entry {registered}"
            yield f"\nversion {one.version}, {place}"
        yield from _holding(one, now)
    for freeze in found.freezes:
        yield _freeze(freeze)
    out = found.let_out
    if out.last is not None:
        yield f"\nlet out: at most {out.within} bits in this time, {out.ever} ever (entry {out.last})"
    yield "\nnot knowable from any log:"
    yield from (f"  - {one}" for one in UNKNOWABLE)


def _holding(one: Holding, now: Instant) -> Iterator[str]:
    agreed = f", approved by {', '.join(one.approvers)}" if one.approvers else ""
    who = f"{one.person or 'somebody'}{agreed}"
    match one.way:
        case Way.SEALED:
            yield f"  publisher's client: {who}"
        case Way.EXPORTED:
            yield f"  plaintext export: {who}"
        case Way.RELEASED:
            classes = ", then ".join(one.isolation)
            yield f"  enclave: image {one.image} on {one.platform} ({classes}; {one.weights} weights)"
            yield f"    for {who}; {one.bits} bits counted out of it"
    begun = f"from before {format_instant(one.since)}" if one.way is Way.SEALED else f"from {format_instant(one.since)}"
    yield f"    {begun} {_end(one, now)}"
    again = f", delivered {one.deliveries} times" if one.deliveries > 1 else ""
    yield f"    request {one.request}, use {one.use}{again}; entries {', '.join(map(str, one.proof))}"


def _end(one: Holding, now: Instant) -> str:
    if one.until is None:
        return "for ever"
    if one.ended is not None:
        return f"until {format_instant(one.until)} at the latest; ended {format_instant(one.ended)} ({one.reason})"
    if one.until >= now:
        return f"and it may have them now; until {format_instant(one.until)} unless renewed"
    return f"until {format_instant(one.until)} at the latest; no end is on record"


def _freeze(freeze: Freeze) -> str:
    until = "and still" if freeze.until is None else f"until {format_instant(freeze.until)}"
    entries = ", ".join(map(str, freeze.proof))
    return f"\nfrozen from {format_instant(freeze.since)} {until} (entries {entries})"
