"""Targets past the signature: whatever the bytes say, a simulated maker signs them, and they are judged.

A host that is hostile can't sign; a maker's firmware with a flaw can, and so can a guest that chooses what is signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from fuzz.targets.formats import logs, nitro_payloads
from fuzz.targets.makers import judging
from fuzz.targets.target import Target
from simulators import nvidia_chain
from simulators.azure_vtpm import AZURE_TD, PARAVISOR, Vtpm, td_report_of
from simulators.intel_chain import TD_FIELDS, IntelChain, intel_chain, sgx_extension, sized
from simulators.nitro_chain import nitro_chain
from simulators.sev_snp_chain import Machine, signed, signer
from simulators.tpm_chain import agile_log as log_of
from simulators.tpm_chain import boot, registers, virtual_tpm
from strongroom.attestation.azure.hcl_report import HardwareKind
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.dice import Architecture, certified_fwid, device_identity
from strongroom.attestation.nvidia.manifest import read_manifest
from strongroom.attestation.ocsp import OcspAnswers
from strongroom.attestation.revocation import NO_LISTS
from strongroom.attestation.sev_snp.body import write_body
from strongroom.attestation.sev_snp.endorsement_key import EndorsementKey
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import SigningKey
from strongroom.attestation.tdx.pck import Pck
from strongroom.attestation.tdx.quote import TEE_SGX, TEE_TDX
from strongroom.attestation.tpm.event_log import REGISTERS
from strongroom.attestation.trust_anchors import Vendor, load_certificate
from strongroom.attestation.verifiers.tdx import TdxVerifier
from support.simulated_evidence import AT, endorsements

Judge = Callable[[bytes], None]
_UNSIGNED_REPORT: Final = 0x2A0
_TD: Final = 584
_ENCLAVE: Final = 384
_HEADER: Final = 48
_ARC: Final = "1.3.6.1.4.1.3704.1."
_AMD_PARTS: Final = ("1", "2", "3.1", "3.3", "3.8", "4", "5")


@cache
def _table() -> bytes:
    return Machine().certificates()


def snp_report(data: bytes) -> None:
    """Sign 672 bytes as a report."""
    report = signed(data[:_UNSIGNED_REPORT].ljust(_UNSIGNED_REPORT, b"\0"), signer(Product.GENOA, SigningKey.VCEK))
    judging(EvidenceKind.SEV_SNP)(write_body(report, _table()))


def snp_extension(data: bytes) -> None:
    """Certify a chip's key with one of AMD's extensions as the bytes after the first say."""
    part = _AMD_PARTS[data[0] % len(_AMD_PARTS)] if data else _AMD_PARTS[0]
    der = replace(Machine(), extensions={part: data[1:]}).certificate()
    EndorsementKey.read(load_certificate(der))


def td_report(data: bytes) -> None:
    """Sign a header and a TD report."""
    _quoted(data, _TD, TEE_TDX, EvidenceKind.TDX)


def enclave_report(data: bytes) -> None:
    """Sign a header and an enclave's report."""
    _quoted(data, _ENCLAVE, TEE_SGX, EvidenceKind.SGX)


def _quoted(data: bytes, size: int, tee: int, kind: EvidenceKind) -> None:
    told = data[: _HEADER + size].ljust(_HEADER + size, b"\0")
    judging(kind)(told + sized(intel_chain().signature_block(told, tee)))


def td_report_seed() -> bytes:
    """Return what a quote's signature is over."""
    return intel_chain().td_quote()[: _HEADER + _TD]


def certification_data(data: bytes) -> None:
    """Put anything behind a signed body where the quoting enclave's report and certificates belong."""
    quote = intel_chain().td_quote()
    at = _HEADER + _TD + 4 + 128
    signature = quote[_HEADER + _TD + 4 : at]
    judging(EvidenceKind.TDX)(quote[: _HEADER + _TD] + sized(signature + data))


def pck_extension(data: bytes) -> None:
    """Certify a platform with anything as Intel's extension."""
    Pck.of(intel_chain().with_extension(data).pck.certificate)


def intel_collateral(data: bytes) -> None:
    """Sign anything as TCB information, or (by the first byte) as a quoting enclave's identity."""
    made = intel_chain()
    whole: dict[str, str] = json.loads(_honest_collateral())
    name = ("tcb_info", "qe_identity")[data[0] % 2 if data else 0]
    text = data[1:].decode("utf-8", "replace")
    whole |= {name: text, f"{name}_signature": made.tcb_signer.sign(text.encode()).hex()}
    item = CollateralItem(
        kind=CollateralKind.INTEL_TCB, name="x", data=json.dumps(whole).encode(), not_before=0, not_after=2**33
    )
    verifier = TdxVerifier()
    about = replace(endorsements(), collateral=Collateral((replace(item, name=_collateral_name()),)))
    verifier.genuine(verifier.parse(_honest_quote()), RecordedBinding(), about, AT)


