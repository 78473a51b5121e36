"""An enclave's host as its TPM sees it: what is measured into the TPM, and the quotes that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.evidence import devices_digest
from strongroom.attestation.measurement import Measurement, launch_measurements
from strongroom.attestation.transcript import Binding
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.keys.recipient import RecipientKey
from strongroom.sealing.manifest import Manifest
from strongroom.tpm.adapters.transport import DescriptorTransport

_PARTS: Final = ("interpreter", "files", "command", "sandbox")


def made_up_measurements(genesis: Digest) -> tuple[Measurement, ...]:
    """Return the measurements of an image that is nothing but its parts' names."""
    return launch_measurements(genesis=genesis, **{name: Digest.of(name.encode()) for name in _PARTS})


def bound(
    genesis: Digest, request: Envelope, manifest: Manifest, challenge: str, nonce: bytes, key: RecipientKey
) -> Binding:
    """Return what evidence for a challenge commits to, where no device stands beside the TPM."""
    return Binding(
        genesis=genesis,
        challenge=challenge,
        nonce=nonce,
        request=request.digest,
        model=manifest.model,
        version=manifest.version,
        manifest=manifest.digest,
        recipient_key=key.digest,
        devices=devices_digest(()),
    )


@dataclass(eq=False)
class TpmHost:
    """The host. Its TPM is a real one played by a program."""

    tpm: SoftwareTPM
    measurements: tuple[Measurement, ...]

    def device(self) -> TpmDevice:
        """Connect to the TPM."""
        return TpmDevice(DescriptorTransport.unix(self.tpm.socket_path))

    def measure(self, measurements: tuple[Measurement, ...] | None = None) -> None:
        """Power the TPM anew and measure into it, as a launcher does: by default what the host should run."""
        self.tpm.power_cycle()
        with self.device() as device:
            device.startup()
            TpmAttester(device).measure(measurements or self.measurements)

    def evidence(
        self, binding: Binding, key: RecipientKey, measurements: tuple[Measurement, ...] | None = None
    ) -> bytes:
        """Quote for a binding."""
        with self.device() as device:
            return TpmAttester(device).attest(
                binding=binding, measurements=measurements or self.measurements, recipient_key=key.public
            )
