"""The deployment's log holds the odometer: no restart, restored record, other release or stranger refunds a bit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from strongroom.access.governance import CHANGE_DELAY
from strongroom.access.request import Action, Purpose
from strongroom.audit.entries import read_entry
from strongroom.audit.errors import EntryError, EntryForgedError
from strongroom.client.default_policy import default_rules
from strongroom.core.canonical import MAX_INTEGER
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.core.errors import DeniedError, LockedError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.egress.errors import (
    BoundBrokenError,
    LimitReachedError,
    MeterSupersededError,
    OdometerRegressedError,
)
from strongroom.egress.mirror import DAYS_AHEAD
from strongroom.framework.levels import SecurityLevel
from strongroom.keeper.adoption import ChangeRefusedError, adopt
from strongroom.keeper.egress import BURST, NoEgressPolicyError
from strongroom.release.delivery import DELIVERY_TYPE, Delivery
from strongroom.release.documents import DocumentKind, StaleDocumentError
from strongroom.release.dossier import Dossier
from strongroom.release.lease import LEASE_SECONDS, LeaseAsk, LeaseEndedError, LeaseProof
from strongroom.release.metering import Metered, OdometerForgedError, read_reading, read_resumption
from support.deployment import DAY, MODEL, ROOTS
from support.metered import POLICY, Governed, MeteredScene, policies, signed

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


FAST = replace(POLICY, min_days_to_steal=1, model_day_bits=200_000, fleet_day_bits=200_000, principal_day_bits=200_000)
"""The same model, all of whose life may leave within a day."""


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene()

    asyncio.run(run())


def test_an_entry_is_durable_before_it_is_answered() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        opened = await held.open()
        assert (opened.entry.run, opened.entry.total, opened.entry.limit) == (1, 0, POLICY.lifetime_bits)
        assert opened.entry.epoch == made.room.keeper.vault.epoch == 1
        assert opened.policy == POLICY.digest
        made.room.log.gate.clear()
        asked = asyncio.create_task(held.advance(500, run=1))
        await asyncio.sleep(0.05)
        assert not asked.done()
        made.room.log.gate.set()
        assert (await asked).entry.total == 500
        entry = made.room.log.last(EventName.ODOMETER_ADVANCED)
        assert (entry.integer("total"), entry.text("request")) == (500, str(held.request.digest))

    play(scene)


def test_neither_a_restart_of_the_keeper_nor_of_the_governor_refunds() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        await held.advance(700, run=1)
        await made.restart()
        assert made.total == 700
        again = await made.released()
        assert (await again.open()).entry.total == 700
        assert (await again.advance(10, run=2)).entry.total == 710

    play(scene)


def test_an_older_or_a_lost_local_record_changes_nothing_and_a_newer_one_counts() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        older = await held.advance(300, run=1)
        await held.advance(700, run=1)
        for seen in (None, older.data):
            again = await made.released()
            assert (await again.open(seen)).entry.total == 700
        # The deployment's database and log came back in an older state: what the governor kept is the truth.
        again = await made.released()
        kept = replace(older.entry, run=9, through=4300, total=5000)
        opened = await again.open(made.kept(kept))
        assert (opened.entry.run, opened.entry.total) == (10, 5000)
        assert opened.entry.recent >= 5000

    play(scene)


def test_nobody_burns_a_life_by_claiming_that_it_was_spent() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        first = await held.open()
        claimed = replace(first.entry, run=MAX_INTEGER, through=POLICY.lifetime_bits, total=POLICY.lifetime_bits)
        mallory = Ed25519Signer.from_seed(b"m" * 32)
        resumption = made.room.log.entries[3]
        other = made.kept(replace(claimed, model=ModelId("boreas")))
        forged = first.data.replace(b'"total":0', b'"total":200000')
        for seen in (made.kept(claimed, signer=mallory), forged, other, resumption, b"", b"{}", bytes(70_000)):
            with pytest.raises((EntryError, EntryForgedError, OdometerForgedError)):
                await held.open(seen)
        assert (made.total, made.meters.spent(MODEL).run) == (0, 1)
        assert (await held.open(first.data)).entry.run == 2

    play(scene)


def test_the_same_block_again_gives_nothing_more() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        for _ in range(3):
            assert (await held.advance(400, run=1)).entry.total == 400
        with pytest.raises(OdometerRegressedError):
            await held.advance(400, run=1, settled=401)
        await held.advance(400, run=1, settled=300)
        with pytest.raises(OdometerRegressedError):
            await held.advance(500, run=1, settled=299)
        with pytest.raises(OdometerRegressedError):
            await held.advance(500, run=2)
        with pytest.raises(MeterSupersededError):
            await held.advance(500, run=1, settled=300, model=ModelId("boreas"))
        assert made.total == 400

    play(scene)


def test_a_second_governor_ends_the_first_and_takes_nothing_of_its_run() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        first, second = await made.released(), await made.released()
        await first.open()
        # Another release, genuine itself, can't go on with a run that isn't its own.
        with pytest.raises(MeterSupersededError):
            await second.advance(100, run=1)
        assert (await second.open()).entry.run == 2
        with pytest.raises(MeterSupersededError):
            await first.advance(100, run=1)
        with pytest.raises(MeterSupersededError):
            await first.advance(100, run=2)
        assert made.total == 0

    play(scene)


def changed(held: Governed, **members: object) -> Envelope:
    """Return a delivery as somebody makes one who isn't the keeper."""
    told = replace(Delivery.parse(held.delivery.payload), **members)  # type: ignore[arg-type]
    return sign(DELIVERY_TYPE, told.to_bytes(), Ed25519Signer.from_seed(b"m" * 32))


