"""``strongroom audit export``: the log's entries in the words of other systems, to a file or to a receiver."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from strongroom.audit.adapters.private_files import read_seed
from strongroom.audit.adapters.sinks import FileSink, HttpPost, StreamSink, read_headers
from strongroom.audit.export.cloudevents import CloudEventsFormat
from strongroom.audit.export.delivery import MAX_BATCH, HttpSink, Patience, Sink
from strongroom.audit.export.delivery import export as export_entries
from strongroom.audit.export.ocsf import OcsfFormat
from strongroom.audit.export.otlp import OtlpFormat
from strongroom.audit.export.pseudonyms import Pseudonyms
from strongroom.audit.export.record import Format, Record
from strongroom.audit.export.tables import CsvFormat
from strongroom.audit.reading.growth import MAX_PLACE_FILE, Place
from strongroom.audit.reading.view import LogView
from strongroom.cli.audit_reading import Source, say_unverified, source_options
from strongroom.cli.files import read_file
from strongroom.cli.seconds import Seconds
from strongroom.cli.stopping import Stopping
from strongroom.core.adapters.durable import write_durably
from strongroom.core.errors import UnavailableError, UsageError

_FORMATS: Final[dict[str, Callable[[], Format]]] = {
    "cloudevents": CloudEventsFormat,
    "csv": CsvFormat,
    "ocsf": OcsfFormat,
    "otlp": OtlpFormat,
}
_SENT: Final = frozenset({"cloudevents", "otlp"})


@click.command("export")
@source_options
@click.option("--to", "name", type=click.Choice(sorted(_FORMATS)), required=True, help="The format.")
@click.option("--out", required=True, help="A file to append to, `-` for standard output, or an https address.")
@click.option(
    "--cursor",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Remembers what was taken; one cursor for each receiver.",
)
@click.option("--batch", type=click.IntRange(1, MAX_BATCH), default=256, show_default=True, help="Entries at a time.")
@click.option("--follow", is_flag=True, help="Go on with what is logged later, until interrupted.")
@click.option("--every", type=Seconds(0.1, 3600), default=5.0, show_default=True, help="Seconds between looks.")
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=8, show_default=True, help="How often a batch is sent."
)
@click.option(
    "--pseudonyms",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A key of 32 random bytes: people and machines get other names.",
)
@click.option(
    "--headers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the receiver's HTTP headers, `Name: value`; for its token.",
)
@click.option(
    "--authority",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM certificates of the receiver's authority, if not one of the system's.",
)
def export(
    source: Source,
    *,
    name: str,
    out: str,
    cursor: Path,
    batch: int,
    every: float,
    attempts: int,
    pseudonyms: Path | None,
    headers: Path | None,
    authority: Path | None,
    follow: bool,
) -> None:
    """Hand the log's entries to another system, at least once each, from where the cursor stands.

    The cursor moves when a batch is safe: synced in the file, or taken by the receiver. A receiver that is lost holds
    back the export and nothing else; run it again, and it goes on where it stopped.
    """
    patience = Patience(attempts=attempts, sleep=time.sleep, chance=random.random)
    change = _unchanged if pseudonyms is None else Pseudonyms(read_seed(pseudonyms)).of
    with source.opened() as view:
        place = _begin(view, cursor, out)
        say_unverified(view)
        with _sink(out, name, headers, authority, patience) as sink:
            run = _Run(view, cursor, batch, change, sink)
            if not follow:
                place = run.once(place)
                click.echo(f"exported; the cursor stands at {place.size}", err=True)
                return
            with Stopping() as stopping:
                run.until_stopped(place, every, stopping)


def _begin(view: LogView, cursor: Path, out: str) -> Place:
    if cursor.exists():
        return Place.parse(read_file(cursor, most=MAX_PLACE_FILE))
    # A file is cut back to whole lines when it's opened: it must be one that this cursor began.
    if "://" not in out and out != "-" and Path(out).exists() and Path(out).stat().st_size:
        raise UsageError(f"`{Path(out).name}` isn't empty, and no cursor says what is in it")
    place = Place.start(view.head().origin)
    write_durably(cursor, place.to_bytes())
    return place


@dataclass(frozen=True, slots=True)
class _Run:
    view: LogView
    cursor: Path
    batch: int
    change: Callable[[Record], Record]
    sink: Sink

    def once(self, place: Place) -> Place:
        head = self.view.head()
        return export_entries(
            self.view, place, head, most=self.batch, change=self.change, sink=self.sink, moved=self._moved
        )

    def until_stopped(self, place: Place, every: float, stopping: Stopping) -> None:
        while True:
            try:
                place = self.once(place)
            except UnavailableError as error:
                click.echo(f"waiting: {error.message}", err=True)
                # What was taken since the last move is sent again.
                place = Place.parse(read_file(self.cursor, most=MAX_PLACE_FILE))
            if stopping.pause(every):
                return

    def _moved(self, place: Place) -> None:
        write_durably(self.cursor, place.to_bytes())


@contextmanager
def _sink(out: str, name: str, headers: Path | None, authority: Path | None, patience: Patience) -> Iterator[Sink]:
    written = _FORMATS[name]()
    if "://" in out:
        if name not in _SENT:
            raise UsageError(f"`{name}` goes to a file", remedy="over HTTP: --to cloudevents, or --to otlp")
        with HttpPost(out, {} if headers is None else read_headers(headers), authority) as post:
            yield HttpSink(written, post, patience)
        return
    if headers is not None or authority is not None:
        raise UsageError("--headers and --authority are for a receiver's address")
    sink = StreamSink(sys.stdout.buffer, written) if out == "-" else FileSink(Path(out), written)
    with closing(sink):
        yield sink


def _unchanged(record: Record) -> Record:
    return record
