"""A whole release on a confidential-computing chip's evidence, and everything about the chip that refuses one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha512

import pytest

from simulators.sev_snp_chain import MUST_BE_ONE, STRICT_POLICY, Machine, anchors, authorities
from strongroom.access.policy import Weights
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.ear import verify
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import EnrolmentRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.platform_record import EnrolledChip, PlatformRecord
from strongroom.attestation.recorded import appraise_recorded, read_file
from strongroom.attestation.results import Status
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import SigningKey
from strongroom.attestation.trust_vector import TrustTier
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError
from strongroom.core.events import EventName
from strongroom.framework.levels import SecurityLevel
from strongroom.keeper.registry import PlatformEnrolledError
from strongroom.keys.recipient import RecipientKey
from strongroom.release.attested import Attested
from strongroom.release.steps import ReleaseRefusedError
from support.snp_room import KIND, SnpRoom

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

DEBUG = 1 << 19


def play(story: Callable[[SnpRoom], Awaitable[None]]) -> None:
    async def run() -> None:
        room = SnpRoom()
        await room.furnish()
        await story(room)

    asyncio.run(run())


async def refused(room: SnpRoom) -> ReleaseRefusedError:
    with pytest.raises(ReleaseRefusedError) as caught:
        await room.release(await room.ask())
    return caught.value


def test_a_test_model_is_released_on_a_simulated_chip_s_evidence() -> None:
    async def story(room: SnpRoom) -> None:
        record = PlatformRecord.parse(room.record.payload)  # type: ignore[union-attr]
        assert isinstance(record.identity, EnrolledChip)
        assert record.anchor == Digest.of(authorities(Product.GENOA).ark.der)
        assert record.isolation is IsolationClass.VM_SIMULATED
        key = RecipientKey()
        released = await room.keeper.release(await room.dossier(await room.ask(), key))
        entry = [read_entry(data) for data in room.log.entries][-1]
        assert entry.event is EventName.RELEASED
        assert (entry.text("isolation"), entry.text("weights")) == ("vm-simulated", "test")
        assert entry.digest("result") == Digest.of(released.result.encode())
        assert entry.digest("collateral") == room.keeper.bundle.digest
        assert entry.digest("appraisal_policy") == room.values.appraisal.digest
        assert entry.facts["reset_count"] is None
        kept = room.keeper.attested(entry.digest("attested"))
        assert kept is not None
        assert Digest.of(kept.evidence) == entry.digest("evidence")
        assert Attested.parse(kept.to_bytes()) == kept
        told = verify(released.result, [room.genesis.keeper_key], room.clock.now())
        assert (told.platform, told.recipient_key) == (record.platform, key.digest)
        assert told.collateral == room.keeper.bundle.digest
        # Simulated, and so never what somebody elsewhere should trust.
        assert told.tier is not TrustTier.AFFIRMING

    play(story)


def test_what_a_release_was_proved_by_can_be_appraised_again_by_anybody() -> None:
    async def story(room: SnpRoom) -> None:
        await room.release(await room.ask())
        kept = room.keeper.attested(read_entry(room.log.entries[-1]).digest("attested"))
        assert kept is not None
        # By the published transcript, from the bytes that are kept: nothing of the keeper's is needed.
        report_data = sha512(b"strongroom/attestation/cpu/v1\0" + kept.binding).digest()
        found = appraise_recorded(
            read_file(kept.evidence),
            policy=room.values.appraisal,
            endorsements=Endorsements(anchors=anchors(Product.GENOA), collateral=room.keeper.collateral),
            binding=ExpectedBinding({Slot.REPORT_DATA: report_data}),
            at=room.clock.now(),
        )
        told = [(one.result.name, one.result.status, one.result.fresh) for one in found]
        assert told == [("cpu0", Status.WANTED, True)]

    play(story)


def test_the_trace_of_a_release_tells_class_statements_and_worth() -> None:
    async def story(room: SnpRoom) -> None:
        await room.release(await room.ask())
        told = b"".join(room.decisions.kept).decode()
        assert "cpu0 by `sev-snp`" in told
        assert "isolation `vm-simulated`: TEST WEIGHTS ONLY" in told

    play(story)


CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "debugging is on": ({"policy": STRICT_POLICY | DEBUG}, "unwanted-debug"),
    "another measurement": ({"measurement": bytes(48)}, "unwanted-measurement"),
    "another chip": ({"chip_id": b"\x05" * 64, "certified_chip": b"\x05" * 64}, "unwanted-platform"),
    "another privilege level": ({"vmpl": 2}, "unwanted-vmpl"),
    "old firmware": ({"tcb": bytes(8)}, "unwanted-tcb.bootloader"),
    "a lax guest policy": ({"policy": MUST_BE_ONE}, ""),
}


@pytest.mark.parametrize("what", CHANGES)
def test_step_4_8_a_genuine_report_that_isn_t_wanted_is_refused(what: str) -> None:
    change, reason = CHANGES[what]

    async def story(room: SnpRoom) -> None:
        room.machine = replace(room.machine, **change)  # type: ignore[arg-type]
        error = await refused(room)
        assert error.step.number == "4.8"
        assert error.reason.startswith(reason or "unwanted-")
        assert "wanted" in error.remedy

    play(story)


def test_step_4_7_evidence_of_the_maker_s_own_roots_alone_is_no_simulator_s() -> None:
    async def story(room: SnpRoom) -> None:
        await room.next_values(anchors=())
        error = await refused(room)
        assert (error.step.number, error.reason) == ("4.7", "chain-refused")

    play(story)


def test_step_4_7_another_product_s_root_vouches_for_nothing_here() -> None:
    async def story(room: SnpRoom) -> None:
        await room.next_values(anchors=anchors(Product.TURIN).anchors)
        assert (await refused(room)).step.number == "4.7"

    play(story)


def test_step_4_7_evidence_made_to_enrol_releases_nothing() -> None:
    async def story(room: SnpRoom) -> None:
        opened = room.registry.begin_chip(KIND)
        body = room.answer(opened)
        honest = room.evidence

        def relayed(binding: object, key: RecipientKey) -> object:
            made = honest(binding, key)  # type: ignore[arg-type]
            return replace(made, main=replace(made.main, body=body))

        room.evidence = relayed  # type: ignore[method-assign,assignment]
        assert (await refused(room)).reason == "evidence-replayed"

    play(story)


def test_production_weights_are_never_served_to_simulated_evidence() -> None:
    async def story(room: SnpRoom) -> None:
        for level in (SecurityLevel.SL1, SecurityLevel.SL2):
            room.terms = replace(room.terms, level=level, weights=Weights.PRODUCTION)
            rules = tuple(replace(rule, level=level) for rule in room.policy.rules)
            await room.next_policy(models=(room.terms,), rules=rules)
            error = await refused(room)
            assert (error.step.number, error.reason) == ("4.9", "isolation-for-test-weights")

    play(story)


# --- enrolling --------------------------------------------------------------------------------------------------------

ENROLMENTS: dict[str, tuple[Machine, str]] = {
    "debugging is on": (Machine(policy=STRICT_POLICY | DEBUG), "unwanted-debug"),
    "a masked chip": (Machine(chip_id=bytes(64)), "chip-masked"),
    "a provider's key, which hides the chip": (Machine(signing_key=SigningKey.VLEK), "chip-masked"),
    "old firmware": (Machine(tcb=bytes(8)), "unwanted-tcb.bootloader"),
    "another product than the listed roots'": (Machine(product=Product.TURIN, version=3), "chain-refused"),
}


@pytest.mark.parametrize("what", ENROLMENTS)
def test_a_chip_that_isn_t_as_wanted_isn_t_enrolled(what: str) -> None:
    machine, reason = ENROLMENTS[what]

    async def story(room: SnpRoom) -> None:
        before = len(room.keeper.journal.ledger.platforms)
        with pytest.raises(EnrolmentRefusedError) as caught:
            await room.enrol(machine)
        assert caught.value.reason.startswith(reason)
        assert len(room.keeper.journal.ledger.platforms) == before

    play(story)


def test_an_enrolment_is_answered_once_in_time_and_with_its_own_evidence() -> None:
    async def story(room: SnpRoom) -> None:
        chip = Machine(chip_id=b"\x07" * 64, certified_chip=b"\x07" * 64)
        first, second = room.registry.begin_chip(KIND), room.registry.begin_chip(KIND)
        with pytest.raises(EnrolmentRefusedError) as caught:
            await room.registry.finish_chip(first.session, room.answer(second, chip))
        assert caught.value.reason == "evidence-replayed"
        with pytest.raises(NotFoundError):
            await room.registry.finish_chip(first.session, room.answer(first, chip))
        room.clock.at = second.pending.expires
        with pytest.raises(EnrolmentRefusedError, match="too late"):
            await room.registry.finish_chip(second.session, room.answer(second, chip))

    play(story)


def test_a_chip_is_enrolled_once_and_asked_again_it_gets_the_same_record() -> None:
    async def story(room: SnpRoom) -> None:
        assert await room.enrol() == room.record
        twin = replace(room.machine, measurement=bytes(48))
        # What runs on it is asked at each release; the chip is the same.
        assert await room.enrol(twin) == room.record
        platforms = room.keeper.journal.ledger.platforms
        assert list(platforms) == [room.platform_id]
        room.keeper.journal.ledger.revoked_platforms.add(room.platform_id)
        with pytest.raises(PlatformEnrolledError):
            await room.enrol()

    play(story)
