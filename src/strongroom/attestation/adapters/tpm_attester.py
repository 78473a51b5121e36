"""The attester: measures into the TPM at launch, quotes for a binding while the agent runs, answers an enrolment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.enrolment import EnrolmentRequest
from strongroom.attestation.evidence import Evidence, EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import MEASURED_PCR, QUOTED_PCRS, Measurement, expected_pcr
from strongroom.attestation.platform_record import platform_of
from strongroom.attestation.tpm.credential import Credential
from strongroom.attestation.tpm.statement import LoggedEvent, TpmStatement
from strongroom.attestation.transcript import Binding
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.tpm.errors import TpmError


class TpmAttester:
    """Speaks for one TPM. It holds no state: the keys are made from their templates for each use.

    ``boot_pcrs`` are quoted beside the launch's register, where what was booted is measured too: in a virtual machine.
    """

    def __init__(self, device: TpmDevice, *, boot_pcrs: tuple[int, ...] = ()) -> None:
        self._device = device
        self._quoted = tuple(sorted({*boot_pcrs, *QUOTED_PCRS}))

    def measure(self, measurements: Iterable[Measurement]) -> None:
        """Extend a launch's measurements; the launcher does this once, before the agent's first instruction.

        :raises TpmError: the TPM refused, or something was measured since its reset: then no log would replay.
        """
        if self._device.pcr_read(MEASURED_PCR) != bytes(32):
            raise TpmError(
                f"PCR {MEASURED_PCR} isn't fresh: something was measured since the TPM's reset",
                remedy="restart the TPM (or its virtual machine) before a measured launch",
            )
        for measurement in measurements:
            self._device.pcr_extend(MEASURED_PCR, measurement.extension)

    def attest(self, *, binding: Binding, measurements: Sequence[Measurement], recipient_key: bytes) -> bytes:
        """Return evidence (canonical bytes) that binds everything in ``binding``.

        :raises UsageError: the binding names another recipient key: the evidence would be refused.
        :raises TpmError: the TPM refused, or its PCRs don't hold these measurements.
        """
        if Digest.of(recipient_key) != binding.recipient_key:
            raise UsageError("the binding names another recipient key than the one handed in")
        if self._device.pcr_read(MEASURED_PCR) != expected_pcr(measurements):
            raise TpmError("the TPM doesn't hold these measurements: the evidence would be refused")
        with self._device.attestation_key() as key:
            quote, signature = self._device.quote(key, binding.tpm2_qualifying_data, self._quoted)
            # The launch's register needs no value: its log gives it.
            values = {number: self._device.pcr_read(number) for number in self._quoted}
            statement = TpmStatement(
                quote=quote,
                signature=signature,
                events=tuple(LoggedEvent(MEASURED_PCR, measurement) for measurement in measurements),
                pcrs=values if self._quoted != QUOTED_PCRS else {},
            )
            evidence = Evidence(
                platform=platform_of(key.public),
                main=EvidenceItem(EvidenceKind.TPM2, statement.to_bytes()),
                recipient_key=recipient_key,
            )
        return evidence.to_bytes()

    def enrolment_request(self, intermediates: Sequence[bytes] = ()) -> EnrolmentRequest:
        """Read what enrolment needs: the endorsement certificate and both keys' public areas.

        ``intermediates`` are the vendor's CA certificates (DER) between the endorsement certificate and the root.

        :raises TpmError: the TPM refused or holds no endorsement certificate.
        """
        with self._device.endorsement_key() as endorsement, self._device.attestation_key() as attestation:
            return EnrolmentRequest(
                ek_chain=(self._device.ek_certificate(), *intermediates),
                ek_public=endorsement.public.raw,
                ak_public=attestation.public.raw,
            )

    def answer(self, credential: Credential) -> bytes:
        """Have the TPM open an enrolment's credential.

        :raises TpmError: the credential was made for other keys.
        """
        with self._device.endorsement_key() as endorsement, self._device.attestation_key() as attestation:
            return self._device.activate_credential(attestation, endorsement, credential)
