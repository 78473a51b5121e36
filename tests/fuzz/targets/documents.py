"""Targets that read documents and files: evidence in every vendor's form, our own envelopes, policies and results."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Final

from fuzz.targets.formats import protobufs
from fuzz.targets.makers import judging, vectors
from fuzz.targets.target import Target
from simulators import nvidia_chain
from simulators.attester import APPRAISAL, GENESIS, MEASUREMENTS, NOW, attester, binding, enrolment_request, tpm_root
from simulators.attester import vendor_root as tpm_vendor_root
from simulators.azure_vtpm import Vtpm
from simulators.intel_chain import intel_chain
from simulators.nitro_chain import nitro_chain
from simulators.sev_snp_chain import Machine, authorities, revocation_list
from simulators.tpm_chain import agile_log, boot, registers, virtual_tpm
from strongroom.attestation import ear, recorded
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.bundle.proof import prove_all
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.bundle.wants import wants_of
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.containers import amd, aws, azure, intel, nvidia, strongroom, tpm
from strongroom.attestation.enrolment import EnrolmentRequest
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.core.canonical import encode
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId
from strongroom.core.signature import Ed25519Signer
from support.attestation_results import AT as RESULT_AT
from support.attestation_results import wanted
from support.simulated_evidence import AT, endorsements

_SIGNER: Final = Ed25519Signer.from_seed(bytes(32))


@cache
def _policy() -> AppraisalPolicy:
    return AppraisalPolicy.strictest(*EvidenceKind)


def file(data: bytes) -> None:
    """Do all that is done with a file that somebody hands in: read it, ask what it wants, appraise each statement."""
    contained = recorded.read_file(data)
    recorded.manifests_wanted(contained)
    with suppress(StrongroomError):
        wants_of(contained)
    if not contained.items:
        return
    found = recorded.appraise_recorded(
        contained, policy=_policy(), endorsements=endorsements(), binding=RecordedBinding(), at=AT
    )
    recorded.isolation_of([one.result for one in found])


def bundle(data: bytes) -> None:
    """Read a bundle and look for the roots that vouch for its items."""
    read = Bundle.parse(data)
    prove_all(read.items, read.collateral.certificates, endorsements().anchors, AT)


def bundles() -> tuple[bytes, ...]:
    """Return a bundle of one item of each kind."""
    made = nvidia_chain.maker()
    rim = nvidia_chain.manifest("96.00.A5.00.01", nvidia_chain.VBIOS_GOLDEN)
    items = [
        read_item(CollateralKind.CERTIFICATE, made.family.der),
        read_item(CollateralKind.CERTIFICATE, authorities().ask.der),
        read_item(CollateralKind.CERTIFICATE, Machine().certificate()),
        read_item(CollateralKind.REVOCATION_LIST, revocation_list()),
        read_item(CollateralKind.INTEL_TCB, intel_chain().collateral()),
        read_item(CollateralKind.OCSP_ANSWER, nvidia_chain.answer(made.family, made.root)),
        read_item(CollateralKind.NVIDIA_RIM, rim, name="NV_GPU_VBIOS_G520_0200_885_9600A50001"),
    ]
    return (Bundle.of(items).to_bytes(), *(Bundle.of([one]).to_bytes() for one in items))


def token(data: bytes) -> None:
    """Read text as an attestation result."""
    ear.verify(data.decode("latin-1"), [_SIGNER.public_key], RESULT_AT)


def tokens() -> tuple[bytes, ...]:
    """Return a signed result."""
    return (ear.issue(wanted(), _SIGNER, RESULT_AT).encode(),)


def signed_claims(data: bytes) -> None:
    """Read anything that a believed key signed as a result's claims."""
    header = tokens()[0].split(b".")[0]
    message = header + b"." + _url(data)
    token(message + b"." + _url(_SIGNER.sign(message)))


def claims() -> tuple[bytes, ...]:
    """Return a result's claims."""
    part = tokens()[0].split(b".")[1]
    return (base64.urlsafe_b64decode(part + b"=="),)


