"""Enclaves that aren't what was agreed on: other code, old evidence, another machine, a lease that is over."""

from __future__ import annotations

import os
from dataclasses import replace

from strongroom.access.request import Action
from strongroom.attacks.attack import attack
from strongroom.attacks.lab.machine import Machine
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.measurement import Measurement
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import sign
from strongroom.core.ids import ImageId
from strongroom.keys.recipient import RecipientKey
from strongroom.tpm.adapters.transport import DescriptorTransport


def _release_works(trial: Trial) -> None:
    with trial.honest("the agreed enclave on the agreed platform gets the key"):
        request, _approvals = trial.machine.approved()
        trial.machine.release(request, RecipientKey())


def _changed(measurements: tuple[Measurement, ...], part: str) -> tuple[Measurement, ...]:
    return tuple(
        replace(one, digest=Digest.of(b"something else")) if one.name.value == part else one for one in measurements
    )


def _other_code(trial: Trial, part: str) -> None:
    _release_works(trial)
    machine: Machine = trial.machine
    other = _changed(machine.measurements, part)
    request, _approvals = machine.approved()
    machine.measure(other)
    trial.attempt(f"other {part}", lambda: machine.release(request, RecipientKey(), measured=other))
    machine.measure(machine.measurements)


@attack(
    vectors="SUP-2",
    capacity="OC3",
    measures="SL4-WTU-01 SL3-WMO-05",
    layer=Layer.EVIDENCE,
    refusals="unwanted-files",
)
def package_in_the_image_was_changed(trial: Trial) -> None:
    """A package in the enclave's image was replaced by another before the start."""
    _other_code(trial, "files")


@attack(
    vectors="SUP-1",
    capacity="OC3",
    measures="SL4-WTU-01 SL3-WMO-05",
    layer=Layer.EVIDENCE,
    refusals="unwanted-interpreter",
)
def interpreter_was_changed(trial: Trial) -> None:
    """The operating system's interpreter below the enclave's code is another one."""
    _other_code(trial, "interpreter")


@attack(
    vectors="BYP-1",
    capacity="OC2",
    measures="SL4-WTU-01 SL3-WPI-02",
    layer=Layer.EVIDENCE,
    refusals="unwanted-command",
)
def another_command_beside_the_weights(trial: Trial) -> None:
    """The approved image is started with a command that copies the weights instead."""
    _other_code(trial, "command")


@attack(
    vectors="BYP-1",
    capacity="OC3",
    measures="SL4-WTU-01 SL3-WPI-02",
    layer=Layer.EVIDENCE,
    refusals="unwanted-sandbox",
)
def another_sandbox(trial: Trial) -> None:
    """The approved image is started in another sandbox than was approved: one that confines less."""
    _other_code(trial, "sandbox")


@attack(
    vectors="NET-3 ACS-1",
    capacity="OC3",
    measures="SL4-WTU-01",
    layer=Layer.EVIDENCE,
    refusals="evidence-replayed",
)
def replayed_evidence(trial: Trial) -> None:
    """Genuine evidence that was recorded earlier answers a new challenge."""
    _release_works(trial)
    machine, key = trial.machine, RecipientKey()
    request, _approvals = machine.approved(max_uses=2)
    challenge, nonce = machine.challenge(request)
    old = machine.evidence(machine.binding(request, challenge, nonce, key), key)
    fresh, _nonce = machine.challenge(request)
    trial.attempt("evidence for an earlier challenge", lambda: machine.answer(request, fresh, old, key))


@attack(
    vectors="NET-3",
    capacity="OC3",
    measures="SL4-WTU-01",
    layer=Layer.CHALLENGE,
    refusals="challenge-unknown challenge-for-another",
)
def challenge_answered_twice(trial: Trial) -> None:
    """A whole answer that was recorded is sent again, and one for another request."""
    machine, key = trial.machine, RecipientKey()
    request, _approvals = machine.approved(max_uses=3)
    challenge, nonce = machine.challenge(request)
    evidence = machine.evidence(machine.binding(request, challenge, nonce, key), key)
    with trial.honest("the answer is good the first time"):
        machine.answer(request, challenge, evidence, key)
    trial.attempt("word for word again", lambda: machine.answer(request, challenge, evidence, key))
    other, _more = machine.approved()
    challenge, nonce = machine.challenge(request)
    moved = machine.evidence(machine.binding(other, challenge, nonce, key), key)
    trial.attempt("a challenge of another request", lambda: machine.answer(other, challenge, moved, key))


@attack(
    vectors="NET-3 CEC-4",
    capacity="OC3",
    measures="SL4-WTU-01",
    layer=Layer.EVIDENCE,
    refusals="evidence-replayed",
)
def relayed_to_a_thiefs_key(trial: Trial) -> None:
    """A thief in the middle puts their own recipient key beside the enclave's genuine evidence."""
    _release_works(trial)
    machine, key, thief = trial.machine, RecipientKey(), RecipientKey()
    request, _approvals = machine.approved()
    challenge, nonce = machine.challenge(request)
    genuine = Evidence.parse(machine.evidence(machine.binding(request, challenge, nonce, key), key))
    mixed = replace(genuine, recipient_key=thief.public).to_bytes()
    trial.attempt("the thief's key, the enclave's quote", lambda: machine.answer(request, challenge, mixed, thief))


