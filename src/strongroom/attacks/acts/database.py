"""Who owns the database, the broker, or the wire between them: rows written, changed, moved and put back."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, Request
from strongroom.attacks.acts.quorum import export_works
from strongroom.attacks.attack import attack
from strongroom.attacks.lab.cast import MODEL, OTHER, STRANGER
from strongroom.attacks.lab.scratch import Scratch
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.release.dossier import Dossier


def _half_agreed(scratch: Scratch) -> tuple[Envelope, RecipientKey]:
    key = RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request, "sam")
    return request, key


@attack(
    vectors="CEC-4",
    capacity="OC2",
    measures="SL2-WAC-01 SL3-WAC-01",
    layer=Layer.APPROVAL_SIGNATURES,
    refusals="approval-forged",
)
def forged_approval_row(trial: Trial) -> None:
    """A row with an approver's name and a made-up signature is written into the database."""
    export_works(trial)
    request, key = _half_agreed(trial.scratch)
    rina = trial.scratch.cast.signer("rina").public_key
    forged = Envelope(APPROVAL_TYPE, request.payload, (Signature(rina.key_id, os.urandom(64)),))
    trial.scratch.forge_row(request, forged)
    trial.attempt("rina's forged approval", lambda: trial.scratch.export(request, key))


@attack(
    vectors="CEC-3 CEC-4",
    capacity="OC3",
    measures="SL3-WAC-01 SL2-WMO-01",
    layer=Layer.APPROVALS_RECORDED,
    refusals="approver-approval-not-recorded",
)
def approval_by_a_stolen_key_slipped_past_the_log(trial: Trial) -> None:
    """An approver's stolen key signs, and the approval goes into the database alone."""
    export_works(trial)
    request, key = _half_agreed(trial.scratch)
    trial.scratch.forge_row(request, trial.scratch.approval(request, "rina"))
    trial.attempt("the log doesn't show it", lambda: trial.scratch.export(request, key))


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL3-WAC-01",
    layer=Layer.DOCUMENTS,
    refusals="approval-by-unknown-key bad-signature",
)
def key_added_to_the_databases_roster(trial: Trial) -> None:
    """A key is added to an approver in the database's roster, and used; then that roster is handed in."""
    export_works(trial)
    scratch, stranger = trial.scratch, trial.scratch.cast.signer(STRANGER)
    people = tuple(
        replace(one, keys=(*one.keys, stranger.public_key)) if one.id == "rina" else one
        for one in scratch.roster.people
    )
    roster = sign(ROSTER_TYPE, replace(scratch.roster, people=people).to_bytes(), stranger)
    ((kept,),) = scratch.execute("SELECT envelope FROM documents WHERE kind = 'roster'")
    request, key = _half_agreed(scratch)
    scratch.execute("UPDATE documents SET envelope = ? WHERE kind = 'roster'", roster.to_bytes().decode())
    scratch.forge_row(request, scratch.approval(request, STRANGER))
    trial.attempt("an approval by the added key", lambda: scratch.export(request, key))
    scratch.execute("UPDATE documents SET envelope = ? WHERE kind = 'roster'", kept)
    trial.attempt("the roster itself", lambda: scratch.adopt("roster", roster))


@attack(
    vectors="CEC-4 HUM-1",
    capacity="OC2",
    measures="SL3-WAC-01",
    layer=Layer.BINDING,
    refusals="approval-of-another-request",
)
def approval_moved_to_another_request(trial: Trial) -> None:
    """An approval of one request is moved over to another of the same person for the same thing."""
    scratch = trial.scratch
    with trial.honest("an export that two others agreed to is delivered"):
        used, _key = scratch.exported()
    request, key = _half_agreed(scratch)
    scratch.forge_row(request, scratch.approval(used, "rina"))
    trial.attempt("rina's approval of the other", lambda: scratch.export(request, key))


@attack(
    vectors="CEC-4 HUM-1",
    capacity="OC2",
    measures="SL3-WAC-01",
    layer=Layer.INVARIANTS,
    refusals="one-person-twice",
)
def one_approver_counted_twice(trial: Trial) -> None:
    """A genuine approval stands in the database twice."""
    export_works(trial)
    request, key = _half_agreed(trial.scratch)
    trial.scratch.forge_row(request, trial.scratch.approval(request, "sam"))
    trial.attempt("sam's approval twice", lambda: trial.scratch.export(request, key))


@attack(
    vectors="CEC-4",
    capacity="OC2",
    measures="SL3-WAC-01",
    layer=Layer.APPROVAL_SIGNATURES,
    refusals="approval-forged",
)
def denial_dressed_as_an_approval(trial: Trial) -> None:
    """A genuine signature of a denial is written down as an approval."""
    export_works(trial)
    request, key = _half_agreed(trial.scratch)
    denial = sign(DENIAL_TYPE, request.payload, trial.scratch.cast.signer("rina"))
    trial.scratch.forge_row(request, Envelope(APPROVAL_TYPE, denial.payload, denial.signatures))
    trial.attempt("rina's denial", lambda: trial.scratch.export(request, key))


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WAC-01",
    layer=Layer.DELIVERY,
    refusals="other-recipient",
)
def thiefs_recipient_key(trial: Trial) -> None:
    """An approved request is used for a thief's recipient key."""
    export_works(trial)
    scratch, key, thief = trial.scratch, RecipientKey(), RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    trial.attempt("another key than was asked for", lambda: scratch.export(request, thief))