def _url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def reference_values() -> tuple[bytes, ...]:
    """Return one epoch, with an image and a root."""
    values = ReferenceValues(
        genesis=GENESIS,
        epoch=3,
        images=(ReferenceImage.launched(ImageId("embedder"), MEASUREMENTS),),
        anchors=(tpm_root(tpm_vendor_root()),),
        appraisal=APPRAISAL,
        not_after=NOW,
    )
    return (values.to_bytes(),)


def policies() -> tuple[bytes, ...]:
    """Return the strictest policy of each kind, and of all."""
    # Devices alone make no policy: they are attached to something.
    one_each = (tuple(dict.fromkeys((EvidenceKind.SEV_SNP, kind))) for kind in EvidenceKind)
    kinds = (tuple(EvidenceKind), *one_each)
    return tuple(encode(AppraisalPolicy.strictest(*one).to_json()) for one in kinds)


def amd_files() -> tuple[bytes, ...]:
    """Return a report in each of its forms."""
    report, table = Machine().report(), Machine().certificates()
    told = {"provider": "sev_guest\n", "outblob": _text(report), "auxblob": _text(table), "inblob": _text(bytes(64))}
    return (
        report,
        report + table,
        bytes(4) + len(report).to_bytes(4, "little") + bytes(24) + report,
        json.dumps(told).encode(),
        base64.b64encode(report),
        report.hex().encode(),
        *vectors("sev-snp/*.bin", "sev-snp/*.json"),
    )


def intel_files() -> tuple[bytes, ...]:
    """Return quotes as they are, as text and in JSON."""
    quote = intel_chain().td_quote()
    told = {"provider": "tdx_guest\n", "outblob": _text(quote), "inblob": _text(bytes(64))}
    forms = (json.dumps(told), json.dumps({"quote": _text(quote)}), quote.hex(), _text(quote))
    return (quote, intel_chain().sgx_quote(), *(form.encode() for form in forms), *vectors("tdx/*.quote"))


def aws_files() -> tuple[bytes, ...]:
    """Return documents as they are, tagged and as text."""
    document = nitro_chain().document()
    return (document, b"\xd2" + document, base64.b64encode(document), *vectors("nitro/*.bin"))


def azure_files() -> tuple[bytes, ...]:
    """Return evidence of both kinds of hardware, in numbers and in text."""
    found = []
    for name, whole in (("vcek", Vtpm().on_snp()), ("td_quote", Vtpm().on_tdx())):
        endorsement = Machine().certificate() if name == "vcek" else whole.endorsement
        quote = {
            "message": whole.quote.hex(),
            "signature": whole.signature.hex(),
            "pcrs": [pcr.hex() for pcr in whole.pcrs],
        }
        report = base64.urlsafe_b64encode(whole.hcl_report).decode().rstrip("=")
        told: dict[str, Any] = {"version": 1, "tpm_quote": quote, "hcl_report": report, name: _text(endorsement)}
        found.append(json.dumps(told).encode())
        numbers: dict[str, Any] = {"message": list(whole.quote), "signature": list(whole.signature)}
        numbers["pcrs"] = [list(pcr) for pcr in whole.pcrs]
        old = {"tpm_quote": numbers, "hcl_report": list(whole.hcl_report), name: list(endorsement)}
        found.append(json.dumps(old, separators=(",", ":")).encode())
    return (*found, *vectors("azure-vtpm/*.json"))


def nvidia_files() -> tuple[bytes, ...]:
    """Return devices in a list, a report alone, and a chain."""
    device = nvidia_chain.device()
    report = nvidia_chain.report(device)
    entry = {
        "arch": "HOPPER",
        "evidence": _text(report),
        "certificate": _text(device.bundle),
        "nonce": nvidia_chain.NONCE.hex(),
    }
    old = {"attestationReportHexStr": report.hex(), "certChainBase64Encoded": _text(device.bundle)}
    switch = nvidia_chain.device("LS_10")
    opaque = nvidia_chain.entries(nvidia_chain.SWITCH_FIELDS)
    stated = {"evidence": _text(nvidia_chain.report(switch, opaque=opaque)), "certificate": _text(switch.bundle)}
    switches = {"arch": "LS10", "evidence_list": [stated]}
    forms = ([entry], {"evidences": [entry, entry]}, {"nonce": "00" * 32, "evidence_list": [entry]}, old, switches)
    return (
        *(json.dumps(form).encode() for form in forms),
        report,
        report.hex().encode(),
        device.bundle,
        *vectors("nvidia/hopper-*", "nvidia/nvswitch-*"),
    )


