"""``strongroom audit verifier``: print the single-file verifier, for whoever wants to read what they run."""

from __future__ import annotations

from importlib.resources import files

import click

from strongroom.core.digest import Digest


@click.command("verifier")
def verifier() -> None:
    """Print the verifier of logs: one file, Python and `cryptography` alone. Its digest goes to standard error.

    Compare the digest with one that reached you another way: strongroom audit verifier > verifier.py
    """
    source = files("strongroom.audit").joinpath("standalone_verifier.py").read_bytes()
    click.echo(source, nl=False)
    click.echo(f"{Digest.of(source)}", err=True)
