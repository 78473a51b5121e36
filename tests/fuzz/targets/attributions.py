"""Targets of leak attribution: whatever turned up, compared with a small original; and any bytes that are marked."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

import numpy as np

from fuzz.targets.target import Target
from strongroom.intake.marks.leak import LeakedTensor
from strongroom.intake.marks.marking import check_markable
from strongroom.intake.marks.score import Finding
from support.marked_models import COPIES, arrays, compared, file_of, leak, marked_copy, npz, plain

_SHAPE: Final = (64, 512)


@cache
def _original(kind: str) -> bytes:
    return file_of(arrays(shapes=(_SHAPE, (64,))), kind)


def _found(name: str) -> Callable[[bytes], Finding]:
    def read(data: bytes) -> Finding:
        tensors: tuple[LeakedTensor, ...] = leak(data, name)
        return compared(_original("F16"), tensors, COPIES[:2])

    return read


def _marked(data: bytes) -> None:
    try:
        check_markable([plain(data)])
    finally:
        if len(marked_copy(data, COPIES[0])) != len(data):
            raise AssertionError


def _array() -> bytes:
    out = io.BytesIO()
    np.save(out, arrays(shapes=(_SHAPE,))["layer.0"])
    return out.getvalue()


def _checkpoint() -> bytes:
    """Return a torch checkpoint of one tensor, written without torch."""
    # Protocol 2: an ordered dict's class isn't needed; one storage, rebuilt as a tensor.
    pickle = (
        b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
        b"ctorch\nHalfStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06M\x00\x80tq\x07QK\x00K@M\x00\x02"
        b"\x86q\x08M\x00\x02K\x01\x86q\t\x89}q\ntq\x0bRq\x0cs."
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("archive/data.pkl", pickle)
        made.writestr("archive/data/0", arrays(shapes=(_SHAPE,))["layer.0"].astype("<f2").tobytes())
        made.writestr("archive/version", b"3\n")
    return out.getvalue()


ATTRIBUTIONS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "attribution-safetensors": Target(
            read=_found("a.safetensors"), seeds=lambda: (_original("BF16"), _original("F32")), changes=100
        ),
        "attribution-npz": Target(
            read=_found("a.npz"), seeds=lambda: (npz(arrays(shapes=(_SHAPE,))),), changes=100, longest=160 * 1024
        ),
        "attribution-npy": Target(read=_found("a.npy"), seeds=lambda: (_array(),), changes=100, longest=160 * 1024),
        "attribution-torch": Target(
            read=_found("a.pt"), seeds=lambda: (_checkpoint(),), changes=100, longest=96 * 1024
        ),
        "attribution-marked": Target(read=_marked, seeds=lambda: (file_of(arrays(), "F16"),), changes=100),
    }
)
