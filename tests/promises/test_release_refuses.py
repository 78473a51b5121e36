"""Every refusal of the release protocol, against the running keeper and log writer. Step numbers as in the spec."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from strongroom.access.request import APPROVAL_TYPE, Action
from strongroom.attestation.reference_values import ReferenceImage
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.release.dossier import Dossier
from strongroom.release.dossier import Testimony as Answer
from support.attested import IMAGE, Attested, Sealed, changed
from support.deployment import signer

pytestmark = pytest.mark.integration


def refused(act: Callable[[], object], reason: str) -> StrongroomError:
    """Return the error of an act that must be refused for a reason."""
    with pytest.raises(StrongroomError) as caught:
        act()
    assert caught.value.reason == reason, caught.value.diagnosis()
    return caught.value


def test_two_approvals_and_evidence_release_the_key(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    delivery, key = attested.release(request, approvals, sealed)
    assert len(key.reveal(TOKEN)) == 32
    assert delivery.manifest == sealed.sealed.manifest.digest


@pytest.mark.parametrize("voices", [(), ("sam",), ("rina",)])
def test_step_4_9_too_few_approvals(attested: Attested, sealed: Sealed, voices: tuple[str, ...]) -> None:
    request = attested.request(sealed)
    approvals = tuple(attested.deployment.approve(request, who) for who in voices)
    refused(lambda: attested.release(request, approvals, sealed), "quorum-not-met")


def test_step_4_9_self_approval(attested: Attested, sealed: Sealed) -> None:
    request = attested.request(sealed)
    refused(lambda: attested.deployment.approve(request, "dana"), "self-approval")
    # Not in the log, and shown all the same.
    own = sign(APPROVAL_TYPE, request.payload, signer("dana"))
    voices = (own, attested.deployment.approve(request, "sam"))
    refused(lambda: attested.release(request, voices, sealed), "self-approval")


def test_step_4_9_one_person_twice(attested: Attested, sealed: Sealed) -> None:
    request = attested.request(sealed)
    voice = attested.deployment.approve(request, "both")
    refused(lambda: attested.release(request, (voice, voice), sealed), "one-person-twice")


def test_step_4_9_one_person_in_both_roles_fills_one_place(attested: Attested, sealed: Sealed) -> None:
    request = attested.request(sealed)
    voice = attested.deployment.approve(request, "both")
    refused(lambda: attested.release(request, (voice,), sealed), "quorum-not-met")


def test_step_4_9_a_grant_is_used_no_more_often_than_granted(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed, max_uses=2)
    for _ in range(2):
        attested.release(request, approvals, sealed)
    refused(lambda: attested.release(request, approvals, sealed), "grant-spent")


def test_step_4_9_outside_its_window(attested: Attested, sealed: Sealed) -> None:
    late, voices = attested.approved(sealed, not_before=4_000_000_000, expires=4_000_000_100)
    refused(lambda: attested.release(late, voices, sealed), "not-yet-valid")
    over, voices = attested.approved(sealed, not_before=1_000_000, expires=1_000_100)
    refused(lambda: attested.release(over, voices, sealed), "request-expired")


def test_step_4_9_a_denial_is_a_veto_that_no_row_undoes(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    attested.deployment.deny(request, "both")
    # The dossier shows two good approvals and no denial: the denial is replayed from the log.
    refused(lambda: attested.release(request, approvals, sealed), "request-denied")


def test_step_4_9_a_frozen_model_isn_t_released_until_its_quorum_resumes_it(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    attested.deployment.control(attested.deployment.request(Action.FREEZE))
    refused(lambda: attested.release(request, approvals, sealed), "model-frozen")
    resume = attested.deployment.request(Action.RESUME)
    refused(lambda: attested.deployment.control(resume), "quorum-not-met")
    attested.deployment.control(resume, *(attested.deployment.approve(resume, who) for who in ("sam", "rina")))
    attested.release(request, approvals, sealed)


def test_step_4_4_a_revoked_grant_is_over(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    attested.deployment.control(attested.deployment.request(Action.REVOKE_GRANT, target=request.digest))
    refused(lambda: attested.release(request, approvals, sealed), "request-denied")


def test_step_4_3_a_forged_approval(attested: Attested, sealed: Sealed) -> None:
    request = attested.request(sealed)
    genuine = attested.deployment.approve(request, "sam")
    stolen = Envelope(APPROVAL_TYPE, request.payload, (Signature(signer("rina").public_key.key_id, os.urandom(64)),))
    refused(lambda: attested.release(request, (genuine, stolen), sealed), "approval-forged")
    stranger = sign(APPROVAL_TYPE, request.payload, signer("nobody"))
    refused(lambda: attested.release(request, (genuine, stranger), sealed), "approval-by-unknown-key")


def test_step_4_3_an_approval_of_another_request(attested: Attested, sealed: Sealed) -> None:
    _other, approvals = attested.approved(sealed)
    request = attested.request(sealed)
    refused(lambda: attested.release(request, approvals, sealed), "approval-of-another-request")


def test_step_4_3_a_denial_doesn_t_pass_for_an_approval(attested: Attested, sealed: Sealed) -> None:
    request = attested.request(sealed)
    good = attested.deployment.approve(request, "sam")
    denial = sign("application/vnd.strongroom.denial.v1", request.payload, signer("rina"))
    refused(lambda: attested.release(request, (good, denial), sealed), "approval-forged")


def test_step_4_2_a_request_that_somebody_else_signed(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    forged = Envelope(request.kind, request.payload, ()).signed_by(signer("sam"))
    refused(lambda: attested.release(forged, approvals, sealed), "bad-signature")


def test_step_4_4_a_request_that_isn_t_in_the_log(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)

    def other(dossier: Dossier) -> Dossier:
        payload = request.payload.replace(b'"ticket":"T-1"', b'"ticket":"T-2"')
        forged = sign(request.kind, payload, signer("dana"))
        voices = tuple(sign(APPROVAL_TYPE, payload, signer(who)) for who in ("sam", "rina"))
        return replace(dossier, request=forged, approvals=voices)

    refused(lambda: attested.release(request, approvals, sealed, change=other), "request-not-recorded")


def test_step_4_6_a_challenge_is_answered_once(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed, max_uses=2)
    seen: list[Answer] = []

    def keep(dossier: Dossier) -> Dossier:
        assert dossier.testimony is not None
        seen.append(dossier.testimony)
        return dossier

    key = RecipientKey()
    attested.release(request, approvals, sealed, key=key, change=keep)
    # The whole message again, word for word.
    replay = lambda dossier: replace(dossier, testimony=seen[0])  # noqa: E731 - reads best here
    refused(lambda: attested.release(request, approvals, sealed, change=replay), "challenge-unknown")


def test_step_4_7_replayed_evidence(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed, max_uses=2)
    key = RecipientKey()
    old = attested.testimony(request, sealed, key)

    def replay(dossier: Dossier) -> Dossier:
        assert dossier.testimony is not None
        return replace(dossier, testimony=replace(dossier.testimony, evidence=old.evidence))

    refused(lambda: attested.release(request, approvals, sealed, change=replay), "evidence-replayed")


def test_step_4_7_evidence_that_was_changed(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    other = RecipientKey()

    def divert(dossier: Dossier) -> Dossier:
        assert dossier.testimony is not None
        mine = attested.evidence(
            attested.binding(request, sealed, dossier.testimony.challenge, os.urandom(32), other), other
        )
        return replace(dossier, testimony=replace(dossier.testimony, evidence=mine))

    refused(lambda: attested.release(request, approvals, sealed, change=divert), "evidence-replayed")


@pytest.mark.parametrize("place", range(4))
def test_step_4_8_an_unknown_measurement(attested: Attested, sealed: Sealed, place: int) -> None:
    request, approvals = attested.approved(sealed)
    other = changed(attested.measurements, place)
    attested.measure(other)
    try:
        name = other[place].name.value
        refused(lambda: attested.release(request, approvals, sealed, measurements=other), f"unwanted-{name}")
    finally:
        attested.measure()


def test_step_4_8_a_revoked_image(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    attested.adopt_reference_values(ReferenceImage.launched(IMAGE, attested.measurements, revoked=True))
    try:
        refused(lambda: attested.release(request, approvals, sealed), "unwanted-image")
    finally:
        attested.adopt_reference_values()


def test_step_4_9_a_platform_that_the_request_doesn_t_name(attested: Attested, sealed: Sealed) -> None:
    other = "tpm-" + "ab" * 32
    request, approvals = attested.approved(sealed, platforms=(other,))
    refused(lambda: attested.release(request, approvals, sealed), "platform-not-named")


def test_step_4_9_lapsed_vetting(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    attested.deployment.vet("rina", adjudicated_on=1, expires_on=2, rescreen_due=2)
    try:
        refused(lambda: attested.release(request, approvals, sealed), "approver-vetting-lapsed")
    finally:
        attested.deployment.vet("rina")
    attested.release(request, approvals, sealed)


def test_step_4_9_a_requester_who_left(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    people = {one.id: one for one in attested.deployment.roster.people}
    attested.deployment.change_roster(lambda one: replace(one, active=one.id != "dana"))
    try:
        refused(lambda: attested.release(request, approvals, sealed), "requester-inactive")
    finally:
        attested.deployment.change_roster(lambda one: people[one.id])
        # Back in the roster isn't back: only a newer vetting record reinstates.
        refused(lambda: attested.release(request, approvals, sealed), "requester-inactive")
        attested.deployment.vet("dana")


def test_step_4_1_a_roster_that_too_few_root_holders_signed(attested: Attested) -> None:
    deployment = attested.deployment
    before = Digest.of(deployment.roster.to_bytes())
    evil = replace(deployment.roster, epoch=deployment.roster.epoch + 1, predecessor=before)
    one = sign(ROSTER_TYPE, evil.to_bytes(), signer("root-0"))
    refused(lambda: deployment.adopt("roster", one), "bad-signature")


def test_step_4_1_an_older_roster_doesn_t_come_back(attested: Attested) -> None:
    deployment = attested.deployment
    first = sign(ROSTER_TYPE, deployment.roster.to_bytes(), signer("root-0"), signer("root-1"))
    deployment.change_roster(lambda one: one)
    refused(lambda: deployment.adopt("roster", first), "stale-document")


def test_step_6_a_wrapped_key_of_another_model(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)

    def swap(dossier: Dossier) -> Dossier:
        assert dossier.wrapped is not None
        wrapped = dossier.wrapped
        return replace(dossier, wrapped=replace(wrapped, kek="00" * 16))

    refused(lambda: attested.release(request, approvals, sealed, change=swap), "wrapped-key-refused")
    # Refused before a use was spent on it.
    attested.release(request, approvals, sealed)


def test_step_6_a_missing_wrapped_key(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    refused(
        lambda: attested.release(request, approvals, sealed, change=lambda one: replace(one, wrapped=None)),
        "wrapped-key-missing",
    )


def test_step_6_a_delivery_is_repeated_to_the_same_recipient_key_only(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    key = RecipientKey()
    dossier = Dossier(
        request=request,
        approvals=approvals,
        testimony=attested.testimony(request, sealed, key),
        wrapped=sealed.wrapped,
    )
    attested.deployment.call("release", dossier=dossier.to_json())
    # The first answer was lost on the way; the enclave proves itself anew, with the same key inside.
    delivery, _data_key = attested.release(request, approvals, sealed, key=key)
    assert delivery.use == 1
    refused(lambda: attested.release(request, approvals, sealed), "grant-spent")


def test_an_enrolled_platform_gets_its_own_record_again_and_no_other(attested: Attested) -> None:
    before, record = attested.platform, attested.record
    attested.enrol()
    assert (attested.platform, attested.record) == (before, record)
