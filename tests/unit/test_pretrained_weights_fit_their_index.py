"""Shards and their index must say the same; and what a library saves goes into sealed objects, not into files."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import NotFoundError, StrongroomError
from strongroom.loaders import open_sealed
from strongroom.loaders.pretrained import WeightsIndexError, lazy_weights, sealing_folder
from strongroom.loaders.saving import seal_to
from strongroom.loaders.torch import add_file
from support.sealed_access import access, publishing

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
MAP = {"a": FIRST, "b": FIRST, "c": SECOND}
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weights(*names: str) -> dict[str, Any]:
    return {name: torch.full((2,), ord(name)) for name in names}


def index(**changes: str | None) -> bytes:
    names = {name: shard for name, shard in (MAP | changes).items() if shard is not None}
    return json.dumps({"metadata": {"total_size": 24.0}, "weight_map": names}).encode()


def sealed(place: Path, files: dict[str, Any], folder: str = "") -> Any:
    recipient = place / "recipient"
    with seal_to(place / "atlas.sealed", publishing(recipient)) as output:
        for name, content in files.items():
            if isinstance(content, bytes):
                output.write(folder + name, content)
            else:
                add_file(output, folder + name, content)
    return open_sealed(place / "atlas.sealed", access=access(recipient))


SHARDS = {FIRST: weights("a", "b"), SECOND: weights("c")}


@pytest.mark.parametrize("folder", ["", "text/encoder/"])
@pytest.mark.parametrize("files", [{WHOLE: weights("a", "b", "c")}, SHARDS | {INDEX: index()}], ids=["one", "shards"])
def test_weights_that_fit(tmp_path: Path, files: dict[str, Any], folder: str) -> None:
    with sealed(tmp_path, files, folder) as model:
        found = lazy_weights(model, folder)
        assert {name: one[...].tolist() for name, one in found.items()} == {n: [ord(n)] * 2 for n in "abc"}


def test_other_files_do_not_count(tmp_path: Path) -> None:
    others = {"consolidated.safetensors": weights("z"), "adapter_model.safetensors": weights("y"), "model.txt": b"x"}
    with sealed(tmp_path, SHARDS | {INDEX: index()} | others | {f"deeper/{WHOLE}": weights("x")}) as model:
        assert lazy_weights(model, "").keys() == {"a", "b", "c"}
        assert lazy_weights(model, "deeper").keys() == {"x"}
        assert lazy_weights(model, "", stem="consolidated").keys() == {"z"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a tensor that isn't there": (SHARDS | {INDEX: index(d=FIRST)}, "`d` isn't in"),
    "a tensor that isn't named": (SHARDS | {INDEX: index(b=None)}, "`b` is only in"),
    "a tensor in the other shard": (SHARDS | {INDEX: index(b=SECOND)}, "`b`"),
    "a shard that isn't there": ({FIRST: weights("a", "b"), INDEX: index()}, "isn't there"),
    "a shard that isn't named": (SHARDS | {INDEX: index(c=None)}, "isn't named"),
    "a whole file beside shards": (SHARDS | {INDEX: index(), WHOLE: weights("a")}, "isn't named"),
    "shards without an index": (SHARDS, "shards are"),
    "shards without an index beside a whole file": (SHARDS | {WHOLE: weights("a")}, "shards are"),
    "a tensor in two shards": ({FIRST: weights("a", "b"), SECOND: weights("c", "a"), INDEX: index()}, "`a` is only in"),
    "no map": (SHARDS | {INDEX: b"{}"}, "no map"),
    "an empty map": (SHARDS | {INDEX: b'{"weight_map":{}}'}, "no map"),
    "a map to numbers": (SHARDS | {INDEX: b'{"weight_map":{"a":1}}'}, "no map"),
    "a list": (SHARDS | {INDEX: b"[]"}, "no map"),
    "not JSON": (SHARDS | {INDEX: b"{"}, "isn't JSON"),
    "deep": (SHARDS | {INDEX: b"[" * 100_000}, "isn't JSON"),
    "a name twice": (SHARDS | {INDEX: b'{"weight_map":{"a":"x","a":"y"}}'}, "twice"),
    "out of the folder": (SHARDS | {INDEX: index(d="../model.safetensors")}, "isn't there"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_do_not_fit(tmp_path: Path, case: str) -> None:
    files, said = REFUSED[case]
    with sealed(tmp_path, files) as model, pytest.raises(WeightsIndexError, match=said):
        lazy_weights(model, "")


def test_no_weights_at_all(tmp_path: Path) -> None:
    with sealed(tmp_path, {"config.json": b"{}"}) as model, pytest.raises(NotFoundError):
        lazy_weights(model, "")


def test_weights_never_arrive_in_the_folder(tmp_path: Path) -> None:
    before = safetensors.save_file
    with (
        seal_to(tmp_path / "atlas.sealed", publishing(tmp_path / "recipient")) as output,
        sealing_folder(output, "part") as folder,
    ):
        (folder / "deep").mkdir()
        safetensors.save_file(weights("a"), folder / WHOLE, metadata={"format": "pt"})
        safetensors.save_file(weights("b"), str(folder / "deep/other.safetensors"))
        assert list(folder.rglob("*.*")) == []
        (folder / "config.json").write_text("{}")
        (folder / "deep/big").write_bytes(bytes(3 << 20))
        # Elsewhere it does what it always does.
        safetensors.save_file(weights("c"), tmp_path / "plain.safetensors")
        assert safetensors.load_file(tmp_path / "plain.safetensors").keys() == {"c"}
    assert not folder.exists()
    assert safetensors.save_file is before
    with open_sealed(tmp_path / "atlas.sealed", access=access(tmp_path / "recipient")) as model:
        names = {"part/model.safetensors", "part/deep/other.safetensors", "part/config.json", "part/deep/big"}
        assert {file.name for file in model.files()} == names
        assert model.read("part/model.safetensors") == safetensors.save(weights("a"), {"format": "pt"})
        assert model.read("part/deep/big") == bytes(3 << 20)


def test_two_threads_save_at_once(tmp_path: Path) -> None:
    before = safetensors.save_file
    inside = threading.Barrier(2, timeout=60)

    def save(name: str) -> None:
        with (
            seal_to(tmp_path / f"{name}.sealed", publishing(tmp_path / "recipient")) as output,
            sealing_folder(output, "") as folder,
        ):
            inside.wait()
            if name == "a":
                safetensors.save_file(weights(name), folder / WHOLE)
        if name == "a":
            inside.wait()

    def later() -> None:
        with (
            seal_to(tmp_path / "b.sealed", publishing(tmp_path / "recipient")) as output,
            sealing_folder(output, "") as folder,
        ):
            inside.wait()
            inside.wait()
            # The other one is done, and has put back what it found.
            safetensors.save_file(weights("b"), folder / WHOLE)

    publishing(tmp_path / "recipient")
    threads = [threading.Thread(target=save, args=("a",)), threading.Thread(target=later)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert safetensors.save_file is before
    for name in "ab":
        with open_sealed(tmp_path / f"{name}.sealed", access=access(tmp_path / "recipient")) as model:
            assert lazy_weights(model, "").keys() == {name}


def save_and_fail(root: Path, tensors: dict[str, Any]) -> None:
    with (
        seal_to(root / "atlas.sealed", publishing(root / "recipient")) as output,
        sealing_folder(output, "") as folder,
    ):
        safetensors.save_file(tensors, folder / WHOLE)
        raise ZeroDivisionError


def test_nothing_is_published_when_the_library_fails(tmp_path: Path) -> None:
    before, tied = safetensors.save_file, torch.ones(2)
    with pytest.raises(ZeroDivisionError):
        save_and_fail(tmp_path, weights("a"))
    with pytest.raises(StrongroomError, match="share memory"):
        save_and_fail(tmp_path, {"a": tied, "b": tied})
    assert safetensors.save_file is before
    assert [path.name for path in tmp_path.iterdir()] == ["recipient"]
