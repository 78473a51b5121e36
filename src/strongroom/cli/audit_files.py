"""What the audit verbs share: where the log lies, its key in a file, and bounded reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from strongroom.audit.adapters.sources import open_source
from strongroom.audit.note import MAX_BYTES, VerifierKey
from strongroom.audit.tiles import TileSource
from strongroom.core.errors import UsageError

FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


class LogPlace(click.ParamType[TileSource]):
    """Where a published log is read: a folder, ``https://SERVER/PREFIX`` or ``s3://BUCKET/PREFIX``."""

    name = "folder or address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TileSource:
        """Open it; what is wrong with it is the command's error."""
        del param, ctx
        return open_source(value) if isinstance(value, str) else value


LOG_PLACE: Final = LogPlace()
log_option = click.option("--log", "folder", type=FOLDER, required=True, help="The log's published folder.")
source_option = click.option(
    "--log", "source", type=LOG_PLACE, required=True, help="The log's published folder, or where it is hosted."
)


def read_small(path: Path) -> bytes:
    """Return a file's bytes, one more than a note may have at most: what reads them refuses that."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def read_key(path: Path) -> VerifierKey:
    """Return the log's verifier key from a file of one line.

    :raises UsageError: the file isn't text. :raises MalformedError: it holds no key.
    """
    try:
        text = read_small(path).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise UsageError(f"`{path.name}` holds no verifier key") from None
    return VerifierKey.parse(text)
