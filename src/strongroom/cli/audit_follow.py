"""``strongroom audit follow``: entries as they are logged, from where this command was before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.reading.growth import MAX_PLACE_FILE, Place, check_continues, grow, place_at
from strongroom.audit.reading.query import Query, recorded_request
from strongroom.audit.reading.search import requests_before
from strongroom.audit.reading.view import LogView, judged
from strongroom.cli.audit_reading import Source, print_entry, query_options, say_unverified, source_options
from strongroom.cli.files import json_option, read_file
from strongroom.cli.seconds import Seconds
from strongroom.cli.stopping import Stopping
from strongroom.core.adapters.durable import write_durably
from strongroom.core.errors import UnavailableError, UsageError

_LONGEST: Final = 60.0
Take = Callable[[int, bytes], None]
"""Is told an entry's index and its bytes, which are proven to be in the log."""


@click.command("follow")
@source_options
@query_options
@click.option(
    "--cursor",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Remember here how far you got; a log that went back or was rewritten since is refused.",
)
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=0),
    help="Begin with this entry, not with the next one. Not with a cursor.",
)
@click.option("--every", type=Seconds(0.1, 3600), default=2.0, show_default=True, help="Seconds between looks.")
@json_option
def follow(
    source: Source, query: Query, cursor: Path | None, start: int | None, every: float, *, as_json: bool
) -> None:
    """Print new entries until interrupted, each checked to be in a log that only ever grew.

    Restarted with its cursor it goes on behind the last entry that it printed; after a crash it may print a few again.
    """
    with source.opened() as view:
        head = view.head()
        place = place_of(view, head, cursor, start)
        models = requests_before(view, head, place.size) if query.model else {}
        say_unverified(view)

        def take(index: int, data: bytes) -> None:
            entry = judged(view, index, data)
            told = recorded_request(entry)
            if told is not None:
                models.setdefault(*told)
            if query.matches(entry, models.get):
                print_entry(index, entry, as_json=as_json)

        with Stopping() as stopping:
            watch(view, place, take, cursor, every, stopping)


def place_of(view: LogView, head: Checkpoint, cursor: Path | None, start: int | None) -> Place:
    """Return where to begin: at the cursor, checked against the log; else at ``start``, else at the log's end.

    :raises UsageError: both a used cursor and a start were given. :raises LogError: the log isn't what it was.
    """
    if cursor is not None and cursor.exists():
        if start is not None:
            raise UsageError(f"`{cursor.name}` says where to begin; --from is for the first time")
        place = Place.parse(read_file(cursor, most=MAX_PLACE_FILE))
        check_continues(view, place, head)
        return place
    place = place_at(view, head, head.size if start is None else start)
    if cursor is not None:
        # From now on: what is logged before the first look is new as well.
        write_durably(cursor, place.to_bytes())
    return place


def watch(view: LogView, place: Place, take: Take, cursor: Path | None, every: float, stopping: Stopping) -> None:
    """Take entries as they come, until stopped. While nobody answers it waits, and says so once."""
    silent = 0
    while True:
        try:
            place = _step(view, place, take, cursor)
            silent = 0
        except UnavailableError as error:
            if not silent:
                click.echo(f"waiting: {error.message}", err=True)
            silent += 1
        if stopping.pause(min(_LONGEST, every * 2.0 ** min(silent, 10)) if silent else every):
            return


def _step(view: LogView, place: Place, take: Take, cursor: Path | None) -> Place:
    for after, entries in grow(view, place, view.head()):
        for index, data in enumerate(entries, after.size - len(entries)):
            take(index, data)
        sys.stdout.flush()
        if cursor is not None:
            write_durably(cursor, after.to_bytes())
        place = after
    return place
