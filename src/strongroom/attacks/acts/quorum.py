"""Insiders and who holds their keys: too few, the wrong ones, one person twice, too long, too often."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from strongroom.access.request import APPROVAL_TYPE, REQUEST_TYPE, Action, Request
from strongroom.attacks.attack import attack
from strongroom.attacks.lab.callers import OK
from strongroom.attacks.lab.cast import DAY, MODEL, STRANGER
from strongroom.attacks.lab.scratch import Scratch
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier


def export_works(trial: Trial) -> None:
    """Show that the honest act works."""
    with trial.honest("an export that two others agreed to is delivered"):
        trial.scratch.exported()


@attack(vectors="HUM-1 CEC-4", capacity="OC3", measures="SL3-WAC-01", layer=Layer.INVARIANTS, refusals="quorum-not-met")
def nobody_agreed(trial: Trial) -> None:
    """A requester takes the key with nobody's approval."""
    export_works(trial)
    key = RecipientKey()
    request = trial.scratch.ask_export(key)
    trial.attempt("no approval at all", lambda: trial.scratch.export(request, key))


@attack(vectors="HUM-1 HUM-2", capacity="OC3", measures="SL3-WAC-01", layer=Layer.INVARIANTS, refusals="quorum-not-met")
def one_bribed_approver(trial: Trial) -> None:
    """A requester and one bribed approver, below the quorum."""
    export_works(trial)
    for bribed in ("sam", "rina"):
        key = RecipientKey()
        request = trial.scratch.ask_export(key)
        trial.scratch.approve(request, bribed)
        trial.attempt(f"with `{bribed}` alone", lambda r=request, k=key: trial.scratch.export(r, k))  # type: ignore[misc]


@attack(
    vectors="HUM-1", capacity="OC3", measures="SL3-WAC-01 SL4-WMO-01", layer=Layer.INVARIANTS, refusals="quorum-not-met"
)
def two_roles_one_person(trial: Trial) -> None:
    """One person who holds both approvers' roles fills the quorum alone."""
    export_works(trial)
    key = RecipientKey()
    request = trial.scratch.ask_export(key)
    trial.scratch.approve(request, "both")
    trial.attempt("one approval, two roles", lambda: trial.scratch.export(request, key))


@attack(vectors="CEC-4 HUM-1", capacity="OC2", measures="SL3-WAC-01", layer=Layer.VOICES, refusals="self-approval")
def self_approval(trial: Trial) -> None:
    """A requester approves their own request through the door for approvers."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key)
    trial.attempt("dana approves dana's", lambda: scratch.approve(request, "dana"))


@attack(vectors="CEC-4", capacity="OC3", measures="SL3-WAC-01", layer=Layer.INVARIANTS, refusals="self-approval")
def self_approval_shown_to_the_keeper(trial: Trial) -> None:
    """Who controls the broker shows the keeper the requester's own approval beside a genuine one."""
    scratch, key = trial.scratch, RecipientKey()
    wrapped = scratch.versions[MODEL].wrapped
    with trial.honest("the same way, two genuine approvals are believed"):
        fine = scratch.ask_export(key)
        approvals = scratch.approve(fine)
        scratch.export_from_keeper(
            Dossier(request=fine, approvals=approvals, recipient_key=key.public, wrapped=wrapped), key
        )
    # A recipient key opens one delivery: with the same one again, a delivery would look like a refusal.
    own = RecipientKey()
    request = scratch.ask_export(own)
    voices = (*scratch.approve(request, "sam"), scratch.approval(request, "dana"))
    dossier = Dossier(request=request, approvals=voices, recipient_key=own.public, wrapped=wrapped)
    trial.attempt("own approval in the dossier", lambda: scratch.export_from_keeper(dossier, own))


