"""Custodians of a real deployment: they fetch a locked keeper's offer and answer it, as their client does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from strongroom.access.request import Action, Purpose
from strongroom.audit.adapters.client import LogClient
from strongroom.audit.entries import Entry, read_entry
from strongroom.client.custody import newest_escrow
from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope
from strongroom.core.errors import LockedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.keys.escrow import Escrow, open_share
from strongroom.keys.recipient import RecipientKey
from strongroom.keys.unlocking import answer_offer, verify_offer
from strongroom.release.delivery import accept
from strongroom.release.dossier import Dossier, WrappedDataKey
from support.deployment import Deployment
from support.escrows import Holder, seen


def envelope(value: Json) -> Envelope:
    return Envelope.read(Fields(value, "envelope"))


def escrow_in(deployment: Deployment) -> Escrow:
    """The escrow that the keeper shows, verified against the genesis."""
    return newest_escrow(envelope(deployment.call("escrow")["escrow"]), deployment.genesis, None)


def answer(deployment: Deployment, held: Holder, *, escrow: Escrow | None = None) -> Envelope:
    """A custodian's answer to the present offer."""
    told = deployment.call("unlock-offer")
    shown = escrow or newest_escrow(envelope(told["escrow"]), deployment.genesis, None)
    offer = verify_offer(envelope(told["offer"]), shown, int(time.time()))
    person = held.custodian.person
    with open_share(shown, person, held.identity) as words:
        return answer_offer(offer, shown.share_of(person), words, held.signer)


def give(deployment: Deployment, held: Holder) -> dict[str, Json]:
    """Answer the present offer, and hand the answer in."""
    return deployment.call("unlock-share", envelope=answer(deployment, held).to_json())


def wait_until(done: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait until something no longer says that the keeper is locked."""
    until = time.monotonic() + seconds
    while True:
        try:
            done()
        except LockedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def seal(deployment: Deployment, model: str) -> tuple[bytes, WrappedDataKey]:
    """Have a data key made; returns it, and its row."""
    recipient = RecipientKey()
    request = deployment.request(
        Action.SEAL, model=ModelId(model), version=1, recipient=recipient.digest, purpose=Purpose.PUBLISH
    )
    made = deployment.call("seal", dossier=Dossier(request=request, recipient_key=recipient.public).to_json())
    _delivery, data_key = accept(
        envelope(made["delivery"]),
        deployment.genesis,
        recipient,
        request=request.digest,
        model=ModelId(model),
        version=1,
    )
    return seen(data_key), WrappedDataKey.read(Fields(made["wrapped"], "wrapped"))


def entries_of(deployment: Deployment) -> list[Entry]:
    """Every entry of a deployment's running log."""

    async def read() -> tuple[bytes, ...]:
        async with await LogClient.connect(deployment.home / "run" / "log.sock") as client:
            return await client.read(0, 256)

    return [read_entry(data) for data in asyncio.run(read())]
