"""``strongroom audit``: read and verify a published log, offline, with nothing but its folder and its key."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.entries import Entry
from strongroom.audit.errors import LogError, WrongKeyError
from strongroom.audit.note import MAX_BYTES, VerifierKey
from strongroom.audit.verify import Report, claimed_size, read_published, verify_entry_at, verify_log
from strongroom.core.clock import format_instant
from strongroom.core.encoding import to_base64
from strongroom.core.errors import NotFoundError, StrongroomError, UsageError
from strongroom.core.genesis import Genesis

_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_log_option = click.option("--log", "folder", type=_FOLDER, required=True, help="The log's published folder.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("audit")
def audit() -> None:
    """Read and verify the transparency log, offline."""


@audit.command("verify")
@_log_option
@click.option("--key", type=_FILE, required=True, help="A file with the log's verifier key, one line.")
@click.option("--previous", type=_FILE, help="A checkpoint that you kept: the log must continue it.")
@click.option("--genesis", type=_FILE, help="The deployment's genesis: also checks every signature of the keeper.")
@_json_option
def verify(folder: Path, key: Path, previous: Path | None, genesis: Path | None, *, as_json: bool) -> None:
    """Recompute the whole log from its entries and compare it with what was signed."""
    try:
        report = _verify(folder, key, previous, genesis)
    except StrongroomError as error:
        if not as_json:
            raise
        click.echo(json.dumps(_failure(error), sort_keys=True))
        sys.exit(int(error.exit_code))
    if as_json:
        click.echo(json.dumps(report.to_json(), sort_keys=True))
    else:
        _print_report(report)


@audit.command("ls")
@_log_option
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N entries.")
@_json_option
def ls(folder: Path, last: int | None, *, as_json: bool) -> None:
    """List the log's entries, oldest first. Nothing is verified: see `verify`."""
    source = FolderSource(folder)
    size = claimed_size(source)
    for index, entry in read_published(source, start=max(0, size - last) if last else 0, size=size):
        if as_json:
            click.echo(json.dumps({"index": index, **entry.to_json()}, sort_keys=True))
        else:
            click.echo(f"{index:>8}  {format_instant(entry.at)}  {entry.event.value:<36}  {_summary(entry)}".rstrip())


@audit.command("show")
@_log_option
@click.argument("index", type=click.IntRange(min=0))
@click.option("--key", type=_FILE, help="A file with the log's verifier key: proves that this entry is in the log.")
@_json_option
def show(folder: Path, index: int, key: Path | None, *, as_json: bool) -> None:
    """Show one entry by its index."""
    source = FolderSource(folder)
    size = claimed_size(source)
    if index >= size:
        raise NotFoundError(f"the log has {size} entries, none with index {index}")
    proven = None if key is None else verify_entry_at(source, _read_key(key), index)
    entry = next(read_published(source, start=index, size=size))[1]
    if as_json:
        shown = {"index": index, "proven_in": None if proven is None else proven.size, **entry.to_json()}
        click.echo(json.dumps(shown, sort_keys=True))
        return
    click.echo(f"entry {index}: {entry.event.value}")
    click.echo(f"  at    {format_instant(entry.at)}\n  by    {entry.by.value}, number {entry.seq}")
    for name, value in entry.facts.items():
        for item in value if isinstance(value, tuple) else (value,):
            click.echo(f"  {name:<16}  {'none' if item is None else item}")
    click.echo(
        "\nnot verified: give --key" if proven is None else f"\nproven in the signed log of {proven.size} entries"
    )


def _verify(folder: Path, key_file: Path, previous: Path | None, genesis_file: Path | None) -> Report:
    key = _read_key(key_file)
    genesis = None if genesis_file is None else Genesis.parse(_read(genesis_file))
    if genesis is not None and (genesis.log_origin, genesis.log_key) != (key.name, key.public_key):
        raise WrongKeyError("the verifier key isn't the one that the genesis names for its log")
    return verify_log(
        FolderSource(folder),
        key,
        keeper_key=None if genesis is None else genesis.keeper_key,
        genesis=None if genesis is None else genesis.digest,
        previous=None if previous is None else _read(previous),
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _read_key(path: Path) -> VerifierKey:
    try:
        text = _read(path).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise UsageError(f"`{path.name}` holds no verifier key") from None
    return VerifierKey.parse(text)


def _failure(error: StrongroomError) -> dict[str, object]:
    return {
        "ok": False,
        "code": error.reason,
        "message": error.message,
        "index": error.index if isinstance(error, LogError) else None,
    }


def _print_report(report: Report) -> None:
    head = report.checkpoint
    click.echo(f"ok: {head.size} entries of `{head.origin}`, root {to_base64(head.root)}")
    if report.first_at is not None and report.last_at is not None:
        click.echo(f"from {format_instant(report.first_at)} to {format_instant(report.last_at)}")
    for event, count in sorted(report.events.items()):
        click.echo(f"{count:>8}  {event.value}")
    if report.previous is not None:
        click.echo(f"continues the earlier checkpoint of {report.previous.size} entries")
    if report.keeper_signatures is None:
        click.echo("not checked: the keeper's signatures (give --genesis)")
    else:
        click.echo(f"{report.keeper_signatures} signatures of the keeper are good")


def _summary(entry: Entry) -> str:
    wanted = ("model", "version", "platform", "requester", "person", "publisher", "action", "step", "reason", "cause")
    return "  ".join(f"{name}={entry.facts[name]}" for name in wanted if name in entry.facts)
