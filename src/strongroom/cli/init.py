"""``strongroom init``: founds a deployment in a new folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click

from strongroom.audit.cosignature import CosignatureKind, CosignerKey
from strongroom.audit.note import VerifierKey
from strongroom.audit.wiring import create_log_keys
from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.cli.ceremony import Card, check_numbers, confirm, read_cards
from strongroom.cli.files import require_new
from strongroom.cli.passphrase import new_passphrase
from strongroom.cli.pin_anchor import choose_anchor
from strongroom.cli.public_keys import public_keys
from strongroom.cli.staging import whole_or_none
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.signature import SIGNING_ALGORITHMS
from strongroom.keeper.adapters.escrow_file import ESCROW_NAME
from strongroom.keeper.wiring import found_keeper
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.keys.uri import KeyUri, Service


@click.command()
@click.option("--home", type=click.Path(path_type=Path), required=True, help="A folder that doesn't exist yet.")
@click.option("--deployment", default="strongroom", show_default=True, help="The deployment's name.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    required=True,
    help="Signing key of a root holder, or a file with it; twice or more.",
)
@click.option("--threshold", default=2, show_default=True, help="How many root holders must sign a document.")
@click.option("--root-provider", default="local:", show_default=True, help="URI of the key service of the root key.")
@click.option("--second-root-provider", help="URI of a second one: the root key then needs both.")
@click.option("--pin-anchor", help="Where the TPM says how new the disk must be: `tpm2:device:PATH?nv=INDEX`.")
@click.option("--passphrase-fd", type=int, help="Read the passphrase from this open descriptor instead of asking.")
@click.option("--ceremony", is_flag=True, help="Give shares of the root key to custodians, and have all confirmed.")
@click.option("--custodian", "custodians", multiple=True, metavar="NAME=FILE", help="A custodian and their card.")
@click.option("--custodian-threshold", type=int, help="How many custodians open the root key.")
@click.option("--yes", is_flag=True, help="The custodians' cards were compared before: don't ask.")
@click.option("--kdf-memory", default=256, show_default=True, help="Memory in MiB that Argon2id takes at each unlock.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(
    home: Path,
    deployment: str,
    roots: tuple[str, ...],
    threshold: int,
    *,
    root_provider: str,
    second_root_provider: str | None,
    pin_anchor: str | None,
    passphrase_fd: int | None,
    custodians: tuple[str, ...],
    custodian_threshold: int | None,
    kdf_memory: int,
    ceremony: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Found a deployment: keys, genesis, an empty log and a development certificate authority.

    The root key is under a passphrase, unless --root-provider names another key service. With --ceremony it is also in
    shares, each encrypted to a custodian: what they open when the key service is gone is the same key.

    Print the genesis digest and compare it, by voice, with everybody who pins it.
    """
    home = Path(os.path.abspath(home))  # noqa: PTH100 - resolve() would follow a link at the end
    require_new(home)
    keys = public_keys(roots, *SIGNING_ALGORITHMS)
    cards = _cards(custodians, custodian_threshold or 0, ceremony=ceremony, yes=yes)
    providers = [KeyUri.parse(text) for text in (root_provider, second_root_provider) if text is not None]
    typed = any(uri.service is Service.LOCAL for uri in providers)
    with whole_or_none(home, "founding") as staging:
        (staging / "run").mkdir(mode=0o700)
        log_keys = create_log_keys(staging, os.urandom)
        with new_passphrase(passphrase_fd) if typed else nullcontext() as passphrase:
            genesis = found_keeper(
                staging,
                deployment=deployment,
                root_keys=keys,
                root_threshold=threshold,
                log_key=log_keys.signing,
                log_cosigner=log_keys.cosigning,
                providers=providers,
                passphrase=passphrase,
                cost=Argon2Cost(memory_kib=kdf_memory * 1024),
                custodians=[card.custodian for card in cards],
                custodian_threshold=custodian_threshold or 0,
            )
        if pin_anchor is not None:
            choose_anchor(staging, pin_anchor)
        DevCa.open_or_create(staging / "broker" / "ca", genesis.deployment, at=genesis.created)
        _write_public(staging, genesis)
        if cards:
            # For custodians to carry away, with the log's keys; the keeper has its own copy.
            shutil.copyfile(staging / "keeper" / ESCROW_NAME, staging / "escrow-1.json")
    _tell(home, genesis, cards, custodian_threshold, as_json=as_json)


def _cards(custodians: Sequence[str], threshold: int, *, ceremony: bool, yes: bool) -> tuple[Card, ...]:
    """Return the custodians' cards, confirmed by voice; none without a ceremony."""
    if ceremony is not bool(custodians):
        raise UsageError(
            "a ceremony has custodians, and custodians have one", remedy="--ceremony --custodian NAME=FILE"
        )
    cards = read_cards(custodians)
    if ceremony:
        check_numbers(cards, threshold)
        confirm(cards, threshold, yes=yes)
    return cards


def _write_public(staging: Path, genesis: Genesis) -> None:
    """Write the log's public keys as auditors and witnesses take them."""
    log_key = VerifierKey(genesis.log_origin, genesis.log_key)
    (staging / "log.pub").write_text(f"{log_key}\n", "utf-8")
    cosigner = CosignerKey(genesis.log_origin, CosignatureKind.ML_DSA_44, genesis.log_cosigner)
    (staging / "log-cosigner.pub").write_text(f"{cosigner}\n", "utf-8")


def _tell(
    home: Path, genesis: Genesis, cards: Sequence[Card], custodian_threshold: int | None, *, as_json: bool
) -> None:
    facts = {
        "home": str(home),
        "genesis": str(genesis.digest),
        "root_keys": len(genesis.root_keys),
        "root_threshold": genesis.root_threshold,
        "log_key": f"{home}/log.pub",
        "custodians": [card.custodian.person for card in cards],
        "custodian_threshold": custodian_threshold,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"Founded `{genesis.deployment}` at {home}")
    click.echo(f"  genesis   {genesis.digest}")
    click.echo(f"  root      {genesis.root_threshold} of {len(genesis.root_keys)} root holders sign each document")
    click.echo(f"  log key   {home}/log.pub (auditors need it)")
    if cards:
        names = ", ".join(card.custodian.person for card in cards)
        click.echo(f"  escrow    {custodian_threshold} of {len(cards)} custodians: {names}")
        click.echo(
            "  Each share was seen to work before it was encrypted. Read the genesis digest aloud, have everybody"
        )
        click.echo(f"  pin it, and let each custodian check theirs: strongroom custodian check {home}/escrow-1.json")
    click.echo(f"Next: strongroom up --home {home}")
