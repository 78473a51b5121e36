"""``strongroom keyring``: whom to believe, and what opens a model, for programs that load it by its path."""

from __future__ import annotations

import os
from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.sealed import checked_manifest, identity_option, publisher_option, read_publisher
from strongroom.cli.session import json_option
from strongroom.core.canonical import Json
from strongroom.core.errors import UsageError
from strongroom.loaders.access import Access, Checking, Identity
from strongroom.loaders.keyring import KEYRING_DEFAULT, KEYRING_VARIABLE, Keyring


def _path() -> Path:
    return Path(os.environ.get(KEYRING_VARIABLE, KEYRING_DEFAULT)).expanduser()


def _load(path: Path) -> Keyring:
    return Keyring.load(path) if path.exists() else Keyring(())


@click.group("keyring")
def keyring() -> None:
    """Say how models are opened that a program loads by path (STRONGROOM_KEYRING names the file)."""


@keyring.command("add")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@publisher_option
@identity_option
@click.option("--whole", is_flag=True, help="Check whole files against the signed digest, at each load.")
@json_option
def add(directory: Path, publisher: str, identity: Path, *, whole: bool, as_json: bool) -> None:
    """Add the model in DIRECTORY; from now on older versions of it are refused."""
    manifest = checked_manifest(directory, publisher)
    path = _path()
    entry = Access(
        keys=Identity(identity.absolute()),
        publisher=read_publisher(publisher),
        genesis=manifest.genesis,
        model=manifest.model,
        least_version=manifest.version,
        checking=Checking.WHOLE if whole else Checking.SEGMENTS,
    )
    _load(path).with_entry(entry).save(path)
    _show((entry,), path, as_json=as_json)


@keyring.command("ls")
@json_option
def list_entries(*, as_json: bool) -> None:
    """List the models in the keyring."""
    _show(_load(_path()).entries, _path(), as_json=as_json)


@keyring.command("rm")
@click.argument("model")
@json_option
def remove(model: str, *, as_json: bool) -> None:
    """Remove every entry of MODEL."""
    before = _load(_path()).entries
    kept = tuple(entry for entry in before if entry.model != model)
    if kept == before:
        raise UsageError(f"the keyring has no model `{ascii(model)[1:-1]}`")
    Keyring(kept).save(_path())
    _show(kept, _path(), as_json=as_json)


def _show(entries: tuple[Access, ...], path: Path, *, as_json: bool) -> None:
    models: list[Json] = [
        {
            "model": entry.model,
            "genesis": str(entry.genesis),
            "publisher": entry.publisher.key_id,
            "least_version": entry.least_version,
            "checking": entry.checking.value,
        }
        for entry in entries
    ]
    lines = [
        f"{entry.model}  version {entry.least_version} or newer, signed by key {entry.publisher.key_id}"
        for entry in entries
    ]
    show({"keyring": str(path), "models": models}, [f"keyring {path}", *lines], as_json=as_json)