def test_a_stranger_moves_nothing_and_freezes_nothing() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        envelope = held.delivery
        nobody = Signature(envelope.signatures[0].key_id, bytes(64))
        forged = (
            Envelope(envelope.kind, envelope.payload, (nobody,)),
            Envelope(envelope.kind, envelope.payload, ()),
            changed(held),
            changed(held, use=2),
            sign("application/vnd.strongroom.lease.v1", envelope.payload, made.room.keeper.vault.signer),
        )
        for one in forged:
            stranger = Governed(made, one, held.request, held.key)
            with pytest.raises(SignatureError):
                await stranger.open()
            with pytest.raises(SignatureError):
                await stranger.advance(10, run=1)
            with pytest.raises(SignatureError):
                await made.meters.breach(one, "no-demand")
        # Genuine, and of a release that the log doesn't hold: the keeper of a log that was rolled back signed it.
        told = replace(Delivery.parse(envelope.payload), use=7)
        other = sign(DELIVERY_TYPE, told.to_bytes(), made.room.keeper.vault.signer)
        with pytest.raises(DeniedError, match="no such release"):
            await made.meters.open(other, None)
        assert made.total == 0
        assert MODEL not in made.room.keeper.journal.ledger.frozen

    play(scene)


def test_without_a_live_lease_there_is_no_block() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        made.room.clock.at += LEASE_SECONDS + 2
        with pytest.raises(UnavailableError) as lapsed:
            await held.advance(10, run=1)
        assert lapsed.value.reason == "lease-not-live"
        # A keeper that was started anew learns of a lease as its agent renews it.
        await made.restart()
        with pytest.raises(UnavailableError):
            await held.advance(10, run=1)
        told = Delivery.parse(held.delivery.payload)
        ask = LeaseAsk(use=1, recipient=told.recipient, serial=1, nonce=bytes(32))
        shown = made.room.testimony(held.request, held.key)
        made.leases.renew(held.request, ask, LeaseProof(challenge=shown.challenge, evidence=shown.evidence))
        assert (await held.advance(10, run=1)).entry.total == 10
        revoked = await made.room.submit(Action.REVOKE_GRANT, target=held.request.digest)
        await made.room.keeper.control(Dossier(request=revoked, approvals=await made.room.approvals(revoked)))
        with pytest.raises(LeaseEndedError):
            await held.advance(20, run=1)

    play(scene)


def test_a_breach_freezes_on_a_full_disk_too() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        made.room.keeper.journal.tight = True
        await made.meters.breach(held.delivery, "no-demand")
        assert MODEL in made.room.keeper.journal.ledger.frozen

    play(scene)


