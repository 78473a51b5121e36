"""A software TPM, from a challenge to a verdict: what a quote costs, and what verifying it costs."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.access_parts.clockwork import Timing, timed

from simulators.attester import MEASUREMENTS, binding, tpm_root
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.enrolment import begin, finish
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.trust_anchors import TrustAnchors
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier
from strongroom.tpm.adapters.transport import DescriptorTransport

RECIPIENT_KEY = bytes(range(256)) * 4 + bytes(192)


def quote_and_verify(calls: int) -> list[tuple[str, Timing]]:
    """Time quoting and verifying; nothing where no software TPM is installed."""
    if not SoftwareTPM.available():
        return []
    with (
        tempfile.TemporaryDirectory(prefix="tpm-") as folder,
        SoftwareTPM(Path(folder)) as tpm,
        TpmDevice(DescriptorTransport.unix(tpm.socket_path)) as device,
    ):
        device.startup()
        attester = TpmAttester(device)
        request, now = attester.enrolment_request(tpm.intermediates), int(time.time())
        pending = begin(request, roots=(tpm_root(tpm.root_certificate),), at=now, random_bytes=os.urandom)
        record = finish(pending, attester.answer(pending.credential), at=now)
        wanted, verifier = binding(recipient_key=RECIPIENT_KEY), Tpm2Verifier()
        for one in MEASUREMENTS:
            device.pcr_extend(14, one.extension)
        about = Endorsements(anchors=TrustAnchors(()), platform=record)

        def quote(_turn: int) -> Evidence:
            made = attester.attest(binding=wanted, measurements=MEASUREMENTS, recipient_key=RECIPIENT_KEY)
            return Evidence.parse(made)

        def verify(evidence: Evidence) -> object:
            statement = verifier.parse(evidence.main.body)
            return verifier.genuine(statement, wanted.item(EvidenceKind.TPM2), about, now + 1)

        evidence = quote(0)
        verify(evidence)
        return [
            ("swtpm: quote (our side; p50 has the TPM's)", timed(quote, [0], calls=calls)),
            ("swtpm: verify, key enrolled", timed(verify, [evidence], calls=calls)),
        ]
