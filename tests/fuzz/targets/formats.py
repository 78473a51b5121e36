"""Targets that read one format each: certificates, lists, answers, logs, tables, documents and manifests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from fuzz.targets.makers import vectors
from fuzz.targets.target import Target
from simulators import nvidia_chain, tpm_chain
from simulators.attester import attest_bytes, attester, ek_public_area, endorsement_private
from simulators.azure_vtpm import AZURE_TD, Vtpm, td_report_of
from simulators.intel_chain import TD_FIELDS, intel_chain
from simulators.nitro_chain import nitro_chain
from simulators.sev_snp_chain import Machine, authorities, revocation_list
from simulators.tpm_chain import (
    agile_log,
    attestation_message,
    boot,
    old_log,
    quote_message,
    registers,
    rsa_key,
    virtual_tpm,
)
from strongroom.attestation import chain
from strongroom.attestation.azure.hcl_report import HclReport
from strongroom.attestation.azure.runtime_data import RuntimeData
from strongroom.attestation.azure.td_report import require_same
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.manifest import ManifestHeading, manifest_id
from strongroom.attestation.containers import aws
from strongroom.attestation.containers.protobuf import Message
from strongroom.attestation.containers.scale import compact_length
from strongroom.attestation.nitro import cbor
from strongroom.attestation.nitro.cose import Sign1
from strongroom.attestation.nitro.document import Document
from strongroom.attestation.nvidia.manifest import read_manifest
from strongroom.attestation.nvidia.opaque import OpaqueData
from strongroom.attestation.nvidia.spdm import Report as DeviceReport
from strongroom.attestation.nvidia.statement import read_bundle
from strongroom.attestation.ocsp import OcspAnswers
from strongroom.attestation.revocation import NO_LISTS, RevocationLists
from strongroom.attestation.sev_snp.certificate_table import CertificateTable, ders_in
from strongroom.attestation.sev_snp.endorsement_key import EndorsementKey
from strongroom.attestation.sev_snp.report import Report
from strongroom.attestation.tdx.bodies import BodyType
from strongroom.attestation.tdx.collateral import IntelCollateral
from strongroom.attestation.tdx.pck import Pck
from strongroom.attestation.tdx.quote import parse_sgx_quote, parse_td_quote
from strongroom.attestation.tpm.boot_facts import loader_texts, secure_boot
from strongroom.attestation.tpm.event_log import EventLog, replay
from strongroom.attestation.tpm.public_area import PublicArea
from strongroom.attestation.tpm.quote import Quote
from strongroom.attestation.tpm.signature import TpmSignature
from strongroom.attestation.trust_anchors import Vendor, load_certificate, public_key_bytes
from strongroom.audit.store_settings import PostgresSettings
from strongroom.core.errors import StrongroomError
from strongroom.core.reader import Reader
from strongroom.tpm import wire
from support.simulated_evidence import AT, endorsements

RIM_ID: Final = "NV_GPU_VBIOS_G520_0200_885_9600A50001"
_OPAQUE_WORDS: Final = (
    "driver_version",
    "gpu_vbios_version",
    "switch_bios_version",
    "fwid",
    "video_decoder_is_off",
    "mode",
    "switches_of_gpu",
    "own_pdi_of_switch",
    "gpus_of_switch",
    "switch_is_locked",
)


def event_log(data: bytes) -> None:
    """Read a log as verifiers do: all of it, in every bank."""
    log = EventLog.parse(data)
    for bank in log.banks:
        replay(log, bank)
        secure_boot(log, bank)
        loader_texts(log, bank)


def opaque_data(data: bytes) -> None:
    """Read opaque data, and each thing that it may say: one that can't be read must not hide the next."""
    found = OpaqueData.parse(data)
    for word in _OPAQUE_WORDS:
        try:
            getattr(found, word)
        except StrongroomError:
            continue


def certificate(data: bytes) -> None:
    """Read a certificate as each maker's code does, and look for a root above it."""
    loaded = load_certificate(data)
    public_key_bytes(loaded)
    for reading in (
        lambda: chain.walk([data], endorsements().anchors.anchors, AT, lists=endorsements().lists),
        lambda: EndorsementKey.read(loaded),
        lambda: Pck.of(loaded),
    ):
        try:
            reading()
        except StrongroomError:
            continue


def revocation(data: bytes) -> None:
    """Read a list, and look a certificate up in it."""
    made = authorities()
    RevocationLists.load([data]).look_up(made.ask.certificate, made.ark.certificate, AT)


def ocsp_answer(data: bytes) -> None:
    """Read an answer, and look a certificate up in it."""
    made = nvidia_chain.maker()
    OcspAnswers.load([data]).look_up(made.family.certificate, made.root.certificate, nvidia_chain.NOW)


