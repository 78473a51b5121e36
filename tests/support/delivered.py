"""Files as suppliers deliver them, one good one of each format."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from strongroom.core.safetensors_header import make_header
from strongroom.intake.source import BytesSource, Source


def safetensors_file() -> bytes:
    head, _names = make_header([("a", "F32", (2, 3), 24), ("b", "U8", (3,), 3)], {"format": "pt"})
    return head + bytes(27)


def gguf_file() -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = (
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("x") + text("y"),
        text("ids") + struct.pack("<IIQ", 9, 5, 3) + bytes(12),
        text("flag") + struct.pack("<IB", 7, 1),
    )
    infos = (
        text("t") + struct.pack("<IQQIQ", 2, 2, 3, 0, 0),
        text("q") + struct.pack("<IQIQ", 1, 32, 8, 32),
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys) + b"".join(infos)
    return head + bytes(-len(head) % 32) + bytes(64) + bytes(2)


def npy_file(array: object = None) -> bytes:
    made = io.BytesIO()
    np.save(made, np.arange(6, dtype="<f4").reshape(2, 3) if array is None else np.asarray(array), allow_pickle=True)
    return made.getvalue()


def npz_file(*, packed: bool = False) -> bytes:
    made = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(made, a=np.zeros(9), b=np.ones((2, 2), dtype=np.int8))
    return made.getvalue()


_STORAGE_PICKLE = (
    b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(("
    b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
    b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRs."
)


def checkpoint_files() -> dict[str, bytes]:
    return {"archive/data.pkl": _STORAGE_PICKLE, "archive/data/0": bytes(24), "archive/byteorder": b"little"}


def zip_of(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            one = zipfile.ZipInfo(name)
            one.compress_type = method
            archive.writestr(one, content)
    return made.getvalue()


def checkpoint_file() -> bytes:
    return zip_of(checkpoint_files())


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """Return a protocol buffer of fields with numbers below 2,048."""

    def varint(value: int) -> bytes:
        low, rest = value & 0x7F, value >> 7
        return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])

    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )


def onnx_file(*, location: str = "weights.data", length: str = "16", domain: str = "") -> bytes:
    external = [
        (13, message((1, key.encode()), (2, value.encode())))
        for key, value in (("location", location), ("length", length))
    ]
    tensor = message((1, 4), (2, 1), (8, b"w"), (14, 1), *external)
    node = message((1, b"w"), (2, b"y"), (4, b"Identity"), (7, domain.encode()))
    return message((1, 9), (7, message((1, node), (2, b"g"), (5, tensor))))


def delivery() -> dict[str, bytes]:
    """Return a whole delivery."""
    return {
        "model.safetensors": safetensors_file(),
        "model.gguf": gguf_file(),
        "sub/array.npy": npy_file(),
        "arrays.npz": npz_file(),
        "packed.npz": npz_file(packed=True),
        "pytorch_model.bin": checkpoint_file(),
        "state.pkl": pickle.dumps(OrderedDict(step=3), 4),
        "model.onnx": onnx_file(),
        "weights.data": bytes(16),
        "tokenizer.model": message((1, b"\x0a\x01a"), (2, b"")),
        "config.json": json.dumps({"hidden": 4, "dropout": 0.1}).encode(),
        "README.md": b"# Atlas\n",
        "LICENSE": b"Apache\n",
    }


def sources(files: Mapping[str, bytes]) -> dict[str, Source]:
    return {name: BytesSource(data) for name, data in files.items()}
