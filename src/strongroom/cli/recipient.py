"""``strongroom recipient``: identities that open sealed models without a keeper."""

from __future__ import annotations

import os
from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.session import ask_passphrase, json_option, passphrase_option
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.keys.adapters.identity_file import create_identity, open_identity
from strongroom.keys.recipient import public_text


@click.group("recipient")
def recipient() -> None:
    """Make and show recipient identities: who can open a sealed model without a keeper."""


@recipient.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--protect", is_flag=True, help="Protect it with a passphrase, which is asked.")
@passphrase_option
@json_option
def new(file: Path, passphrase_fd: int | None, *, protect: bool, as_json: bool) -> None:
    """Make an identity in FILE, and its public key in FILE.pub.

    Without --protect or --passphrase-fd the identity lies in clear, for a host where nobody can type a passphrase.
    """
    passphrase = ask_passphrase(passphrase_fd)() if protect or passphrase_fd is not None else None
    public = create_identity(file, os.urandom, passphrase=passphrase)
    public_file = file.with_name(file.name + ".pub")
    public_file.write_text(public_text(public) + "\n", encoding="ascii")
    _show(public, file=file, public_file=public_file, as_json=as_json)


@recipient.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@passphrase_option
@json_option
def show_identity(file: Path, passphrase_fd: int | None, *, as_json: bool) -> None:
    """Open the identity in FILE and show its public key."""
    public = open_identity(file, ask_passphrase(passphrase_fd)).public
    _show(public, file=file, public_file=None, as_json=as_json)


def _show(public: bytes, *, file: Path, public_file: Path | None, as_json: bool) -> None:
    data: dict[str, Json] = {
        "identity": str(file),
        "digest": str(Digest.of(public)),
        "public": public_text(public),
        "public_file": str(public_file) if public_file else None,
    }
    lines = [f"identity    {file}", f"digest      {Digest.of(public)}"]
    lines.append(f"public key  {public_file}" if public_file else f"public key  {public_text(public)}")
    show(data, lines, as_json=as_json)