@attack(vectors="HUM-1 CEC-4", capacity="OC3", measures="SL3-WAC-01", layer=Layer.STANDING, refusals="request-denied")
def denied_and_taken_all_the_same(trial: Trial) -> None:
    """A request that somebody denied is used with the two approvals that it has."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    scratch.deny(request, "both")
    scratch.execute("DELETE FROM approvals WHERE request = ? AND kind = 'deny'", str(request.digest))
    trial.attempt("the denial's row was deleted", lambda: scratch.export(request, key))


@attack(
    vectors="CEC-4 HUM-1",
    capacity="OC2",
    measures="SL3-WAC-01 SL2-WMO-01",
    layer=Layer.INVARIANTS,
    refusals="grant-spent",
)
def spent_grant_used_again(trial: Trial) -> None:
    """A grant for one use is used twice, after its row was made to look open again."""
    scratch = trial.scratch
    with trial.honest("an export that two others agreed to is delivered"):
        request, key = scratch.exported()
    scratch.execute("UPDATE requests SET closed = NULL WHERE digest = ?", str(request.digest))
    trial.attempt("a second use", lambda: scratch.export(request, key))


@attack(vectors="HUM-1 CEC-4", capacity="OC3", measures="SL3-WAC-01", layer=Layer.INVARIANTS, refusals="uses-too-many")
def bulk_request(trial: Trial) -> None:
    """An insider asks for far more uses than the rule allows, and two others agree."""
    machine, key = trial.machine, RecipientKey()
    with trial.honest("a request for 900 uses is released"):
        machine.release(machine.approved(max_uses=900)[0], RecipientKey())
    request, _approvals = machine.approved(max_uses=9000)
    trial.attempt("9,000 uses", lambda: machine.release(request, key))


@attack(
    vectors="HUM-1 CEC-4", capacity="OC3", measures="SL3-WAC-01", layer=Layer.INVARIANTS, refusals="window-too-long"
)
def grant_for_ever(trial: Trial) -> None:
    """An insider asks for a window of years, and two others agree."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key, expires=int(time.time()) + 3000 * DAY)
    scratch.approve(request)
    trial.attempt("eight years", lambda: scratch.export(request, key))


@attack(
    vectors="CEC-4",
    capacity="OC2",
    measures="SL3-WAC-01",
    layer=Layer.INVARIANTS,
    refusals="request-expired not-yet-valid",
)
def outside_its_window(trial: Trial) -> None:
    """A request is used before its window begins, and after it ended."""
    export_works(trial)
    scratch = trial.scratch
    for window in ((4_000_000_000, 4_000_000_100), (1_000_000, 1_000_100)):
        key = RecipientKey()
        request = scratch.ask_export(key, not_before=window[0], expires=window[1])
        scratch.approve(request)
        trial.attempt(f"at {window[0]}", lambda r=request, k=key: scratch.export(r, k))  # type: ignore[misc]


@attack(
    vectors="HUM-3 CEC-4",
    capacity="OC4",
    measures="SL3-PFM-01 SL2-PFM-01",
    layer=Layer.VETTING,
    refusals="requester-not-vetted",
)
def placed_candidate(trial: Trial) -> None:
    """Somebody who is in the roster and was never vetted asks, and two others agree."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key, by="max")
    scratch.approve(request)
    trial.attempt("max was never cleared", lambda: scratch.export(request, key, by="max"))


@attack(
    vectors="CEC-4",
    capacity="OC2",
    measures="SL3-WAC-01",
    layer=Layer.DOCUMENTS,
    refusals="unknown-person",
)
def somebody_who_isnt_in_the_roster(trial: Trial) -> None:
    """A stranger's own key signs a request in a stranger's name."""
    scratch = trial.scratch
    with trial.honest("a request of dana's is recorded"):
        scratch.call("submit", request=scratch.unsubmitted(Action.ROTATE).to_json())
    asked = scratch.unsubmitted(Action.ROTATE, by=STRANGER)
    trial.attempt("a stranger asks", lambda: scratch.call("submit", request=asked.to_json()))


@attack(
    vectors="CEC-4 CEC-3",
    capacity="OC2",
    measures="SL3-WAC-01",
    layer=Layer.DOOR,
    refusals="not-theirs",
)
def request_in_somebodys_name(trial: Trial) -> None:
    """An insider signs a request in another person's name with their own key."""
    scratch, key = trial.scratch, RecipientKey()
    with trial.honest("a request of dana's is recorded"):
        good = scratch.ask_export(key)
    forged = _signed_by_max(scratch, good, key)
    body: Json = {"request": forged.to_json()}
    trial.attempt("max signs as dana", lambda: scratch.post("requests", body, by="max"))


