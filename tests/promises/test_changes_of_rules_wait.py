"""At SL4 and above a change of roster, policy or measurements waits a day, in sight, and any approver may stop it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.access.governance import CHANGE_DELAY
from strongroom.access.policy import POLICY_TYPE, Policy
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, CustodyRecord, ReferenceValues
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.events import EventName
from strongroom.core.ids import ImageId, PersonId
from strongroom.framework.levels import SecurityLevel
from strongroom.keeper.adoption import adopt
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.personnel.statements import OBJECTION_TYPE, Objection
from strongroom.release.documents import DocumentKind
from strongroom.release.statements import StatementKind
from support.deployment import ROOTS, signer
from support.room import Room
from support.stories import refused, run

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


async def raised(room: Room) -> None:
    """Put the model at SL4: from then on changes wait."""
    level = SecurityLevel.SL4
    await room.next_policy(
        rules=tuple(replace(rule, level=level) for rule in room.policy.rules),
        models=tuple(replace(terms, level=level) for terms in room.policy.models),
    )


def following(room: Room, **members: object) -> tuple[Policy, Envelope]:
    """Return the next policy, signed by the root quorum."""
    before = room.policy
    policy: Policy = replace(
        before,
        epoch=before.epoch + 1,
        predecessor=Digest.of(before.to_bytes()),
        **members,  # type: ignore[arg-type]
    )
    return policy, sign(POLICY_TYPE, policy.to_bytes(), *ROOTS[:2])


def objection(room: Room, document: Digest, by: str) -> Envelope:
    """Return a signed objection."""
    return sign(OBJECTION_TYPE, Objection(genesis=room.genesis.digest, document=document).to_bytes(), signer(by))


def test_below_sl4_a_change_is_in_force_at_once() -> None:
    async def story(room: Room) -> None:
        _policy, envelope = following(room)
        adoption = await adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope)
        assert adoption.effective is None

    run(story)


def test_at_sl4_a_change_waits_a_day_and_comes_into_force_after_it() -> None:
    async def story(room: Room) -> None:
        await raised(room)
        policy, envelope = following(room)
        waiting = await adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope)
        assert waiting.effective == NOW + CHANGE_DELAY
        assert room.log.last(EventName.CHANGE_PROPOSED).digest("document") == envelope.digest
        room.clock.at += CHANGE_DELAY - 1
        again = await adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope)
        # Handed in again, the time doesn't begin anew and doesn't end sooner.
        assert (again.recorded, again.effective) == (None, NOW + CHANGE_DELAY)
        assert room.keeper.documents.policy_digest == Digest.of(room.policy.to_bytes())
        await room.restart()
        room.clock.at += 1
        assert (await adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope)).effective is None
        assert room.keeper.documents.policy_digest == Digest.of(policy.to_bytes())

    run(story)


def test_lower_levels_come_into_force_by_the_rules_that_they_would_replace() -> None:
    async def story(room: Room) -> None:
        await raised(room)
        level = SecurityLevel.SL1
        _policy, envelope = following(
            room,
            rules=tuple(replace(rule, level=level) for rule in room.policy.rules),
            models=tuple(replace(terms, level=level) for terms in room.policy.models),
        )
        assert (await adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope)).effective == NOW + CHANGE_DELAY

    run(story)


def test_any_one_approver_stops_a_change_for_good() -> None:
    async def story(room: Room) -> None:
        await raised(room)
        _policy, envelope = following(room)
        stop = room.people.state
        early = objection(room, envelope.digest, "rina")
        await refused(stop(StatementKind.OBJECTION, early), "change-not-waiting")
        await adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope)
        await refused(stop(StatementKind.OBJECTION, objection(room, envelope.digest, "dana")), "signer-may-not")
        await stop(StatementKind.OBJECTION, early)
        room.clock.at += CHANGE_DELAY
        await refused(adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope), "change-stopped")
        await room.restart()
        await refused(adopt(room.keeper, room.clock, DocumentKind.POLICY, envelope), "change-stopped")

    run(story)


def test_a_roster_waits_too_and_somebody_who_must_go_goes_at_once() -> None:
    async def story(room: Room) -> None:
        await raised(room)
        roster = replace(
            room.roster,
            epoch=2,
            predecessor=Digest.of(room.roster.to_bytes()),
            people=tuple(one for one in room.roster.people if one.id != "both"),
        )
        envelope = sign(ROSTER_TYPE, roster.to_bytes(), *ROOTS[:2])
        assert (await adopt(room.keeper, room.clock, DocumentKind.ROSTER, envelope)).effective is not None
        await room.people.suspend(PersonId("both"), SuspensionCause.LEFT)
        await refused(room.voice(await room.ask(), "both"), "approver-inactive")
        room.clock.at += CHANGE_DELAY
        assert (await adopt(room.keeper, room.clock, DocumentKind.ROSTER, envelope)).effective is None

    run(story)


def test_an_older_bundle_doesn_t_come_back_however_long_it_waits() -> None:
    async def story(room: Room) -> None:
        old = sign(POLICY_TYPE, room.policy.to_bytes(), *ROOTS[:2])
        await room.next_policy()
        await refused(adopt(room.keeper, room.clock, DocumentKind.POLICY, old), "stale-document")
        await raised(room)
        room.clock.at += 2 * CHANGE_DELAY
        await refused(adopt(room.keeper, room.clock, DocumentKind.POLICY, old), "stale-document")

    run(story)


def measured_next(room: Room, **members: object) -> Envelope:
    """Return the next reference values, signed by the root quorum."""
    before = room.keeper.documents.reference_values
    assert before is not None
    values: ReferenceValues = replace(
        before,
        epoch=before.epoch + 1,
        predecessor=before.digest,
        **members,  # type: ignore[arg-type]
    )
    return sign(REFERENCE_VALUES_TYPE, values.to_bytes(), *ROOTS[:2])


def test_what_takes_a_measurement_or_a_root_away_does_not_wait() -> None:
    async def story(room: Room) -> None:
        await raised(room)
        values = room.keeper.documents.reference_values
        assert values is not None
        revoked = measured_next(room, images=tuple(replace(image, revoked=True) for image in values.images))
        assert (await adopt(room.keeper, room.clock, DocumentKind.REFERENCE_VALUES, revoked)).effective is None
        fewer = measured_next(room, anchors=(), images=())
        assert (await adopt(room.keeper, room.clock, DocumentKind.REFERENCE_VALUES, fewer)).effective is None

    run(story)


def test_what_adds_to_the_measurements_or_brings_one_back_waits() -> None:
    async def story(room: Room) -> None:
        await raised(room)
        values = room.keeper.documents.reference_values
        assert values is not None
        (image,) = values.images
        other = {name: str(Digest.of(b"another " + name.encode())) for name in image.measured[EvidenceKind.TPM2][0]}
        other["genesis"] = str(values.genesis)
        alternatives = (*image.measured[EvidenceKind.TPM2], other)
        looser: list[dict[str, object]] = [
            {"images": (replace(image, image=ImageId("second"), measured={EvidenceKind.TPM2: (other,)}), image)},
            {"images": (replace(image, measured={EvidenceKind.TPM2: alternatives}),)},
            {"not_after": values.not_after + 1},
            {"appraisal": replace(values.appraisal, reattest_seconds=60)},
            {"custody": (CustodyRecord(platform=room.platform.record().platform, record=Digest.of(b""), until=NOW),)},
        ]
        for members in looser:
            envelope = measured_next(room, **members)
            assert (await adopt(room.keeper, room.clock, DocumentKind.REFERENCE_VALUES, envelope)).effective is not None
        revoked = measured_next(room, images=(replace(image, revoked=True),))
        await adopt(room.keeper, room.clock, DocumentKind.REFERENCE_VALUES, revoked)
        again = measured_next(room, images=(image,))
        assert (await adopt(room.keeper, room.clock, DocumentKind.REFERENCE_VALUES, again)).effective is not None

    run(story)