def intel_collateral(data: bytes) -> None:
    """Read collateral, and who is said to have signed it."""
    found = IntelCollateral.parse(data)
    found.require_tcb_signer()
    found.require_current(AT)


def manifest(data: bytes) -> None:
    """Read a manifest's cover, then all of it."""
    try:
        heading = ManifestHeading.read(data)
        for name in ("", RIM_ID):
            manifest_id(heading, name)
    except StrongroomError:
        pass
    anchors = endorsements().anchors.of(Vendor.NVIDIA_RIM)
    read_manifest(data, anchors, nvidia_chain.NOW, lists=NO_LISTS, answers=OcspAnswers(()))


def manifests() -> tuple[bytes, ...]:
    """Return signed manifests."""
    made = nvidia_chain.manifest("96.00.A5.00.01", nvidia_chain.VBIOS_GOLDEN)
    return (made, *vectors("nvidia/*.swidtag", "nvidia/rim-*.xml"))


def hcl_report(data: bytes) -> None:
    """Read an HCL report and the runtime data in it."""
    RuntimeData.parse(HclReport.parse(data).runtime_data)


def td_report(data: bytes) -> None:
    """Compare a TDREPORT with a quote."""
    require_same(data, parse_td_quote(intel_chain().td_quote()).body)


def protobuf(data: bytes) -> None:
    """Read a message, and messages in it, two levels deep."""
    message = Message(data, "fuzz")
    for number in range(1, 12):
        try:
            message.integer(number)
            for inner in message.several(number, 8):
                Message(inner, "fuzz").single(1)
        except StrongroomError:
            continue


def scale(data: bytes) -> None:
    """Read lengths until none is left."""
    reader = Reader(data, "fuzz", max_bytes=len(data), order="little")
    while reader.left:
        reader.take(compact_length(reader, 1 << 20))


def signature(data: bytes) -> None:
    """Read a signature and try it."""
    found = TpmSignature.parse(data)
    for key in (rsa_key().public_key(), virtual_tpm().key.public_key()):
        try:
            found.verify(key, b"message")
        except StrongroomError:
            continue


def signatures() -> tuple[bytes, ...]:
    """Return a signature by each kind of key."""
    by_rsa = tpm_chain.VirtualTpm(virtual_tpm().root, virtual_tpm().between, rsa_key(), wire.ALG_RSAPSS)
    return virtual_tpm().sign(b"message"), by_rsa.sign(b"message")


def public_areas() -> tuple[bytes, ...]:
    """Return attestation and endorsement keys of each kind."""
    p384 = ec.generate_private_key(ec.SECP384R1())
    return (
        attester().public.raw,
        tpm_chain.area(rsa_key(), wire.ALG_RSASSA, wire.ALG_SHA256),
        tpm_chain.area(p384, wire.ALG_ECDSA, wire.ALG_SHA384),
        ek_public_area(endorsement_private().public_key()),
    )


def certificates() -> tuple[bytes, ...]:
    """Return a certificate of each maker."""
    device = nvidia_chain.device()
    return (
        Machine().certificate(),
        authorities().ask.der,
        intel_chain().pck.der,
        nitro_chain().enclave.der,
        device.attestation.der,
        device.factory.der,
        virtual_tpm().certificate,
        *vectors("sev-snp/*.der", "tpm/*.c??"),
    )


def hcl_reports() -> tuple[bytes, ...]:
    """Return what stands in the NV index on either kind of hardware."""
    return Vtpm().on_snp().hcl_report, Vtpm().on_tdx().hcl_report


def td_reports() -> tuple[bytes, ...]:
    """Return the TDREPORT of the domain that is quoted, and of another."""
    return td_report_of(TD_FIELDS), td_report_of({**TD_FIELDS, **AZURE_TD})


def td_quotes() -> tuple[bytes, ...]:
    """Return quotes of every version and body."""
    return tuple(intel_chain().td_quote(body=body) for body in BodyType if body is not BodyType.ENCLAVE)


def logs() -> tuple[bytes, ...]:
    """Return logs of both forms."""
    real = (Message(data, "seed").single(3) for data in vectors("tpm/*.pb"))
    return agile_log(boot()), old_log(boot()), *real


def protobufs() -> tuple[bytes, ...]:
    """Return an attestation of a virtual TPM."""
    log = agile_log(boot())
    quote = quote_message(virtual_tpm(), registers(log))
    return attestation_message(virtual_tpm(), [quote], log), *vectors("tpm/*.pb")


def collateral_file(data: bytes) -> None:
    """Read a file that holds some collateral, and (by its name) perhaps a manifest."""
    read_collateral_file(data, file_name=f"{RIM_ID}.swidtag")


