"""A small model, copies of it as somebody would leave them lying, and other models of the same architecture."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strongroom.core.safetensors_header import make_header
from support.delivered import message

Floats = NDArray[np.float32]
Tensors = dict[str, Floats]
WIDTH: Final = 128
_LAYERS: Final = 2
_NAMES: Final = {"f4": "F32", "f2": "F16", "i1": "I8", "u2": "BF16"}


def small_model(seed: int, *, layers: int = _LAYERS) -> Tensors:
    """Return a model's tensors: what is learned differs by ``seed``; norms and position tables hardly do."""
    draw = np.random.default_rng(seed)

    def learned(*shape: int) -> Floats:
        rows = draw.normal(0, 1 + draw.random((shape[0], 1)), shape)
        return (rows * 0.02).astype("f4")

    angles = np.arange(256)[:, None] / 10000 ** (np.arange(WIDTH // 2)[None, :] / (WIDTH // 2))
    made = {
        "embed.weight": learned(300, WIDTH),
        "positions": np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype("f4"),
        "mask": np.tril(np.ones((WIDTH, WIDTH), dtype="f4")),
    }
    for layer in range(layers):
        made |= {f"layers.{layer}.{name}.weight": learned(WIDTH, WIDTH) for name in ("q", "k", "v", "o")}
        made |= {f"layers.{layer}.up.weight": learned(3 * WIDTH, WIDTH)}
        made |= {f"layers.{layer}.norm.weight": (1 + draw.normal(0, 0.01, WIDTH)).astype("f4")}
    return made


def bfloat16(values: Floats) -> NDArray[np.uint16]:
    """Return the upper halves of the values' bits."""
    return (np.ascontiguousarray(values).view("u4") >> 16).astype("u2")


def safetensors(tensors: Mapping[str, Any]) -> bytes:
    """Return a safetensors file; arrays of ``u2`` are bfloat16."""
    arrays = {name: np.ascontiguousarray(one) for name, one in tensors.items()}
    head, order = make_header(
        [(name, _NAMES[one.dtype.str[1:]], one.shape, one.nbytes) for name, one in arrays.items()], None
    )
    return head + b"".join(arrays[name].tobytes() for name in order)


def rounded_to_bytes(values: Floats) -> NDArray[np.int8]:
    """Return eight-bit integers with a scale for each row, which isn't kept."""
    scale = abs(values).max(axis=-1, keepdims=True) / 127
    rounded: NDArray[np.int8] = np.round(values / np.where(scale > 0, scale, 1)).astype("i1")
    return rounded


def gguf(tensors: Tensors) -> bytes:
    """Return a GGUF file: every second tensor in eight bits (Q8_0), the others in sixteen."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(8, "little") + value.encode()

    infos, data = b"", b""
    for place, (name, values) in enumerate(tensors.items()):
        kind = 8 if place % 2 else 1
        shape = b"".join(extent.to_bytes(8, "little") for extent in values.shape[::-1])
        infos += text(name) + values.ndim.to_bytes(4, "little") + shape
        infos += kind.to_bytes(4, "little") + len(data).to_bytes(8, "little")
        data += _q8_0(values) if kind == 8 else values.astype("<f2").tobytes()
        data += bytes(-len(data) % 32)
    head = b"GGUF" + (3).to_bytes(4, "little") + len(tensors).to_bytes(8, "little") + bytes(8) + infos
    return head + bytes(-len(head) % 32) + data


def _q8_0(values: Floats) -> bytes:
    rows = values.reshape(-1, 32)
    scale = (abs(rows).max(axis=1, keepdims=True) / 127).astype("<f2")
    whole = np.round(rows / np.where(scale > 0, scale, 1).astype("f4")).clip(-127, 127).astype("i1")
    return np.concatenate([scale.view("u1").reshape(-1, 2), whole.view("u1")], axis=1).tobytes()


def onnx(tensors: Tensors) -> bytes:
    """Return an ONNX model whose initializers are the tensors."""
    initializers = [(5, message((2, 1), (8, name.encode()), (9, values.tobytes()))) for name, values in tensors.items()]
    return message((1, 8), (7, message(*initializers)))


def npz(tensors: Mapping[str, Any], *, packed: bool = False) -> bytes:
    made = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(made, **dict(tensors))
    return made.getvalue()


def npy(values: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, values)
    return made.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return an archive as people make them: compressed, with an entry for the folder and a comment."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"holiday"
        archive.mkdir("pictures")
        for name, data in files.items():
            archive.writestr(f"pictures/{name}", data)
    return made.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            one = tarfile.TarInfo(name)
            one.size = len(data)
            archive.addfile(one, io.BytesIO(data))
    return made.getvalue()


def checkpoint(tensors: Tensors) -> bytes:
    """Return an archive as ``torch.save`` writes it, of bfloat16 storages; its pickle is never looked at."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("ckpt/data.pkl", b"\x80\x02cos\nsystem\n.")
        for place, values in enumerate(tensors.values()):
            archive.writestr(f"ckpt/data/{place}", bfloat16(values).tobytes())
    return made.getvalue()


def noisy(tensors: Tensors, share: float) -> Tensors:
    draw = np.random.default_rng(99)
    return {
        name: (one + draw.normal(0, share * float(one.std()) + 1e-12, one.shape)).astype("f4")
        for name, one in tensors.items()
    }


def _pruned(tensors: Tensors) -> Tensors:
    return {name: np.where(abs(one) > np.median(abs(one)), one, 0).astype("f4") for name, one in tensors.items()}


def _part(tensors: Tensors, *, first: bool) -> Tensors:
    return {name: one for place, (name, one) in enumerate(tensors.items()) if (place % 2 == 0) is first}


def _rows(tensors: Tensors, half: int) -> Tensors:
    """Return half of each tensor's rows, as tensor parallelism deals them out."""
    return {f"rank{half}.{name}": np.array_split(one, 2)[half] for name, one in tensors.items()}


_One = Callable[[Tensors], bytes]
PLANTED: Final[Mapping[str, _One]] = MappingProxyType(
    {
        "pictures/holiday.jpg": safetensors,
        "a/model-00001-of-00002.safetensors": lambda t: safetensors(_part(t, first=True)),
        "a/model-00002-of-00002.safetensors": lambda t: safetensors(_part(t, first=False)),
        "ranks/shard0": lambda t: safetensors(_rows(t, 0)),
        "ranks/shard1": lambda t: safetensors(_rows(t, 1)),
        "half.safetensors": lambda t: safetensors({name: one.astype("f2") for name, one in t.items()}),
        "brain.safetensors": lambda t: safetensors({name: bfloat16(one) for name, one in t.items()}),
        "old/pytorch_model.bin": checkpoint,
        "backup.zip": lambda t: zipped({"x.dat": safetensors(t)}),
        "backup.tar": lambda t: tarred({"a.txt": b"hello", "x.dat": safetensors(t)}),
        "nested.zip": lambda t: zipped({"inner.zip": zipped({"arrays.npz": npz(t, packed=True)})}),
        "arrays.npz": npz,
        "one.npy": lambda t: npy(t["layers.1.up.weight"]),
        "one.bin": lambda t: t["layers.0.q.weight"].tobytes(),
        "one.f16": lambda t: t["embed.weight"].astype("f2").tobytes(),
        "tuned.safetensors": lambda t: safetensors(noisy(t, 0.1)),
        "tuned-more.safetensors": lambda t: safetensors(noisy(t, 0.5)),
        "bytes.safetensors": lambda t: safetensors({name: rounded_to_bytes(one) for name, one in t.items()}),
        "pruned.safetensors": lambda t: safetensors(_pruned(t)),
        "model.gguf": gguf,
        "graph.onnx": onnx,
        "damaged.safetensors": lambda t: safetensors(t)[:-70_000],
        "longer.safetensors": lambda t: safetensors(t) + b"!",
        "scaled.safetensors": lambda t: safetensors({name: one * np.float32(3) for name, one in t.items()}),
    }
)
"""Name -> what makes the file from the model's tensors. All of these are found."""

HIDDEN: Final[Mapping[str, _One]] = MappingProxyType(
    {
        "columns.safetensors": lambda t: safetensors({n: one[..., ::-1].copy() for n, one in t.items()}),
        "turned.safetensors": lambda t: safetensors({n: one.T.copy() for n, one in t.items()}),
        "packed.gz": lambda t: b"\x1f\x8b" + safetensors(t),
    }
)
"""What docs/spec/fingerprints.md says isn't found."""
