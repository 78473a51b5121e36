"""The destruction certificate: what the log bears out, every copy that wasn't reached, and not one changed byte."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from strongroom.audit.entries import read_entry
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keeper.shredding import CERTIFICATES
from strongroom.release.destruction import (
    CERTIFICATE_TYPE,
    Certificate,
    CertificateMismatchError,
    DestructionUnfinishedError,
    Services,
    draw,
    require_drawn_from,
    verify_certificate,
)
from strongroom.release.destruction_parts import (
    Because,
    Exposure,
    Medium,
)
from strongroom.release.share_statements import SHARE_DESTROYED_TYPE, ShareDestroyed
from strongroom.release.statements import StatementKind
from support.deployment import MODEL, signer
from support.room import found_room
from support.shredding import DELAY, OTHER, ShreddingRoom, played

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

NOTHING = Services(destroyed=(), not_reached=())


async def destroyed() -> tuple[ShreddingRoom, Certificate]:
    """A room whose model was released once, backed up, shared among two custodians, and then destroyed."""
    here = await ShreddingRoom().furnish()
    await here.release(await here.ask())
    here.keeper.record(EventName.BACKUP_MADE, {"backup": Digest.of(b"a backup"), "size": 1000})
    await here.keeper.record_pinned(
        EventName.ESCROW_ADOPTED,
        {
            "authority": Digest.of(b"an order"),
            "generation": 1,
            "escrow": Digest.of(b"an escrow"),
            "custodians": ("sam", "rina"),
            "threshold": 2,
        },
    )
    await here.destroyed()
    return here, verify_certificate(here.shredding.certificate(MODEL), here.genesis)


async def answer(here: ShreddingRoom, custodian: str, generation: int = 1, *, by: str = "") -> None:
    said = ShareDestroyed(genesis=here.genesis.digest, custodian=PersonId(custodian), generation=generation)
    statement = sign(SHARE_DESTROYED_TYPE, said.to_bytes(), signer(by or custodian))
    await here.people.state(StatementKind.SHARE_DESTROYED, statement)


@played
async def test_it_names_what_was_destroyed_and_by_whose_word() -> None:
    here, told = await destroyed()
    assert (told.model, told.serial, told.previous) == (MODEL, 1, None)
    assert (told.requester, told.approvers) == ("dana", ("rina", "sam"))
    assert [(one.version, one.data_key) for one in told.versions] == [(1, here.rows[MODEL].data_key)]
    assert told.kek == here.rows[MODEL].kek
    assert (told.epoch.before, told.epoch.after) == (1, 2)
    assert (told.generation.before, told.generation.after) == (1, 2)
    assert told.destroyed_at - told.agreed_at == DELAY
    assert told.agreed < told.destroyed < told.epoch.index < told.epoch_destroyed < told.generation.index
    assert told.log_size > told.generation.index


@played
async def test_it_names_everybody_who_had_a_data_key() -> None:
    _here, told = await destroyed()
    assert [(one.how, one.person, one.uses) for one in told.exposed] == [
        (Exposure.ENCLAVE, "dana", 1),
        (Exposure.PUBLISHER, "dana", 1),
    ]
    assert not told.exposed_left_out


@played
async def test_it_names_every_copy_that_was_not_reached() -> None:
    _here, told = await destroyed()
    assert not told.providers
    reached_not = {(one.medium, one.because, one.name) for one in told.not_reachable}
    assert reached_not == {
        # A passphrase can't be destroyed: who knows it opens an old keyring.
        (Medium.PROVIDER, Because.NO_VERSIONS, "local:"),
        (Medium.KEYRINGS, Because.ELSEWHERE, ""),
        (Medium.DISK, Because.UNKNOWN, ""),
        (Medium.STANZA, Because.UNKNOWN, ""),
        (Medium.PLAINTEXT, Because.UNKNOWN, ""),
        (Medium.SHARE, Because.NOT_ANSWERED, "sam"),
        (Medium.SHARE, Because.NOT_ANSWERED, "rina"),
        (Medium.BACKUP, Because.ELSEWHERE, str(Digest.of(b"a backup"))),
    }


@played
async def test_it_names_a_key_service_that_held_the_root_key_before_it_was_moved() -> None:
    here = await ShreddingRoom().furnish()
    # The root key stays the same, and the old service opens an old copy of the keyring as it did.
    moved: dict[str, Fact] = {"generation": 1, "providers": Digest.of(b"others")}
    recorded = await here.keeper.record_pinned(EventName.ROOT_MOVED, moved)
    await here.destroyed()
    told = verify_certificate(here.shredding.certificate(MODEL), here.genesis)
    (found,) = (one for one in told.not_reachable if one.medium is Medium.MOVED)
    assert (found.generation, found.index) == (1, recorded.index)
    require_drawn_from(told, here.ledger(told.log_size))


@played
async def test_another_one_follows_once_custodians_answered() -> None:
    here, first = await destroyed()
    again = await here.shredding.certify_again(MODEL)
    assert again == here.shredding.certificate(MODEL)
    assert verify_certificate(again, here.genesis) == first, "nothing new was to be said"
    await answer(here, "sam")
    second = verify_certificate(await here.shredding.certify_again(MODEL), here.genesis)
    assert (second.serial, second.previous) == (2, Digest.of(first.to_bytes()))
    assert [(one.custodian, one.generation) for one in second.answered] == [("sam", 1)]
    assert [one.name for one in second.not_reachable if one.medium is Medium.SHARE] == ["rina"]
    for one in (first, second):
        require_drawn_from(one, here.ledger(one.log_size))
    await here.restart()
    assert verify_certificate(here.shredding.certificate(MODEL), here.genesis) == second


@played
async def test_only_a_custodian_speaks_for_a_share_and_only_for_an_old_one() -> None:
    here, _first = await destroyed()
    for custodian, generation, by, reason in (
        ("sam", 1, "rina", "signer-may-not"),
        ("dana", 1, "dana", "no-such-share"),
        # The share of the root key in force: whoever loses it must not be told that this is in order.
        ("sam", 2, "sam", "generation-in-force"),
        ("sam", 3, "sam", "generation-in-force"),
    ):
        with pytest.raises(StrongroomError) as caught:
            await answer(here, custodian, generation, by=by)
        assert caught.value.reason == reason
    await answer(here, "sam")
    with pytest.raises(StrongroomError, match="waits for this word"):
        await answer(here, "sam")


@played
async def test_a_lost_copy_is_made_again() -> None:
    here, first = await destroyed()
    here.documents.kept.pop((CERTIFICATES, Digest.of(first.to_bytes())))
    with pytest.raises(StrongroomError, match="copy of the certificate is gone"):
        here.shredding.certificate(MODEL)
    second = verify_certificate(await here.shredding.certify_again(MODEL), here.genesis)
    assert second.serial == 2


@played
async def test_the_log_bears_it_out_and_nothing_else() -> None:
    here, told = await destroyed()
    ledger = here.ledger(told.log_size)
    require_drawn_from(told, ledger)
    sample = {
        "model": OTHER,
        "request": Digest.of(b"x"),
        "requester": "sam",
        "approvers": ("sam",),
        "kek": "0" * 32,
        "versions": (),
        "exposed": told.exposed[:1],
        "not_reachable": told.not_reachable[:2],
        "previous": Digest.of(b"x"),
        "serial": 2,
        "genesis": told.genesis,
        "certified_at": told.certified_at,
        "providers": (),
        "answered": (),
        "log_root": Digest.of(b"x"),
        "epoch": replace(told.epoch, at=told.epoch.at + 1),
        "generation": replace(told.generation, after=9),
    }
    free = {"genesis", "certified_at", "providers", "answered"}
    for one in fields(Certificate):
        before = getattr(told, one.name)
        changed = replace(told, **{one.name: sample.get(one.name, before + 1 if isinstance(before, int) else before)})  # type: ignore[arg-type]
        if one.name in free:
            continue
        assert changed != told, one.name
        with pytest.raises(CertificateMismatchError):
            require_drawn_from(changed, ledger)
    # Another, honest log that is shorter or longer isn't the one that it was drawn from.
    for size in (told.log_size - 1, len(here.log.entries)):
        with pytest.raises(CertificateMismatchError):
            require_drawn_from(told, here.ledger(size))


@played
async def test_one_changed_byte_is_refused() -> None:
    here, _told = await destroyed()
    envelope = here.shredding.certificate(MODEL)
    for place in range(0, len(envelope.payload), 7):
        payload = bytearray(envelope.payload)
        payload[place] ^= 1
        with pytest.raises(StrongroomError):
            verify_certificate(Envelope(envelope.kind, bytes(payload), envelope.signatures), here.genesis)
    other = sign(CERTIFICATE_TYPE, envelope.payload, signer("somebody"))
    with pytest.raises(StrongroomError):
        verify_certificate(other, here.genesis)
    with pytest.raises(StrongroomError):
        verify_certificate(envelope, found_room("another").genesis)


@played
async def test_a_certificate_without_limits_isn_t_one() -> None:
    _here, told = await destroyed()
    assert Certificate.parse(told.to_bytes()) == told
    with pytest.raises(MalformedError, match="couldn't be reached"):
        Certificate.parse(replace(told, not_reachable=()).to_bytes())
    with pytest.raises(MalformedError, match="first"):
        Certificate.parse(replace(told, serial=2).to_bytes())


@played
async def test_nothing_is_certified_before_the_last_step_is_in_the_log() -> None:
    here = await ShreddingRoom().furnish()
    await here.destroyed()
    events = [read_entry(data).event for data in here.log.entries]
    complete = events.index(EventName.ROOT_ROTATED) + 1
    for size in range(1, complete):
        with pytest.raises(DestructionUnfinishedError):
            drawn(here, size)
    assert drawn(here, complete).kek == here.rows[MODEL].kek


@played
async def test_long_histories_are_cut_and_counted() -> None:
    here, told = await destroyed()
    ledger = here.ledger(told.log_size)
    ledger.versions[MODEL] = ledger.versions[MODEL] * 600
    cut = draw(ledger, MODEL, genesis=told.genesis, services=NOTHING, serial=1, certified_at=told.certified_at)
    assert (len(cut.versions), cut.versions_left_out) == (512, 88)
    assert Certificate.parse(cut.to_bytes()) == cut


def drawn(here: ShreddingRoom, size: int) -> Certificate:
    return draw(
        here.ledger(size), MODEL, genesis=here.genesis.digest, services=NOTHING, serial=1, certified_at=here.clock.at
    )
