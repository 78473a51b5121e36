"""``strongroom measurements``: drafts of the reference values, for the root quorum to sign."""

from __future__ import annotations

from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.chain import EkRoot
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.platform_record import ENROLLABLE
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, no_passphrase, write_file
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.fields import Fields

_DAY = 86400
_CLASSES = click.Choice(sorted(one.value for one in ENROLLABLE))


@click.group("measurements")
def measurements() -> None:
    """Draft the reference values: which images are wanted, and which TPM makers are believed."""


@measurements.command("draft")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An image's entry, as `strongroom enclave measure` prints it.",
)
@click.option(
    "--ek-root",
    "roots",
    multiple=True,
    nargs=2,
    type=(_CLASSES, click.Path(path_type=Path, exists=True, dir_okay=False)),
    metavar="CLASS CERTIFICATE",
    help="A TPM maker's root certificate and the isolation class that it can vouch for.",
)
@click.option(
    "--previous",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The signed reference values in force; their images and roots are kept.",
)
@click.option("--revoke", "revoked", multiple=True, help="An image of the previous ones to revoke.")
@click.option("--days", default=90, show_default=True, help="How long they hold.")
@as_wallet
@json_option
def draft(
    out: Path,
    images: tuple[Path, ...],
    roots: tuple[tuple[str, Path], ...],
    previous: Path | None,
    revoked: tuple[str, ...],
    days: int,
    wallet: Path,
    *,
    as_json: bool,
) -> None:
    """Write reference values for the root quorum to sign (`strongroom sign reference-values FILE`)."""
    before = ReferenceValues.parse(Envelope.parse(previous.read_bytes()).payload) if previous else None
    added = [_image(path) for path in images]
    names = {image.image for image in added}
    kept = [image for image in (before.images if before else ()) if image.image not in names]
    known = {image.image for image in kept}
    if unknown := set(revoked) - known:
        raise UsageError(f"no image `{min(unknown)}` is in the reference values before")
    listed = [
        ReferenceImage(image=one.image, events=one.events, revoked=one.revoked or one.image in revoked) for one in kept
    ]
    values = ReferenceValues(
        genesis=WalletFolder(wallet, no_passphrase).genesis().digest,
        epoch=before.epoch + 1 if before else 1,
        images=(*listed, *added),
        ek_roots=(*(before.ek_roots if before else ()), *(_root(name, path) for name, path in roots)),
        not_after=SystemClock().now() + days * _DAY,
        predecessor=Digest.of(before.to_bytes()) if before else None,
    )
    write_file(out, values.to_bytes())
    told: Json = {"file": str(out), "epoch": values.epoch, "images": [image.image for image in values.images]}
    show(
        told, f"{out}: epoch {values.epoch}, {len(values.images)} images, {len(values.ek_roots)} roots", as_json=as_json
    )


def _image(path: Path) -> ReferenceImage:
    with Fields(parse(path.read_bytes(), max_bytes=65536), path.name) as fields:
        return ReferenceImage.read(fields)


def _root(name: str, path: Path) -> EkRoot:
    data = path.read_bytes()
    try:
        loaded = x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
    except ValueError:
        raise UsageError(f"`{path}` isn't a certificate") from None
    return EkRoot(loaded.public_bytes(Encoding.DER), IsolationClass(name))
