"""Tensors out of a sealed file are those that went in: every type and shape, bit for bit, as safetensors has them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.errors import NotFoundError, UsageError
from strongroom.loaders import Checking, Keyring, open_sealed, use_keyring
from strongroom.loaders.torch import _TYPES as TORCH_TYPES
from strongroom.loaders.torch import (
    TensorTypeError,
    add_file,
    load_file,
    load_into,
    raw_tensors,
    safe_open,
    save_file,
)
from support.examples import examples
from support.sealed import content
from support.sealed_access import access, publishing

torch = pytest.importorskip("torch")
plain = pytest.importorskip("safetensors.torch")
safetensors = pytest.importorskip("safetensors")

ROWS, COLUMNS = 700, 900
CHECKS = pytest.mark.parametrize("checking", list(Checking))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipient")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "atlas.sealed"


def of_type(name: str, shape: tuple[int, ...], seed: bytes = b"") -> Any:
    """Return a tensor of random bits."""
    dtype = getattr(torch, TORCH_TYPES[name])
    elements = torch.Size(shape).numel()
    data = bytearray(content(max(elements, 1) * 16, name.encode() + seed))
    if name == "BOOL":
        data = bytearray(byte & 1 for byte in data)
    return torch.frombuffer(data, dtype=torch.uint8).view(dtype)[:elements].clone().reshape(shape)


def bits(tensor: Any) -> bytes:
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)
    flat.copy_(tensor.reshape(-1))
    return bytes(flat.view(torch.uint8).numpy())


def same(one: Any, other: Any) -> None:
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert bits(one) == bits(other)


def every_type() -> dict[str, Any]:
    made = {}
    for name in TORCH_TYPES:
        for shape in ((), (1,), (3, 5), (0,), (2, 0, 3)):
            made[f"{name}{list(shape)}"] = of_type(name, shape)
    return made


@contextmanager
def keyring(root: Path, **changes: Any) -> Iterator[None]:
    with use_keyring(Keyring((access(root, **changes),))):
        yield


@CHECKS
def test_every_type_and_shape(root: Path, place: Path, checking: Checking) -> None:
    made = every_type()
    save_file(made, place, {"format": "pt"}, publishing=publishing(root))
    with keyring(root, checking=checking):
        found = load_file(place)
        assert found.keys() == made.keys()
        for name, tensor in made.items():
            same(found[name], tensor)
        with safe_open(place) as file:
            for name, tensor in made.items():
                same(file.get_tensor(name), tensor)
                one = file.get_slice(name)
                same(one[...], tensor)
                assert (one.get_shape(), one.dtype) == (list(tensor.shape), tensor.dtype)
                assert one.is_floating_point() == tensor.is_floating_point()


def test_the_sealed_file_is_the_one_that_safetensors_writes(root: Path, place: Path, tmp_path: Path) -> None:
    made = every_type() | {'été\n\x7f"\\': torch.ones(2), "": torch.ones(1), "😀": torch.ones(3)}
    save_file(made, place, {"format": "pt"}, publishing=publishing(root))
    with open_sealed(place, access=access(root)) as model:
        data = model.read("model.safetensors")
    assert data == plain.save(made, {"format": "pt"})
    (tmp_path / "back.safetensors").write_bytes(data)
    for name, tensor in plain.load_file(tmp_path / "back.safetensors").items():
        same(tensor, made[name])


def test_loaded_tensors_can_be_written_to(root: Path, place: Path) -> None:
    save_file({"a": torch.zeros(4), "b": torch.zeros(4)}, place, publishing=publishing(root))
    found = load_file(place, access=access(root))
    found["a"].add_(1)
    assert found["b"].sum() == 0


def test_views_that_are_not_contiguous_are_saved_as_they_look(root: Path, place: Path) -> None:
    base = torch.arange(24, dtype=torch.int32).reshape(4, 6)
    made = {
        "turned": base.clone().T,
        "every other": base.clone()[:, ::2],
        "one row for all": torch.arange(6).expand(3, 6),
        "channels last": torch.rand(1, 3, 4, 4).to(memory_format=torch.channels_last),
        "grows": torch.ones(2, requires_grad=True),
    }
    save_file(made, place, publishing=publishing(root))
    for name, tensor in load_file(place, access=access(root)).items():
        same(tensor, made[name].detach())


@pytest.mark.parametrize(
    "made",
    [
        {"one": torch.ones(4).to_sparse()},
        {"one": torch.ones(4, dtype=torch.complex128)},
        {"one": torch.ones(4, device="meta")},
    ],
    ids=["sparse", "complex128", "without data"],
)
def test_what_safetensors_cannot_hold_is_refused(root: Path, place: Path, made: dict[str, Any]) -> None:
    with pytest.raises(TensorTypeError):
        save_file(made, place, publishing=publishing(root))
    assert not place.exists()


def test_types_that_torch_lacks_are_refused(root: Path, place: Path) -> None:
    from strongroom.loaders.saving import seal_to  # noqa: PLC0415 - this test's own

    text = b'{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    with seal_to(place, publishing(root)) as output:
        output.write("model.safetensors", len(text).to_bytes(8, "little") + text + b"xyz")
    with pytest.raises(TensorTypeError, match="F6_E2M3"):
        load_file(place, access=access(root))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=5))
def test_shared_memory_is_refused_where_safetensors_refuses_it(ranges: list[tuple[int, int]]) -> None:
    base = torch.arange(20, dtype=torch.float32)
    made = {f"t{i}": base[begin : begin + count] for i, (begin, count) in enumerate(ranges)}
    try:
        plain.save(made)
    except RuntimeError:
        with pytest.raises(TensorTypeError, match="share memory"):
            raw_tensors(made)
    else:
        assert raw_tensors(made).keys() == made.keys()


def test_tied_weights_are_refused_and_nothing_is_published(root: Path, place: Path) -> None:
    tied = torch.ones(3, 3)
    with pytest.raises(TensorTypeError, match="share memory"):
        save_file({"embed": tied, "head": tied}, place, publishing=publishing(root))
    with pytest.raises(TensorTypeError, match="share memory"):
        save_file({"a": tied[:2], "b": tied[2:], "c": tied[1:3].T}, place, publishing=publishing(root))
    assert not place.exists()


@pytest.fixture(scope="module")
def both(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same tensors sealed, in more than one segment, and plain."""
    folder = tmp_path_factory.mktemp("both")
    made = {
        "big": of_type("BF16", (ROWS, COLUMNS)),
        "line": of_type("F32", (1000,)),
        "cube": of_type("I64", (7, 8, 9)),
        "empty": of_type("F16", (0, 4)),
        "hollow": of_type("F16", (4, 0)),
    }
    save_file(made, folder / "atlas.sealed", {"format": "pt"}, publishing=publishing(root))
    plain.save_file(made, folder / "plain.safetensors", {"format": "pt"})
    return folder / "atlas.sealed", folder / "plain.safetensors"


