"""``strongroom measurements``: the reference values, from a draft to what is in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.platform_record import TPM_CLASSES
from strongroom.attestation.reference_values import CustodyRecord, ReferenceImage, ReferenceValues
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor
from strongroom.cli.attestation_policy import read_policy_file
from strongroom.cli.documents import read_envelope, sign_document
from strongroom.cli.output import show
from strongroom.cli.session import (
    as_wallet,
    json_option,
    open_wallet,
    passphrase_option,
    read_file,
    session,
    write_file,
    yes_option,
)
from strongroom.client.documents import summary
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import Instant, SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import image_id, platform_id
from strongroom.release.documents import DocumentKind

_DAY: Final = 86400
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_NEW_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_CLASSES: Final = click.Choice(sorted(one.value for one in TPM_CLASSES))
_out: Final = click.option("--out", type=_NEW_FILE, required=True, help="File to write.")
_previous: Final = click.option(
    "--previous", type=_FILE, help="The signed values to follow, where the deployment is out of reach."
)


@click.group("measurements")
def measurements() -> None:
    """The reference values: which images are wanted, on which machines, and which roots are believed.

    Propose a set, have the root quorum sign it, and take it into force with `strongroom adopt reference-values`.
    """


@measurements.command("propose")
@_out
@click.option(
    "--image", "images", multiple=True, type=_FILE, help="An image's entry, as `strongroom enclave measure` prints it."
)
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    nargs=3,
    type=(click.Choice([one.value for one in Vendor]), _CLASSES, _FILE),
    metavar="VENDOR CLASS CERTIFICATE",
    help="A further root, and the class it can vouch for. Chip makers' own roots ship with Strongroom.",
)
@click.option("--appraisal", type=_FILE, help="The appraisal policy (`strongroom attestation policy` writes one).")
@click.option(
    "--custody",
    "custody",
    multiple=True,
    nargs=3,
    type=(str, _FILE, click.IntRange(min=1)),
    metavar="PLATFORM DOCUMENT DAYS",
    help="A platform in physical custody, the document that says so, and for how long it holds.",
)
@click.option("--days", default=90, show_default=True, help="How long the values hold.")
@click.option("--first", is_flag=True, help="Nothing is in force yet: begin with epoch 1.")
@_previous
@as_wallet
@json_option
def propose(
    out: Path,
    images: tuple[Path, ...],
    anchors: tuple[tuple[str, str, Path], ...],
    appraisal: Path | None,
    custody: tuple[tuple[str, Path, int], ...],
    days: int,
    previous: Path | None,
    wallet: Path,
    *,
    first: bool,
    as_json: bool,
) -> None:
    """Write the next reference values, for the root quorum to sign: those in force, and what is added or replaced."""
    before = None if first else _before(wallet, previous)
    rules = read_policy_file(appraisal) if appraisal else (before.appraisal if before else None)
    if rules is None:
        raise UsageError("the first reference values need an appraisal policy", remedy="give one with --appraisal")
    now = SystemClock().now()
    added = [_image(path) for path in images]
    known = [_custody(platform, path, now + each * _DAY) for platform, path, each in custody]
    replaced, kept_again = {image.image for image in added}, {one.platform for one in known}
    values = ReferenceValues(
        genesis=open_wallet(wallet).genesis().digest,
        epoch=before.epoch + 1 if before else 1,
        images=(*(one for one in (before.images if before else ()) if one.image not in replaced), *added),
        anchors=(*(before.anchors if before else ()), *(_anchor(*one) for one in anchors)),
        appraisal=rules,
        custody=(*(one for one in (before.custody if before else ()) if one.platform not in kept_again), *known),
        not_after=now + days * _DAY,
        predecessor=before.digest if before else None,
    )
    _written(out, values, as_json=as_json)


@measurements.command("revoke")
@click.argument("images", nargs=-1, required=True)
@_out
@_previous
@as_wallet
@json_option
def revoke(images: tuple[str, ...], out: Path, previous: Path | None, wallet: Path, *, as_json: bool) -> None:
    """Write the values in force with IMAGES revoked, for the root quorum to sign.

    A set that only takes away needs no waiting time, and holds from the next release and the next lease renewal on.
    """
    before = _before(wallet, previous)
    if before is None:
        raise DeniedError("no reference values are in force", reason="no-reference-values")
    gone = {image_id(name) for name in images}
    if unknown := gone - {image.image for image in before.images}:
        raise UsageError(f"no image `{min(unknown)}` is in the reference values in force")
    listed = tuple(replace(one, revoked=True) if one.image in gone else one for one in before.images)
    values = replace(before, epoch=before.epoch + 1, images=listed, predecessor=before.digest)
    _written(out, values, as_json=as_json)


@measurements.command("sign")
@click.argument("file", type=_FILE)
@as_wallet
@passphrase_option
@yes_option
@json_option
def sign(file: Path, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Add your root signature to reference values. FILE is rewritten; what you sign is shown before."""
    sign_document(DocumentKind.REFERENCE_VALUES, file, wallet, passphrase_fd, yes=yes, as_json=as_json)


@measurements.command("show")
@click.argument("file", type=_FILE, required=False)
@as_wallet
@json_option
def show_values(file: Path | None, wallet: Path, *, as_json: bool) -> None:
    """Show the reference values in force, or those in FILE (a draft or a signed set)."""
    values = _before(wallet, file)
    if values is None:
        raise DeniedError("no reference values are in force", reason="no-reference-values")
    show(
        parse(values.to_bytes(), max_bytes=2**20),
        "\n".join(summary(DocumentKind.REFERENCE_VALUES, values)),
        as_json=as_json,
    )


def _before(wallet: Path, file: Path | None) -> ReferenceValues | None:
    if file is not None:
        return ReferenceValues.parse(read_envelope(file, DocumentKind.REFERENCE_VALUES).payload)
    with session(wallet) as person:
        return person.refresh().reference_values


def _written(out: Path, values: ReferenceValues, *, as_json: bool) -> None:
    write_file(out, values.to_bytes())
    told: Json = {"file": str(out), "epoch": values.epoch, "images": [image.image for image in values.images]}
    text = f"{out}: epoch {values.epoch}, {len(values.images)} images, {len(values.anchors)} further roots"
    show(told, f"{text}; next: strongroom measurements sign", as_json=as_json)


def _image(path: Path) -> ReferenceImage:
    with Fields(parse(read_file(path, most=65536), max_bytes=65536), path.name) as fields:
        return ReferenceImage.read(fields)


def _custody(platform: str, document: Path, until: Instant) -> CustodyRecord:
    record = Digest.of(read_file(document, most=64 * 1024 * 1024))
    return CustodyRecord(platform=platform_id(platform), record=record, until=until)


def _anchor(vendor: str, isolation: str, path: Path) -> TrustAnchor:
    data = read_file(path, most=65536)
    try:
        loaded = x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
    except ValueError:
        raise UsageError(f"`{path}` isn't a certificate") from None
    return TrustAnchor(Vendor(vendor), loaded.public_bytes(Encoding.DER), IsolationClass(isolation))
