"""``strongroom intake``: judge what a supplier delivered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
from cryptography import x509

from strongroom.cli.output import show, table
from strongroom.cli.session import json_option, read_file
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.errors import MalformedError, UsageError
from strongroom.intake.adapters.delivered_folder import open_delivery
from strongroom.intake.adapters.keyless import verify_by_identity
from strongroom.intake.formats.identify import FileVerdict, check_delivery
from strongroom.intake.signatures import SignedBy, check_files, read_signing_key, verify_by_certificate, verify_by_key
from strongroom.intake.statements import MAX_BUNDLE, SignatureMode, read_bundle
from strongroom.intake.verdict import FileList

_MOST_PEM = 64 * 1024
_file = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group("intake")
def intake() -> None:
    """Judge what a supplier delivered, before anything opens it."""


@intake.command("check")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--signature", type=_file, help="The model's signature: an OpenSSF Model Signing bundle.")
@click.option("--key", "keys", multiple=True, type=_file, help="A public key (PEM) that may have signed. Repeatable.")
@click.option("--anchor", "anchors", multiple=True, type=_file, help="A certificate (PEM) that signers lead to.")
@click.option("--signer", "signers", multiple=True, help="With --anchor: a subject that may have signed, `CN=...`.")
@click.option("--trusted-root", type=_file, help="Sigstore's trusted root, for a keyless signature.")
@click.option("--identity", help="With --trusted-root: who signed, as the certificate says.")
@click.option("--issuer", help="With --trusted-root: the address of who vouches for the identity.")
@click.option("--leave-out", multiple=True, help="A file or folder that isn't taken in, as `.git`. Repeatable.")
@json_option
def check(
    *,
    folder: Path,
    signature: Path | None,
    keys: tuple[Path, ...],
    anchors: tuple[Path, ...],
    signers: tuple[str, ...],
    trusted_root: Path | None,
    identity: str | None,
    issuer: str | None,
    leave_out: tuple[str, ...],
    as_json: bool,
) -> None:
    """Judge FOLDER where it lies: names, signature, and every file's format. Nothing is loaded, moved or changed."""
    trust = _Trust(keys, anchors, frozenset(signers), trusted_root, identity, issuer)
    if signature is None and trust != _Trust():
        raise UsageError("whom to trust without a signature", remedy="give --signature")
    with open_delivery(folder, leave_out=leave_out) as delivered:
        listed = delivered.listed()
        signed = None if signature is None else _signed(signature, listed, trust)
        found = check_delivery(delivered.sources)
        for one in delivered.files:
            one.check_unchanged()
    show(_data(listed, found, signed), _text(listed, found, signed), as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Trust:
    """Whom the caller trusts to have signed."""

    keys: tuple[Path, ...] = ()
    anchors: tuple[Path, ...] = ()
    signers: frozenset[str] = frozenset()
    trusted_root: Path | None = None
    identity: str | None = None
    issuer: str | None = None


def _signed(signature: Path, listed: FileList, trust: _Trust) -> SignedBy:
    data = read_file(signature, most=MAX_BUNDLE)
    bundle = read_bundle(data)
    if bundle.mode is SignatureMode.KEY:
        found = verify_by_key(bundle, [read_signing_key(read_file(one, most=_MOST_PEM)) for one in trust.keys])
    elif bundle.mode is SignatureMode.CERTIFICATE:
        trusted = [_certificate(one) for one in trust.anchors]
        found = verify_by_certificate(bundle, trusted, SystemClock().now(), subjects=trust.signers)
    elif trust.trusted_root and trust.identity and trust.issuer:
        found = verify_by_identity(data, trusted_root=trust.trusted_root, identity=trust.identity, issuer=trust.issuer)
    else:
        raise UsageError("a keyless signature", remedy="give --trusted-root, --identity and --issuer")
    check_files(found.manifest, listed.digests)
    return found


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_file(path, most=_MOST_PEM))
    except ValueError:
        raise MalformedError(f"`{path}` isn't a certificate in PEM") from None


def _data(listed: FileList, found: dict[str, FileVerdict], signed: SignedBy | None) -> Json:
    files: list[Json] = [
        {
            "name": one.name,
            "bytes": one.size,
            "sha256": one.digest.value.hex(),
            "format": found[one.name].format.value,
            "facts": found[one.name].facts,
        }
        for one in listed.files
    ]
    by: Json = None if signed is None else {"mode": signed.mode.value, "signer": signed.signer}
    return {"artifact": str(listed.digest), "signed": by, "files": files}


def _text(listed: FileList, found: dict[str, FileVerdict], signed: SignedBy | None) -> list[str]:
    rows = [(one.name, found[one.name].format.value, str(one.size)) for one in listed.files]
    by = "signed by nobody who was asked for" if signed is None else f"signed by {signed.signer} ({signed.mode.value})"
    return [table(rows, ("FILE", "FORMAT", "BYTES")), "", f"every file is let in; {by}", f"artifact {listed.digest}"]