bounds = st.one_of(st.none(), st.integers(-1100, 1100), st.integers(-12, 12))
parts = st.one_of(
    st.builds(slice, bounds, bounds), st.builds(slice, bounds, bounds, st.integers(1, 4)), st.integers(-9, 9)
)


@CHECKS
def test_slices_equal_those_of_safetensors(root: Path, both: tuple[Path, Path], checking: Checking) -> None:
    with (
        keyring(root, checking=checking),
        safe_open(both[0] / "model.safetensors") as ours,
        safetensors.safe_open(both[1], "pt") as theirs,
    ):
        assert (ours.keys(), ours.metadata()) == (list(theirs.keys()), theirs.metadata())
        # Among empty tensors, which all lie at one offset, the library has no order.
        full = ("big", "line", "cube")
        assert [n for n in ours.offset_keys() if n in full] == [n for n in theirs.offset_keys() if n in full]

        @settings(max_examples=examples(150))
        @given(st.sampled_from(ours.keys()), st.lists(parts, min_size=1, max_size=3), st.booleans())
        def compare(name: str, index: list[Any], alone: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
            wanted = index[0] if alone else tuple(index)
            one, other = ours.get_slice(name), theirs.get_slice(name)
            assert (one.get_shape(), one.get_dtype()) == (other.get_shape(), other.get_dtype())
            try:
                expected = other[wanted]
            except Exception:  # noqa: BLE001 - the library refuses more than torch does, in its own ways
                return
            same(one[wanted], expected)

        compare()


def test_a_slice_reads_only_the_segments_that_hold_it(root: Path, place: Path) -> None:
    made = {"w": of_type("F32", (3 << 10, 512))}
    save_file(made, place, publishing=publishing(root))
    (sealed,) = (place / "objects").iterdir()
    data = bytearray(sealed.read_bytes())
    data[-1000] ^= 1
    sealed.write_bytes(data)
    with keyring(root), safe_open(place) as file:
        same(file.get_slice("w")[:100], made["w"][:100])
        with pytest.raises(Exception, match="segment"):
            file.get_slice("w")[-100:]
        with pytest.raises(Exception, match="segment"):
            file.get_tensor("w")


def test_names_and_files_that_are_not_there(root: Path, place: Path) -> None:
    save_file({"a": torch.ones(1)}, place / "x.safetensors", publishing=publishing(root))
    with keyring(root):
        assert load_file(place).keys() == load_file(place / "x.safetensors").keys() == {"a"}
        with safe_open(place) as file:
            for ask in (file.get_tensor, file.get_slice):
                with pytest.raises(KeyError):
                    ask("b")
        with pytest.raises(NotFoundError):
            load_file(place / "y.safetensors")
        with pytest.raises(UsageError, match="doesn't lie in a sealed model"):
            load_file(place.parent / "x.safetensors")
        with pytest.raises(UsageError, match="torch's loader"):
            safe_open(place, framework="np")


def test_several_files_go_into_one_model(root: Path, place: Path) -> None:
    from strongroom.loaders.saving import seal_to  # noqa: PLC0415 - this test's own

    with seal_to(place, publishing(root)) as output:
        add_file(output, "a.safetensors", {"one": torch.ones(2)})
        add_file(output, "b/c.safetensors", {"two": torch.zeros(3)}, {"k": "v"})
    with keyring(root):
        same(load_file(f"{place}/b/c.safetensors")["two"], torch.zeros(3))
        with pytest.raises(NotFoundError, match="2 files"):
            load_file(place)


names = st.text(st.characters(codec="utf-8"), min_size=0, max_size=5).filter(lambda text: text != "__metadata__")
kinds = st.sampled_from(sorted(TORCH_TYPES))
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@settings(max_examples=15)
@given(st.dictionaries(names, st.tuples(kinds, shapes), min_size=1, max_size=6))
def test_whatever_is_saved_is_what_safetensors_would_save(root: Path, kept: dict[str, tuple[str, Any]]) -> None:
    made = {name: of_type(kind, shape, name.encode()) for name, (kind, shape) in kept.items()}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "atlas.sealed"
        save_file(made, place, {"k": "v"}, publishing=publishing(root))
        with open_sealed(place, access=access(root)) as model:
            assert model.read("model.safetensors") == plain.save(made, {"k": "v"})
        into = {name: torch.zeros_like(tensor) for name, tensor in made.items()}
        load_into(into, place, access=access(root))
        for name, tensor in into.items():
            same(tensor, made[name])


def test_one_element_with_a_stride_is_saved_and_loaded_in_place(root: Path, tmp_path: Path) -> None:
    one = torch.arange(5, dtype=torch.float32)[1::4][:1]
    assert one.stride() == (4,)
    save_file({"one": one}, tmp_path / "one.sealed", publishing=publishing(root))
    with keyring(root):
        assert load_file(tmp_path / "one.sealed")["one"].tolist() == [1.0]
        target = torch.zeros(5)[1::4][:1]
        load_into({"one": target}, tmp_path / "one.sealed")
    assert target.tolist() == [1.0]
