"""numpy's and jax's arrays out of a sealed file are those that went in, as safetensors' own functions have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.loaders import jax as sealed_jax
from strongroom.loaders import numpy as sealed_numpy
from strongroom.loaders import open_sealed
from strongroom.loaders.jax import _TYPES as JAX_TYPES
from strongroom.loaders.numpy import _TYPES as NUMPY_TYPES
from strongroom.loaders.torch import TensorTypeError
from strongroom.loaders.torch import save_file as save_torch
from support.sealed import content
from support.sealed_access import access, publishing

np = pytest.importorskip("numpy")
plain = pytest.importorskip("safetensors.numpy")

SHAPES = ((), (1,), (3, 5), (0,), (2, 0, 3))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "recipient"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "atlas.sealed"


def array(dtype: Any, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape, dtype=int))
    data = content(max(count, 1) * 16, dtype.name.encode())
    if dtype.name == "bool":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype=dtype)[:count].reshape(shape).copy()


def same(one: Any, other: Any) -> None:
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert one.tobytes() == other.tobytes()


def every_numpy_array() -> dict[str, Any]:
    return {f"{name}{list(shape)}": array(np.dtype(name), shape) for name in NUMPY_TYPES.values() for shape in SHAPES}


def test_every_type_and_shape_of_numpy(root: Path, place: Path) -> None:
    made = every_numpy_array()
    sealed_numpy.save_file(made, place, {"k": "v"}, publishing=publishing(root))
    found = sealed_numpy.load_file(place, access=access(root))
    assert found.keys() == made.keys()
    for name, one in made.items():
        same(found[name], one)
    with open_sealed(place, access=access(root)) as model:
        assert model.read("model.safetensors") == plain.save(made, {"k": "v"})


def test_arrays_are_saved_as_they_look(root: Path, place: Path) -> None:
    base = np.arange(24, dtype="int32").reshape(4, 6)
    made = {
        "turned": base.T,
        "every other": base[:, ::2],
        "backwards": base[::-1],
        "one row for all": np.broadcast_to(np.arange(3), (2, 3)),
        "the other byte order": base.astype(">i4"),
        "a scalar of the other byte order": np.array(7, dtype=">u8"),
        "read only": np.frombuffer(b"\1\2", dtype="uint8"),
    }
    sealed_numpy.save_file(made, place, publishing=publishing(root))
    for name, one in sealed_numpy.load_file(place, access=access(root)).items():
        assert one.shape == made[name].shape
        assert np.array_equal(one, made[name])


def test_loaded_arrays_can_be_written_to(root: Path, place: Path) -> None:
    sealed_numpy.save_file({"a": np.zeros(4)}, place, publishing=publishing(root))
    found = sealed_numpy.load_file(place, access=access(root))
    found["a"] += 1
    assert found["a"].sum() == 4


@pytest.mark.parametrize("kind", ["complex128", "datetime64[s]", "S3", "O"])
def test_types_that_safetensors_lacks_are_refused(root: Path, place: Path, kind: str) -> None:
    with pytest.raises(TensorTypeError):
        sealed_numpy.save_file({"a": np.zeros(2, dtype=kind)}, place, publishing=publishing(root))
    assert not place.exists()


def test_types_that_numpy_lacks_are_refused(root: Path, place: Path) -> None:
    torch = pytest.importorskip("torch")
    save_torch({"a": torch.ones(2, dtype=torch.bfloat16)}, place, publishing=publishing(root))
    with pytest.raises(TensorTypeError, match="BF16"):
        sealed_numpy.load_file(place, access=access(root))


def test_every_type_and_shape_of_jax(root: Path, place: Path) -> None:
    jnp = pytest.importorskip("jax.numpy")
    made = {
        f"{name}{list(shape)}": jnp.asarray(array(np.dtype(getattr(jnp, name)), shape))
        for name in JAX_TYPES.values()
        for shape in SHAPES
    }
    sealed_jax.save_file(made, place, {"k": "v"}, publishing=publishing(root))
    found = sealed_jax.load_file(place, access=access(root))
    assert found.keys() == made.keys()
    for name, one in made.items():
        assert type(found[name]) is type(one)
        same(np.asarray(found[name]), np.asarray(one))


def test_jax_and_torch_read_the_same(root: Path, place: Path) -> None:
    jnp, torch = pytest.importorskip("jax.numpy"), pytest.importorskip("torch")
    made = {
        "bf16": torch.randn(4, 3).to(torch.bfloat16),
        "f8": torch.randn(5).to(torch.float8_e4m3fn),
        "f8 of the other kind": torch.randn(5).to(torch.float8_e5m2),
        "one": torch.tensor(3, dtype=torch.int32),
    }
    save_torch(made, place, publishing=publishing(root))
    for name, one in sealed_jax.load_file(place, access=access(root)).items():
        assert np.array_equal(np.asarray(one.astype(jnp.float32)), made[name].float().numpy())


def test_types_that_jax_lacks_by_default_are_refused(root: Path, place: Path) -> None:
    pytest.importorskip("jax")
    sealed_numpy.save_file({"a": np.zeros(2, dtype="int64")}, place, publishing=publishing(root))
    with pytest.raises(TensorTypeError, match="I64"):
        sealed_jax.load_file(place, access=access(root))