def test_a_release_for_research_moves_no_odometer() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        serving, research = await made.released(), await made.released(purpose=Purpose.RESEARCH)
        reading = await serving.open()
        with pytest.raises(DeniedError) as refused:
            await research.open()
        assert refused.value.reason == "egress-purpose"
        with pytest.raises(DeniedError):
            await research.advance(1000, run=reading.entry.run)
        assert made.meters.spent(MODEL).run == reading.entry.run

    play(scene)


def test_a_breach_freezes_every_release_until_the_quorum_resumes() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held, other = await made.released(), await made.released()
        await held.open()
        await made.meters.breach(held.delivery, "bytes-without-demand")
        entry = made.room.log.last(EventName.EGRESS_BREACHED)
        assert (entry.text("cause"), entry.text("model")) == ("bytes-without-demand", MODEL)
        await asyncio.sleep(0.05)
        ends = [e for e in map(read_entry, made.room.log.entries) if e.event is EventName.LEASE_ENDED]
        assert {(e.text("request"), e.text("reason")) for e in ends} == {
            (str(one.request.digest), "model-frozen") for one in (held, other)
        }
        for one in (held, other):
            with pytest.raises(LeaseEndedError):
                await one.open()
        # Said again, it changes nothing; a restart keeps it.
        assert await made.meters.breach(other.delivery, "no-demand") is None
        await made.restart()
        with pytest.raises(DeniedError) as refused:
            await made.released()
        assert refused.value.reason == "model-frozen"
        await made.resume()
        spent = made.meters.spent(MODEL)
        assert spent.resumed is not None
        resumption = made.room.log.entries[spent.resumed]
        assert read_resumption(resumption, made.room.genesis.keeper_key, MODEL) > entry.seq
        with pytest.raises(OdometerForgedError):
            read_resumption(resumption, made.room.genesis.keeper_key, ModelId("boreas"))
        again = await made.released()
        assert (await again.open()).entry.run == 2

    play(scene)


def test_no_policy_no_block_and_a_lower_limit_holds_at_once() -> None:
    async def scene() -> None:
        other = replace(FAST, model=ModelId("boreas"))
        made = await MeteredScene.made(other)
        held = await made.released()
        with pytest.raises(NoEgressPolicyError):
            await held.open()
        await made.adopt(other, FAST)
        await held.open()
        assert (await held.advance(150_000, run=1)).entry.total == 150_000
        # One root holder too many is no harm; tightened, it is in force from the next block on.
        await made.adopt(other, replace(FAST, lifetime_permille=300))
        with pytest.raises(LimitReachedError):
            await held.advance(170_000, run=1)
        await made.adopt(other, replace(FAST, lifetime_permille=450))
        opened = await held.advance(200_000, run=1)
        assert (opened.entry.total, opened.entry.limit) == (180_000, 180_000)

    play(scene)


def test_marks_of_the_life_are_logged_once_each() -> None:
    async def scene() -> None:
        made = await MeteredScene.made(FAST)
        held = await made.released()
        await held.open()
        for through in (99_999, 100_000, 120_000, 200_000):
            await held.advance(through, run=1)
        await made.restart()
        again = await made.released()
        await again.open()
        found = [e for e in map(read_entry, made.room.log.entries) if e.event is EventName.EGRESS_WARNED]
        told = [(e.text("limit"), e.integer("permille"), e.integer("used"), e.integer("of")) for e in found]
        assert told == [("lifetime", 500, 100_000, 200_000), ("lifetime", 800, 200_000, 200_000)]

    play(scene)


def test_a_gateway_that_was_taken_over_gets_days_budgets_and_not_the_life() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        day = POLICY.model_day_bits
        # It keeps to no bucket, and asks for all of the life at once, again and again.
        assert (await held.advance(200_000, run=1)).entry.total == DAYS_AHEAD * day
        with pytest.raises(LimitReachedError) as refused:
            await held.advance(200_000, run=1)
        assert refused.value.reason == "egress-limit.model-day"
        await made.restart()
        run = 1
        for passed in range(1, 9):
            made.room.clock.at += DAY // 2
            again, run = await made.released(), run + 1
            await again.open()
            for _ in range(2):
                with suppress(LimitReachedError):
                    await again.advance(200_000, run=run)
            assert made.total <= (DAYS_AHEAD + passed / 2) * day
        assert made.total > (DAYS_AHEAD + 3) * day

    play(scene)


