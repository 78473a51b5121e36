"""What a TPM will hold after an image has started, computed from the image's files alone. Pure.

PCR 4   extend(Authenticode digest of the kernel as QEMU patches it), then two events that every boot has
PCR 9   extend(SHA-256 of the command line in UTF-16, NUL at its end), extend(SHA-256 of the initial file system): the
        kernel's EFI stub measures both (drivers/firmware/efi/libstub)
PCR 14  the launch that the first process inside measures (:mod:`~strongroom.attestation.measurement`): the
        interpreter, the root hash as ``files``, the command, the sandbox, and the deployment's genesis

Firmware events of PCR 0 to 3 and 5 to 7 aren't predicted, and nothing is listed for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import Measurement, launch_measurements, measured_set
from strongroom.attestation.reference_values import ReferenceImage
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import TamperedError, UsageError
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.direct_boot import as_loaded
from strongroom.enclave.vm.portable_executable import authenticode
from strongroom.enclave.vm.snp_digest import SnpFirmware, launch_digest
from strongroom.enclave.vm.verity import hash_tree

BOOT_PCRS: Final = (4, 9)
"""What the agent quotes beside PCR 14: the kernel; its command line and initial file system."""
IDENTIFIER: Final = bytes(16)
"""The root disk's identifier; it isn't hashed, and the same for every image."""
_CALLING: Final = b"Calling EFI Application from Boot Option"
_SEPARATOR: Final = bytes(4)
_INITRD: Final = " initrd=initrd"
"""What OVMF adds to the command line of a kernel that QEMU hands over with an initial file system."""


class ArtefactMismatchError(TamperedError):
    """A file isn't the one that the image's definition names."""

    code = "image-artefact-mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """An image's files, whole."""

    firmware: bytes
    kernel: bytes
    initramfs: bytes
    root: bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is expected. ``kernel``, ``command_line`` and ``initramfs`` are the single events."""

    kernel: Digest
    command_line: Digest
    initramfs: Digest
    pcr4: bytes
    pcr9: bytes
    launch: tuple[Measurement, ...]

    def tpm2(self) -> dict[str, str]:
        """Return the set that reference values list for a TPM: the launch, and the two registers of the boot."""
        return measured_set(self.launch) | {"pcr4": self.pcr4.hex(), "pcr9": self.pcr9.hex()}


def check(image: VmImage, files: Artefacts) -> None:
    """Compare the files with the definition; the root's tree is computed again.

    :raises ArtefactMismatchError: the first that differs. :raises MalformedError: a disk that isn't whole blocks.
    """
    named = {
        "firmware": (image.firmware, files.firmware),
        "kernel": (image.kernel, files.kernel),
        "initramfs": (image.initramfs, files.initramfs),
        "root": (image.root.file, files.root),
    }
    for name, (wanted, data) in named.items():
        if Digest.of(data) != wanted:
            raise ArtefactMismatchError(f"the image's `{name}` isn't the file that its definition names")
    if len(files.initramfs) != image.initramfs_bytes:
        raise ArtefactMismatchError("the image's `initramfs` has another size than its definition says")
    disk = memoryview(files.root)
    tree = hash_tree(disk[: image.root.data_bytes], salt=bytes.fromhex(image.root.salt), identifier=IDENTIFIER)
    if tree.root.hex() != image.root.root_hash or tree.appended != disk[image.root.data_bytes :]:
        raise ArtefactMismatchError("the image's root file system has another root hash than its definition says")


def launched(image: VmImage, genesis: Digest) -> tuple[Measurement, ...]:
    """Return the five measurements of the launch inside, for one deployment."""
    return launch_measurements(
        interpreter=image.interpreter,
        files=Digest(DigestAlgorithm.SHA256, bytes.fromhex(image.root.root_hash)),
        command=image.environment,
        sandbox=image.sandbox,
        genesis=genesis,
    )


def predict(image: VmImage, files: Artefacts, genesis: Digest) -> Prediction:
    """Check the files, and return what a machine that runs them measures.

    :raises ArtefactMismatchError: a file isn't the image's. :raises MalformedError: the kernel can't be started so.
    :raises UsageError: the image is another deployment's.
    """
    if image.deployment not in {None, genesis}:
        raise UsageError("the image takes orders of another deployment than this one", remedy="build one for this one")
    check(image, files)
    kernel = authenticode(as_loaded(files.kernel, memory_mib=image.memory_mib, initramfs_bytes=image.initramfs_bytes))
    command_line = Digest.of((image.command_line + _INITRD).encode("utf-16-le") + b"\0\0")
    return Prediction(
        kernel=kernel,
        command_line=command_line,
        initramfs=image.initramfs,
        pcr4=_extended((kernel, Digest.of(_CALLING), Digest.of(_SEPARATOR))),
        pcr9=_extended((command_line, image.initramfs)),
        launch=launched(image, genesis),
    )


def predict_snp(image: VmImage, files: Artefacts, firmware: bytes) -> dict[str, str]:
    """Return the set that reference values list for SEV-SNP, on a host with QEMU's ``EPYC-v4`` and no added features.

    :param firmware: edk2 built for ``AmdSev``; another file than the definition's. The files are checked as for a TPM.
    :raises ArtefactMismatchError: a file isn't the image's. :raises MalformedError: the firmware measures no kernel.
    :raises UsageError: the image names no deployment: a chip measures no order, so any keeper's would be taken.
    """
    if image.deployment is None:
        raise UsageError(
            "the image names no deployment, and a chip measures none", remedy="build it again, with --deployment"
        )
    check(image, files)
    digest = launch_digest(
        SnpFirmware.parse(firmware),
        kernel=files.kernel,
        initramfs=files.initramfs,
        command_line=image.command_line,
        cpus=image.cpus,
    )
    return {"measurement": digest.hex()}


def reference_image(image: VmImage, *alternatives: Prediction, snp: Iterable[dict[str, str]] = ()) -> ReferenceImage:
    """Return the image's entry for the reference values; each prediction is one alternative of its kind."""
    measured: dict[EvidenceKind, tuple[dict[str, str], ...]] = {
        EvidenceKind.TPM2: tuple(one.tpm2() for one in alternatives),
        EvidenceKind.SEV_SNP: tuple(snp),
    }
    return ReferenceImage(image=image.image, measured={kind: sets for kind, sets in measured.items() if sets})


def _extended(digests: Iterable[Digest]) -> bytes:
    value = bytes(32)
    for digest in digests:
        value = hashlib.sha256(value + digest.value).digest()
    return value
