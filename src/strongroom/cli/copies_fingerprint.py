"""``strongroom copies fingerprint``: sketches of a model's tensors, for those who search for copies of it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from strongroom.cli.copies_parts import own_register, register_option
from strongroom.cli.output import show
from strongroom.cli.sealed import read_recipient
from strongroom.cli.session import as_wallet, ask_passphrase, json_option, passphrase_option
from strongroom.client.fingerprints import read_fingerprints, write_fingerprints
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.ids import model_id
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.intake.adapters.copy_files import copy_sources
from strongroom.intake.adapters.register_folder import stored_fingerprints
from strongroom.intake.copies.catalogue import Catalogue
from strongroom.intake.copies.discovery import fingerprint as sketched
from strongroom.intake.copies.fingerprints import KEY_BYTES, Sketcher
from strongroom.keys.adapters.identity_file import open_identity

_file = click.Path(path_type=Path, dir_okay=False)


@click.command("fingerprint")
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--model", required=True, help="The model's name.")
@click.option("--version", type=click.IntRange(min=1), required=True, help="Its version.")
@click.option("--identity", type=_file, help="An identity that opens the fingerprints that are there already.")
@click.option("--to", "recipients", multiple=True, type=_file, help="Who may search: FILE.pub. Repeatable.")
@register_option
@as_wallet
@passphrase_option
@json_option
def fingerprint(
    *,
    folder: Path,
    model: str,
    version: int,
    identity: Path | None,
    recipients: tuple[Path, ...],
    register: Path,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Sketch the weights in FOLDER, which lie in the clear there, and add them to the register's fingerprints."""
    name = model_id(model)
    place, opened = own_register(register, wallet, passphrase_fd)
    with place.writing():
        # Held, so that two who add a model at once don't lose one.
        genesis = opened.genesis().digest
        catalogue, known = _before(register, (opened.identity.key, genesis), identity, passphrase_fd)
        to = tuple(dict.fromkeys((*known, *map(read_recipient, recipients))))
        made = sketched(copy_sources(folder).items(), Sketcher(catalogue.key), model=name, version=version)
        data = write_fingerprints(
            catalogue.with_model(made), to, opened.signer(), genesis=genesis, random_bytes=os.urandom
        )
        place.keep_fingerprints(data)
    size = sum(len(one.sketches) for one in made.tensors)
    told: Json = {"model": name, "version": version, "tensors": len(made.tensors), "bytes": size, "readers": len(to)}
    show(told, f"{len(made.tensors)} tensors of {name} {version}, {size} bytes, for {len(to)} readers", as_json=as_json)


def _before(
    register: Path, owner: tuple[PublicKey, Digest], identity: Path | None, passphrase_fd: int | None
) -> tuple[Catalogue, tuple[bytes, ...]]:
    """Return the catalogue that is there and who reads it; an empty one, with a key of its own, where none is."""
    try:
        data = stored_fingerprints(register)
    except NotFoundError:
        return Catalogue(key=SecretBytes(bytearray(os.urandom(KEY_BYTES)))), ()
    if identity is None:
        raise UsageError("there are fingerprints already", remedy="give --identity, one that opens them")
    registrar, genesis = owner
    found = read_fingerprints(data, registrar, open_identity(identity, ask_passphrase(passphrase_fd)))
    if found.genesis != genesis:
        raise UsageError("the fingerprints are another deployment's", remedy="name this one's register")
    return found.catalogue, found.recipients
