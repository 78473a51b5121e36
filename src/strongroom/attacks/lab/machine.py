"""An enclave's host with a software TPM: measures, is enrolled, answers challenges; each part can be taken and changed.

The TPM is a real one played by a program (swtpm). Where that isn't installed, attacks on attestation don't run.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from strongroom.access.request import Action, Request
from strongroom.attacks.ending import NotRunError
from strongroom.attacks.lab.cast import DAY, IMAGE, MODEL
from strongroom.attacks.lab.scratch import Scratch
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attacks.lab.tpm_host import TpmHost, bound, made_up_measurements
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import Measurement
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.policies.tpm2 import Tpm2Policy
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.attestation.tpm.credential import Credential
from strongroom.attestation.transcript import Binding
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor
from strongroom.core.canonical import Json
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PlatformId
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import Delivery
from strongroom.release.dossier import Dossier, Testimony
from strongroom.release.lease import NONCE_BYTES

HOST: Final = "gpu-1"


@dataclass
class Machine(TpmHost):
    """The host, beside a scratch deployment. Made once: it stays enrolled and measured."""

    scratch: Scratch
    platform: PlatformId = field(default=PlatformId(""))
    record: Envelope | None = None

    @classmethod
    def made(cls, scratch: Scratch, folder: Path) -> Machine:
        """Make the TPM, have the reference values adopted and the platform enrolled, and measure.

        :raises NotRunError: no software TPM is installed.
        """
        if not SoftwareTPM.available():
            raise NotRunError("no software TPM: install swtpm and swtpm-tools")
        machine = cls(SoftwareTPM(folder).start(), made_up_measurements(scratch.genesis.digest), scratch)
        try:
            machine._prepare()
        except BaseException:
            machine.tpm.stop()
            raise
        return machine

    @property
    def image(self) -> ReferenceImage:
        """The one image that the reference values list."""
        return ReferenceImage.launched(IMAGE, self.measurements)

    def reference_values(self) -> ReferenceValues:
        """Return the reference values in force."""
        # A TPM played by a program never shut down in order: its clock isn't safe.
        rules = replace(Tpm2Policy.strictest(), clock_must_be_safe=False)
        return ReferenceValues(
            genesis=self.scratch.genesis.digest,
            epoch=1,
            images=(self.image,),
            anchors=(TrustAnchor(Vendor.TPM, self.tpm.root_certificate, IsolationClass.VM_SIMULATED),),
            appraisal=AppraisalPolicy(kinds={EvidenceKind.TPM2: rules}, devices=None, reattest_seconds=3600),
            not_after=int(time.time()) + 90 * DAY,
            predecessor=None,
        )

    def _prepare(self) -> None:
        values = sign(REFERENCE_VALUES_TYPE, self.reference_values().to_bytes(), *self.scratch.cast.roots())
        self.scratch.adopt("reference-values", values)
        with self.device() as device:
            attester = TpmAttester(device)
            request = attester.enrolment_request(self.tpm.intermediates)
            begun = self.post("enrolments", {"enrolment": to_base64(request.to_bytes())})
            blob, secret = (from_base64(str(begun[name])) for name in ("credential_blob", "encrypted_secret"))
            answer = attester.answer(Credential(blob, secret))
        ended = self.post(f"enrolments/{begun['session']}", {"answer": to_base64(answer)})
        with Fields(ended["platform"], "platform") as fields:
            self.record = Envelope.read(fields)
        self.platform = PlatformRecord.parse(self.record.payload).platform
        self.measure()

    def post(self, path: str, body: Json) -> dict[str, Json]:
        """Post as the enclave's host.

        :raises RefusedError: it was refused.
        """
        return self.scratch.caller(HOST, enclave=True).post(f"/v1/{path}", body).done()

    # --- releases -----------------------------------------------------------------------------------------------------

    def ask(self, *, by: str = "dana", model: ModelId = MODEL, **members: object) -> Envelope:
        """Ask to open a model in the measured image on this platform."""
        told: dict[str, object] = {
            "model": model,
            "version": 1,
            "manifest": self.scratch.versions[model].sealed.manifest.digest,
            "image": IMAGE,
            "measurement": self.image.measurement,
            "platforms": (self.platform,),
        }
        return self.scratch.ask(Action.OPEN_IN_ENCLAVE, by=by, **(told | members))

    def approved(self, **members: object) -> tuple[Envelope, tuple[Envelope, ...]]:
        """Ask, and have two people approve."""
        request = self.ask(**members)  # type: ignore[arg-type]  # none is `by`, and a model is one
        return request, self.scratch.approve(request)

    def challenge(self, request: Envelope) -> tuple[str, bytes]:
        """Ask for a challenge."""
        told = self.post(f"requests/{request.digest}/challenges", {"platform": self.platform})
        return str(told["challenge"]), from_base64(str(told["nonce"]))

    def binding(self, request: Envelope, challenge: str, nonce: bytes, key: RecipientKey) -> Binding:
        """Return what evidence for a challenge commits to."""
        asked = Request.parse(request.payload)
        manifest = self.scratch.versions[asked.model].sealed.manifest
        return bound(self.scratch.genesis.digest, request, manifest, challenge, nonce, key)

    def release(
        self, request: Envelope, key: RecipientKey, *, measured: tuple[Measurement, ...] | None = None
    ) -> Delivery:
        """Answer a fresh challenge through the broker, and open what was delivered."""
        challenge, nonce = self.challenge(request)
        evidence = self.evidence(self.binding(request, challenge, nonce, key), key, measured)
        return self.answer(request, challenge, evidence, key)

    def answer(self, request: Envelope, challenge: str, evidence: bytes, key: RecipientKey) -> Delivery:
        """Hand in evidence for a challenge, and open what was delivered."""
        body: Json = {"challenge": challenge, "platform": self.platform, "evidence": to_base64(evidence)}
        told = self.post(f"requests/{request.digest}/release", body)
        delivery, data_key = self.scratch.opened(told["delivery"], request, key)
        data_key.wipe()
        return delivery

    def dossier(self, request: Envelope, approvals: tuple[Envelope, ...], key: RecipientKey) -> Dossier:
        """Return a whole dossier with evidence for a fresh challenge: what the broker puts before the keeper."""
        assert self.record is not None  # noqa: S101 - set when it was made
        challenge, nonce = self.challenge(request)
        evidence = self.evidence(self.binding(request, challenge, nonce, key), key)
        return Dossier(
            request=request,
            approvals=approvals,
            testimony=Testimony(challenge=challenge, platform=self.record, evidence=evidence),
            wrapped=self.scratch.versions[Request.parse(request.payload).model].wrapped,
        )

    def release_from_keeper(self, dossier: Dossier, key: RecipientKey) -> Delivery:
        """Put a dossier before the keeper itself, and open what was delivered."""
        told = self.scratch.call("release", dossier=dossier.to_json())
        delivery, data_key = self.scratch.opened(told["delivery"], dossier.request, key)
        data_key.wipe()
        return delivery

    def renew(self, delivery: Delivery, serial: int, *, use: int | None = None) -> dict[str, Json]:
        """Ask for the next lease of what was opened."""
        body: Json = {
            "use": delivery.use if use is None else use,
            "recipient": str(delivery.recipient),
            "serial": serial,
            "nonce": to_base64(os.urandom(NONCE_BYTES)),
        }
        return self.post(f"requests/{delivery.request}/leases", body)
