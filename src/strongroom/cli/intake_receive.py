"""``strongroom intake receive``: how a delivery begins, and how it goes on after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from strongroom.cli.intake_show import ended, show_standing
from strongroom.cli.intake_trust import Asked, leave_out_option, signature_options
from strongroom.cli.output import progress_bar
from strongroom.cli.session import as_wallet, json_option, passphrase_option, read_file, session
from strongroom.client.service import Session
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, UsageError
from strongroom.core.ids import ModelId, model_id
from strongroom.intake.adapters.trust import check_trust
from strongroom.intake.attachments import MAX_ATTACHMENT, read_attachment
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder, delivery_folder
from strongroom.quarantine.terms import MAX_ATTACHMENTS, MAX_TERMS, GateRules, SignatureTerms, Terms, read_rules
from strongroom.quarantine.wiring import begin_delivery, ensure_key, from_folder, gate, new_delivery

_file: Final = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("receive")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", required=True, help="The model whose next version it is to be.")
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), required=True, help="The delivery's own folder, new."
)
@click.option("--rules", type=_file, help="What is asked of every delivery: reviews and scanners. Without: one review.")
@click.option(
    "--attach", "attachments", multiple=True, type=_file, help="A document about it: SLSA, CycloneDX, SPDX. Repeatable."
)
@signature_options
@leave_out_option
@as_wallet
@passphrase_option
@json_option
def receive(
    *,
    folder: Path,
    model: str,
    into: Path,
    rules: Path | None,
    attachments: tuple[Path, ...],
    leave_out: tuple[str, ...],
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Take FOLDER in: read once and encrypted from its first byte, then signature, formats and scanners on the copy.

    What was delivered stays where it is; remove it afterwards. Interrupted, by whatever: run it again with the same
    FOLDER and --into, and it goes on under the terms that it began with. Options that say others are refused.
    """
    name = model_id(model)
    if into.resolve().is_relative_to(folder.resolve()):
        raise UsageError("the delivery's folder can't lie inside what was delivered", remedy="choose another --into")
    signed = Asked(**asked)
    with session(wallet, passphrase_fd) as person, delivery_folder(into) as delivery:
        made_of = (signed, rules, attachments, leave_out)
        if not delivery.begun:
            begin_delivery(person, delivery, _terms(person, new_delivery(), name, delivery.keep, *made_of))
        elif signed.given or rules or attachments or leave_out or not (delivery.records() or delivery.proposed()):
            # Before its first record nobody signed the terms: they are compared whatever is given.
            before = delivery.terms()
            if _terms(person, before.delivery, name, Digest.of, *made_of) != before:
                # Taken on in silence, they would be believed to be in force.
                raise ConflictError(
                    f"the delivery in `{into}` began under other terms",
                    remedy="give the options that it began with, or none; or take it in anew with another --into",
                    reason="intake-other-terms",
                )
        _go_on(person, delivery, name, folder, as_json=as_json)


def _go_on(person: Session, delivery: DeliveryFolder, name: ModelId, folder: Path, *, as_json: bool) -> None:
    terms = delivery.terms()
    if terms.model != name or terms.converted_from is not None:
        raise ConflictError(f"the delivery in `{delivery.path}` is another one", remedy="choose another --into")
    ensure_key(person, delivery)
    with progress_bar("encrypting") as progress:
        standing = gate(person, delivery, from_folder(person, delivery, folder, progress)).receive()
    show_standing(delivery, standing, as_json=as_json)
    ended(standing)


def _terms(
    person: Session,
    delivery: str,
    model: ModelId,
    keep: Callable[[bytes], Digest],
    asked: Asked,
    rules: Path | None,
    attachments: tuple[Path, ...],
    leave_out: tuple[str, ...],
) -> Terms:
    if len(attachments) > MAX_ATTACHMENTS:
        raise UsageError(f"{len(attachments)} attachments; at most {MAX_ATTACHMENTS} are kept")
    attached = [read_file(one, most=MAX_ATTACHMENT) for one in attachments]
    for one in attached:
        read_attachment(one)
    return Terms(
        genesis=person.wallet.genesis().digest,
        delivery=delivery,
        model=model,
        leave_out=frozenset(leave_out),
        signature=_signature(keep, asked),
        attachments=tuple(sorted({keep(one) for one in attached}, key=str)),
        rules=GateRules() if rules is None else read_rules(read_file(rules, most=MAX_TERMS)),
        converted_from=None,
    )


def _signature(keep: Callable[[bytes], Digest], asked: Asked) -> SignatureTerms | None:
    bundle = asked.bundle()
    if bundle is None:
        return None
    trust = asked.trust()
    check_trust(bundle, trust)
    return SignatureTerms(
        bundle=keep(bundle),
        keys=tuple(keep(one) for one in trust.keys),
        anchors=tuple(keep(one) for one in trust.anchors),
        signers=tuple(sorted(trust.signers)),
        trusted_root=None if trust.trusted_root is None else keep(trust.trusted_root),
        identity=asked.identity,
        issuer=asked.issuer,
    )