def _signed_by_max(scratch: Scratch, good: Envelope, key: RecipientKey) -> Envelope:
    changed = replace(Request.parse(good.payload), nonce=os.urandom(16), recipient=key.digest)
    return sign(REQUEST_TYPE, changed.to_bytes(), scratch.cast.signer("max"))


@attack(
    vectors="CEC-4 CEC-3",
    capacity="OC3",
    measures="SL3-WAC-01",
    layer=Layer.REQUEST_SIGNATURES,
    refusals="bad-signature",
)
def request_in_somebodys_name_past_the_broker(trial: Trial) -> None:
    """Who controls the broker has a request recorded that the requester never signed, and deceived approvers agree."""
    scratch = trial.scratch
    with trial.honest("the same way, a request of dana's is believed"):
        good = _taken_past_the_broker(scratch, scratch.unsubmitted_export(key := RecipientKey()), key)
    own = RecipientKey()
    forged = _signed_by_max(scratch, good, own)
    trial.attempt("max signs as dana", lambda: _taken_past_the_broker(scratch, forged, own))


@attack(
    vectors="CEC-4 CEC-3",
    capacity="OC3",
    measures="SL3-WAC-01",
    layer=Layer.APPROVAL_SIGNATURES,
    refusals="bad-signature",
)
def approval_in_somebodys_name_past_the_broker(trial: Trial) -> None:
    """Who controls the broker has an approval recorded that the approver never signed, beside a genuine one."""
    scratch = trial.scratch
    with trial.honest("the same way, genuine approvals are believed"):
        _taken_past_the_broker(scratch, scratch.unsubmitted_export(key := RecipientKey()), key)
    own = RecipientKey()
    request = scratch.unsubmitted_export(own)
    forged = Envelope(
        APPROVAL_TYPE,
        request.payload,
        (Signature(scratch.cast.signer("rina").public_key.key_id, os.urandom(64)),),
    )
    voices = (scratch.approval(request, "sam"), forged)
    trial.attempt("rina's forged approval", lambda: _taken_past_the_broker(scratch, request, own, voices))


def _taken_past_the_broker(
    scratch: Scratch, request: Envelope, key: RecipientKey, voices: tuple[Envelope, ...] = ()
) -> Envelope:
    """Have the keeper itself record a request and what agrees with it, and hand over the key; returns the request."""
    agreed = voices or tuple(scratch.approval(request, name) for name in ("sam", "rina"))
    scratch.call("submit", request=request.to_json())
    for voice in agreed:
        scratch.call("approve", envelope=voice.to_json())
    dossier = Dossier(
        request=request, approvals=agreed, recipient_key=key.public, wrapped=scratch.versions[MODEL].wrapped
    )
    scratch.export_from_keeper(dossier, key)
    return request


