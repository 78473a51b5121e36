"""``strongroom custodian``: the keeping of a share of the root key, from the ceremony to the day that it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Final

import click

from strongroom.cli.lazy import LazyGroup
from strongroom.cli.output import show
from strongroom.cli.passphrase import new_passphrase
from strongroom.cli.session import (
    as_wallet,
    json_option,
    open_wallet,
    passphrase_option,
    read_file,
    write_file,
    yes_option,
)
from strongroom.client.adapters.wallet_folder import FileMissingError, WalletFolder
from strongroom.client.custody import MAX_ESCROW_FILE, escrow_lines, newest_escrow, offer_lines
from strongroom.client.wiring import open_custody
from strongroom.core.adapters.durable import write_durably
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.ids import KeyId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.process import read_passphrase
from strongroom.keys.adapters.identity_file import create_identity, open_identity
from strongroom.keys.escrow import Custodian, Escrow, check_words, open_share
from strongroom.keys.recipient import RecipientIdentity
from strongroom.keys.slip39 import padded
from strongroom.keys.unlocking import answer_offer

CUSTODIAN_KEY: Final = "custodian.key"
ESCROW_FILE: Final = "escrow.json"
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_key_passphrase: Final = click.option(
    "--key-passphrase-fd", type=int, help="Read the custodian key's passphrase from this descriptor, don't ask."
)


class CustodianCommands(LazyGroup):
    """What a custodian does, in the order of their years."""

    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "key": ("custodian", "make_key", "Make the key to which a share will be encrypted, and its card."),
        "card": ("custodian", "write_card", "Write the card of that key again, for another ceremony."),
        "check": ("custodian", "check", "Open the own share, compare it with what the keeper signed, and keep it."),
        "words": ("custodian", "words", "Show the share's words on this terminal, to be written on paper."),
        "unlock": ("custodian", "unlock", "Give the share to a locked keeper."),
        "destroyed": (
            "custodian_destroyed",
            "destroyed",
            "Say that the share of an old root key is gone, for good.",
        ),
        "plan": ("custodian_plan", "make_plan", "Write down who shall keep shares, for the root holders' order."),
        "show-plan": ("custodian_plan", "show_plan", "Show a plan, and the digest that an order names."),
        "hand-in": ("custodian_plan", "hand_in", "Hand a plan in, before its order is carried out."),
    }


@click.command("custodian", cls=CustodianCommands)
def custodian() -> None:
    """Keep a share of a deployment's root key, and give it to a locked keeper."""


@click.command("key")
@as_wallet
@click.option("--out", type=_FILE, required=True, help="Where the card goes that the ceremony takes.")
@click.option("--protect", is_flag=True, help="Protect the key with a passphrase of its own, which is asked for.")
@_key_passphrase
@passphrase_option
@json_option
def make_key(
    wallet: Path,
    out: Path,
    key_passphrase_fd: int | None,
    passphrase_fd: int | None,
    *,
    protect: bool,
    as_json: bool,
) -> None:
    """Make a custodian key in your wallet, and its card: what you hand to the ceremony. Nothing in a card is secret.

    The card is signed with your signing key. Tell its digest to whoever holds the ceremony by another way than the
    file goes: a card that was swapped on its way makes somebody else a custodian in your name.
    """
    holder = open_wallet(wallet, passphrase_fd)
    signer = holder.signer()
    secret = new_passphrase(key_passphrase_fd) if protect or key_passphrase_fd is not None else None
    public = create_identity(wallet / CUSTODIAN_KEY, os.urandom, passphrase=secret)
    card = Custodian(person=holder.identity.person, key=holder.identity.key, recipient=public).card(signer)
    _write_card(card, out, as_json=as_json)


@click.command("card")
@as_wallet
@click.option("--out", type=_FILE, required=True, help="Where the card goes.")
@_key_passphrase
@passphrase_option
@json_option
def write_card(
    wallet: Path, out: Path, key_passphrase_fd: int | None, passphrase_fd: int | None, *, as_json: bool
) -> None:
    """Write the card of your custodian key again."""
    holder = open_wallet(wallet, passphrase_fd)
    public = _identity(wallet, key_passphrase_fd).public
    card = Custodian(person=holder.identity.person, key=holder.identity.key, recipient=public).card(holder.signer())
    _write_card(card, out, as_json=as_json)


def _write_card(card: Envelope, out: Path, *, as_json: bool) -> None:
    write_file(out, card.to_bytes())
    told = Custodian.of_card(card)
    data: Json = {"person": told.person, "digest": str(card.digest), "card": str(out)}
    show(data, (f"card of `{told.person}`  {out}", f"  digest  {card.digest}"), as_json=as_json)


