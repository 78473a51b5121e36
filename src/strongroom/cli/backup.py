"""``strongroom backup``: make, show and verify backups of the whole control plane."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from strongroom.backup.adapters.making import Wanted, make_backup
from strongroom.backup.adapters.reading import Backup, open_backup, verify_backup
from strongroom.backup.contents import Section
from strongroom.backup.header import BackupHeader
from strongroom.cli.backup_order import order
from strongroom.cli.files import json_option
from strongroom.cli.output import show
from strongroom.cli.sealed import read_recipient
from strongroom.cli.session import ask_passphrase, passphrase_option
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.digest import Digest
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.wiring import load_genesis
from strongroom.keys.adapters.identity_file import open_identity

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_KEEPER_SECONDS = 20.0


@click.group("backup")
def backup() -> None:
    """Make, show and verify backups: everything but the keys, which are in the key package."""


@backup.command("make")
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The deployment's folder."
)
@click.option("--to", "target", type=_FILE, required=True, help="The file to write; nothing is overwritten.")
@click.option(
    "--recipient",
    "recipients",
    type=_FILE,
    multiple=True,
    required=True,
    help="A file with a recipient's public key (`recipient new`); repeat it: any one of them opens the backup.",
)
@click.option(
    "--custodian",
    "custodians",
    type=_FILE,
    multiple=True,
    help="As above, for the machine's own section: the log's key, the authority and the broker's settings.",
)
@json_option
def make(
    home: Path, target: Path, recipients: tuple[Path, ...], custodians: tuple[Path, ...], *, as_json: bool
) -> None:
    """Back up a running deployment into one encrypted file, and have the log say so.

    It holds no key of the root, of an epoch or of a model: keep the newest key package beside it, elsewhere.
    """
    keyring = load_keyring(home / "keeper")
    wanted = Wanted(
        home=home,
        genesis=load_genesis(home),
        epoch=max(epoch.epoch for epoch in keyring.epochs),
        generation=keyring.generation,
        at=SystemClock().now(),
        recipients=tuple(map(read_recipient, recipients)),
        custodians=tuple(map(read_recipient, custodians)),
    )
    made = make_backup(
        target,
        wanted,
        record=lambda digest, size, log: _record(home, digest, size=size, log=log),
        random_bytes=os.urandom,
    )
    data: dict[str, Json] = {"file": str(target), "digest": str(made.digest), "size": made.size}
    lines = [f"made {target}", f"  digest  {made.digest}", f"  size    {made.size} bytes", *_lines(made.header)]
    if not custodians:
        lines.append("  without --custodian the log's key isn't in it: restoring needs that key from elsewhere")
    show(data | {"header": made.header.to_json()}, lines, as_json=as_json)


@backup.command("show")
@click.argument("file", type=_FILE)
@json_option
def show_backup(file: Path, *, as_json: bool) -> None:
    """Show what a backup says of itself; takes no key, and proves nothing but that the file has its length."""
    opened = open_backup(file)
    digest = opened.digest()
    data: dict[str, Json] = {"digest": str(digest), "size": opened.size, "header": opened.header.to_json()}
    show(data, [f"digest  {digest}", *_lines(opened.header), *_parts(opened)], as_json=as_json)


@backup.command("verify")
@click.argument("file", type=_FILE)
@click.option("--recipient-key", "key", type=_FILE, required=True, help="The identity that opens the backup.")
@passphrase_option
@json_option
def verify(file: Path, key: Path, passphrase_fd: int | None, *, as_json: bool) -> None:
    """Decrypt a backup and check all of it: every part, the log's tree, and the log's signature. Writes nothing."""
    opened = open_backup(file)
    genesis, sections = verify_backup(opened, open_identity(key, ask_passphrase(passphrase_fd)))
    missing = [section.section.value for section in opened.header.sections if section.section not in sections]
    data: dict[str, Json] = {
        "ok": True,
        "digest": str(opened.digest()),
        "genesis": str(genesis.digest),
        "log": opened.header.log.size,
        "verified": [section.value for section in sections],
        "not_opened": list(missing),
    }
    lines = [
        f"whole: {len(_parts(opened))} parts, and a log of {opened.header.log.size} entries signed by its key",
        f"  genesis {genesis.digest}: compare it with the one that you pinned",
        *(f"  not checked: the section `{name}` isn't encrypted to this key" for name in missing),
    ]
    show(data, lines, as_json=as_json)


backup.add_command(order)


def _record(home: Path, digest: Digest, *, size: int, log: int) -> None:
    async def record() -> None:
        client = UnixClient(home / "run" / "keeper.sock", seconds=_KEEPER_SECONDS)
        try:
            answer = await client.call("backup-made", backup=str(digest), size=size, log=log)
            answer.integer("index")
        finally:
            await client.close()

    asyncio.run(record())


def _lines(header: BackupHeader) -> list[str]:
    lines = [
        f"  of      `{header.deployment}`, genesis {header.genesis}",
        f"  made    {format_instant(header.made)}, key epoch {header.epoch}, root generation {header.generation}",
        f"  log     {header.log.size} entries of {header.log.origin}, root {header.log.root}",
    ]
    lines += [
        f"  {section.section.value:<8}{len(section.parts)} parts, {section.plaintext_size} bytes, opened by any one of "
        + ", ".join(str(stanza.recipient) for stanza in section.stanzas)
        for section in header.sections
    ]
    if header.section(Section.MACHINE) is None:
        lines.append("  the log's key isn't in it")
    return lines


def _parts(opened: Backup) -> list[str]:
    return [f"    {part.size:>12}  {part.name}" for section in opened.header.sections for part in section.parts]
