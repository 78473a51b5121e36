"""Calling a witness: bounded answers, no redirect, no other encoding, and nothing from the environment."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx2

from strongroom.audit.adapters.witness_store import origin_hash
from strongroom.audit.note import MAX_BYTES
from strongroom.audit.witness_policy import Witness
from strongroom.core.errors import MalformedError


@dataclass(frozen=True, slots=True)
class Answer:
    """A witness's answer, whatever it is."""

    status: int
    body: bytes


def witness_client(authority: Path | None, *, seconds: float) -> httpx2.AsyncClient:
    """Return a client for witnesses that gives each step of a call so many seconds.

    :param authority: a PEM file with the only authority that their servers are believed by; None: the usual ones.
    """
    return httpx2.AsyncClient(
        verify=True if authority is None else _only(authority),
        trust_env=False,
        follow_redirects=False,
        timeout=seconds,
        headers={"Accept-Encoding": "identity"},
    )


async def held_checkpoint(client: httpx2.AsyncClient, witness: Witness, origin: str) -> Answer:
    """Ask a witness which checkpoint of a log it cosigned last; it answers 404 where it cosigned none.

    Raises as :func:`call`.
    """
    url = f"{str(witness.url).rstrip('/')}/{origin_hash(origin)}/checkpoint"
    return await call(client, "GET", url, None, most=MAX_BYTES)


async def call(client: httpx2.AsyncClient, method: str, url: str, body: bytes | None, *, most: int) -> Answer:
    """Call a witness, and read at most so many bytes of its answer.

    :raises MalformedError: the answer is longer. Raises what the library raises, too, for any address or answer.
    """
    data = bytearray()
    async with client.stream(method, url, content=body) as answer:
        async for chunk in answer.aiter_raw():
            data += chunk
            if len(data) > most:
                raise MalformedError(f"the witness's answer is longer than {most} bytes")
        return Answer(answer.status_code, bytes(data))


def _only(authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=authority)
    return context