@attack(
    vectors="HUM-1 CEC-4",
    capacity="OC3",
    measures="SL3-WAC-01",
    layer=Layer.VETTING,
    refusals="approver-vetting-lapsed",
)
def approver_whose_clearance_lapsed(trial: Trial) -> None:
    """An approver's clearance lapses between the approval and the use."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    scratch.vet("rina", adjudicated_on=1, expires_on=2, rescreen_due=2)
    trial.attempt("rina's clearance is over", lambda: scratch.export(request, key))
    scratch.vet("rina")


@attack(
    vectors="CEC-4 HUM-1",
    capacity="OC2",
    measures="SL2-WAC-01",
    layer=Layer.INVARIANTS,
    refusals="requester-inactive",
)
def leaver_with_a_live_grant(trial: Trial) -> None:
    """Somebody who left has the grant that they still hold used before the keeper, past the broker."""
    scratch, key = trial.scratch, RecipientKey()
    export_works(trial)
    request = scratch.ask_export(key)
    approvals = scratch.approve(request)
    scratch.call("suspend", person="dana", cause="left")
    dossier = Dossier(
        request=request, approvals=approvals, recipient_key=key.public, wrapped=scratch.versions[MODEL].wrapped
    )
    trial.attempt("before the keeper itself", lambda: scratch.export_from_keeper(dossier, key))
    _comes_back(scratch)


@attack(vectors="CEC-4", capacity="OC2", measures="SL2-WAC-01", layer=Layer.TRANSPORT, refusals="barred")
def leaver_with_their_certificate(trial: Trial) -> None:
    """Somebody who left calls the broker with the certificate that they kept."""
    scratch, key = trial.scratch, RecipientKey()
    export_works(trial)
    request = scratch.ask_export(key)
    scratch.approve(request)
    scratch.call("suspend", person="dana", cause="left")
    _until_answered(scratch, lambda status: status != OK)
    trial.attempt("an approved export", lambda: scratch.export(request, key))
    _comes_back(scratch)


def _comes_back(scratch: Scratch) -> None:
    scratch.vet("dana")
    _until_answered(scratch, lambda status: status == OK)


def _until_answered(scratch: Scratch, wanted: Callable[[int], bool]) -> None:
    """Wait until the broker, which follows the log, answers dana so; ten seconds at most."""
    ended = time.monotonic() + 10
    while not wanted(scratch.caller("dana").get("/v1/genesis").status) and time.monotonic() < ended:
        time.sleep(0.05)


@attack(vectors="HUM-2 HUM-3", capacity="OC4", measures="SL3-PFM-01", layer=Layer.OFFICERS, refusals="officers-missing")
def cleared_by_one_officer(trial: Trial) -> None:
    """One extorted vetting officer clears somebody alone."""
    with trial.honest("two officers clear dana"):
        trial.scratch.vet("dana")
    trial.attempt("vera alone", lambda: trial.scratch.vet("max", officers=("vera",)))


@attack(vectors="HUM-3", capacity="OC4", measures="SL3-PFM-01", layer=Layer.OFFICERS, refusals="signer-may-not")
def officer_clears_herself(trial: Trial) -> None:
    """A vetting officer signs her own clearance, beside one other officer."""
    with trial.honest("two officers clear dana"):
        trial.scratch.vet("dana")
    trial.attempt("vera for vera", lambda: trial.scratch.vet("vera", officers=("vera", "otto")))


@attack(
    vectors="HUM-2",
    capacity="OC3",
    measures="SL3-WAC-01",
    layer=Layer.INVARIANTS,
    refusals="quorum-not-met model-frozen",
)
def one_person_ends_a_freeze(trial: Trial) -> None:
    """One coerced person resumes a frozen model alone, and takes the key while it is frozen."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    scratch.control(scratch.ask(Action.FREEZE))
    alone = scratch.ask(Action.RESUME)
    trial.attempt("dana resumes alone", lambda: scratch.control(alone))
    trial.attempt("an approved request, while frozen", lambda: scratch.export(request, key))
    both = scratch.ask(Action.RESUME)
    scratch.approve(both)
    scratch.control(both)


@attack(vectors="BYP-3 HUM-5", capacity="OC3", measures="SL3-WAC-01", layer=Layer.DOCUMENTS, refusals="no-rule")
def break_glass_without_a_rule(trial: Trial) -> None:
    """An executive's break-glass order, where the policy has no rule for one."""
    export_works(trial)
    scratch = trial.scratch
    manifest = scratch.versions[MODEL].sealed.manifest.digest
    request = scratch.ask(
        Action.BREAK_GLASS,
        version=1,
        manifest=manifest,
        image="embedder",
        measurement=manifest,
        platforms=("tpm-" + "ab" * 32,),
    )
    approvals = scratch.approve(request)
    dossier = Dossier(request=request, approvals=approvals, wrapped=scratch.versions[MODEL].wrapped)
    trial.attempt("break-glass", lambda: scratch.call("release", dossier=dossier.to_json()))


@attack(vectors="HUM-2 CEC-4", capacity="OC3", measures="SL3-WAC-01", layer=Layer.INVARIANTS, refusals="quorum-not-met")
def one_person_destroys(trial: Trial) -> None:
    """One person destroys a model's keys alone."""
    scratch = trial.scratch
    with trial.honest("one person may freeze, by the same way"):
        scratch.control(scratch.ask(Action.FREEZE))
        both = scratch.ask(Action.RESUME)
        scratch.approve(both)
        scratch.control(both)
    request = scratch.ask(Action.DESTROY)
    trial.attempt("no second voice", lambda: scratch.control(request))
