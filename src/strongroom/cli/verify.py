"""``strongroom verify``: whether a sealed directory is whole and its publisher's, with or without a key to open it."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import progress_bar, show
from strongroom.cli.sealed import checked_manifest, publisher_option
from strongroom.cli.session import ask_passphrase, json_option, passphrase_option
from strongroom.core.canonical import Json
from strongroom.loaders.access import Identity
from strongroom.sealing.adapters.directory import open_directory, verify_directory
from strongroom.sealing.adapters.local_store import local_store


@click.command("verify")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@publisher_option
@click.option(
    "--identity",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A recipient identity: opens every file too, in memory, and checks all of it.",
)
@passphrase_option
@json_option
def verify(directory: Path, publisher: str, identity: Path | None, passphrase_fd: int | None, *, as_json: bool) -> None:
    """Check the manifest's signature and every byte of DIRECTORY's ciphertext against it; needs no key that opens it.

    Whether the version is the current one only the log can say: see `strongroom status`.
    """
    manifest = checked_manifest(directory, publisher)
    with progress_bar("verifying") as progress:
        verify_directory(directory, manifest, progress=progress)
    opened = None
    if identity is not None:
        with local_store(directory) as store:
            key = Identity(identity, ask_passphrase(passphrase_fd)).data_key(manifest, store)
        with key as data_key, open_directory(directory, data_key=data_key, manifest=manifest) as model:
            opened = len(model.files())
            for file in model.files():
                for _chunk in model.chunks(file.name):
                    pass
    data: dict[str, Json] = {
        "model": manifest.model,
        "version": manifest.version,
        "manifest": str(manifest.digest),
        "publisher": manifest.publisher,
        "objects": len(manifest.objects),
        "bytes": manifest.size,
        "opened": opened,
    }
    lines = [
        f"model      {manifest.model} version {manifest.version}, by {manifest.publisher}",
        f"manifest   {manifest.digest}",
        f"ciphertext {manifest.size} bytes in {len(manifest.objects)} objects: every byte is what that key signed",
    ]
    if opened is not None:
        lines.append(f"plaintext  {opened} files open, and every segment is authentic")
    show(data, lines, as_json=as_json)