@attack(
    vectors="BYP-1",
    capacity="OC3",
    measures="SL4-WTU-01 SL3-WAC-01",
    layer=Layer.INVARIANTS,
    refusals="platform-not-named",
)
def platform_that_nobody_agreed_on(trial: Trial) -> None:
    """A genuine enrolled platform opens what was agreed on for another one."""
    _release_works(trial)
    machine = trial.machine
    request, _approvals = machine.approved(platforms=("tpm-" + "ab" * 32,))
    trial.attempt("on this platform", lambda: machine.release(request, RecipientKey()))


@attack(
    vectors="ACS-1",
    capacity="OC3",
    measures="SL4-WTU-01",
    layer=Layer.ENROLMENT,
    refusals="chain-refused",
)
def machine_of_the_attackers_own(trial: Trial) -> None:
    """A machine with a TPM of another maker than was pinned has itself enrolled."""
    _release_works(trial)
    with SoftwareTPM(trial.lab.folder("other-tpm")) as other, _device(other) as device:
        request = TpmAttester(device).enrolment_request(other.intermediates)
        body: Json = {"enrolment": to_base64(request.to_bytes())}
        trial.attempt("another maker's root", lambda: trial.machine.post("enrolments", body))


@attack(
    vectors="ACS-1",
    capacity="OC4",
    measures="SL4-WTU-01",
    layer=Layer.ENROLMENT,
    refusals="credential-not-opened not-found",
)
def enrolment_without_the_chip(trial: Trial) -> None:
    """A genuine TPM's certificates are shown by who doesn't have the TPM: the credential isn't opened."""
    machine = trial.machine
    _release_works(trial)
    with machine.device() as device:
        request = TpmAttester(device).enrolment_request(machine.tpm.intermediates)
    begun = machine.post("enrolments", {"enrolment": to_base64(request.to_bytes())})
    body: Json = {"answer": to_base64(os.urandom(32))}
    trial.attempt("a guessed answer", lambda: machine.post(f"enrolments/{begun['session']}", body))
    trial.attempt("a second guess", lambda: machine.post(f"enrolments/{begun['session']}", body))


@attack(
    vectors="HUM-5 BYP-1",
    capacity="OC3",
    measures="SL4-WTU-01 SL4-WMO-01",
    layer=Layer.DOCUMENTS,
    refusals="bad-signature",
)
def reference_values_by_one_holder(trial: Trial) -> None:
    """One root holder lists an image of their own among those that may have the key."""
    _release_works(trial)
    scratch, machine = trial.scratch, trial.machine
    values = machine.reference_values()
    theirs = ReferenceImage.launched(ImageId("theirs"), _changed(machine.measurements, "files"))
    wanted = replace(values, epoch=2, predecessor=Digest.of(values.to_bytes()), images=(*values.images, theirs))
    envelope = sign(REFERENCE_VALUES_TYPE, wanted.to_bytes(), *scratch.cast.roots(1))
    trial.attempt("one root signature", lambda: scratch.adopt("reference-values", envelope))


@attack(
    vectors="CEC-4 HUM-1",
    capacity="OC3",
    measures="SL3-WAC-01 SL3-WMO-05",
    layer=Layer.LEASES,
    refusals="model-frozen",
)
def lease_renewed_after_a_freeze(trial: Trial) -> None:
    """An enclave that holds the weights renews its lease although the model was frozen."""
    machine, scratch = trial.machine, trial.scratch
    request, _approvals = machine.approved(max_uses=2)
    with trial.honest("its lease is renewed before"):
        running = machine.release(request, RecipientKey())
        machine.renew(running, 1)
    scratch.control(scratch.ask(Action.FREEZE))
    trial.attempt("after the freeze", lambda: machine.renew(running, 2))
    both = scratch.ask(Action.RESUME)
    scratch.approve(both)
    scratch.control(both)
    trial.attempt("after the freeze was lifted", lambda: machine.renew(running, 3))


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL3-WAC-01",
    layer=Layer.LEASES,
    refusals="lease-unknown",
)
def lease_of_a_use_that_never_was(trial: Trial) -> None:
    """A lease is asked for a use that was never released, and for another recipient than the released one."""
    machine = trial.machine
    request, _approvals = machine.approved(max_uses=5)
    with trial.honest("a genuine lease is renewed"):
        running = machine.release(request, RecipientKey())
        machine.renew(running, 1)
    trial.attempt("use 4", lambda: machine.renew(running, 1, use=4))
    trial.attempt("another recipient", lambda: machine.renew(replace(running, recipient=Digest.of(b"another")), 2))


@attack(
    vectors="CEC-4 HUM-1",
    capacity="OC3",
    measures="SL3-WAC-01 SL2-WMO-01",
    layer=Layer.STANDING,
    refusals="request-denied",
)
def revoked_grant_is_used(trial: Trial) -> None:
    """A grant that was revoked is used before the keeper, with all its approvals and good evidence."""
    machine, scratch = trial.machine, trial.scratch
    request, approvals = machine.approved(max_uses=3)
    with trial.honest("it is good before"):
        key = RecipientKey()
        machine.release_from_keeper(machine.dossier(request, approvals, key), key)
    scratch.control(scratch.ask(Action.REVOKE_GRANT, target=request.digest))
    other = RecipientKey()
    trial.attempt(
        "after it was revoked",
        lambda: machine.release_from_keeper(machine.dossier(request, approvals, other), other),
    )


def _device(tpm: SoftwareTPM) -> TpmDevice:
    return TpmDevice(DescriptorTransport.unix(tpm.socket_path))
