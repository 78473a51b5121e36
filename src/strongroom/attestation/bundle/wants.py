"""What has to be fetched so that evidence can be judged: read from the evidence, which isn't believed for that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from strongroom.attestation.azure.hcl_report import HardwareKind, HclReport
from strongroom.attestation.azure.statement import VtpmEvidence
from strongroom.attestation.containers.contained import Contained
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.dice import device_identity
from strongroom.attestation.nvidia.names import driver_manifest, firmware_manifest
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.sev_snp import certificate_table
from strongroom.attestation.sev_snp.body import read_body
from strongroom.attestation.sev_snp.certificate_table import CertificateTable
from strongroom.attestation.sev_snp.endorsement_key import EndorsementKey
from strongroom.attestation.sev_snp.products import TCB_BYTES, Product, Tcb
from strongroom.attestation.sev_snp.report import CHIP_ID_BYTES, Report, SigningKey
from strongroom.attestation.tdx.pck import Pck, PckCa
from strongroom.attestation.tdx.quote import parse_sgx_quote, parse_td_quote
from strongroom.attestation.trust_anchors import load_certificate
from strongroom.core.errors import MalformedError, UsageError

_FMSPC: Final = re.compile(r"[0-9a-f]{12}")
_TURIN_CHIP_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class AmdChip:
    """A chip whose VCEK is wanted, at one TCB version."""

    chip: bytes
    """64 bytes as in reports."""
    tcb: Tcb

    @property
    def published(self) -> str:
        """How AMD's key service names the chip, in hex: Turin's by 8 bytes."""
        return self.chip[: _TURIN_CHIP_BYTES if self.tcb.product.has_fmc else CHIP_ID_BYTES].hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What to fetch. Everything is kept in order and once."""

    products: tuple[Product, ...] = ()
    """AMD's product lines: intermediates and revocation list."""
    chips: tuple[AmdChip, ...] = ()
    platforms: tuple[tuple[str, PckCa], ...] = ()
    """Intel's: FMSPC in hex, and the CA of the PCK certificate."""
    manifests: tuple[str, ...] = ()
    """NVIDIA's RIM ids."""
    chains: tuple[tuple[bytes, ...], ...] = field(default=(), repr=False)
    """NVIDIA's device chains in DER, leaf first: for each certificate below the root but the leaf, an OCSP answer."""

    def joined(self, more: Wants) -> Wants:
        """Return these and more."""
        return Wants(
            products=tuple(dict.fromkeys((*self.products, *more.products))),
            chips=tuple(dict.fromkeys((*self.chips, *more.chips))),
            platforms=tuple(dict.fromkeys((*self.platforms, *more.platforms))),
            manifests=tuple(dict.fromkeys((*self.manifests, *more.manifests))),
            chains=tuple(dict.fromkeys((*self.chains, *more.chains))),
        )


def wants_of(contained: Contained, products: tuple[Product, ...] = ()) -> Wants:
    """Return what judging a file's evidence takes.

    :param products: what reports of AMD's are of that are too old to name their processor; one, or none is taken.
    :raises UsageError: such a report came without certificate, and not one product was named.
    :raises MalformedError: evidence that can't be read.
    """
    found = Wants()
    beside = _Beside(contained.certificates, products[0] if len(products) == 1 else None)
    for item in contained.items:
        reader = _READERS.get(item.kind)
        if reader is not None:
            found = found.joined(reader(item.body, beside))
    return found


@dataclass(frozen=True, slots=True)
class _Beside:
    """What came along with the evidence."""

    certificates: tuple[bytes, ...]
    product: Product | None


def amd_wanted(text: str) -> Wants:
    """Read ``PRODUCT`` or ``PRODUCT/CHIP/TCB``, the last two in hex as reports write them.

    :raises UsageError: another form.
    """
    name, *rest = text.split("/")
    try:
        product = Product(name.lower())
        if not rest:
            return Wants(products=(product,))
        chip, tcb = (bytes.fromhex(part) for part in rest)
    except ValueError:
        raise UsageError(_AMD_FORM) from None
    wide = len(chip) == _TURIN_CHIP_BYTES and product.has_fmc
    if len(tcb) != TCB_BYTES or not (len(chip) == CHIP_ID_BYTES or wide):
        raise UsageError(_AMD_FORM)
    return Wants(products=(product,), chips=(AmdChip(chip.ljust(CHIP_ID_BYTES, b"\0"), Tcb(tcb, product)),))


