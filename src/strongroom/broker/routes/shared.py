"""What routes share: the broker behind them, and who may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Path, Request

from strongroom.broker.directory import Directory
from strongroom.broker.errors import OtherPartyError
from strongroom.broker.gate import IDENTITY
from strongroom.broker.identity import Identity, Party
from strongroom.broker.service import Broker
from strongroom.core.errors import StrongroomError


async def _broker(request: Request) -> Broker:
    broker = request.app.state.broker
    if not isinstance(broker, Broker):
        raise StrongroomError("the application serves no broker")
    return broker


async def _directory(request: Request) -> Directory:
    return Directory(await _broker(request))


def _only(party: Party) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        identity = request.scope["state"].get(IDENTITY)
        if not isinstance(identity, Identity) or identity.party is not party:
            raise OtherPartyError(f"this address admits certificates of the kind `{party.value}` alone")

    return check


TheBroker = Annotated[Broker, Depends(_broker)]
TheDirectory = Annotated[Directory, Depends(_directory)]
DigestPath = Annotated[str, Path(max_length=71, description="the request's digest, `sha256:` and 64 hex characters")]
PEOPLE = Depends(_only(Party.PERSON))
ENCLAVES = Depends(_only(Party.ENCLAVE))
