"""Weights decrypted straight into a model's tensors: all of them, or what was written is wiped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.loaders import Checking
from strongroom.loaders.torch import load_into, save_file
from support.sealed_access import access, publishing

torch = pytest.importorskip("torch")

MIB = 1 << 20


def weights() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    made = {f"layer{i}": torch.randn(MIB // 4, generator=generator) for i in range(3)}
    return made | {"small": torch.randn(5, 7, generator=generator).to(torch.bfloat16), "one": torch.tensor(9)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_file(weights(), tmp_path / "atlas.sealed", publishing=publishing(tmp_path / "recipient"))
    return tmp_path / "atlas.sealed"


def opening(place: Path, **changes: Any) -> Any:
    return access(place.parent / "recipient", **changes)


def spoil(place: Path) -> None:
    (sealed,) = (place / "objects").iterdir()
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 1
    sealed.write_bytes(data)


def holds(tensors: dict[str, Any], value: float) -> bool:
    return all(bool((tensor == value).all()) for tensor in tensors.values())


@pytest.mark.parametrize("checking", list(Checking))
def test_every_tensor_is_filled(place: Path, checking: Checking) -> None:
    into = {name: torch.full_like(tensor, 5) for name, tensor in weights().items()}
    addresses = {name: tensor.data_ptr() for name, tensor in into.items()}
    assert load_into(into, place, access=opening(place, checking=checking)) == ([], [])
    for name, tensor in weights().items():
        assert torch.equal(into[name], tensor)
        assert into[name].data_ptr() == addresses[name]


def test_other_types_and_layouts_are_filled_by_a_copy(place: Path) -> None:
    into = {name: torch.zeros_like(tensor) for name, tensor in weights().items()}
    into["layer0"] = torch.zeros(MIB // 4, dtype=torch.float64)
    into["small"] = torch.zeros(7, 5, dtype=torch.bfloat16).T
    into["layer1"] = torch.zeros(MIB // 2)[::2]
    load_into(into, place, access=opening(place))
    for name, tensor in weights().items():
        assert torch.equal(into[name], tensor.to(into[name].dtype))


def test_parameters_that_need_gradients_are_filled(place: Path) -> None:
    into = {
        name: torch.nn.Parameter(torch.zeros_like(tensor), requires_grad=tensor.is_floating_point())
        for name, tensor in weights().items()
    }
    load_into(into, place, access=opening(place))
    assert torch.equal(into["layer2"], weights()["layer2"])
    assert into["layer2"].requires_grad


def test_a_model_holds_zeros_after_a_failure_and_not_half_of_the_weights(place: Path) -> None:
    spoil(place)
    into = {name: torch.full_like(tensor, 5) for name, tensor in weights().items()}
    with pytest.raises(StrongroomError):
        load_into(into, place, access=opening(place))
    assert holds(into, 0)


def test_what_is_copied_is_untouched_after_a_failure(place: Path) -> None:
    spoil(place)
    into = {name: torch.full(tensor.shape, 5.0, dtype=torch.float64) for name, tensor in weights().items()}
    with pytest.raises(StrongroomError):
        load_into(into, place, access=opening(place))
    assert holds(into, 5)


def test_nothing_is_touched_where_whole_files_are_checked_first(place: Path) -> None:
    spoil(place)
    into = {name: torch.full_like(tensor, 5) for name, tensor in weights().items()}
    with pytest.raises(StrongroomError):
        load_into(into, place, access=opening(place, checking=Checking.WHOLE))
    assert holds(into, 5)


def test_names_must_fit_unless_told_otherwise(place: Path) -> None:
    into = {name: torch.full_like(tensor, 5) for name, tensor in weights().items() if name != "one"}
    into["new"] = torch.full((3,), 5.0)
    with pytest.raises(UsageError, match=r"1 tensors are missing .* 1 are unexpected"):
        load_into(into, place, access=opening(place))
    assert holds(into, 5)
    assert load_into(into, place, strict=False, access=opening(place)) == (["new"], ["one"])
    assert torch.equal(into["small"], weights()["small"])
    assert holds({"new": into["new"]}, 5)


def test_shapes_must_fit(place: Path) -> None:
    into = {name: torch.full_like(tensor, 5) for name, tensor in weights().items()}
    into["small"] = torch.full((7, 5), 5, dtype=torch.bfloat16)
    with pytest.raises(UsageError, match="another shape"):
        load_into(into, place, access=opening(place))
    assert holds(into, 5)