_AMD_FORM: Final = (
    "AMD's collateral is asked for by product, `genoa`, or by product, chip and TCB version, `genoa/CHIP/TCB`: the "
    "chip's 64 (or Turin's 8) bytes and the TCB's 8 in hex"
)


def intel_wanted(text: str) -> Wants:
    """Read ``FMSPC`` or ``FMSPC/CA``; without a CA, that of platforms which can be trust domains' hosts.

    :raises UsageError: another form.
    """
    fmspc, _, ca = text.lower().partition("/")
    if not _FMSPC.fullmatch(fmspc) or (ca and ca not in set(PckCa)):
        raise UsageError("Intel's collateral is asked for by FMSPC and CA: `00806f050000/platform` or `.../processor`")
    return Wants(platforms=((fmspc, PckCa(ca) if ca else PckCa.PLATFORM),))


def _snp(body: bytes, beside: _Beside) -> Wants:
    report, certificates = read_body(body)
    return _of_report(Report.parse(report), CertificateTable.parse(certificates), beside)


def _of_report(report: Report, table: CertificateTable, beside: _Beside) -> Wants:
    own = table.certificates(certificate_table.VCEK, certificate_table.VLEK)
    signers = [key for key in map(_endorsement_key, (*own, *beside.certificates)) if key is not None]
    product = report.cpu_product or next((key.product for key in signers), beside.product)
    if product is None:
        raise UsageError(
            "the report is too old to name its processor, and no certificate of its chip came along",
            remedy="name its product line, too: --amd milan, genoa or turin",
        )
    # A VLEK isn't published: whoever runs the machine hands it over.
    if signers or report.chip_is_masked or report.signing_key is not SigningKey.VCEK:
        return Wants(products=(product,))
    return Wants(products=(product,), chips=(AmdChip(report.chip_id, Tcb(report.reported_tcb, product)),))


def _endorsement_key(der: bytes) -> EndorsementKey | None:
    try:
        return EndorsementKey.read(load_certificate(der))
    except MalformedError:
        return None


def _tdx(body: bytes, _beside: _Beside) -> Wants:
    return _of_pck(parse_td_quote(body).pck_chain)


def _sgx(body: bytes, _beside: _Beside) -> Wants:
    return _of_pck(parse_sgx_quote(body).pck_chain)


def _of_pck(chain: tuple[bytes, ...]) -> Wants:
    pck = Pck.of(load_certificate(chain[0]))
    return Wants(platforms=((pck.fmspc.hex(), pck.ca),))


def _azure_snp(body: bytes, beside: _Beside) -> Wants:
    evidence = VtpmEvidence.parse(body, HardwareKind.SEV_SNP)
    report = HclReport.parse(evidence.hcl_report).hardware
    return _of_report(Report.parse(report), CertificateTable.parse(evidence.endorsement), beside)


def _azure_tdx(body: bytes, _beside: _Beside) -> Wants:
    return _of_pck(parse_td_quote(VtpmEvidence.parse(body, HardwareKind.TDX).endorsement).pck_chain)


def _device(body: bytes, beside: _Beside) -> Wants:
    statement = DeviceStatement.parse(body)
    chain = statement.certificates or beside.certificates
    if len(chain) < 2:
        raise UsageError("a device's report came without its certificates", remedy="hand its chain in with it")
    identity = device_identity(load_certificate(chain[0]), load_certificate(chain[1]))
    names = [firmware_manifest(identity.architecture, statement.opaque)]
    if identity.architecture.kind is EvidenceKind.NVIDIA_GPU:
        names.insert(0, driver_manifest(identity.architecture, statement.opaque))
    return Wants(manifests=tuple(names), chains=(chain,))


_READERS: Final[Mapping[EvidenceKind, Callable[[bytes, _Beside], Wants]]] = MappingProxyType(
    {
        EvidenceKind.SEV_SNP: _snp,
        EvidenceKind.TDX: _tdx,
        EvidenceKind.SGX: _sgx,
        EvidenceKind.AZURE_SNP_VTPM: _azure_snp,
        EvidenceKind.AZURE_TDX_VTPM: _azure_tdx,
        EvidenceKind.NVIDIA_GPU: _device,
        EvidenceKind.NVIDIA_SWITCH: _device,
    }
)
"""Kinds whose makers publish something about each. The others' chains come with the evidence, or with the TPM."""