@cache
def _honest_collateral() -> bytes:
    return intel_chain().collateral()


@cache
def _collateral_name() -> str:
    return endorsements().collateral.items[0].name


@cache
def _honest_quote() -> bytes:
    return intel_chain().td_quote()


def collateral_texts() -> tuple[bytes, ...]:
    """Return both signed texts, each behind the byte that chooses it."""
    whole = json.loads(_honest_collateral())
    return b"\0" + whole["tcb_info"].encode(), b"\1" + whole["qe_identity"].encode()


def nitro_payload(data: bytes) -> None:
    """Sign anything as a Nitro document."""
    judging(EvidenceKind.NITRO)(nitro_chain().sign(data))


def tpm_quote(data: bytes) -> None:
    """Sign anything as a virtual TPM's quote."""
    judging(EvidenceKind.TPM2)(virtual_tpm().statement(_registers(), quote=data).to_bytes())


@cache
def _registers() -> dict[int, bytes]:
    return registers(log_of(boot()))


def tpm_log(data: bytes) -> None:
    """Quote what a log replays to, whatever it says."""
    values = registers(data)
    few = {number: values[number] for number in range(REGISTERS) if number in values}
    judging(EvidenceKind.TPM2)(virtual_tpm().statement(few, event_log=data).to_bytes())


@dataclass(frozen=True, kw_only=True)
class Told(Vtpm):
    """A virtual TPM whose runtime data or quote is anything."""

    runtime: bytes | None = None
    message: bytes | None = None

    def runtime_data(self) -> bytes:
        return super().runtime_data() if self.runtime is None else self.runtime

    def quote(self) -> bytes:
        return super().quote() if self.message is None else self.message


def azure_runtime(data: bytes) -> None:
    """Commit a report to anything as runtime data."""
    judging(EvidenceKind.AZURE_SNP_VTPM)(Told(runtime=data).on_snp(PARAVISOR).to_bytes(HardwareKind.SEV_SNP))


def azure_quote(data: bytes) -> None:
    """Sign anything as the quote of an Azure machine's TPM."""
    judging(EvidenceKind.AZURE_SNP_VTPM)(Told(message=data).on_snp(PARAVISOR).to_bytes(HardwareKind.SEV_SNP))


def azure_td_report(data: bytes) -> None:
    """Put anything beside a quote of an Azure machine's domain."""
    evidence = Vtpm().on_tdx(td_report=data[:1024].ljust(1024, b"\0"))
    judging(EvidenceKind.AZURE_TDX_VTPM)(evidence.to_bytes(HardwareKind.TDX))


def device_report(data: bytes) -> None:
    """Sign anything as a GPU's report, request and all."""
    _device(data, EvidenceKind.NVIDIA_GPU)


def switch_report(data: bytes) -> None:
    """Sign anything as a switch's report."""
    _device(data, EvidenceKind.NVIDIA_SWITCH)


@cache
def _devices(kind: EvidenceKind) -> nvidia_chain.Device:
    return nvidia_chain.device("LS_10" if kind is EvidenceKind.NVIDIA_SWITCH else "GH100")


def _device(data: bytes, kind: EvidenceKind) -> None:
    made = _devices(kind)
    r, s = decode_dss_signature(made.attestation.key.sign(data, ec.ECDSA(hashes.SHA384())))
    item: EvidenceItem = nvidia_chain.item(made, data + r.to_bytes(48, "big") + s.to_bytes(48, "big"), kind)
    judging(kind)(item.body)


def device_seeds(kind: EvidenceKind) -> tuple[bytes, ...]:
    """Return what a device's signature is over, in both layouts of what stands in it."""
    fields = nvidia_chain.SWITCH_FIELDS if kind is EvidenceKind.NVIDIA_SWITCH else nvidia_chain.GPU_FIELDS
    made = _devices(kind)
    opaque = (nvidia_chain.entries(fields), nvidia_chain.versioned_entries(fields))
    return tuple(nvidia_chain.report(made, opaque=one)[:-96] for one in opaque)


