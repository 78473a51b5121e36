"""``strongroom export``: plaintext out of a sealed model, under a grant to export that a quorum agreed to."""

from __future__ import annotations

import os
from pathlib import Path

import click

from strongroom.access.request import Action
from strongroom.cli.files import require_new
from strongroom.cli.output import progress_bar, show
from strongroom.cli.sealed import identity_option
from strongroom.cli.session import as_wallet, ask_passphrase, json_option, passphrase_option, session
from strongroom.cli.staging import whole_or_none
from strongroom.client.delivery import accept_for_export
from strongroom.core.canonical import Json
from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.identity_file import open_identity
from strongroom.sealing.adapters.directory import open_directory, read_envelope, write_file
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, verify_manifest


@click.command("export")
@click.argument("digest")
@click.argument("sealed", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@identity_option
@as_wallet
@passphrase_option
@json_option
def export(
    digest: str, sealed: Path, out: Path, identity: Path, wallet: Path, passphrase_fd: int | None, *, as_json: bool
) -> None:
    """Use the grant of request DIGEST: write the plaintext of SEALED to the new folder OUT. From then on OUT is a copy.

    The request names the identity's public key: strongroom request create --action export-plaintext --to FILE.pub.
    """
    require_new(out)
    recipient = open_identity(identity, ask_passphrase(passphrase_fd))
    with session(wallet, passphrase_fd) as person:
        review = person.review(person.find(digest))
        if review.request.action is not Action.EXPORT_PLAINTEXT:
            raise UsageError(f"that request is for `{review.request.action.value}`")
        genesis = person.wallet.genesis()
        envelope = person.api.export(review.digest, recipient.public)
        delivery, data_key = accept_for_export(envelope, person.log, recipient, review.request)
    with data_key:
        if delivery.publisher_key is None or delivery.manifest is None:
            raise UsageError("the delivery names no manifest")
        expect = ManifestExpectation(
            genesis=genesis.digest, model=delivery.model, version=delivery.version, digest=delivery.manifest
        )
        manifest = verify_manifest(read_envelope(sealed), delivery.publisher_key, expect=expect)
        count = _write(sealed, out, data_key, manifest)
    data: Json = {"request": str(review.digest), "log_index": delivery.log_index, "files": count, "out": str(out)}
    show(data, f"{out}: {count} files in clear; log entry {delivery.log_index} says who took them", as_json=as_json)


def _write(sealed: Path, out: Path, data_key: SecretBytes, manifest: VerifiedManifest) -> int:
    """Write every file into a private folder that takes its name only when all of it is there and authentic."""
    with (
        whole_or_none(out, "exporting") as staging,
        open_directory(sealed, data_key=data_key, manifest=manifest) as model,
        progress_bar("exporting") as bar,
    ):
        files = model.files()
        for done, file in enumerate(files, start=1):
            path = staging / file.name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                write_file(model, file.name, handle)
                os.fsync(handle)
            finally:
                os.close(handle)
            if bar:
                bar(done, len(files))
    return len(files)
