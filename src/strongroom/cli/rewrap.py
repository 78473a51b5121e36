"""``strongroom rewrap``: add and remove recipients of a sealed model; no weights are touched."""

from __future__ import annotations

import os
from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.sealed import checked_manifest, identity_option, publisher_option, read_recipient
from strongroom.cli.session import ask_passphrase, json_option, passphrase_option
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.keys.adapters.identity_file import open_identity
from strongroom.release.stanzas import open_stanza, rewrapped
from strongroom.sealing.adapters.local_store import local_store
from strongroom.sealing.errors import NoStanzaError
from strongroom.sealing.recipients import MAX_RECIPIENTS_FILE, RECIPIENTS_NAME, Recipients


@click.command("rewrap")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@publisher_option
@identity_option
@click.option("--add", multiple=True, type=click.Path(path_type=Path), help="A file with a recipient's public key.")
@click.option("--remove", multiple=True, type=Digest.parse, help="The digest of a recipient's public key.")
@passphrase_option
@json_option
def rewrap(
    directory: Path,
    publisher: str,
    identity: Path,
    add: tuple[Path, ...],
    remove: tuple[Digest, ...],
    passphrase_fd: int | None,
    *,
    as_json: bool,
) -> None:
    """Add recipients to DIRECTORY, or remove them, as one who can open it. Without either, list them.

    A removed recipient may have kept the data key: seal a new version to be rid of one.
    """
    manifest = checked_manifest(directory, publisher)
    with local_store(directory) as store:
        try:
            before = Recipients.parse(store.document(RECIPIENTS_NAME, most=MAX_RECIPIENTS_FILE + 1))
        except FileNotFoundError:
            raise NoStanzaError("the sealed model has no recipients but its keeper") from None
    with open_stanza(before, open_identity(identity, ask_passphrase(passphrase_fd)), manifest) as data_key:
        after = rewrapped(
            before, manifest, data_key, add=[read_recipient(file) for file in add], remove=frozenset(remove)
        )
    if add or remove:
        _replace(directory, after.to_bytes())
    listed: list[Json] = [str(stanza.recipient) for stanza in (after if add or remove else before).stanzas]
    show({"recipients": listed}, [f"recipient  {one}" for one in listed], as_json=as_json)


def _replace(directory: Path, data: bytes) -> None:
    # Outside of the directory: whatever lies in there that the manifest doesn't name is refused.
    temporary = directory.parent / f".{directory.name}.recipients"
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / RECIPIENTS_NAME)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
