"""``strongroom audit show``: one entry, and the proof that it is in the log."""

from __future__ import annotations

import json

import click

from strongroom.audit.reading.view import entry_at
from strongroom.cli.audit_reading import Source, source_options
from strongroom.cli.files import json_option
from strongroom.core.clock import format_instant


@click.command("show")
@source_options
@click.argument("index", type=click.IntRange(min=0))
@json_option
def show(source: Source, index: int, *, as_json: bool) -> None:
    """Show one entry by its index, proven to be in the signed log where the log's key is known."""
    with source.opened() as view:
        head = view.head()
        entry = entry_at(view, head, index)[1]
        proven = head.size if view.signed else None
    if as_json:
        click.echo(json.dumps({"index": index, "proven_in": proven, **entry.to_json()}, sort_keys=True))
        return
    click.echo(f"entry {index}: {entry.event.value}")
    click.echo(f"  at    {format_instant(entry.at)}\n  by    {entry.by.value}, number {entry.seq}")
    for name, value in entry.facts.items():
        for item in value if isinstance(value, tuple) else (value,):
            click.echo(f"  {name:<16}  {'none' if item is None else item}")
    click.echo("\nnot verified: give --key" if proven is None else f"\nproven in the signed log of {proven} entries")
