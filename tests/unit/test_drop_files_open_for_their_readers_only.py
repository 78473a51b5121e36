"""A drop opens for the people it was encrypted to, to the bytes that were charged, or to an error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import SignatureError
from strongroom.egress.archive import Archive, ArchivedFile
from strongroom.keys.recipient import DeliveryError
from strongroom.release.drop import MAX_READERS, TICKET_TYPE, PassageAsk, Reader, Ticket
from strongroom.release.drop_file import (
    MAGIC,
    DropChangedError,
    DropFile,
    NotAReaderError,
    Stanza,
    encrypt_drop,
)
from support.deployment import MODEL
from support.drops import identity
from support.logs import GENESIS, KEEPER, LOG_SIGNER

ARCHIVE = Archive.of([ArchivedFile("found.txt", b"something")], {"code": 0})
SAM, RINA, DANA = (PersonId(name) for name in ("sam", "rina", "dana"))


def reader(name: str) -> Reader:
    return Reader(PersonId(name), identity(name).public)


def ticket(data: bytes, **changes: object) -> Ticket:
    ask = PassageAsk(use=1, recipient=Digest.of(b"key"), nonce=bytes(32), digest=Digest.of(data), size=len(data))
    made = Ticket(
        genesis=GENESIS.digest,
        request=Digest.of(b"request"),
        model=MODEL,
        ask=ask,
        bits=100,
        log_index=7,
        reviewers=(reader("sam"), reader("rina")),
        researcher=reader("dana"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def key() -> SecretBytes:
    return SecretBytes(bytearray(b"k" * 32))


def dropped(data: bytes = ARCHIVE.to_bytes(), made: Ticket | None = None) -> DropFile:
    made = made or ticket(data)
    return encrypt_drop(data, sign(TICKET_TYPE, made.to_bytes(), KEEPER), made.reviewers, key())


def test_each_reviewer_opens_it_and_nobody_else() -> None:
    file = DropFile.parse(dropped().to_bytes())
    for who in (SAM, RINA):
        told, archive = file.open(GENESIS, who, identity(who))
        assert archive == ARCHIVE
        assert told.researcher.person == DANA
    with pytest.raises(NotAReaderError):
        file.open(GENESIS, DANA, identity("dana"))
    with pytest.raises(DeliveryError):
        file.open(GENESIS, SAM, identity("dana"))
    # Another reader's stanza under one's own name.
    swapped = replace(file, stanzas=(Stanza(RINA, file.stanzas[0].ciphertext),))
    with pytest.raises(DeliveryError):
        swapped.open(GENESIS, RINA, identity("rina"))
    with pytest.raises(DeliveryError):
        swapped.open(GENESIS, RINA, identity("sam"))


def test_what_was_accepted_opens_for_the_researcher() -> None:
    file = dropped()
    accepted = encrypt_drop(ARCHIVE.to_bytes(), file.ticket, [reader("dana")], key())
    _ticket, archive = DropFile.parse(accepted.to_bytes()).open(GENESIS, DANA, identity("dana"))
    assert archive == ARCHIVE
    with pytest.raises(NotAReaderError):
        accepted.open(GENESIS, SAM, identity("sam"))


def test_a_ticket_that_the_keeper_didnt_sign_opens_nothing() -> None:
    file = dropped()
    forged = Envelope(TICKET_TYPE, file.ticket.payload, ())
    for envelope in (forged, sign(TICKET_TYPE, file.ticket.payload, LOG_SIGNER)):
        with pytest.raises(SignatureError):
            replace(file, ticket=envelope).open(GENESIS, SAM, identity("sam"))
    other = ticket(ARCHIVE.to_bytes(), genesis=Digest.of(b"another deployment"))
    with pytest.raises(DropChangedError):
        dropped(made=other).open(GENESIS, SAM, identity("sam"))


def test_a_ticket_opens_no_other_bytes_than_those_that_were_charged() -> None:
    data = ARCHIVE.to_bytes()
    other = Archive.of([ArchivedFile("weights", b"W" * 9)]).to_bytes()
    for wrong in (ticket(other), ticket(data, ask=replace(ticket(data).ask, size=len(data) + 1))):
        with pytest.raises(DropChangedError):
            dropped(data, wrong).open(GENESIS, SAM, identity("sam"))
    # A genuine ticket of another drop put in front of this one.
    with pytest.raises(StrongroomError):
        replace(dropped(data), ticket=dropped(other).ticket).open(GENESIS, SAM, identity("sam"))
    with pytest.raises(MalformedError):
        dropped(b"no archive").open(GENESIS, SAM, identity("sam"))


def test_every_changed_byte_of_the_body_is_found() -> None:
    file = dropped()
    for place in range(len(file.ciphertext)):
        changed = bytearray(file.ciphertext)
        changed[place] ^= 1
        with pytest.raises(DropChangedError):
            replace(file, ciphertext=bytes(changed)).open(GENESIS, SAM, identity("sam"))


def test_files_of_another_form_are_refused() -> None:
    data = dropped().to_bytes()
    for wrong in (b"", MAGIC, data[1:], data[:60], MAGIC + b"\xff\xff\xff\xff" + data[len(MAGIC) + 4 :]):
        with pytest.raises(MalformedError):
            DropFile.parse(wrong)


def test_a_ticket_names_one_to_sixteen_reviewers_and_no_researcher_among_them() -> None:
    good = ticket(b"x")
    assert Ticket.parse(good.to_bytes()) == good
    many = tuple(Reader(PersonId(f"p{n}"), identity("sam").public) for n in range(MAX_READERS + 1))
    for wrong in ((), many, (reader("sam"), reader("sam")), (reader("dana"),)):
        with pytest.raises(MalformedError):
            replace(good, reviewers=wrong)
