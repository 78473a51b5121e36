"""How results and refusals reach a person or a program: text, or one JSON object; and the exit code either way."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click

from strongroom.core.canonical import Json
from strongroom.core.errors import ExitCode, StrongroomError, UnavailableError


def show(data: Json, text: str | Iterable[str], *, as_json: bool) -> None:
    """Print a result: ``data`` as JSON, or ``text``."""
    if as_json:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        click.echo(text if isinstance(text, str) else "\n".join(text))


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Lay rows out in columns."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows))
    return "\n".join(line.rstrip() for line in lines)


def refuse(error: StrongroomError, *, as_json: bool) -> NoReturn:
    """End the program with an error: JSON to standard output, where a program reads, or text to standard error."""
    if as_json:
        told = {"ok": False, "code": error.reason, "message": error.message, "remedy": error.remedy}
        click.echo(json.dumps(told | {"exit_code": int(error.exit_code)}))
    else:
        click.echo(f"strongroom: {error.diagnosis()}", err=True)
    sys.exit(int(error.exit_code))


def system_error(error: OSError) -> StrongroomError:
    """Return the refusal that an error of the operating system amounts to."""
    place = f": `{os.fsdecode(error.filename)}`" if isinstance(error.filename, str | bytes) else ""
    why = os.strerror(error.errno) if error.errno else str(error)[:200]
    return UnavailableError(f"the system refused, {why.lower()}{place}", reason="system")


def end(code: ExitCode) -> NoReturn:
    """End the program with a code other than success, after its result was printed."""
    sys.exit(int(code))


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], object] | None]:
    """Show a bar on a terminal, and nothing elsewhere; what it gives is told (done, in all)."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:
        before = 0

        def report(done: int, total: int) -> None:
            nonlocal before
            bar.length = total
            bar.update(done - before)
            before = done

        yield report
