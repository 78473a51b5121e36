"""Launch digests that another project publishes for firmware of edk2 (see the provenance in the file)."""

from __future__ import annotations

import base64
import gzip
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation.kinds import EvidenceKind
from strongroom.core.errors import MalformedError, UsageError
from strongroom.enclave.vm.definition import COMMAND_LINE, pinned
from strongroom.enclave.vm.prediction import ArtefactMismatchError, predict, predict_snp, reference_image
from strongroom.enclave.vm.snp_digest import SnpFirmware, launch_digest
from support.vm_images import GENESIS, files_of, image_of

VECTORS = json.loads(Path(__file__).with_name("sev-snp-launch.json").read_text("utf-8"))
FIRMWARE = gzip.decompress(base64.b64decode(VECTORS["amd_sev"], validate=True))
ORDINARY = gzip.decompress(base64.b64decode(VECTORS["ovmf_x64"], validate=True))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["digest"][:8])
def test_each_digest_is_the_published_one(case: dict[str, object]) -> None:
    made = launch_digest(
        SnpFirmware.parse(FIRMWARE),
        kernel=b"",
        initramfs=b"",
        command_line=str(case["command_line"]),
        cpus=int(str(case["cpus"])),
        features=int(str(case["features"])),
    )
    assert made.hex() == case["digest"]


def test_firmware_that_would_measure_no_kernel_is_refused() -> None:
    for data in (ORDINARY, b"", bytes(4096), FIRMWARE[:-1], FIRMWARE[:4000].ljust(4096, b"\0")):
        with pytest.raises(MalformedError):
            SnpFirmware.parse(data)


@given(at=st.integers(0, len(FIRMWARE) - 1), data=st.binary(min_size=1, max_size=4))
def test_a_broken_firmware_is_read_or_refused(at: int, data: bytes) -> None:
    with suppress(MalformedError):
        SnpFirmware.parse((FIRMWARE[:at] + data + FIRMWARE[at + len(data) :])[: len(FIRMWARE)])


def test_every_file_and_word_is_in_the_digest() -> None:
    firmware = SnpFirmware.parse(FIRMWARE)

    def digest(kernel: bytes = b"k", initramfs: bytes = b"i", command_line: str = "c", cpus: int = 1) -> bytes:
        return launch_digest(firmware, kernel=kernel, initramfs=initramfs, command_line=command_line, cpus=cpus)

    made = {digest(), digest(kernel=b"K"), digest(initramfs=b"I"), digest(command_line="C"), digest(cpus=2)}
    assert len(made) == 5


def test_an_images_entry_lists_both_kinds() -> None:
    files = files_of()
    image = replace(image_of(files), command_line_template=pinned(COMMAND_LINE, GENESIS))
    snp = predict_snp(image, files, FIRMWARE)
    entry = reference_image(image, predict(image, files, GENESIS), snp=[snp])
    assert set(entry.measured) == {EvidenceKind.TPM2, EvidenceKind.SEV_SNP}
    assert set(entry.measured[EvidenceKind.SEV_SNP][0]) == {"measurement"}
    with pytest.raises(ArtefactMismatchError):
        predict_snp(image, files_of(kernel_padding=1), FIRMWARE)


def test_an_image_that_names_no_deployment_is_not_predicted_for_a_chip() -> None:
    files = files_of()
    with pytest.raises(UsageError, match="names no deployment"):
        predict_snp(image_of(files), files, FIRMWARE)