def test_a_gateway_that_was_taken_over_can_not_flood_the_log() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        size = made.room.keeper.journal.ledger.size
        for _ in range(BURST - 1):
            await held.advance(1, run=1)
        for _ in range(2 * BURST):
            with pytest.raises(UnavailableError) as refused:
                await held.advance(1, run=1)
            assert refused.value.reason == "egress-busy"
        assert made.room.keeper.journal.ledger.size == size + BURST - 1
        made.room.clock.at += 3
        for _ in range(3):
            await held.advance(1, run=1)
        with pytest.raises(UnavailableError):
            await held.advance(1, run=1)

    play(scene)


def test_a_locked_keeper_gives_nothing() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held = await made.released()
        await held.open()
        made.room.keeper.lock("asked")
        with pytest.raises(LockedError):
            await held.advance(1, run=1)

    play(scene)


def test_only_two_root_holders_let_more_out() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        with pytest.raises(BoundBrokenError):
            await made.adopt(replace(POLICY, model_day_bits=2000))
        with pytest.raises(SignatureError):
            await made.adopt(replace(POLICY, lifetime_permille=600), signers=ROOTS[:1])
        await made.adopt(replace(POLICY, lifetime_permille=600))
        # Where one signature is the whole quorum, it lets nothing more out.
        alone = replace(made.room.genesis, root_threshold=1)
        made.room.genesis = made.room.keeper.genesis = alone
        for listed in ((replace(POLICY, lifetime_permille=700),), ()):
            with pytest.raises(ChangeRefusedError) as refused:
                await made.adopt(*listed, signers=ROOTS[:1])
            assert refused.value.reason == "root-quorum-not-met"
        await made.adopt(replace(POLICY, lifetime_permille=500), signers=ROOTS[:1])

    play(scene)


def test_what_lets_more_out_waits_where_changes_wait() -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        high = replace(made.room.terms, level=SecurityLevel.SL4)
        rules = (*made.room.policy.rules, *default_rules(SecurityLevel.SL4))
        await made.room.next_policy(models=(high,), rules=rules)
        looser = policies(made.room.genesis, replace(POLICY, lifetime_permille=600), before=made.document)
        waiting = await adopt(made.room.keeper, made.room.clock, DocumentKind.EGRESS, signed(looser))
        assert waiting.effective == made.room.clock.at + CHANGE_DELAY
        # What takes away doesn't wait, and takes the place of what does.
        await made.adopt(replace(POLICY, lifetime_permille=400))
        assert made.room.keeper.documents.egress[MODEL].lifetime_permille == 400
        made.room.clock.at += CHANGE_DELAY
        with pytest.raises(StaleDocumentError):
            await adopt(made.room.keeper, made.room.clock, DocumentKind.EGRESS, signed(looser))

    play(scene)


@pytest.mark.parametrize("what", ["stale", "other-model", "other-release", "forged", "garbage"])
def test_a_governor_believes_no_other_entry(what: str) -> None:
    async def scene() -> None:
        made = await MeteredScene.made()
        held, other = await made.released(), await made.released()
        mine = (await made.meters.open(held.delivery, None)).entry
        theirs = (await made.meters.open(other.delivery, None)).entry
        key = made.room.genesis.keeper_key
        shown = {
            "stale": made.room.log.entries[3],
            "other-model": mine,
            "other-release": theirs,
            "forged": mine.replace(b'"total":0', b'"total":1').replace(b'"recent":0', b'"recent":1'),
            "garbage": b"{}",
        }[what]
        metered = replace(held.metered, model=ModelId("boreas")) if what == "other-model" else held.metered
        with pytest.raises((OdometerForgedError, EntryForgedError) if what != "garbage" else EntryError):
            read_reading(shown, key, metered=metered)
        assert read_reading(mine, key, metered=held.metered).entry.run == 1
        assert held.metered != Metered(request=Digest.of(b"x"), use=1, model=MODEL)

    play(scene)