@attack(
    vectors="CEC-4",
    capacity="OC2",
    measures="SL2-WAC-01",
    layer=Layer.REQUEST_SIGNATURES,
    refusals="bad-signature",
)
def approved_request_rewritten(trial: Trial) -> None:
    """A thief's recipient key is written into an approved request in the database."""
    export_works(trial)
    scratch, key, thief = trial.scratch, RecipientKey(), RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    swapped = replace(Request.parse(request.payload), recipient=thief.digest)
    changed = Envelope(REQUEST_TYPE, swapped.to_bytes(), request.signatures)
    statement = "UPDATE requests SET envelope = ? WHERE digest = ?"
    scratch.execute(statement, changed.to_bytes().decode(), str(request.digest))
    trial.attempt("the signature is of other bytes", lambda: scratch.export(request, thief))
    scratch.execute(statement, request.to_bytes().decode(), str(request.digest))


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WST-02",
    layer=Layer.WRAPPING,
    refusals="wrapped-key-refused",
)
def wrapped_key_of_another_model(trial: Trial) -> None:
    """Another model's wrapped key, whole and in parts, is put in the place of the one that was approved."""
    export_works(trial)
    scratch = trial.scratch
    ours, theirs = (json.loads(scratch.wrapped_row(model)) for model in (MODEL, OTHER))
    key = RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    statement = "UPDATE wrapped_keys SET body = ? WHERE model = ?"
    for stolen in (theirs, {**ours, "data": theirs["data"]}, {**ours, "data": theirs["data"], "kek": theirs["kek"]}):
        scratch.execute(statement, json.dumps(stolen), MODEL)
        trial.attempt("a moved key", lambda: scratch.export(request, key))
    scratch.execute(statement, json.dumps(ours), MODEL)


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WMO-01 SL3-WAC-01",
    layer=Layer.STANDING,
    refusals="request-denied",
)
def database_put_back(trial: Trial) -> None:
    """A copy of the whole database from before a denial is put back, and the broker started on it."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    request = scratch.ask_export(key)
    scratch.approve(request)
    copy = trial.lab.folder("database") / "broker.db"
    scratch.copy_database(copy)
    scratch.deny(request, "both")
    with scratch.broker_down():
        for suffix in ("-wal", "-shm"):
            scratch.database.with_name(scratch.database.name + suffix).unlink(missing_ok=True)
        shutil.copy(copy, scratch.database)
    trial.attempt("the denial was never in this copy", lambda: scratch.export(request, key))


@attack(
    vectors="CEC-3 CEC-4",
    capacity="OC3",
    measures="SL2-WMO-01",
    layer=Layer.LOG,
    refusals="request-not-recorded",
)
def request_slipped_past_the_log(trial: Trial) -> None:
    """A quorum's stolen keys sign a request that the log never saw, shown to the keeper itself."""
    scratch, key = trial.scratch, RecipientKey()
    wrapped = scratch.versions[MODEL].wrapped
    with trial.honest("the same way, a recorded request is believed"):
        fine = scratch.ask_export(key)
        made = Dossier(request=fine, approvals=scratch.approve(fine), recipient_key=key.public, wrapped=wrapped)
        scratch.export_from_keeper(made, key)
    # A recipient key opens one delivery: with the same one again, a delivery would look like a refusal.
    own = RecipientKey()
    changed = replace(Request.parse(fine.payload), nonce=os.urandom(16), recipient=own.digest)
    unseen = sign(REQUEST_TYPE, changed.to_bytes(), scratch.cast.signer("dana"))
    voices = tuple(scratch.approval(unseen, name) for name in ("sam", "rina"))
    dossier = Dossier(request=unseen, approvals=voices, recipient_key=own.public, wrapped=wrapped)
    trial.attempt("nothing of it is recorded", lambda: scratch.export_from_keeper(dossier, own))


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WAC-01",
    layer=Layer.DOCUMENTS,
    refusals="other-deployment",
)
def row_of_another_deployment(trial: Trial) -> None:
    """What the same people signed in another deployment is carried out here."""
    scratch = trial.scratch
    with trial.honest("the same person's own request to rotate is recorded"):
        scratch.ask(Action.ROTATE)
    foreign = scratch.unsubmitted(Action.FREEZE, genesis=Digest.of(b"another deployment"))
    here = scratch.ask(Action.FREEZE)
    trial.attempt("handed in", lambda: scratch.call("submit", request=foreign.to_json()))
    statement = "UPDATE requests SET envelope = ? WHERE digest = ?"
    scratch.execute(statement, foreign.to_bytes().decode(), str(here.digest))
    trial.attempt("written into the database", lambda: scratch.control(here))


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WST-02",
    layer=Layer.VERSIONS,
    refusals="version-not-current",
)
def another_manifest_for_the_same_version(trial: Trial) -> None:
    """An approved request names a manifest that was never registered as the current version."""
    export_works(trial)
    scratch, key = trial.scratch, RecipientKey()
    for members in ({"manifest": Digest.of(b"other")}, {"version": 2}):
        request = scratch.ask_export(key, **members)
        scratch.approve(request)
        trial.attempt(f"{next(iter(members))} of another", lambda r=request: scratch.export(r, key))  # type: ignore[misc]
