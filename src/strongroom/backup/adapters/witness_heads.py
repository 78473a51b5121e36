"""Asking witnesses what they cosigned last of a log: not to have anything signed, but to know how far the log was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import httpx2

from strongroom.audit.adapters.witness_http import held_checkpoint, witness_client
from strongroom.audit.cosignature import read_cosignatures
from strongroom.audit.note import Note
from strongroom.audit.succession import Succession
from strongroom.audit.witness_policy import Witness, WitnessPolicy
from strongroom.backup.judgement import SeenHead

SECONDS: Final = 5.0
_NOTHING: Final = 404


def ask_witnesses(policy: WitnessPolicy, succession: Succession, authority: Path | None) -> dict[str, SeenHead]:
    """Ask each witness of a policy that has an address; returns name -> the head that it cosigned last.

    A witness that doesn't answer, or answers with what it or the log didn't sign, has said nothing.

    :param authority: a PEM file with the only authority that their servers are believed by; else the usual ones.
    """
    return asyncio.run(_ask_all(policy, succession, authority))


async def _ask_all(policy: WitnessPolicy, succession: Succession, authority: Path | None) -> dict[str, SeenHead]:
    asked = [witness for witness in policy.witnesses if witness.url is not None]
    async with witness_client(authority, seconds=SECONDS) as client:
        told = await asyncio.gather(*(_ask(client, witness, succession) for witness in asked))
    return {witness.name: head for witness, head in zip(asked, told, strict=True) if head is not None}


async def _ask(client: httpx2.AsyncClient, witness: Witness, succession: Succession) -> SeenHead | None:
    # Just after a seam, a witness may have cosigned nothing of the new shard yet: what it saw is the one before.
    try:
        async with asyncio.timeout(SECONDS):
            for shard in reversed(succession.shards[-2:]):
                answer = await held_checkpoint(client, witness, shard.origin)
                if answer.status != _NOTHING:
                    return _read(answer.body, witness, succession) if answer.status == httpx2.codes.OK else None
    except Exception:  # noqa: BLE001 - whatever its address or answer is like, such a witness has said nothing
        return None
    return None


def _read(body: bytes, witness: Witness, succession: Succession) -> SeenHead | None:
    head = succession.read(body)
    if not read_cosignatures(Note.parse(body), head.checkpoint, [witness.key]):
        return None
    return SeenHead(size=head.size, root=head.root, by=f"witness `{witness.name}`")
