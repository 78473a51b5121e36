"""Is the evidence of an Azure confidential machine genuine, and is the machine wanted? Six steps, in this order.

1. RSASSA signature over the quote by the attestation key in the paravisor's runtime data
2. a quote that a TPM generated
3. qualifying data = the binding (else replayed)
4. SHA-256 bank, and all of its 24 registers
5. PCR digest = the registers that came along
6. the hardware's report is genuine by the steps of its own verifier, and its report data is the digest of that runtime
   data; an SEV-SNP report was made at VMPL 0, where the paravisor runs; a TDREPORT says what was quoted

Steps 1 to 5 prove nothing alone: their key is only the sender's word until step 6, which ties it to a paravisor on real
hardware. They come first so that evidence which lacks nothing but Intel's collateral is refused for just that.

The paravisor is Microsoft's and is trusted like the hardware: it holds the virtual TPM. Which one it is, the launch
measurement says (``measurement`` or ``mrtd``), so that an image must name it; and it must name the registers that a
boot is measured into: loaders and kernels (4), Secure Boot's state and keys (7), what GRUB (8, 9) or systemd's stub
(11, 12) measured of command line, initial disk and kernel. A register that isn't used is zero, and named as that.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Generic, TypeVar

from strongroom.attestation.azure.hcl_report import HardwareKind
from strongroom.attestation.azure.runtime_data import RuntimeData
from strongroom.attestation.azure.statement import MAX_AZURE_BODY, PCRS, Parsed, VtpmEvidence
from strongroom.attestation.azure.td_report import ParavisorTdReport, require_same
from strongroom.attestation.bindings import Bound, ExpectedBinding, ItemBinding, Slot
from strongroom.attestation.claims import Aspect, Claim, equal, said
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    EvidenceReplayedError,
    PcrMismatchError,
    RuntimeDataMismatchError,
    WrongBankError,
    WrongSelectionError,
)
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.azure import AzureSnpPolicy, AzureTdxPolicy, VtpmRules
from strongroom.attestation.sev_snp.certificate_table import CertificateTable
from strongroom.attestation.sev_snp.report import Report
from strongroom.attestation.tdx.quote import parse_td_quote
from strongroom.attestation.tpm.quote import Quote, pcr_digest, sha256_only
from strongroom.attestation.tpm.signature import TpmSignature
from strongroom.attestation.verifier import Genuine, Verifier
from strongroom.attestation.verifiers.azure_domain import AzureDomainVerifier
from strongroom.attestation.verifiers.sev_snp import SevSnpStatement, SevSnpVerifier
from strongroom.attestation.verifiers.tdx import TdxStatement
from strongroom.core.clock import Instant
from strongroom.core.errors import UsageError
from strongroom.tpm import wire

Hardware = TypeVar("Hardware")

_NAMES: Final = {f"pcr{number}" for number in PCRS}
_BOOT_NAMES: Final = {f"pcr{number}" for number in (4, 7, 8, 9, 11, 12)}
_PARAVISOR_VMPL: Final = 0
_EMPTY: Final = (bytes(32), b"\xff" * 32)
"""A register after a reset: zeros, or ones in those for a dynamic launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureStatement(Generic[Hardware]):
    """What came along, and the hardware's statement in it."""

    parsed: Parsed
    hardware: Hardware
    quote: Quote | None = None
    proven: Genuine[Hardware] | None = None
    """The quote and the hardware's statement, once they are genuine."""


