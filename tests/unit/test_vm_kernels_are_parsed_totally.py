"""A kernel from anywhere: its digest comes out, or it is refused; and trees of hashes have one form."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError
from strongroom.enclave.vm.direct_boot import as_loaded
from strongroom.enclave.vm.portable_executable import authenticode
from strongroom.enclave.vm.verity import BLOCK, hash_tree
from support.vm_images import SALT, made_up_kernel

KERNEL = made_up_kernel()


@given(at=st.integers(0, len(KERNEL) - 1), data=st.binary(min_size=1, max_size=8), end=st.integers(0, len(KERNEL)))
def test_a_broken_kernel_is_digested_or_refused(at: int, data: bytes, end: int) -> None:
    broken = (KERNEL[:at] + data + KERNEL[at + len(data) :])[:end]
    for work in (authenticode, lambda kernel: as_loaded(kernel, memory_mib=768, initramfs_bytes=1000)):
        with contextlib.suppress(MalformedError):
            work(broken)


@pytest.mark.parametrize("blocks", [2, 128, 129, 300])
def test_a_trees_root_depends_on_every_block(blocks: int) -> None:
    data = bytearray(hashlib.shake_256(b"data").digest(blocks * BLOCK))
    root = hash_tree(bytes(data), salt=SALT, identifier=bytes(16)).root
    for block in {0, blocks // 2, blocks - 1}:
        data[block * BLOCK] ^= 1
        assert hash_tree(bytes(data), salt=SALT, identifier=bytes(16)).root != root
        data[block * BLOCK] ^= 1
    assert hash_tree(bytes(data), salt=bytes(32), identifier=bytes(16)).root != root
    assert hash_tree(bytes(data), salt=SALT, identifier=bytes([1] * 16)).root == root


@pytest.mark.parametrize("data", [b"", bytes(BLOCK), bytes(2 * BLOCK + 1)])
def test_only_whole_blocks_have_a_tree(data: bytes) -> None:
    with pytest.raises(MalformedError):
        hash_tree(data, salt=SALT, identifier=bytes(16))
