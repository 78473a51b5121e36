"""``strongroom audit ls``: entries by reading the log from one end to the other."""

from __future__ import annotations

import click

from strongroom.audit.reading.growth import Place, place_at
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import last, walk
from strongroom.cli.audit_reading import Source, print_entry, query_options, say_unverified, source_options
from strongroom.cli.files import json_option


@click.command("ls")
@source_options
@query_options
@click.option("--last", "newest", type=click.IntRange(min=1), metavar="N", help="Look at the newest N entries only.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Print only the newest N that fit.")
@json_option
def ls(source: Source, query: Query, newest: int | None, limit: int | None, *, as_json: bool) -> None:
    """List entries, oldest first, by reading each of them: slow on a long log, and complete without any index.

    Each is checked to be in the log whose checkpoint is shown.
    """
    with source.opened() as view:
        head = view.head()
        start = Place.start(head.origin) if newest is None else place_at(view, head, max(0, head.size - newest))
        found = walk(view, start, head, query)
        for index, entry in found if limit is None else last(found, limit):
            print_entry(index, entry, as_json=as_json)
        say_unverified(view)
