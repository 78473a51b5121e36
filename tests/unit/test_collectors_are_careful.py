"""Evidence as it is collected from device trees that play the kernel: what honest ones give is genuine, and no more."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from simulators import nvidia_chain, sev_snp_chain
from simulators.attester import RECIPIENT_KEY, binding
from simulators.evidence_devices import FakeNsm, FakeNvml, FakeReports
from simulators.nitro_chain import MADE, nitro_chain
from strongroom.attestation.adapters.configfs_tsm import ATTEMPTS, KernelReports, TsmSource
from strongroom.attestation.adapters.nsm import MAX_RESPONSE, NsmDevice, NsmSource
from strongroom.attestation.adapters.nvml import NvmlDevices
from strongroom.attestation.attester import NoDevices, collect
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import CollectionError, EvidenceReplayedError
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.registry import VERIFIERS
from strongroom.attestation.transcript import Binding
from strongroom.attestation.trust_anchors import TrustAnchors
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.ids import platform_id

PLATFORM = platform_id("sev-snp-" + "00" * 32)
NONCE = bytes(range(32))


def names(count: int) -> bytes:
    return bytes(count)


def bound(devices: Digest) -> Binding:
    whole = binding()
    return Binding(**{name: getattr(whole, name) for name in whole.__slots__ if name != "devices"}, devices=devices)


# --- configfs-tsm -----------------------------------------------------------------------------------------------------


def test_an_honest_guest_s_statement_is_genuine_and_bound() -> None:
    tree = FakeReports()
    evidence = collect(
        platform=PLATFORM,
        source=TsmSource(names, tree),
        devices=NoDevices(),
        nonce=binding().nonce,
        recipient_key=RECIPIENT_KEY,
        bind=bound,
    )
    verifier = VERIFIERS[EvidenceKind.SEV_SNP]
    endorsements = Endorsements(anchors=sev_snp_chain.anchors())
    expected = bound(evidence.devices_digest).item(EvidenceKind.SEV_SNP)
    proven = verifier.genuine(verifier.parse(evidence.main.body), expected, endorsements, sev_snp_chain.NOW)
    assert proven.bound.fresh
    assert tree.folders == {}, "the report's directory is removed"


def test_a_statement_that_never_stands_still_is_given_up() -> None:
    calm = FakeReports(disturbed=ATTEMPTS - 1)
    assert TsmSource(names, calm).statement({Slot.REPORT_DATA: bytes(64)}).kind is EvidenceKind.SEV_SNP
    tree = FakeReports(disturbed=10**6)
    with pytest.raises(CollectionError, match="stood still"):
        TsmSource(names, tree).statement({Slot.REPORT_DATA: bytes(64)})
    assert (tree.folders, tree.made) == ({}, 1)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (FakeReports(failing={"make": errno.ENOENT}), "Linux 6.7"),
        (FakeReports(failing={"make": errno.EACCES}), "may not"),
        (FakeReports(failing={"outblob": errno.EFBIG}), "certificates"),
        (FakeReports(failing={"outblob": errno.ENXIO}), "driver"),
        (FakeReports(failing={"outblob": errno.EBUSY}), "stood still"),
        (FakeReports(failing={"auxblob": errno.EIO}), "error"),
        (FakeReports(oversized=frozenset({"outblob"})), "longer"),
        (FakeReports(oversized=frozenset({"auxblob"})), "longer"),
        (FakeReports(provider=b"arm_cca_guest\n"), "no verifier"),
        (FakeReports(provider=b"\xff" * 500), "no verifier"),
    ],
)
def test_a_kernel_that_refuses_or_overflows_is_told_of_and_nothing_is_left(tree: FakeReports, message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        TsmSource(names, tree).statement({Slot.REPORT_DATA: bytes(64)})
    assert tree.folders == {}


def test_a_host_without_certificates_gives_a_statement_without_them() -> None:
    tree = FakeReports(failing={"auxblob": errno.ENOENT})
    item = TsmSource(names, tree).statement({Slot.REPORT_DATA: bytes(64)})
    assert b'"certificates":""' in item.body


@pytest.mark.parametrize("slots", [{}, {Slot.NONCE: bytes(64)}, {Slot.REPORT_DATA: bytes(63)}, {Slot.REPORT_DATA: b""}])
def test_bytes_that_do_not_fit_are_never_padded(slots: dict[Slot, bytes]) -> None:
    with pytest.raises(UsageError):
        TsmSource(names, FakeReports()).statement(slots)


def test_this_machine_without_configfs_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"Linux 6\.7") as caught:
        TsmSource(names, KernelReports(tmp_path / "absent")).statement({Slot.REPORT_DATA: bytes(64)})
    assert "SEV-SNP or TDX" in caught.value.remedy


def test_the_kernel_s_tree_is_written_and_read_as_files(tmp_path: Path) -> None:
    tree = KernelReports(tmp_path)
    tree.make("one")
    (tmp_path / "one" / "inblob").write_bytes(b"")
    tree.write("one", "inblob", bytes(64))
    assert tree.read("one", "inblob") == bytes(64)
    (tmp_path / "one" / "link").symlink_to("/dev/null")
    with pytest.raises(OSError, match="symbolic"):
        tree.write("one", "link", b"x")
    with pytest.raises(FileNotFoundError):
        tree.write("one", "absent", b"x")
    (tmp_path / "one" / "inblob").unlink()
    (tmp_path / "one" / "link").unlink()
    tree.remove("one")
    assert list(tmp_path.iterdir()) == []


# --- Nitro ------------------------------------------------------------------------------------------------------------


def nitro(module: FakeNsm, path: Path) -> NsmSource:
    path.write_bytes(b"")
    return NsmSource(NsmDevice(path, module))


def test_an_honest_nitro_module_s_document_is_genuine_and_bound(tmp_path: Path) -> None:
    module = FakeNsm()
    slots = binding().item(EvidenceKind.NITRO).values
    item = nitro(module, tmp_path / "nsm").statement(slots)
    assert module.asked == [
        {"Attestation": {"user_data": slots[Slot.USER_DATA], "nonce": slots[Slot.NONCE], "public_key": None}}
    ]
    verifier = VERIFIERS[EvidenceKind.NITRO]
    endorsements = Endorsements(anchors=TrustAnchors((nitro_chain().anchor,)))
    assert verifier.genuine(verifier.parse(item.body), ExpectedBinding(slots), endorsements, MADE + 1).bound.fresh
    other = binding(challenge="c-2").item(EvidenceKind.NITRO)
    with pytest.raises(EvidenceReplayedError):
        verifier.genuine(verifier.parse(item.body), other, endorsements, MADE + 1)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (FakeNsm(answer=lambda _: {"Error": "InvalidOperation"}), "InvalidOperation"),
        (FakeNsm(answer=lambda _: {"Error": "x" * 5000}), "refused"),
        (FakeNsm(answer=lambda _: {"Attestation": {}}), "no attestation document"),
        (FakeNsm(answer=lambda _: {"Attestation": {"document": "text"}}), "no attestation document"),
        (FakeNsm(answer=lambda _: []), "no attestation document"),
        (FakeNsm(raw=b"\xff\xff"), "can't be read"),
        (FakeNsm(raw=b""), "can't be read"),
        (FakeNsm(claims_length=MAX_RESPONSE + 1), "more than there was room"),
    ],
)
def test_a_nitro_module_that_answers_badly_is_told_of(module: FakeNsm, message: str, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=message) as caught:
        nitro(module, tmp_path / "nsm").statement({Slot.NONCE: NONCE, Slot.USER_DATA: NONCE})
    assert len(caught.value.message) < 200


def test_a_machine_without_a_nitro_module_says_so(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="No such file"):
        NsmSource(NsmDevice(tmp_path / "absent")).statement({Slot.NONCE: NONCE, Slot.USER_DATA: NONCE})
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    with pytest.raises(CollectionError, match=r"ioctl|device"):
        NsmSource(NsmDevice(plain)).statement({Slot.NONCE: NONCE, Slot.USER_DATA: NONCE})
    for slots in ({}, {Slot.NONCE: NONCE}, {Slot.NONCE: bytes(513), Slot.USER_DATA: NONCE}):
        with pytest.raises(UsageError):
            NsmSource(NsmDevice(plain)).statement(slots)


# --- NVIDIA -----------------------------------------------------------------------------------------------------------


def test_every_gpu_s_statement_is_genuine_and_signs_the_nonce() -> None:
    library = FakeNvml(gpus=2)
    items = NvmlDevices(library).statements(NONCE)
    verifier = VERIFIERS[EvidenceKind.NVIDIA_GPU]
    endorsements = Endorsements(anchors=nvidia_chain.maker().anchors)
    chips = set()
    for item in items:
        expected = ExpectedBinding({Slot.NONCE: NONCE})
        proven = verifier.genuine(verifier.parse(item.body), expected, endorsements, nvidia_chain.NOW)
        chips.add(proven.hardware_id)
    assert (len(items), len(chips), library.open, library.ready) == (2, 2, 0, False)


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (lambda: FakeNvml(enabled=False), "confidential-computing mode"),
        (lambda: FakeNvml(devtools=True), "developer-tools"),
        (lambda: FakeNvml(gpus=0), "0 GPUs"),
    ],
)
def test_gpus_in_another_mode_are_not_asked(library: Callable[[], FakeNvml], message: str) -> None:
    made = library()
    with pytest.raises(CollectionError, match=message):
        NvmlDevices(made).statements(NONCE)
    assert made.open == 0


def test_gpus_behind_protected_switches_are_asked_and_nothing_makes_them_ready() -> None:
    library = FakeNvml(gpus=1, enabled=False, protected_pcie=True)
    assert len(NvmlDevices(library).statements(NONCE)) == 1
    assert not library.ready


def test_a_driver_that_fails_or_lies_about_lengths_is_told_of() -> None:
    library = FakeNvml()
    library.fault = pynvml.NVML_ERROR_NOT_SUPPORTED
    with pytest.raises(CollectionError, match="Not Supported"):
        NvmlDevices(library).statements(NONCE)
    library.fault = None
    for size in (0, 0x2001, 2**32 - 1):
        library.claims_size = size
        with pytest.raises(CollectionError, match="report"):
            NvmlDevices(library).statements(NONCE)
    assert library.open == 0
    with pytest.raises(UsageError):
        NvmlDevices(library).statements(bytes(31))


def test_without_a_driver_the_real_binding_is_asked_and_refuses() -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(CollectionError, match="NVML"):
            NvmlDevices().statements(NONCE)
    else:
        pytest.skip("this machine has NVIDIA's driver")
