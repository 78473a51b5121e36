"""Asking witnesses what they cosigned last of a log: not to have anything signed, but to know how far the log was."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import httpx2

from strongroom.audit.adapters.witness_store import origin_hash
from strongroom.audit.cosignature import read_cosignatures
from strongroom.audit.note import MAX_BYTES, Note
from strongroom.audit.succession import Succession
from strongroom.audit.witness_policy import Witness, WitnessPolicy
from strongroom.backup.judgement import SeenHead
from strongroom.core.errors import MalformedError, StrongroomError

SECONDS: Final = 5.0


def ask_witnesses(policy: WitnessPolicy, succession: Succession, authority: Path | None) -> dict[str, SeenHead]:
    """Ask each witness of a policy that has an address; returns name -> the head that it cosigned last.

    A witness that doesn't answer, or answers with what it or the log didn't sign, has said nothing.

    :param authority: a PEM file with the only authority that their servers are believed by; else the usual ones.
    """
    context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    told = {}
    with httpx2.Client(
        verify=context,
        trust_env=False,
        follow_redirects=False,
        timeout=SECONDS,
        headers={"Accept-Encoding": "identity"},
    ) as client:
        for witness in policy.witnesses:
            found = _ask(client, witness, succession)
            if found is not None:
                told[witness.name] = found
    return told


def _ask(client: httpx2.Client, witness: Witness, succession: Succession) -> SeenHead | None:
    if witness.url is None:
        return None
    url = f"{witness.url.rstrip('/')}/{origin_hash(succession.current.origin)}/checkpoint"
    try:
        data = bytearray()
        with client.stream("GET", url) as answer:
            for chunk in answer.iter_raw():
                data += chunk
                if len(data) > MAX_BYTES:
                    raise MalformedError("a checkpoint is shorter")
        if answer.status_code != 200:
            return None
        head = succession.read(bytes(data))
        if not read_cosignatures(Note.parse(bytes(data)), head.checkpoint, [witness.key]):
            return None
    except (StrongroomError, httpx2.HTTPError, httpx2.InvalidURL, OSError):
        return None
    return SeenHead(size=head.size, root=head.root, by=f"witness `{witness.name}`")