@click.command("check")
@click.argument("file", type=_FILE, required=False)
@as_wallet
@_key_passphrase
@json_option
def check(file: Path | None, wallet: Path, key_passphrase_fd: int | None, *, as_json: bool) -> None:
    """Open your share, compare it with what the keeper signed for, and keep the escrow in your wallet.

    FILE is the escrow that you were given; without it, the deployment is asked. An escrow older than the one that you
    kept is refused. Do this after the ceremony, after each rotation of the root key, and once a year.
    """
    holder = open_wallet(wallet)
    if file is not None:
        envelope = Envelope.parse(read_file(file, most=MAX_ESCROW_FILE))
    else:
        with open_custody(holder) as api:
            envelope = api.escrow()
    escrow = newest_escrow(envelope, holder.genesis(), _kept(holder))
    person = holder.identity.person
    open_share(escrow, person, _identity(wallet, key_passphrase_fd)).wipe()
    write_durably(wallet / ESCROW_FILE, envelope.to_bytes())
    data: Json = {
        "escrow": str(escrow.digest),
        "generation": escrow.generation,
        "number": escrow.share_of(person).number,
        "threshold": escrow.threshold,
        "custodians": [one.person for one in escrow.custodians],
    }
    show(data, escrow_lines(escrow, person), as_json=as_json)


@click.command("words")
@as_wallet
@_key_passphrase
def words(wallet: Path, key_passphrase_fd: int | None) -> None:
    """Show your share as 33 words (SLIP-39) on this terminal, and nowhere else.

    On paper, in a sealed envelope, they outlast the wallet. With as many others they are the root key, for anybody.
    """
    if not sys.stdout.isatty():
        raise UsageError(
            "the words are shown on a terminal alone", remedy="run it without a pipe, a file or a recording behind it"
        )
    holder = open_wallet(wallet)
    escrow = _require_kept(holder)
    share = escrow.share_of(holder.identity.person)
    click.echo(f"Share {share.number} of generation {escrow.generation}; {escrow.threshold} are needed.")
    click.confirm("Are you alone, with no camera, and is nothing recording this terminal?", abort=True)
    with open_share(escrow, holder.identity.person, _identity(wallet, key_passphrase_fd)) as held:
        shown = bytes(held.reveal(TOKEN)).split()
        for first in range(0, len(shown), 3):
            click.echo("  ".join(f"{at + 1:>2} {shown[at].decode():<9}" for at in range(first, first + 3)))
    click.prompt("Written down? Enter clears the screen", default="", show_default=False)
    click.clear()


@click.command("unlock")
@as_wallet
@click.option("--words", "typed", is_flag=True, help="Type the share's words: the custodian key is lost.")
@click.option("--unlock-key", "told", help="The key's id, read out to you: the keeper's machine was replaced.")
@click.option("--words-fd", type=int, help="Read the words from this descriptor instead.")
@_key_passphrase
@passphrase_option
@yes_option
@json_option
def unlock(
    wallet: Path,
    told: str | None,
    words_fd: int | None,
    key_passphrase_fd: int | None,
    passphrase_fd: int | None,
    *,
    typed: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Give your share to a locked keeper, encrypted to a key that the keeper made for this one unlocking.

    The offer is checked against the escrow, which the keeper signed while it was unlocked; so nobody in between can
    have your share encrypted to a key of their own. Ask by voice why the keeper is locked before you answer.
    """
    holder = open_wallet(wallet, passphrase_fd)
    person = holder.identity.person
    with open_custody(holder) as api:
        envelope, offered = api.offer()
        escrow = newest_escrow(envelope, holder.genesis(), _kept(holder))
        offer, lines = offer_lines(offered, escrow, SystemClock().now(), told=None if told is None else KeyId(told))
        share = escrow.share_of(person)
        if not as_json or not yes:
            click.echo("\n".join(lines), err=as_json)
        if not yes:
            click.confirm(f"Give your share as custodian `{person}`?", abort=True, err=True)
        with _words(escrow, holder, words_fd, key_passphrase_fd, typed=typed) as held:
            answer = answer_offer(offer, share, held, holder.signer())
        came = api.answer(answer)
    data: Json = {"answered": [*came.answered], "needed": came.needed, "unlocked": came.unlocked}
    there = f"{len(came.answered)} of {came.needed} shares are there: {', '.join(came.answered)}"
    show(data, "the keeper has its root key" if came.unlocked else there, as_json=as_json)


def _words(
    escrow: Escrow, holder: WalletFolder, words_fd: int | None, key_passphrase_fd: int | None, *, typed: bool
) -> SecretBytes:
    person = holder.identity.person
    if not typed and words_fd is None:
        return open_share(escrow, person, _identity(holder.path, key_passphrase_fd))
    with _typed(words_fd, "The share's words") as told:
        held = padded(told)
    check_words(escrow, escrow.share_of(person), held)
    return held


def _identity(wallet: Path, descriptor: int | None) -> RecipientIdentity:
    return open_identity(wallet / CUSTODIAN_KEY, _asked(descriptor))


def _asked(descriptor: int | None) -> Callable[[], SecretBytes]:
    return lambda: _typed(descriptor, "Custodian key's passphrase")


def _typed(descriptor: int | None, what: str) -> SecretBytes:
    if descriptor is not None:
        return read_passphrase(descriptor)
    return SecretBytes(bytearray(click.prompt(what, hide_input=True, err=True).encode()))


def _kept(holder: WalletFolder) -> Envelope | None:
    try:
        return Envelope.parse(holder.read(ESCROW_FILE, most=MAX_ESCROW_FILE))
    except FileMissingError:
        return None


def _require_kept(holder: WalletFolder) -> Escrow:
    kept = _kept(holder)
    if kept is None:
        raise UsageError("this wallet keeps no escrow", remedy="fetch and check it: strongroom custodian check")
    return newest_escrow(kept, holder.genesis(), None)
