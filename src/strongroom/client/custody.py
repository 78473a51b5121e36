"""A custodian's side of escrow: which escrow is the newest, what the own share is, and answering a locked keeper.

What the wallet kept is the measure: a broker that shows an older escrow, or an offer of its own, is found out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.client.api import Transport
from strongroom.client.told import signed_object
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import TamperedError
from strongroom.core.fields import reading
from strongroom.core.genesis import Genesis
from strongroom.core.ids import KeyId, PersonId, person_id
from strongroom.keys.escrow import Escrow, EscrowPlan, verify_escrow
from strongroom.keys.slip39 import MOST_SHARES
from strongroom.keys.unlocking import UnlockOffer, verify_offer

MAX_ESCROW_FILE: Final = 512 * 1024


class EscrowRolledBackError(TamperedError):
    """The escrow shown is older than the one that this wallet kept, or another one of the same age."""

    code = "escrow-rolled-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlocked:
    """How far an unlocking is: whose shares are there, how many are needed, and whether the keyring is open."""

    answered: tuple[PersonId, ...]
    needed: int
    unlocked: bool


class CustodyApi:
    """The broker's routes of escrow. All raise what the transport raises, and MalformedError for another form."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def escrow(self) -> Envelope:
        """Return the escrow that the keeper has, signed."""
        with reading(self._transport.call("GET", "/v1/escrow"), "escrow answer") as fields:
            return signed_object(fields, "escrow")

    def plan(self, plan: EscrowPlan) -> None:
        """Hand in a plan of custodians, for the order that names its digest."""
        told = self._transport.call("POST", "/v1/escrow/plans", body={"plan": to_base64(plan.to_bytes())})
        with reading(told, "plan answer") as fields:
            fields.constant("plan", str(plan.digest))

    def offer(self) -> tuple[Envelope, Envelope]:
        """Return a locked keeper's escrow and its offer, both signed."""
        with reading(self._transport.call("GET", "/v1/unlock"), "offer answer") as fields:
            return signed_object(fields, "escrow"), signed_object(fields, "offer")

    def answer(self, envelope: Envelope) -> Unlocked:
        """Hand in a share, encrypted to the offer's key."""
        told = self._transport.call("POST", "/v1/unlock", body={"envelope": envelope.to_json()})
        with reading(told, "unlock answer") as fields:
            return Unlocked(
                answered=tuple(person_id(text) for text in fields.texts("answered", most=MOST_SHARES)),
                needed=fields.integer("needed", most=MOST_SHARES),
                unlocked=fields.boolean("unlocked"),
            )


def newest_escrow(envelope: Envelope, genesis: Genesis, kept: Envelope | None) -> Escrow:
    """Verify an escrow against the pinned genesis and the one that was kept.

    :raises SignatureError: the keeper didn't sign it.
    :raises EscrowRolledBackError: it is older than the kept one, or differs from it at the same age.
    """
    escrow = verify_escrow(envelope, genesis)
    if kept is not None:
        before = verify_escrow(kept, genesis)
        ages = [(one.generation, one.made) for one in (before, escrow)]
        if ages[1] < ages[0] or (ages[1] == ages[0] and before.digest != escrow.digest):
            raise EscrowRolledBackError(
                f"the escrow shown is of generation {escrow.generation}, made {format_instant(escrow.made)};"
                f" this wallet kept one of generation {before.generation}, made {format_instant(before.made)}",
                remedy="somebody puts an old escrow back: compare its digest with the log, by another way",
            )
    return escrow


def offer_lines(
    envelope: Envelope, escrow: Escrow, now: Instant, *, told: KeyId | None = None
) -> tuple[UnlockOffer, tuple[str, ...]]:
    """Verify an offer, and return it with what a custodian must see before answering.

    ``told``: the id of the unlock key of a keeper whose machine was replaced, as its operator read it out.
    """
    offer = verify_offer(envelope, escrow, now, told=told)
    lines = [
        f"a locked keeper asks for your share of generation {offer.generation}",
        f"  deployment  {offer.genesis}",
        f"  offer       {offer.digest}",
        f"  made        {format_instant(offer.made)}, ends {format_instant(offer.expires)}",
    ]
    lines += [f"  then        the root key is put under {provider}" for provider in offer.providers]
    return offer, tuple(lines)


def plan_lines(plan: EscrowPlan) -> Iterator[str]:
    """Return what a root holder must see before signing an order to adopt a plan."""
    yield f"plan {plan.digest}"
    yield f"  deployment  {plan.genesis}"
    yield f"  any {plan.threshold} of {len(plan.custodians)} custodians open the root key:"
    for one in plan.custodians:
        recipient = Digest.of(one.recipient)
        yield f"  {one.person:<16} signs with {one.key.algorithm.value} {one.key.key_id}; recipient key {recipient}"


def escrow_lines(escrow: Escrow, person: PersonId) -> Iterator[str]:
    """Return what an escrow says, for a custodian to compare with what they were told."""
    names = ", ".join(one.person for one in escrow.custodians)
    yield f"escrow of generation {escrow.generation}, made {format_instant(escrow.made)}"
    yield f"  digest      {escrow.digest}"
    yield f"  deployment  {escrow.genesis}"
    yield f"  custodians  {escrow.threshold} of {len(escrow.shares)}: {names}"
    yield f"  your share  number {escrow.share_of(person).number}: opens, and is the one that the keeper signed for"