class AzureSnpVtpmVerifier:
    """Machines on SEV-SNP; see the module. Fills :class:`~strongroom.attestation.verifier.Verifier`."""

    kind = EvidenceKind.AZURE_SNP_VTPM
    max_bytes = MAX_AZURE_BODY
    slots = frozenset({Slot.QUALIFYING_DATA})
    reference_names = SevSnpVerifier.reference_names | _BOOT_NAMES
    optional_names = SevSnpVerifier.optional_names | _NAMES - _BOOT_NAMES
    policy = AzureSnpPolicy
    _hardware = SevSnpVerifier()

    def parse(self, body: bytes) -> AzureStatement[SevSnpStatement]:
        """Read a body, its HCL report and the SEV-SNP report in that.

        :raises MalformedError: one of them can't be read.
        """
        parsed = Parsed.parse(body, HardwareKind.SEV_SNP)
        report, table = Report.parse(parsed.hcl.hardware), CertificateTable.parse(parsed.evidence.endorsement)
        return AzureStatement(parsed=parsed, hardware=SevSnpStatement(report, table))

    def genuine(
        self, statement: AzureStatement[SevSnpStatement], binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[AzureStatement[SevSnpStatement]]:
        """Check the six steps as of ``at``.

        :raises NotGenuineError: a step fails.
        :raises MalformedError: a nested structure can't be read.
        """
        quote, bound = _quoted(statement.parsed, binding)
        _by_the_paravisor(statement.hardware.report)
        proven = _on_hardware(self._hardware, statement, endorsements, at)
        return _genuine(self.kind, statement, quote, bound, proven)

    def judge(self, proven: Genuine[AzureStatement[SevSnpStatement]], policy: AzureSnpPolicy) -> tuple[Claim, ...]:
        """Compare with the hardware's rules, then with the virtual TPM's.

        :raises UsageError: the statement isn't genuine yet.
        """
        quote, hardware = _believed(proven.statement)
        return (
            *self._hardware.judge(hardware, policy.hardware),
            *_claims(proven.statement.parsed, quote, policy.vtpm),
        )


class AzureTdxVtpmVerifier:
    """Machines on TDX; see the module. Fills :class:`~strongroom.attestation.verifier.Verifier`."""

    kind = EvidenceKind.AZURE_TDX_VTPM
    max_bytes = MAX_AZURE_BODY
    slots = frozenset({Slot.QUALIFYING_DATA})
    reference_names = AzureDomainVerifier.reference_names | _BOOT_NAMES
    optional_names = AzureDomainVerifier.optional_names | _NAMES - _BOOT_NAMES
    policy = AzureTdxPolicy
    _hardware = AzureDomainVerifier()

    def parse(self, body: bytes) -> AzureStatement[TdxStatement]:
        """Read a body, its HCL report and the quote of its trust domain.

        :raises MalformedError: one of them can't be read.
        """
        parsed = Parsed.parse(body, HardwareKind.TDX)
        quote = parse_td_quote(parsed.evidence.endorsement)
        report = ParavisorTdReport(**{field.name: getattr(quote.body, field.name) for field in fields(quote.body)})
        return AzureStatement(parsed=parsed, hardware=TdxStatement(replace(quote, body=report)))

    def genuine(
        self, statement: AzureStatement[TdxStatement], binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[AzureStatement[TdxStatement]]:
        """Check the six steps as of ``at``.

        :raises NotGenuineError: a step fails.
        :raises MalformedError: a nested structure can't be read.
        :raises MissingExtraError: see :class:`AzureDomainVerifier`.
        """
        quote, bound = _quoted(statement.parsed, binding)
        require_same(statement.parsed.hcl.hardware, statement.hardware.quote.body)
        proven = _on_hardware(self._hardware, statement, endorsements, at)
        return _genuine(self.kind, statement, quote, bound, proven)

    def judge(self, proven: Genuine[AzureStatement[TdxStatement]], policy: AzureTdxPolicy) -> tuple[Claim, ...]:
        """Compare with the hardware's rules, then with the virtual TPM's.

        :raises UsageError: the statement isn't genuine yet.
        """
        quote, hardware = _believed(proven.statement)
        return (
            *self._hardware.judge(hardware, policy.hardware),
            *_claims(proven.statement.parsed, quote, policy.vtpm),
        )


def _quoted(parsed: Parsed, binding: ItemBinding) -> tuple[Quote, Bound]:
    """Steps 1 to 5."""
    evidence = parsed.evidence
    # 1. Over the raw bytes, before anything in them is looked at.
    _verify(evidence, parsed.runtime)
    # 2.
    quote = Quote.parse(evidence.quote)
    # 3.
    bound = binding.bound({Slot.QUALIFYING_DATA: quote.qualifying_data})
    # 4.
    if not sha256_only(quote):
        raise WrongBankError(
            "the quote must cover the SHA-256 bank and no other",
            seen=", ".join(f"0x{selection.bank:04x}" for selection in quote.selections),
            wanted="0x000b",
        )
    if quote.selections[0].pcrs != PCRS:
        raise WrongSelectionError(
            "the quote must cover all 24 registers",
            seen=" ".join(map(str, quote.selections[0].pcrs)),
            wanted=" ".join(map(str, PCRS)),
        )
    # 5.
    if not hmac.compare_digest(quote.pcr_digest, pcr_digest(evidence.pcrs)):
        raise PcrMismatchError(
            "the registers that came along aren't the ones that were quoted",
            seen=pcr_digest(evidence.pcrs).hex(),
            wanted=quote.pcr_digest.hex(),
            remedy="read the registers again right after the quote",
        )
    return quote, bound


def _verify(evidence: VtpmEvidence, runtime: RuntimeData) -> None:
    try:
        TpmSignature(wire.ALG_RSASSA, evidence.signature).verify(runtime.attestation_key, evidence.quote)
    except BadSignatureError:
        raise BadSignatureError(
            "the quote isn't signed by the attestation key in the runtime data",
            remedy="the evidence was changed, or its parts come from two machines: collect it again",
        ) from None


def _by_the_paravisor(report: Report) -> None:
    # A guest below can have reports with any report data, and so with a virtual TPM of its own making.
    if report.vmpl != _PARAVISOR_VMPL:
        raise RuntimeDataMismatchError(
            "the hardware's report was made for the guest, not for the paravisor above it",
            seen=f"VMPL {report.vmpl}",
            wanted=f"VMPL {_PARAVISOR_VMPL}",
        )


def _on_hardware(
    hardware: Verifier[Hardware, Any], statement: AzureStatement[Hardware], endorsements: Endorsements, at: Instant
) -> Genuine[Hardware]:
    """Step 6."""
    committed = ExpectedBinding({Slot.REPORT_DATA: statement.parsed.hcl.report_data})
    try:
        return hardware.genuine(statement.hardware, committed, endorsements, at)
    except EvidenceReplayedError as error:
        # Not an old report: one of another virtual TPM.
        raise RuntimeDataMismatchError(
            "the hardware's report doesn't commit to this virtual TPM and machine",
            seen=error.seen,
            wanted=error.wanted,
            remedy="collect the HCL report again; both parts must come from one machine",
        ) from None


def _genuine(
    kind: EvidenceKind, statement: AzureStatement[Hardware], quote: Quote, bound: Bound, proven: Genuine[Hardware]
) -> Genuine[AzureStatement[Hardware]]:
    runtime, registers = statement.parsed.runtime, statement.parsed.evidence.pcrs
    return Genuine(
        kind=kind,
        bound=bound,
        statement=replace(statement, quote=quote, proven=proven),
        measurements={**proven.measurements, **{f"pcr{number}": registers[number].hex() for number in PCRS}},
        hardware_id=proven.hardware_id,
        isolation=proven.isolation,
        endorsed_until=proven.endorsed_until,
        revocation_checked=proven.revocation_checked,
        reset_count=quote.reset_count,
        details={
            **proven.details,
            "machine": runtime.machine,
            "vTPM firmware": f"{quote.firmware_version:016x}",
            "configuration": ", ".join(_switches(runtime)),
        },
    )


def _switches(runtime: RuntimeData) -> Iterator[str]:
    for name, value in runtime.configuration.items():
        if isinstance(value, bool) and name.isprintable():
            yield f"{name[:64]} {said(value)}"


def _believed(statement: AzureStatement[Hardware]) -> tuple[Quote, Genuine[Hardware]]:
    if statement.quote is None or statement.proven is None:
        raise UsageError("evidence is judged once it is genuine")
    return statement.quote, statement.proven


def _claims(parsed: Parsed, quote: Quote, rules: VtpmRules) -> Iterator[Claim]:
    runtime, registers = parsed.runtime, parsed.evidence.pcrs
    for name, wanted in rules.configuration.items():
        value = runtime.configuration.get(name)
        seen = value if isinstance(value, bool) else None
        # Not `==`: the number 1 isn't true.
        yield Claim(f"configuration.{name}", Aspect.CONFIGURATION, said(seen), said(wanted), ok=seen is wanted)
    for number in rules.measured_pcrs:
        yield equal(f"pcr{number}.measured", Aspect.EXECUTABLES, registers[number] not in _EMPTY, wanted=True)
    if rules.clock_must_be_safe:
        yield equal("clock-safe", Aspect.HARDWARE, quote.safe, wanted=True)
    yield rules.machines.claim("machine", Aspect.INSTANCE_IDENTITY, runtime.machine)
    yield rules.user_data.claim("user-data", Aspect.SOURCED_DATA, runtime.user_data.hex())
