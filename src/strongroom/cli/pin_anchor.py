"""``strongroom pin-anchor``: a few bytes in the TPM that say how new the keeper's disk must be."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.core.errors import UsageError
from strongroom.keeper.adapters.anchor_files import AnchorFolder, TpmRegister
from strongroom.keeper.anchor import AnchorUri
from strongroom.keeper.wiring import load_genesis

_HOME = click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The deployment's folder."
)


@click.group("pin-anchor")
def pin_anchor() -> None:
    """Have this machine's TPM say how new the keeper's disk must be. Both verbs are for a keeper that is stopped."""


@pin_anchor.command("make")
@_HOME
@click.argument("uri", metavar="URI")
def make(home: Path, uri: str) -> None:
    """Anchor the pins at URI from the next start on, say `tpm2:device:/dev/tpmrm0?nv=0x018f0000`."""
    choose_anchor(home, uri)
    click.echo(f"from the next start on, pins are anchored at {uri}")


@pin_anchor.command("renew")
@_HOME
@click.option("--at", "uri", help="Another URI, when the TPM was replaced.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def renew(home: Path, uri: str | None, *, yes: bool) -> None:
    """Forget what was anchored and begin anew: after the TPM was cleared or replaced, or a backup was restored.

    Until the next start nothing shows that the disk was put back. Compare the log's head with what people and
    witnesses saw first.
    """
    folder = _folder(home)
    before = folder.uri()
    if before is None:
        raise UsageError("this deployment's pins aren't anchored", remedy="strongroom pin-anchor make")
    parsed = before if uri is None else AnchorUri.parse(uri)
    if not yes:
        click.confirm("Is the log whole, as people and witnesses saw it?", abort=True, err=True)
    TpmRegister(parsed).undefine()
    folder.choose(parsed)
    click.echo(f"from the next start on, pins are anchored anew at {parsed}")


def choose_anchor(home: Path, uri: str) -> None:
    """Have the pins of the deployment at ``home`` anchored at ``uri`` from the next start on.

    :raises AnchorUriError: another form.
    :raises UsageError: they are anchored already, or the index is in use.
    :raises AnchorRefusedError: the TPM can't be used.
    """
    folder, parsed = _folder(home), AnchorUri.parse(uri)
    if folder.uri() is not None:
        raise UsageError("this deployment's pins are anchored already", remedy="strongroom pin-anchor renew")
    if TpmRegister(parsed).defined():
        raise UsageError(f"index 0x{parsed.index:08x} of this TPM is in use", remedy="choose another index")
    folder.choose(parsed)


def _folder(home: Path) -> AnchorFolder:
    load_genesis(home)
    return AnchorFolder(home / "keeper")
