"""``strongroom assess --watch``: looks again and again, and tells what held before and doesn't any more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.cli.assess_show import drift, headline
from strongroom.cli.copies_parts import event_lines, tell
from strongroom.cli.files import read_file
from strongroom.cli.stopping import Stopping
from strongroom.core.adapters.durable import write_durably
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, UnavailableError, UsageError
from strongroom.core.printable import printable
from strongroom.framework.catalogue import Catalogue

Tell = Callable[[list[dict[str, Json]]], None]
"""Takes events. :raises UnavailableError: they weren't taken."""


def newest_before(file: Path, genesis: Digest) -> Assessment | None:
    """Return the assessment to go on from, if there is one.

    :raises MalformedError: it isn't one. :raises UsageError: it is another deployment's.
    """
    if not file.exists():
        return None
    found = Assessment.parse(read_file(file, most=MAX_ASSESSMENT))
    if found.genesis != genesis:
        raise UsageError(f"`{printable(file.name)}` is an assessment of another deployment")
    return found


def watch(
    look: Callable[[], Assessment],
    newest: Path,
    before: Assessment | None,
    catalogue: Catalogue,
    clock: Clock,
    told: Tell,
    *,
    every: float,
    stopping: Stopping,
) -> None:
    """Assess until stopped. ``newest`` keeps the last assessment whose drift was told: a restart goes on from there.

    Where nothing can be seen, what was seen before counts until it expires; then it is told as lost.
    """
    while True:
        after = _looked(look, before, catalogue, clock)
        if after is not None and _told(before, after, told):
            write_durably(newest, after.to_bytes())
            before = after
        if stopping.pause(every):
            return


def lost(before: Assessment, after: Assessment) -> Iterator[dict[str, Json]]:
    """Yield an event of the detection vocabulary for each measure that held before and doesn't now."""
    for name, finding in after.findings.items():
        was = before.findings.get(name)
        if was is not None and was.state.holds and not finding.state.holds:
            yield {
                "event": "assessor:measure:lost",
                "at": format_instant(after.at),
                "source": "assessor",
                "host": os.uname().nodename,
                "measure": name,
                "was": was.state.value,
                "state": finding.state.value,
                "level": "none" if after.held is None else after.held.value,
            }


def tell_or_print(socket_path: Path | None) -> Tell:
    """Return what sends events to the responder's socket; without one they are only printed as text."""
    return lambda events: None if socket_path is None else tell(events, socket_path)


def _looked(
    look: Callable[[], Assessment], before: Assessment | None, catalogue: Catalogue, clock: Clock
) -> Assessment | None:
    try:
        return look()
    except StrongroomError as error:
        click.echo(f"{format_instant(clock.now())} NOT SEEN  {error.message} [{error.reason}]", err=True)
        return None if before is None else before.again(catalogue, clock.now())


def _told(before: Assessment | None, after: Assessment, told: Tell) -> bool:
    """Tell what changed; False if it has to be told again."""
    if before is None:
        click.echo(headline(after))
        return True
    changed, events = [*drift(before, after)], [*lost(before, after)]
    try:
        told(events)
    except UnavailableError as error:
        click.echo(f"{format_instant(after.at)} NOT TOLD  {error.message}: {event_lines(events).decode()}", err=True)
        return False
    if changed:
        click.echo(headline(after))
        click.echo("\n".join(f"CHANGED  {text}" for text in changed))
    return True