def dice_extension(data: bytes) -> None:
    """Certify an attestation key with anything as its DICE extension, old or (by the first byte) new."""
    old = not data or data[0] % 2 == 0
    oid = x509.ObjectIdentifier("2.23.133.5.4.1" if old else "2.23.133.5.4.1.1")
    made = _devices(EvidenceKind.NVIDIA_GPU)
    shape = nvidia_chain.Shape(
        name="GH100 A01 GSP FMC LF",
        ca=None,
        signs_certificates=False,
        signs=True,
        curve=ec.SECP384R1(),
        extensions=(x509.UnrecognizedExtension(oid, data[1:]),),
    )
    leaf = nvidia_chain.issued(shape, made.factory, key=made.attestation.key)
    device_identity(leaf.certificate, made.factory.certificate)
    architecture = Architecture.HOPPER if old else Architecture.BLACKWELL
    certified_fwid(leaf.certificate, made.factory.certificate, architecture)


def dice_seeds() -> tuple[bytes, ...]:
    """Return both extensions, each behind the byte that chooses it."""
    made = _devices(EvidenceKind.NVIDIA_GPU)
    old = nvidia_chain.composite_device(made.factory, nvidia_chain.FWID)
    return b"\0" + old.value, b"\1" + nvidia_chain.tcb_info(nvidia_chain.FWID).value


def manifest_text(data: bytes) -> None:
    """Sign any XML as a manifest."""
    try:
        whole = nvidia_chain.sign_manifest(data.decode("utf-8", "replace"), _rim_signer())
    except Exception:  # noqa: BLE001 - the signer's own library couldn't: there is nothing to read
        return
    anchors = endorsements().anchors.of(Vendor.NVIDIA_RIM)
    read_manifest(whole, anchors, nvidia_chain.NOW, lists=NO_LISTS, answers=OcspAnswers(()))


@cache
def _rim_signer() -> nvidia_chain.Authority:
    return nvidia_chain.rim_signer()


def _of(chain: IntelChain) -> tuple[bytes, ...]:
    return (chain.sgx_quote()[: _HEADER + _ENCLAVE],)


SIGNED: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "signed-snp-report": Target(
            read=snp_report,
            seeds=lambda: (Machine().unsigned(), Machine(version=5, policy=1 << 19 | 1 << 17).unsigned()),
            changes=120,
            longest=_UNSIGNED_REPORT,
        ),
        "signed-snp-extension": Target(
            read=snp_extension,
            seeds=lambda: tuple(bytes([place]) + b"\x02\x01\x05" for place in range(len(_AMD_PARTS))),
            changes=120,
            longest=128,
        ),
        "signed-td-report": Target(
            read=td_report, seeds=lambda: (td_report_seed(),), changes=120, longest=_HEADER + _TD
        ),
        "signed-enclave-report": Target(
            read=enclave_report, seeds=lambda: _of(intel_chain()), changes=120, longest=_HEADER + _ENCLAVE
        ),
        "signed-quote-certification": Target(
            read=certification_data,
            seeds=lambda: (intel_chain().td_quote()[_HEADER + _TD + 4 + 128 :],),
            changes=120,
            longest=8192,
        ),
        "signed-pck-extension": Target(read=pck_extension, seeds=lambda: (sgx_extension(),), changes=160, longest=1024),
        "signed-intel-collateral": Target(read=intel_collateral, seeds=collateral_texts, changes=120, longest=8192),
        "signed-nitro-document": Target(read=nitro_payload, seeds=nitro_payloads, changes=120, longest=8192),
        "signed-tpm-quote": Target(
            read=tpm_quote, seeds=lambda: (virtual_tpm().quote(_registers()),), changes=120, longest=1024
        ),
        "signed-tpm-log": Target(read=tpm_log, seeds=logs, changes=120),
        "signed-azure-runtime-data": Target(
            read=azure_runtime, seeds=lambda: (Vtpm().runtime_data(),), changes=120, longest=4096
        ),
        "signed-azure-quote": Target(read=azure_quote, seeds=lambda: (Vtpm().quote(),), changes=120, longest=1024),
        "signed-azure-td-report": Target(
            read=azure_td_report,
            seeds=lambda: (td_report_of({**TD_FIELDS, **AZURE_TD, "report_data": Vtpm().report_data()}),),
            changes=120,
            longest=1024,
        ),
        "signed-gpu-report": Target(
            read=device_report, seeds=lambda: device_seeds(EvidenceKind.NVIDIA_GPU), changes=120, longest=8192
        ),
        "signed-switch-report": Target(
            read=switch_report, seeds=lambda: device_seeds(EvidenceKind.NVIDIA_SWITCH), changes=120, longest=8192
        ),
        "signed-dice-extension": Target(read=dice_extension, seeds=dice_seeds, changes=120, longest=1024),
        "signed-manifest": Target(
            read=manifest_text,
            seeds=lambda: (nvidia_chain.manifest_document("96.00.A5.00.01", nvidia_chain.VBIOS_GOLDEN).encode(),),
            changes=80,
            longest=8192,
        ),
    }
)
