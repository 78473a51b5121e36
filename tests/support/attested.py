"""A deployment with a sealed model, a software TPM, an enrolled platform and reference values: ready to release.

The enclave's side is spoken by hand here, quote by quote, so that each single thing can be made wrong.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulators.attester import APPRAISAL, tpm_root
from strongroom.access.request import Action, Purpose
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attacks.lab.tpm_host import TpmHost, bound, made_up_measurements
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.measurement import Measurement
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.attestation.tpm.credential import Credential
from strongroom.attestation.transcript import Binding
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import Delivery, accept
from strongroom.release.dossier import Dossier, Testimony, WrappedDataKey
from strongroom.sealing.adapters.directory import seal_directory
from strongroom.sealing.canary import Canary
from strongroom.sealing.write import SealedDirectory, VersionFacts
from support.deployment import DAY, MODEL, ROOTS, Deployment, publisher

IMAGE = ImageId("embedder")


def fields(value: Json, where: str = "answer") -> Fields:
    """Read a JSON value."""
    return Fields(value, where)


def envelope(value: Json) -> Envelope:
    """Read a JSON value as an envelope."""
    return Envelope.read(fields(value))


@dataclass
class Sealed:
    """A sealed version and its stored, wrapped data key."""

    path: Path
    sealed: SealedDirectory
    wrapped: WrappedDataKey


class Attested(TpmHost):
    """A running deployment that can release. Every part of a release can be taken and changed by the caller."""

    def __init__(self, deployment: Deployment, tpm: SoftwareTPM, measurements: tuple[Measurement, ...] = ()) -> None:
        super().__init__(tpm, measurements or made_up_measurements(deployment.genesis.digest))
        self.deployment = deployment
        self.platform = PlatformId("")
        self.record: Envelope | None = None
        self.values_epoch = 0
        self.values: ReferenceValues | None = None

    # --- preparing --------------------------------------------------------------------------------------------------

    def adopt_reference_values(self, *images: ReferenceImage, tpms: Sequence[SoftwareTPM] = ()) -> None:
        """Adopt the next reference values: by default the one image that is measured here. `tpms` count beside this."""
        before = Digest.of(self.values.to_bytes()) if self.values else None
        self.values_epoch += 1
        self.values = ReferenceValues(
            genesis=self.deployment.genesis.digest,
            epoch=self.values_epoch,
            images=images or (ReferenceImage.launched(IMAGE, self.measurements),),
            anchors=tuple(tpm_root(one.root_certificate) for one in (self.tpm, *tpms)),
            appraisal=APPRAISAL,
            not_after=int(time.time()) + 90 * DAY,
            predecessor=before,
        )
        self.deployment.adopt("reference-values", sign(REFERENCE_VALUES_TYPE, self.values.to_bytes(), *ROOTS[:2]))

    def enrol(self) -> None:
        """Enrol the TPM's platform."""
        with self.device() as device:
            attester = TpmAttester(device)
            request = attester.enrolment_request(self.tpm.intermediates)
            begun = self.deployment.call("enrol-begin", enrolment=to_base64(request.to_bytes()))
            credential = Credential(
                from_base64(str(begun["credential_blob"])), from_base64(str(begun["encrypted_secret"]))
            )
            answer = attester.answer(credential)
        ended = self.deployment.call("enrol-finish", session=begun["session"], answer=to_base64(answer))
        self.record = envelope(ended["platform"])
        self.platform = PlatformId(str(begun["platform"]))

    def seal(
        self,
        source: Path,
        destination: Path,
        *,
        model: ModelId = MODEL,
        version: int = 1,
        predecessor: Digest | None = None,
        sibling: WrappedDataKey | None = None,
        canaries: Sequence[Canary] = (),
    ) -> Sealed:
        """Seal a directory as the next version of a model and register it."""
        recipient = RecipientKey()
        request = self.deployment.request(
            Action.SEAL, model=model, version=version, recipient=recipient.digest, purpose=Purpose.PUBLISH
        )
        dossier = Dossier(request=request, recipient_key=recipient.public, wrapped=sibling)
        made = self.deployment.call("seal", dossier=dossier.to_json())
        delivery, data_key = accept(
            envelope(made["delivery"]),
            self.deployment.genesis,
            recipient,
            request=request.digest,
            model=model,
            version=version,
        )
        with data_key:
            sealed = seal_directory(
                source,
                destination,
                facts=VersionFacts(
                    genesis=self.deployment.genesis.digest,
                    model=model,
                    version=version,
                    predecessor=predecessor,
                    data_key_id=delivery.data_key,
                    publisher=PersonId("dana"),
                ),
                data_key=data_key,
                signer=publisher("dana"),
                random_bytes=os.urandom,
                canaries=canaries,
            )
        self.deployment.call("register", manifest=sealed.envelope.to_json(), request=str(request.digest))
        return Sealed(destination, sealed, WrappedDataKey.read(fields(made["wrapped"])))

    # --- releasing --------------------------------------------------------------------------------------------------

    def request(self, sealed: Sealed, *, by: str = "dana", **members: object) -> Envelope:
        """Ask to open the sealed version in the measured image on the enrolled platform."""
        told: dict[str, object] = {
            "model": sealed.sealed.manifest.model,
            "version": sealed.sealed.manifest.version,
            "manifest": sealed.sealed.manifest.digest,
            "image": IMAGE,
            "measurement": ReferenceImage.launched(IMAGE, self.measurements).measurement,
            "platforms": (self.platform,),
        }
        return self.deployment.request(Action.OPEN_IN_ENCLAVE, by=by, **(told | members))

    def approved(self, sealed: Sealed, **members: object) -> tuple[Envelope, tuple[Envelope, ...]]:
        """Ask, and have two people approve."""
        request = self.request(sealed, **members)  # type: ignore[arg-type]  # none is `by`
        return request, tuple(self.deployment.approve(request, who) for who in ("sam", "rina"))

    def challenge(self, request: Envelope) -> tuple[str, bytes]:
        """Ask the keeper for a challenge."""
        told = self.deployment.call("challenge", request=str(request.digest), platform=self.platform)
        return str(told["challenge"]), from_base64(str(told["nonce"]))

    def binding(self, request: Envelope, sealed: Sealed, challenge: str, nonce: bytes, key: RecipientKey) -> Binding:
        """Return what evidence for a challenge commits to."""
        return bound(self.deployment.genesis.digest, request, sealed.sealed.manifest, challenge, nonce, key)

    def testimony(
        self, request: Envelope, sealed: Sealed, key: RecipientKey, measurements: tuple[Measurement, ...] | None = None
    ) -> Testimony:
        """Answer a fresh challenge."""
        assert self.record is not None
        challenge, nonce = self.challenge(request)
        evidence = self.evidence(self.binding(request, sealed, challenge, nonce, key), key, measurements)
        return Testimony(challenge=challenge, platform=self.record, evidence=evidence)

    def release(
        self,
        request: Envelope,
        approvals: tuple[Envelope, ...],
        sealed: Sealed,
        *,
        key: RecipientKey | None = None,
        change: Callable[[Dossier], Dossier] = lambda dossier: dossier,
        measurements: tuple[Measurement, ...] | None = None,
    ) -> tuple[Delivery, SecretBytes]:
        """Carry out a whole release, with the dossier changed on the way to the keeper."""
        key = key or RecipientKey()
        dossier = Dossier(
            request=request,
            approvals=approvals,
            testimony=self.testimony(request, sealed, key, measurements),
            wrapped=sealed.wrapped,
        )
        answer = self.deployment.call("release", dossier=change(dossier).to_json())
        manifest = sealed.sealed.manifest
        return accept(
            envelope(answer["delivery"]),
            self.deployment.genesis,
            key,
            request=request.digest,
            model=manifest.model,
            version=manifest.version,
        )


def changed(measurements: tuple[Measurement, ...], place: int) -> tuple[Measurement, ...]:
    """Return the measurements with one of them made another."""
    made = list(measurements)
    made[place] = replace(made[place], digest=Digest.of(b"something else"))
    return tuple(made)
