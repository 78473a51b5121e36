"""Files and output that verbs share which need no wallet and no deployment: light enough to import first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from strongroom.core.errors import ConflictError, UsageError

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Add ``--json``; passed as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def require_new(path: Path) -> None:
    """Check that nothing is where something new is to be made, a link that leads nowhere included.

    :raises ConflictError: something is.
    """
    if path.is_symlink() or path.exists():
        raise ConflictError(f"`{path}` is there already", remedy="choose another name")


def read_file(path: Path, *, most: int) -> bytes:
    """Read a file of at most ``most`` bytes.

    :raises UsageError: it isn't there, or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no file `{path}`") from None
    if len(data) > most:
        raise UsageError(f"`{path.name}` is larger than {most} bytes")
    return data