def tpm_files() -> tuple[bytes, ...]:
    """Return a quote in each of its forms."""
    log = agile_log(boot())
    values = registers(log)
    quote = virtual_tpm().quote(values)
    ours, signature = virtual_tpm(), virtual_tpm().sign(quote)
    guest = {
        "ak_public": _text(ours.public),
        "tpm_quote": {
            "message": _text(quote),
            "signature": _text(signature),
            "pcrs": [values[number].hex() for number in sorted(values)],
        },
    }
    google = {
        "akCert": _text(ours.certificate),
        "certChain": [_text(ours.between.der)],
        "tcgEventLog": _text(log),
        "quotes": [
            {
                "hashAlgo": 11,
                "pcrValues": {str(number): _text(value) for number, value in values.items()},
                "rawQuote": _text(quote),
                "rawSignature": _text(signature),
            }
        ],
    }
    forms = (json.dumps(guest).encode(), json.dumps(google).encode())
    return (*protobufs(), *forms, protobufs()[0].hex().encode(), *vectors("tpm/*.json"))


def own_files() -> tuple[bytes, ...]:
    """Return an evidence envelope."""
    return (attester().evidence(binding()).to_bytes(),)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bodies(kind: EvidenceKind) -> tuple[bytes, ...]:
    """Return bodies of a kind, as they stand in evidence items."""
    readers: tuple[tuple[Callable[[bytes], Any], Callable[[], tuple[bytes, ...]]], ...] = (
        (amd.read, amd_files),
        (intel.read, intel_files),
        (aws.read, aws_files),
        (azure.read, azure_files),
        (nvidia.read, nvidia_files),
        (tpm.read, tpm_files),
    )
    found: dict[bytes, None] = {}
    for read, files in readers:
        for data in files():
            contained = read(data)
            found.update({item.body: None for item in contained.items if item.kind is kind} if contained else {})
    return tuple(found)


DOCUMENTS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "file": Target(
            read=file,
            seeds=lambda: (*amd_files()[:2], *intel_files()[:2], *aws_files()[:1], *azure_files()[:3:2], *tpm_files()),
            changes=120,
        ),
        "file-strongroom": Target(read=strongroom.read, seeds=own_files),
        "file-amd": Target(read=amd.read, seeds=amd_files),
        "file-intel": Target(read=intel.read, seeds=intel_files),
        "file-aws": Target(read=aws.read, seeds=aws_files),
        "file-azure": Target(read=azure.read, seeds=azure_files),
        "file-nvidia": Target(read=nvidia.read, seeds=nvidia_files),
        "file-tpm": Target(read=tpm.read, seeds=tpm_files),
        "evidence": Target(read=Evidence.parse, seeds=own_files),
        "platform-record": Target(read=PlatformRecord.parse, seeds=lambda: (attester().record().to_bytes(),)),
        "enrolment-request": Target(read=EnrolmentRequest.parse, seeds=lambda: (enrolment_request().to_bytes(),)),
        "appraisal-policy": Target(read=AppraisalPolicy.parse, seeds=policies, longest=20_000),
        "reference-values": Target(read=ReferenceValues.parse, seeds=reference_values, longest=20_000),
        "collateral-bundle": Target(read=bundle, seeds=bundles, changes=120),
        "ear": Target(read=token, seeds=tokens, longest=8192),
        "ear-claims": Target(read=signed_claims, seeds=claims, longest=8192),
        **{
            f"evidence-{kind}": Target(read=judging(kind), seeds=partial(bodies, kind), changes=160)
            for kind in EvidenceKind
        },
    }
)
