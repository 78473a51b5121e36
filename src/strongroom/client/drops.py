"""Workspaces over the broker's API: an agent's asking, who reads drops, and what reviewers sign."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.client.api import Transport
from strongroom.client.trust import StateMismatchError, Trust
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError
from strongroom.core.fields import Fields, reading
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId, person_id
from strongroom.core.signature import Signer
from strongroom.egress.workspace import Drop
from strongroom.release.drop import REVIEWER, PassageAsk, Ticket
from strongroom.release.drop_statements import (
    DROP_KEY_TYPE,
    DROP_REVIEW_TYPE,
    DropKey,
    DropOutcome,
    DropReview,
)

MAX_DROPS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DropShown:
    """A drop, as the keeper says."""

    index: int
    at: Instant
    request: Digest
    digest: Digest
    person: PersonId
    size: int
    bits: int
    reviewer: str
    outcome: str
    """Empty while it waits for its review."""

    @classmethod
    def read(cls, fields: Fields) -> DropShown:
        """Read the JSON form."""
        return cls(
            index=fields.integer("index"),
            at=fields.instant("at"),
            request=fields.digest("request"),
            digest=fields.digest("drop"),
            person=fields.parsed("person", person_id),
            size=fields.integer("bytes"),
            bits=fields.integer("bits"),
            reviewer=fields.text("reviewer", max_length=64) if fields.optional("reviewer") else "",
            outcome=fields.text("outcome", max_length=16) if fields.optional("outcome") else "",
        )


class DropApi:
    """The routes of workspaces. All raise what the transport raises, and MalformedError for another form."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def begin(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
        """Have an input recorded; returns the keeper's signed word."""
        return self._word("/v1/workspaces/inputs", delivery, ask)

    def leave(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
        """Have a drop charged; returns its ticket."""
        return self._word("/v1/workspaces/drops", delivery, ask)

    def drops(self, model: ModelId) -> tuple[DropShown, ...]:
        """Return the newest drops of a model, newest first."""
        with reading(self._transport.call("GET", f"/v1/models/{model}/drops"), "drops answer") as fields:
            return fields.objects("drops", DropShown.read, most=MAX_DROPS)

    def _word(self, path: str, delivery: Envelope, ask: PassageAsk) -> Envelope:
        body: Json = {"delivery": delivery.to_json(), "ask": ask.to_json()}
        with reading(self._transport.call("POST", path, body=body), "answer") as fields, fields.child("word") as word:
            return Envelope.read(word)


def name_key(public: bytes, *, genesis: Genesis, person: PersonId, signer: Signer) -> Envelope:
    """Return the signed statement that a person reads drops with a recipient key."""
    return sign(DROP_KEY_TYPE, DropKey(genesis=genesis.digest, person=person, public=public).to_bytes(), signer)


def check_reviewer(ticket: Ticket, trust: Trust, person: PersonId) -> None:
    """Check that a review by this person would be taken, before they are asked for one.

    :raises DeniedError: it is their own drop, or they don't hold the role.
    """
    roster, _policy = trust.require_documents()
    if ticket.researcher.person == person:
        raise DeniedError("nobody reviews a drop of their own", reason="own-drop")
    if REVIEWER not in roster.person(person).roles:
        raise DeniedError(f"`{person}` doesn't hold the role `{REVIEWER}`", reason="reviewer-missing")


def review(ticket: Ticket, outcome: DropOutcome, signer: Signer) -> Envelope:
    """Return a reviewer's signed decision on a drop."""
    made = DropReview(genesis=ticket.genesis, request=ticket.request, drop=ticket.ask.digest, outcome=outcome)
    return sign(DROP_REVIEW_TYPE, made.to_bytes(), signer)


def counted(drops: Iterable[DropShown]) -> tuple[Drop, ...]:
    """Return drops as quotas count them."""
    return tuple(Drop(person=one.person, bits=one.bits, at=one.at) for one in drops)


def check_outcome(ticket: Ticket, shown: Iterable[DropShown]) -> DropShown:
    """Return what the log has of a ticket's drop.

    :raises StateMismatchError: nothing, or something else than the ticket says.
    """
    for one in shown:
        if (one.request, one.digest) == (ticket.request, ticket.ask.digest):
            if (one.index, one.bits, one.person) != (ticket.log_index, ticket.bits, ticket.researcher.person):
                break
            return one
    raise StateMismatchError("the deployment doesn't show this drop as its ticket does")