def collateral_files() -> tuple[bytes, ...]:
    """Return what makers publish, as their tools write it."""
    made = nvidia_chain.maker()
    return (
        authorities().ask.der,
        revocation_list(),
        made.family.pem + made.root.pem,
        intel_chain().collateral(),
        nvidia_chain.answer(made.family, made.root),
        *manifests(),
        *vectors("tdx/*.json", "sev-snp/*.pem"),
    )


def nitro_documents() -> tuple[bytes, ...]:
    """Return signed documents; the real ones lie in a container."""
    contained = [aws.read(data) for data in vectors("nitro/*.bin")]
    return (nitro_chain().document(), *(item.body for one in contained if one for item in one.items))


def nitro_payloads() -> tuple[bytes, ...]:
    """Return the inner documents, without their signatures."""
    return tuple(Sign1.parse(one).payload for one in nitro_documents())


FORMATS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "log-store-settings": Target(
            read=PostgresSettings.parse,
            seeds=lambda: (b'url = "postgresql://log@/vault?host=/run"\nstandby = "none"\n',),
            longest=4096,
        ),
        "certificate": Target(read=certificate, seeds=certificates, longest=10_000, changes=120),
        "revocation-list": Target(
            read=revocation, seeds=lambda: (revocation_list(), revocation_list(revoked=(7,))), longest=10_000
        ),
        "ocsp-answer": Target(
            read=ocsp_answer,
            seeds=lambda: (nvidia_chain.answer(nvidia_chain.maker().family, nvidia_chain.maker().root),),
            longest=10_000,
        ),
        "collateral-file": Target(read=collateral_file, seeds=collateral_files, longest=40_000, changes=100),
        "intel-collateral": Target(
            read=intel_collateral,
            seeds=lambda: (intel_chain().collateral(), intel_chain().collateral(tee="SGX"), *vectors("tdx/*.json")),
        ),
        "nvidia-manifest": Target(read=manifest, seeds=manifests, changes=120),
        "nvidia-report": Target(read=DeviceReport.parse, seeds=lambda: (nvidia_chain.report(nvidia_chain.device()),)),
        "nvidia-opaque-data": Target(
            read=opaque_data,
            seeds=lambda: (
                nvidia_chain.entries({**nvidia_chain.GPU_FIELDS, **nvidia_chain.SWITCH_FIELDS}),
                nvidia_chain.versioned_entries(nvidia_chain.GPU_FIELDS),
            ),
            longest=4096,
        ),
        "nvidia-chain": Target(read=read_bundle, seeds=lambda: (nvidia_chain.device().bundle,), longest=40_000),
        "snp-report": Target(
            read=Report.parse, seeds=lambda: (Machine().report(), Machine(version=5).report()), longest=1300
        ),
        "snp-certificate-table": Target(
            read=CertificateTable.parse, seeds=lambda: (Machine().certificates(),), longest=20_000
        ),
        "snp-certificates": Target(
            read=ders_in, seeds=lambda: (nvidia_chain.maker().family.pem, *vectors("sev-snp/*.pem")), longest=20_000
        ),
        "tdx-quote": Target(read=parse_td_quote, seeds=lambda: (*td_quotes(), *vectors("tdx/tdx-*.quote"))),
        "sgx-quote": Target(
            read=parse_sgx_quote, seeds=lambda: (intel_chain().sgx_quote(), *vectors("tdx/sgx-*.quote"))
        ),
        "nitro-cbor": Target(
            read=lambda data: cbor.decode(data, "fuzz", max_bytes=65_536), seeds=nitro_payloads, longest=8192
        ),
        "nitro-cose": Target(
            read=lambda data: Sign1.parse(data).signed,
            seeds=nitro_documents,
            longest=8192,
        ),
        "nitro-document": Target(read=Document.parse, seeds=nitro_payloads, longest=8192),
        "tpm-event-log": Target(read=event_log, seeds=logs),
        "tpm-public-area": Target(read=PublicArea.parse, seeds=public_areas, longest=2048),
        "tpm-signature": Target(read=signature, seeds=signatures, longest=2048),
        "tpm-quote": Target(
            read=Quote.parse,
            seeds=lambda: (attest_bytes(qualifying_data=bytes(32), pcr_digest=bytes(32)), Vtpm().quote()),
            longest=2048,
        ),
        "azure-hcl-report": Target(read=hcl_report, seeds=hcl_reports, longest=4096),
        "azure-runtime-data": Target(read=RuntimeData.parse, seeds=lambda: (Vtpm().runtime_data(),), longest=4096),
        "azure-td-report": Target(read=td_report, seeds=td_reports, longest=1100),
        "protobuf": Target(read=protobuf, seeds=protobufs, longest=8192),
        "scale-lengths": Target(
            read=scale,
            seeds=lambda: (b"\x04\0", b"\x01\x01" + bytes(64), b"\x02\0\x01\0" + bytes(1 << 14)),
            longest=20_000,
        ),
    }
)
