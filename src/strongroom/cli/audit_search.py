"""``strongroom audit search``: entries found through an index, each read again from the log."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import search as search_log
from strongroom.cli.audit_reading import Source, print_entry, query_options, say_unverified, source_options
from strongroom.cli.files import json_option
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError

_LIMIT: Final = 100


@click.command("search")
@source_options
@query_options
@click.option("--limit", type=click.IntRange(1, 100_000), default=_LIMIT, show_default=True, help="The newest N.")
@click.option(
    "--index", "index_file", type=click.Path(dir_okay=False, path_type=Path), help="The index; else in your cache."
)
@json_option
def search(source: Source, query: Query, limit: int, index_file: Path | None, *, as_json: bool) -> None:
    """Find entries by person, model, request, platform, event, outcome and time, oldest first.

    The index is derived from the log and brought up to date first. It is never believed: each entry that it names is
    read again from the log, and proven where the log's key is known. What an index hides, `audit ls` finds.
    """
    if query == Query():
        raise UsageError("say what to search for", remedy="to see everything: strongroom audit ls")
    with source.opened() as view:
        path = index_file or _cached(view.head().origin)
        with closing(SqliteIndex(path)) as index:
            for place, entry in search_log(view, index, query, limit):
                print_entry(place, entry, as_json=as_json)
        say_unverified(view)


def _cached(origin: str) -> Path:
    told = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(told) if told.startswith("/") else Path("~/.cache").expanduser()
    # By a digest: an origin is hostile text until it's verified, and no file name.
    return cache / "strongroom" / "audit" / f"{Digest.of(origin.encode()).value.hex()[:32]}.index"
