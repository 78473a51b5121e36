"""Targets of workspaces: archives, drop files, what their agents ask, what people sign about drops, and notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.core.canonical import encode, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.egress.archive import Archive, ArchivedFile
from strongroom.enclave.script.notebook import code_cells
from strongroom.release.drop import TICKET_TYPE, Begun, PassageAsk, Reader, Ticket
from strongroom.release.drop_file import DropFile, encrypt_drop
from strongroom.release.drop_statements import DropKey, DropOutcome, DropReview
from support.deployment import MODEL
from support.drops import identity
from support.logs import GENESIS, KEEPER

ARCHIVE: Final = Archive.of([ArchivedFile("a/b", b"some"), ArchivedFile("c", b"")], {"code": 0}).to_bytes()
_NOTEBOOK: Final = {"nbformat": 4, "cells": [{"cell_type": "code", "source": ["1\n", "2"]}, {"cell_type": "raw"}]}


def _ask() -> PassageAsk:
    return PassageAsk(use=1, recipient=Digest.of(b"key"), nonce=bytes(32), digest=Digest.of(ARCHIVE), size=len(ARCHIVE))


@cache
def _ticket() -> bytes:
    return Ticket(
        genesis=GENESIS.digest,
        request=Digest.of(b"request"),
        model=MODEL,
        ask=_ask(),
        bits=100,
        log_index=7,
        reviewers=(Reader(PersonId("sam"), identity("sam").public),),
        researcher=Reader(PersonId("dana"), identity("dana").public),
    ).to_bytes()


@cache
def _file() -> bytes:
    ticket = Ticket.parse(_ticket())
    with SecretBytes(bytearray(32)) as key:
        return encrypt_drop(ARCHIVE, sign(TICKET_TYPE, _ticket(), KEEPER), ticket.reviewers, key).to_bytes()


def drop_file(data: bytes) -> None:
    """Do all that a reviewer's client does with a file."""
    DropFile.parse(data).open(GENESIS, PersonId("sam"), identity("sam"))


def _statements() -> Iterable[bytes]:
    genesis, digest = GENESIS.digest, Digest.of(b"x")
    yield DropKey(genesis=genesis, person=PersonId("sam"), public=identity("sam").public).to_bytes()
    yield DropReview(genesis=genesis, request=digest, drop=digest, outcome=DropOutcome.ACCEPT).to_bytes()


def statement(data: bytes) -> None:
    """Read a statement as either kind."""
    if b"outcome" in data:
        DropReview.parse(data)
    else:
        DropKey.parse(data)


def ask(data: bytes) -> None:
    """Read an asking, as the keeper does."""
    with Fields(parse(data), "ask") as fields:
        PassageAsk.read(fields)


DROPS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "drop-archive": Target(read=Archive.parse, seeds=lambda: (ARCHIVE, Archive.of([]).to_bytes())),
        "drop-ask": Target(read=ask, seeds=lambda: (encode(_ask().to_json()),)),
        "drop-begun": Target(
            read=Begun.parse,
            seeds=lambda: (Begun(genesis=GENESIS.digest, request=Digest.of(b"r"), ask=_ask(), log_index=1).to_bytes(),),
        ),
        "drop-file": Target(read=drop_file, seeds=lambda: (_file(),), changes=150),
        "drop-statement": Target(read=statement, seeds=_statements),
        "drop-ticket": Target(read=Ticket.parse, seeds=lambda: (_ticket(),)),
        "notebook": Target(read=code_cells, seeds=lambda: (json.dumps(_NOTEBOOK).encode(),)),
    }
)
