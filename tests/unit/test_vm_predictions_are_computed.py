"""What a machine will measure follows from its files alone; any other file, size or word is another prediction."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import MeasuredName, expected_pcr, require_enough
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.enclave.vm.definition import COMMAND_LINE, VmImage, pinned
from strongroom.enclave.vm.direct_boot import MIB, as_loaded, low_memory
from strongroom.enclave.vm.portable_executable import authenticode
from strongroom.enclave.vm.prediction import ArtefactMismatchError, Artefacts, predict, reference_image
from support.vm_images import GENESIS, files_of, image_of, made_up_kernel

FILES = files_of()
IMAGE = image_of(FILES)


def test_the_registers_are_those_of_the_events() -> None:
    made = predict(IMAGE, FILES, GENESIS)
    loaded = as_loaded(FILES.kernel, memory_mib=IMAGE.memory_mib, initramfs_bytes=len(FILES.initramfs))
    assert made.kernel == authenticode(loaded)
    text = (IMAGE.command_line + " initrd=initrd").encode("utf-16-le") + b"\0\0"
    one = hashlib.sha256(bytes(32) + hashlib.sha256(text).digest()).digest()
    assert made.pcr9 == hashlib.sha256(one + hashlib.sha256(FILES.initramfs).digest()).digest()
    assert {name.value for name in MeasuredName} | {"pcr4", "pcr9"} == set(made.tpm2())


def test_the_entry_is_enough_for_the_reference_values() -> None:
    entry = reference_image(IMAGE, predict(IMAGE, FILES, GENESIS))
    (listed,) = entry.measured[EvidenceKind.TPM2]
    require_enough(listed)
    assert listed[MeasuredName.GENESIS] == str(GENESIS)
    assert listed[MeasuredName.FILES] == f"sha256:{IMAGE.root.root_hash}"


@pytest.mark.parametrize("memory", [512, 4096])
def test_each_machine_size_is_another_measurement(memory: int) -> None:
    other = predict(replace(IMAGE, memory_mib=memory), FILES, GENESIS)
    same = predict(IMAGE, FILES, GENESIS)
    assert other.pcr4 != same.pcr4
    assert other.pcr9 == same.pcr9


def test_one_more_word_is_another_measurement() -> None:
    other = predict(replace(IMAGE, command_line_template=COMMAND_LINE + " lockdown=none"), FILES, GENESIS)
    same = predict(IMAGE, FILES, GENESIS)
    assert (other.pcr9 != same.pcr9, other.pcr4 == same.pcr4, other.launch == same.launch) == (True, True, True)


def test_another_deployment_is_another_launch() -> None:
    other, same = predict(IMAGE, FILES, Digest.of(b"other")), predict(IMAGE, FILES, GENESIS)
    assert other.tpm2() != same.tpm2()
    assert expected_pcr(other.launch) != expected_pcr(same.launch)


@pytest.mark.parametrize("name", ["firmware", "kernel", "initramfs", "root"])
def test_a_changed_file_is_refused_by_name(name: str) -> None:
    data = bytearray(getattr(FILES, name))
    data[len(data) // 2] ^= 1
    with pytest.raises(ArtefactMismatchError, match=name):
        predict(IMAGE, replace(FILES, **{name: bytes(data)}), GENESIS)


def test_a_definition_that_lies_about_its_root_hash_is_refused() -> None:
    lying = replace(IMAGE, root=replace(IMAGE.root, root_hash="00" * 32))
    with pytest.raises(ArtefactMismatchError, match="root hash"):
        predict(lying, FILES, GENESIS)


def test_a_definition_is_read_as_written() -> None:
    assert VmImage.parse(IMAGE.to_bytes()) == IMAGE
    assert VmImage.parse(IMAGE.to_bytes()).digest == IMAGE.digest


@pytest.mark.parametrize(
    "template",
    [
        "quiet",
        COMMAND_LINE.replace("strongroom.root={root_hash}", ""),
        COMMAND_LINE + " strongroom.root=" + "0" * 64,
        COMMAND_LINE + " strongroom.root={root_hash}",
        COMMAND_LINE + "\nx",
        COMMAND_LINE + " " + "x" * 2048,
    ],
)
def test_a_command_line_names_its_root_once(template: str) -> None:
    with pytest.raises(MalformedError):
        replace(IMAGE, command_line_template=template)


def test_an_image_that_names_a_deployment_is_predicted_for_that_one_only() -> None:
    files = files_of()
    image = replace(image_of(files), command_line_template=pinned(COMMAND_LINE, GENESIS))
    assert image.deployment == GENESIS
    assert VmImage.parse(image.to_bytes()) == image
    assert predict(image, files, GENESIS).pcr9 != predict(image_of(files), files, GENESIS).pcr9
    with pytest.raises(UsageError, match="another deployment"):
        predict(image, files, Digest.of(b"another"))


@pytest.mark.parametrize(
    "words",
    [
        "strongroom.genesis=",
        f"strongroom.genesis={'1' * 63}",
        f"strongroom.genesis={'1' * 64} strongroom.genesis={'1' * 64}",
        f"x=strongroom.genesis={'1' * 64}",
        "strongroom.genesis",
    ],
)
def test_a_command_line_names_a_deployment_once_or_not_at_all(words: str) -> None:
    with pytest.raises(MalformedError, match="one deployment"):
        replace(image_of(files_of()), command_line_template=f"{COMMAND_LINE} {words}")


def test_memory_below_four_gib_is_as_on_q35() -> None:
    assert [low_memory(one) for one in (768, 2815, 2816, 65536)] == [768 * MIB, 2815 * MIB, 2048 * MIB, 2048 * MIB]


def test_a_kernel_that_cannot_be_started_so_is_refused() -> None:
    kernel = made_up_kernel()
    for broken in (
        b"",
        kernel[:0x200],
        kernel.replace(b"HdrS", b"HdrT"),
        kernel[:0x206] + b"\x09\x02" + kernel[0x208:],
    ):
        with pytest.raises(MalformedError):
            as_loaded(broken, memory_mib=768, initramfs_bytes=100)
    with pytest.raises(MalformedError, match="too little memory"):
        as_loaded(kernel, memory_mib=256, initramfs_bytes=400 * MIB)


def test_signatures_and_checksum_are_no_part_of_a_kernels_digest() -> None:
    kernel = made_up_kernel()
    signed = made_up_kernel(signature=b"a signature, made up", checksum=77)
    assert authenticode(signed) == authenticode(kernel)
    changed = bytearray(kernel)
    changed[-1] ^= 1
    assert authenticode(bytes(changed)) != authenticode(kernel)


def test_artefacts_hold_a_root_of_whole_blocks() -> None:
    with pytest.raises(ArtefactMismatchError, match="root"):
        predict(
            IMAGE,
            Artefacts(firmware=FILES.firmware, kernel=FILES.kernel, initramfs=FILES.initramfs, root=b"x"),
            GENESIS,
        )
