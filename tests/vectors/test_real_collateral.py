"""What makers really published is read, named and proven; what didn't come from them isn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.format import EMPTY, Bundle
from strongroom.attestation.bundle.merge import admit
from strongroom.attestation.bundle.proof import CollateralUnprovenError
from strongroom.attestation.bundle.wants import wants_of
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.recorded import read_file
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.tdx.pck import PckCa
from strongroom.attestation.trust_anchors import Vendor, vendor_anchors
from strongroom.core.clock import format_instant, parse_instant
from support.vectors import vectors_folder

NOW = parse_instant("2026-11-26T00:00:00Z")
INTEL = {
    "tdx/tdx-v4-up-to-date.collateral.json": ("b0c06f000000/platform", "2025-07-19T10:00:35Z"),
    "tdx/sgx-v3-hardening-needed.collateral.json": ("00a067110000/processor", "2025-07-19T10:01:18Z"),
}
MANIFEST = "nvidia/rim-vbios-1010_0200_882_96005E0001_PROD.swidtag"


@pytest.fixture
def vectors() -> Path:
    return vectors_folder("attestation")


def bundle(vectors: Path, *names: str) -> Bundle:
    files = [vectors / name for name in names]
    return Bundle.of(read for path in files for read in read_collateral_file(path.read_bytes(), file_name=path.name))


@pytest.mark.parametrize("name", INTEL)
def test_intels_collateral(vectors: Path, name: str) -> None:
    read = bundle(vectors, name)
    (item,) = read.items
    assert (item.item.name, format_instant(item.item.not_after)) == INTEL[name]
    merged, makers = admit(EMPTY, read, vendor_anchors(), NOW)
    assert set(makers.values()) == {Vendor.INTEL_SGX}
    assert merged.added == 1


def test_amds_chains_and_chips(vectors: Path) -> None:
    names = ("milan-ask-ark.pem", "genoa-ask-ark.pem", "milan-v2-vcek.der", "milan-v2-debug-vcek.der")
    read = bundle(vectors, *(f"sev-snp/{name}" for name in names))
    _merged, makers = admit(EMPTY, read, vendor_anchors(), NOW)
    assert len(read.items) == len(makers) == 8
    assert set(makers.values()) == {Vendor.AMD_SEV}
    assert sum(one.item.name.startswith("milan/vcek/") for one in read.items) == 2


def test_a_chip_that_amd_did_not_certify(vectors: Path) -> None:
    with pytest.raises(CollateralUnprovenError, match=r"milan/vcek/000102"):
        admit(EMPTY, bundle(vectors, "sev-snp/wrong-vcek-new.der"), vendor_anchors(), NOW)


def test_nvidias_manifest(vectors: Path) -> None:
    read = bundle(vectors, MANIFEST)
    (item,) = read.items
    assert (item.item.kind, item.item.name) == (CollateralKind.NVIDIA_RIM, "NV_GPU_VBIOS_1010_0200_882_96005E0001")
    # Its signer's certificate has ended since; it is NVIDIA's all the same.
    assert format_instant(item.item.not_after) == "2025-06-22T09:30:33Z"
    _merged, makers = admit(EMPTY, read, vendor_anchors(), NOW)
    assert set(makers.values()) == {Vendor.NVIDIA_RIM}


def test_another_manifest_of_nvidias_under_the_same_id(vectors: Path) -> None:
    # Signed like the first, with other values: which of them counts, only a device's measurements can tell.
    data = (vectors / "nvidia/rim-vbios-96005E0001-measurement-mismatch.xml").read_bytes()
    other = Bundle.of(read_collateral_file(data, file_name="NV_GPU_VBIOS_1010_0200_882_96005E0001.xml"))
    for before, after in ((bundle(vectors, MANIFEST), other), (other, bundle(vectors, MANIFEST))):
        merged, _makers = admit(before, after, vendor_anchors(), NOW)
        assert (merged.replaced, merged.bundle) == (1, after)


def test_googles_and_nvidias_intermediates(vectors: Path) -> None:
    read = bundle(vectors, "tpm/gcp_ek_ak_ca_intermediate_v3.crt", "nvidia/hopper-535-cert-chain.txt")
    _merged, makers = admit(EMPTY, read, vendor_anchors(), NOW)
    assert set(makers.values()) == {Vendor.GOOGLE_VTPM, Vendor.NVIDIA_DEVICE}


@pytest.mark.parametrize(
    ("name", "platforms", "manifests", "chains"),
    [
        ("tdx/tdx-v4-up-to-date.quote", (("b0c06f000000", PckCa.PLATFORM),), (), 0),
        ("tdx/sgx-v3-hardening-needed.quote", (("00a067110000", PckCa.PROCESSOR),), (), 0),
        ("azure-vtpm/tdx-vtpm-v0.json", (("00806f050000", PckCa.PLATFORM),), (), 0),
        ("nvidia/nvswitch-4-evidence.json", (), ("NV_SWITCH_BIOS_5612_0002_890_9610730001",), 4),
        (
            "nvidia/h100-8gpu-evidence.json",
            (),
            ("NV_GPU_DRIVER_GH100_590.12", "NV_GPU_VBIOS_G520_0200_885_9600A50001"),
            8,
        ),
    ],
)
def test_evidence_says_what_judging_it_takes(
    vectors: Path, name: str, platforms: tuple[tuple[str, PckCa], ...], manifests: tuple[str, ...], chains: int
) -> None:
    wants = wants_of(read_file((vectors / name).read_bytes()))
    assert (wants.platforms, wants.manifests, len(wants.chains)) == (platforms, manifests, chains)


def test_a_report_says_which_chip(vectors: Path) -> None:
    contained = read_file((vectors / "sev-snp/milan-v2-report.bin").read_bytes())
    wants = wants_of(contained, (Product.MILAN,))
    assert wants.products == (Product.MILAN,)
    (chip,) = wants.chips
    (known,) = bundle(vectors, "sev-snp/milan-v2-vcek.der").items
    assert known.item.name == f"milan/vcek/{chip.published}/{chip.tcb.raw.hex()}"


def test_a_name_that_is_a_whole_sentence(vectors: Path) -> None:
    (read,) = bundle(vectors, "tpm/tpm_ek_intermediate_2.crt").items
    assert read.item.name.startswith("CN=tpm_ek_v1_cloud_host-signer-0-2020-10-22T14:02:08-07:00 K:1")
