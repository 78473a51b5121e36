"""The body of an evidence item of an Azure confidential virtual machine: what its virtual TPM gives, and certificates.

Canonical JSON ``{"v": 1, "hcl_report", "quote", "signature", "pcrs", ...}``: base64, and 24 registers of the SHA-256
bank in hex. With SEV-SNP ``certificates`` (a certificate table in base64, or ``""``), with TDX ``td_quote``: the
hardware's report in the HCL report is a TDREPORT then, which Azure's quoting service turned into a quote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.azure.hcl_report import MAX_HCL_REPORT, HardwareKind, HclReport
from strongroom.attestation.azure.runtime_data import RuntimeData
from strongroom.attestation.sev_snp.certificate_table import MAX_TABLE
from strongroom.attestation.tdx.quote import MAX_QUOTE
from strongroom.attestation.tpm.quote import MAX_ATTEST
from strongroom.core.canonical import decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

PCRS: Final = tuple(range(24))
MAX_RSA_SIGNATURE: Final = 512
MAX_AZURE_BODY: Final = 256 * 1024
_REGISTER: Final = re.compile(r"[0-9a-f]{64}")
_ENDORSEMENTS: Final = {HardwareKind.SEV_SNP: ("certificates", MAX_TABLE), HardwareKind.TDX: ("td_quote", MAX_QUOTE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class VtpmEvidence:
    """What came along, as bytes that weren't looked at."""

    hcl_report: bytes
    quote: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """RSASSA PKCS #1 v1.5 with SHA-256: the number alone, without TPMT_SIGNATURE's head."""
    pcrs: tuple[bytes, ...]
    """PCR 0 to 23, SHA-256."""
    endorsement: bytes
    """SEV-SNP: a certificate table, or nothing. TDX: the quote."""

    @classmethod
    def parse(cls, body: bytes, kind: HardwareKind) -> VtpmEvidence:
        """Read a body.

        :raises MalformedError: too long, another form, or not canonical.
        """
        name, most = _ENDORSEMENTS[kind]
        with Fields(decode(body, max_bytes=MAX_AZURE_BODY), "azure-vtpm") as fields:
            fields.constant("v", 1)
            evidence = cls(
                hcl_report=fields.binary("hcl_report", max_length=MAX_HCL_REPORT),
                quote=fields.binary("quote", max_length=MAX_ATTEST),
                signature=fields.binary("signature", max_length=MAX_RSA_SIGNATURE),
                pcrs=tuple(_register(text) for text in fields.texts("pcrs", most=len(PCRS))),
                endorsement=fields.binary(name, max_length=most),
            )
        if len(evidence.pcrs) != len(PCRS):
            raise MalformedError(f"`azure-vtpm.pcrs` must hold {len(PCRS)} registers")
        return evidence

    def to_bytes(self, kind: HardwareKind) -> bytes:
        """Return the body."""
        return encode(
            {
                "v": 1,
                "hcl_report": to_base64(self.hcl_report),
                "quote": to_base64(self.quote),
                "signature": to_base64(self.signature),
                "pcrs": [register.hex() for register in self.pcrs],
                _ENDORSEMENTS[kind][0]: to_base64(self.endorsement),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A body and what is in it."""

    evidence: VtpmEvidence
    hcl: HclReport
    runtime: RuntimeData

    @classmethod
    def parse(cls, body: bytes, kind: HardwareKind) -> Parsed:
        """Read a body and its HCL report.

        :raises MalformedError: either can't be read, or the report is of the other hardware.
        """
        evidence = VtpmEvidence.parse(body, kind)
        hcl = HclReport.parse(evidence.hcl_report)
        if hcl.hardware_kind is not kind:
            raise MalformedError("the HCL report holds the report of other hardware than the evidence's kind says")
        return cls(evidence=evidence, hcl=hcl, runtime=RuntimeData.parse(hcl.runtime_data))


def _register(text: str) -> bytes:
    if not _REGISTER.fullmatch(text):
        raise MalformedError("`azure-vtpm.pcrs` must hold registers of 64 lower-case hex digits")
    return bytes.fromhex(text)
