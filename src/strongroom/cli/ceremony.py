"""The ceremony of ``strongroom init``: whose cards were handed in, and what has to be said aloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from strongroom.cli.session import read_file
from strongroom.client.custody import MAX_ESCROW_FILE
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.ids import person_id
from strongroom.keys.escrow import Custodian, check_distinct
from strongroom.keys.slip39 import LEAST_THRESHOLD, MOST_SHARES


@dataclass(frozen=True, slots=True)
class Card:
    """A custodian's card as it was handed in."""

    custodian: Custodian
    digest: Digest


def read_cards(given: Sequence[str]) -> tuple[Card, ...]:
    """Read the cards that ``NAME=FILE`` name, and verify them.

    :raises UsageError: another form, a card of somebody else, or two custodians who are one.
    :raises SignatureError: a card isn't signed by the key that it names.
    """
    cards = []
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise UsageError("a custodian is named `NAME=FILE`", remedy="FILE is the card: strongroom custodian key")
        envelope = Envelope.parse(read_file(Path(file), most=MAX_ESCROW_FILE))
        card = Card(Custodian.of_card(envelope), envelope.digest)
        if card.custodian.person != person_id(name):
            raise UsageError(f"the card of `{name}` is that of `{card.custodian.person}`", reason="custodian-differs")
        cards.append(card)
    check_distinct([card.custodian for card in cards])
    return tuple(cards)


def check_numbers(cards: Sequence[Card], threshold: int) -> None:
    """Refuse numbers that make no escrow, before anything is asked or made.

    :raises UsageError: not 2 <= threshold <= custodians <= 16.
    """
    if not LEAST_THRESHOLD <= threshold <= len(cards) <= MOST_SHARES:
        raise UsageError(
            f"{threshold} of {len(cards)} custodians is no escrow",
            remedy=f"name 2 to {MOST_SHARES} custodians, of whom at least {LEAST_THRESHOLD} are needed",
            reason="custodian-threshold",
        )


def confirm(cards: Sequence[Card], threshold: int, *, yes: bool) -> None:
    """Show every card's digest, and have it confirmed by voice before anything is made."""
    click.echo("\n".join(_lines(cards, threshold)), err=True)
    if not yes:
        for card in cards:
            click.confirm(f"Did `{card.custodian.person}` read out {card.digest}?", abort=True, err=True)


def _lines(cards: Sequence[Card], threshold: int) -> Iterator[str]:
    yield f"Ceremony: any {threshold} of {len(cards)} custodians will be able to open the root key."
    if threshold == len(cards):
        yield "  All of them are needed: when one is lost, so is the escrow."
    for card in cards:
        key = card.custodian.key
        yield f"  {card.custodian.person:<16} card {card.digest}"
        yield f"  {'':<16} signs with {key.algorithm.value} {key.key_id}"
    yield "Each custodian reads the digest of their card aloud, from their own machine."
