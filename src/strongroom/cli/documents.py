"""``strongroom sign`` and ``strongroom adopt``: the documents that the root quorum answers for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.access.engine import CedarEngine
from strongroom.access.policy import Policy
from strongroom.attestation.reference_values import ReferenceValues
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
from strongroom.client.documents import Document, check_signable, parse_document, summary
from strongroom.core.canonical import encode, parse
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import UsageError
from strongroom.release.documents import PAYLOAD_TYPES, DocumentKind

MAX_FILE: Final = 2 * MAX_PAYLOAD
KINDS: Final = click.Choice([kind.value for kind in DocumentKind])
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command("sign")
@click.argument("kind", type=KINDS)
@click.argument("file", type=_FILE)
@as_wallet
@passphrase_option
@yes_option
@json_option
def sign(kind: str, file: Path, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Add your root signature to a document. FILE is a draft, or carries other signatures already; it is rewritten.

    KIND is roster, policy or reference-values. What you sign is shown before.
    """
    wanted = DocumentKind(kind)
    holder = open_wallet(wallet, passphrase_fd)
    genesis = holder.genesis()
    envelope = read_envelope(file, wanted)
    document = parse_document(wanted, envelope.payload)
    _check_content(document)
    check_signable(wanted, document, envelope, genesis, holder.identity.key, holder.seen())
    if not as_json or not yes:
        click.echo("\n".join(summary(wanted, document)), err=as_json)
    if not yes:
        click.confirm(f"Sign this {wanted.value} as root holder `{holder.identity.person}`?", abort=True, err=True)
    envelope = envelope.signed_by(holder.signer())
    write_file(file, envelope.to_bytes())
    ids = {key.key_id for key in genesis.root_keys}
    good = sum(signature.key_id in ids for signature in envelope.signatures)
    data = {
        "kind": wanted.value,
        "epoch": document.epoch,
        "digest": str(envelope.digest),
        "signatures": good,
        "needed": genesis.root_threshold,
    }
    text = f"{file}: {good} of the {genesis.root_threshold} root signatures needed"
    show(dict(data), text if good < genesis.root_threshold else f"{text}; next: strongroom adopt", as_json=as_json)


@click.command("adopt")
@click.argument("kind", type=KINDS)
@click.argument("file", type=_FILE)
@as_wallet
@json_option
def adopt(kind: str, file: Path, wallet: Path, *, as_json: bool) -> None:
    """Take a document into force once enough root holders signed it."""
    wanted = DocumentKind(kind)
    envelope = read_envelope(file, wanted)
    document = parse_document(wanted, envelope.payload)
    with session(wallet) as person:
        index = person.adopt(wanted, envelope)
    data = {"kind": wanted.value, "epoch": document.epoch, "digest": str(envelope.digest), "log_index": index}
    text = f"the {wanted.value} of epoch {document.epoch} is in force"
    show(dict(data), f"{text} already" if index is None else f"{text}: log entry {index}", as_json=as_json)


def read_envelope(file: Path, kind: DocumentKind) -> Envelope:
    """Read a signed document, or a draft as an envelope without signatures. A draft may be written in any JSON style.

    :raises UsageError: the file holds a document of another kind.
    """
    data = read_file(file, most=MAX_FILE)
    value = parse(data, max_bytes=MAX_FILE)
    if not isinstance(value, dict) or "payloadType" not in value:
        return Envelope(PAYLOAD_TYPES[kind], encode(value), ())
    envelope = Envelope.parse(data)
    if envelope.kind != PAYLOAD_TYPES[kind]:
        raise UsageError(f"`{file.name}` holds a signed object of another kind than `{kind.value}`")
    return envelope


def _check_content(document: Document) -> None:
    # The keeper would refuse it only after everybody signed.
    if isinstance(document, Policy):
        CedarEngine(document)
    elif isinstance(document, ReferenceValues) and not document.images:
        click.echo("note: these reference values list no image; no enclave will be served", err=True)
