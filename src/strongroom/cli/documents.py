"""``strongroom sign`` and ``strongroom adopt``: the documents that the root quorum answers for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import click

from strongroom.access.policy import Policy
from strongroom.access.self_test import safe_engine
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.cli import comparing
from strongroom.cli.output import end, show
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
from strongroom.client.documents import check_signable, summary
from strongroom.client.odometer import metered_models
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import format_instant
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import ExitCode, UnavailableError, UsageError
from strongroom.core.ids import ModelId
from strongroom.egress.policies import EgressPolicies, changes
from strongroom.release.documents import PAYLOAD_TYPES, Document, DocumentKind, parse_document

MAX_FILE: Final = 2 * MAX_PAYLOAD
KINDS: Final = click.Choice([kind.value for kind in DocumentKind])
_SIGNED_HERE: Final = click.Choice([DocumentKind.ROSTER.value, DocumentKind.POLICY.value, DocumentKind.EGRESS.value])
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command("sign")
@click.argument("kind", type=_SIGNED_HERE)
@click.argument("file", type=_FILE)
@as_wallet
@click.option("--decisions", type=_FILE, help="Decisions that an auditor wrote to a file, to try a policy on.")
@click.option("--against", type=_FILE, help="What is in force, where the deployment is out of reach.")
@passphrase_option
@yes_option
@json_option
def sign(
    kind: str,
    file: Path,
    wallet: Path,
    decisions: Path | None,
    against: Path | None,
    passphrase_fd: int | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Add your root signature to a document. FILE is a draft, or carries other signatures already; it is rewritten.

    KIND is roster, policy or egress (`strongroom measurements sign` takes reference values). What you sign is shown
    before; a policy also beside the one in force, with what it would have done to recorded decisions, and egress
    policies beside those in force.
    """
    sign_document(
        DocumentKind(kind),
        file,
        wallet,
        passphrase_fd,
        lambda draft, envelope: _beside(draft, envelope, wallet, decisions, against),
        yes=yes,
        as_json=as_json,
    )


def sign_document(
    wanted: DocumentKind,
    file: Path,
    wallet: Path,
    passphrase_fd: int | None,
    beside: Callable[[Document, Envelope], tuple[str, ...]] = lambda _draft, _envelope: (),
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Show a document, ask, and add the wallet's root signature to its file.

    ``beside`` says how a document differs from the one in force.
    """
    holder = open_wallet(wallet, passphrase_fd)
    genesis = holder.genesis()
    envelope = read_envelope(file, wanted)
    document = parse_document(wanted, envelope.payload)
    _check_content(document)
    check_signable(wanted, document, envelope, genesis, holder.identity.key, holder.seen())
    if not as_json or not yes:
        click.echo("\n".join(summary(wanted, document)), err=as_json)
        for line in beside(document, envelope):
            click.echo(line, err=as_json)
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
        adopted = person.adopt(wanted, envelope)
    data: Json = {
        "kind": wanted.value,
        "epoch": document.epoch,
        "digest": str(envelope.digest),
        "log_index": adopted.index,
        "effective": None if adopted.effective is None else format_instant(adopted.effective),
    }
    where = "already" if adopted.index is None else f"log entry {adopted.index}"
    if adopted.effective is not None:
        text = (
            f"the {wanted.value} of epoch {document.epoch} waits until {format_instant(adopted.effective)}: {where}",
            f"any approver may stop it: strongroom people object {envelope.digest}",
            f"then: strongroom adopt {wanted.value} {file}",
        )
        show(data, text, as_json=as_json)
        end(ExitCode.PENDING)
    show(data, f"the {wanted.value} of epoch {document.epoch} is in force: {where}", as_json=as_json)


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


def _beside(
    draft: Document, envelope: Envelope, wallet: Path, decisions: Path | None, against: Path | None
) -> tuple[str, ...]:
    if not isinstance(draft, (Policy, EgressPolicies)):
        return ()
    if draft.predecessor is None:
        return ("the first of its kind: there is none to compare it with",)
    kind = DocumentKind.POLICY if isinstance(draft, Policy) else DocumentKind.EGRESS
    if against is not None:
        if isinstance(draft, Policy):
            return tuple(comparing.lines(comparing.compare_offline(draft, against)))
        return _changed(draft, EgressPolicies.parse(read_envelope(against, kind).payload))
    try:
        with session(wallet) as person:
            trust = person.refresh()
            # What is in force may be newer than what this wallet saw when the draft was checked first.
            key = person.wallet.identity.key
            check_signable(kind, draft, envelope, trust.genesis, key, trust.seen)
            if isinstance(draft, Policy):
                return tuple(comparing.lines(comparing.compare(person, trust, draft, decisions, comparing.LAST)))
            new = draft.by_model.keys() - trust.egress_by_model.keys()
            return _changed(draft, trust.egress, metered=metered_models(person, new))
    except UnavailableError as error:
        raise UnavailableError(
            f"what is in force isn't to be had: {error.message}",
            remedy="name a copy of it: --against (strongroom policy show --json, where the deployment can be reached)",
        ) from None


def _changed(
    draft: EgressPolicies, before: EgressPolicies | None, *, metered: Iterable[ModelId] = ()
) -> tuple[str, ...]:
    found = changes(before.by_model if before else {}, draft.by_model, metered=metered)
    told = tuple(f"  {one.word}  {one.text}" for one in found)
    return ("beside those in force:", *(told or ("  nothing changes",)))


def _check_content(document: Document) -> None:
    # The keeper would refuse it only after everybody signed.
    if isinstance(document, Policy):
        safe_engine(document)
    elif isinstance(document, EgressPolicies):
        document.check()
    elif isinstance(document, ReferenceValues) and not document.images:
        click.echo("note: these reference values list no image; no enclave will be served", err=True)
