"""What the audit verbs share: where the log lies, its key in a file, and bounded reading."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.audit.note import MAX_BYTES, VerifierKey
from strongroom.core.errors import UsageError

FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
log_option = click.option("--log", "folder", type=FOLDER, required=True, help="The log's published folder.")


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
