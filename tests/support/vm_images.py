"""A made-up image of a virtual machine: a few kilobytes that have the right shape."""

from __future__ import annotations

import hashlib

from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId
from strongroom.enclave.vm.definition import COMMAND_LINE, RootDisk, VmImage
from strongroom.enclave.vm.prediction import IDENTIFIER, Artefacts
from strongroom.enclave.vm.verity import hash_tree

GENESIS = Digest.of(b"genesis")
SALT = hashlib.sha256(b"salt").digest()
_PE = 0x280
_OPTIONAL = _PE + 24
_HEADERS = 0x600


def made_up_kernel(*, signature: bytes = b"", checksum: int = 0) -> bytes:
    """Return a bzImage's setup header and a PE32+ header with two sections."""
    image = bytearray(_HEADERS)
    image[:2] = b"MZ"
    image[0x3C:0x40] = _PE.to_bytes(4, "little")
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = (0x20F).to_bytes(2, "little")
    image[0x236:0x238] = (0x2B).to_bytes(2, "little")
    image[_PE : _PE + 4] = b"PE\0\0"
    image[_PE + 6 : _PE + 8] = (2).to_bytes(2, "little")
    image[_PE + 20 : _PE + 22] = (160).to_bytes(2, "little")
    image[_OPTIONAL : _OPTIONAL + 2] = (0x20B).to_bytes(2, "little")
    image[_OPTIONAL + 60 : _OPTIONAL + 64] = _HEADERS.to_bytes(4, "little")
    image[_OPTIONAL + 64 : _OPTIONAL + 68] = checksum.to_bytes(4, "little")
    image[_OPTIONAL + 108 : _OPTIONAL + 112] = (6).to_bytes(4, "little")
    sections = b"code" * 256, b"data" * 128
    at = _HEADERS
    for number, section in enumerate(sections):
        head = _OPTIONAL + 160 + 40 * number
        image[head + 16 : head + 20] = len(section).to_bytes(4, "little")
        image[head + 20 : head + 24] = at.to_bytes(4, "little")
        at += len(section)
    if signature:
        entry = _OPTIONAL + 112 + 32
        image[entry : entry + 8] = at.to_bytes(4, "little") + len(signature).to_bytes(4, "little")
    return bytes(image) + b"".join(sections) + signature


def files_of(*, kernel_padding: int = 0) -> Artefacts:
    """Return an image's files; ``kernel_padding`` bytes more make the kernel another one."""
    data = hashlib.shake_256(b"root").digest(300 * 4096)
    tree = hash_tree(data, salt=SALT, identifier=IDENTIFIER)
    return Artefacts(
        firmware=b"firmware",
        kernel=made_up_kernel() + bytes(kernel_padding),
        initramfs=b"initramfs" * 99,
        root=data + tree.appended,
    )


def image_of(files: Artefacts) -> VmImage:
    """Return the definition of the files."""
    data = memoryview(files.root)[: 300 * 4096]
    return VmImage(
        image=ImageId("answers"),
        firmware=Digest.of(files.firmware),
        kernel=Digest.of(files.kernel),
        initramfs=Digest.of(files.initramfs),
        initramfs_bytes=len(files.initramfs),
        root=RootDisk(
            data_bytes=len(data),
            root_hash=hash_tree(data, salt=SALT, identifier=IDENTIFIER).root.hex(),
            salt=SALT.hex(),
            file=Digest.of(files.root),
        ),
        command_line_template=COMMAND_LINE,
        memory_mib=768,
        cpus=1,
        interpreter=Digest.of(b"interpreter"),
        command=("/srv/code/answer.py", "--once"),
        environment=Digest.of(b"environment"),
        sandbox=Digest.of(b"sandbox"),
    )
