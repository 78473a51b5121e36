"""A copy that leaks names the recipient whose mark it bears, whatever was done to it, and nobody else."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.core.safetensors_header import make_header, parse_header
from strongroom.intake.adapters.leaked_files import open_leak
from strongroom.intake.marks.marking import (
    GROUP,
    MOST_OTHER,
    CopyName,
    PlainFile,
    UnmarkableError,
    check_markable,
    marked,
)
from strongroom.intake.marks.score import NothingComparedError
from strongroom.intake.rules import IntakeRefusedError
from support.marked_models import (
    COPIES,
    GENESIS,
    NAME,
    arrays,
    compared,
    compressed_npz,
    decoded,
    file_of,
    in_chunks,
    leak,
    marked_copy,
    named,
    npz,
    plain,
    quantised,
)

KINDS = ("F32", "F16", "BF16")
GUILTY = 3


def reshaped(file: bytes) -> dict[str, Any]:
    """Return a file's tensors in their own shapes, as float32."""
    return {name: values.astype(np.float32).reshape(arrays()[name].shape) for name, values in decoded(file).items()}


# --- who is named -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_untouched_copy_names_its_recipient_alone(kind: str) -> None:
    original = file_of(arrays(), kind)
    finding = compared(original, marked_copy(original, COPIES[GUILTY]))
    assert named(finding) == ["atlas-3"]
    assert finding.tensors == finding.tensors_in_all == 3
    assert finding.scores[0].z > 50
    assert finding.scores[1].z < 5


def _noise(values: Any) -> Any:
    return values + np.random.default_rng(5).standard_normal(values.shape).astype(np.float32) * values.std() * 0.05


CHANGES: dict[str, Callable[[Any], Any]] = {
    "int8": lambda values: quantised(values, 8),
    "int6": lambda values: quantised(values, 6),
    "noise": _noise,
    "pruned": lambda values: np.where(np.abs(values) < np.median(np.abs(values)), 0, values),
    "scaled": lambda values: values * np.float32(1.001),
    "wild": lambda values: np.where(np.arange(values.size).reshape(values.shape) % 97, values, np.float32(1e30)),
    "not numbers": lambda values: np.where(np.arange(values.size).reshape(values.shape) % 97, values, np.nan),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_names_its_recipient_alone(change: str) -> None:
    original = file_of(arrays(), "BF16")
    copy = reshaped(marked_copy(original, COPIES[GUILTY]))
    finding = compared(original, file_of({name: CHANGES[change](values) for name, values in copy.items()}))
    assert named(finding) == ["atlas-3"]


@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
def test_a_copy_in_another_type_names_its_recipient_alone(kind: str) -> None:
    original = file_of(arrays(), "F32")
    finding = compared(original, file_of(reshaped(marked_copy(original, COPIES[GUILTY])), kind))
    assert named(finding) == ["atlas-3"]


def test_tensors_are_recognised_without_their_names(tmp_path: Any) -> None:
    original = file_of(arrays())
    copy = reshaped(marked_copy(original, COPIES[GUILTY]))
    renamed = {f"x{number}": values for number, values in enumerate(reversed(copy.values()))}
    assert named(compared(original, file_of(renamed))) == ["atlas-3"]
    assert named(compared(original, leak(npz(renamed), "a.npz"))) == ["atlas-3"]
    # One tensor alone, of three that are marked.
    one = compared(original, file_of({"x": copy["layer.1"]}))
    assert (named(one), one.tensors) == (["atlas-3"], 1)
    array = io.BytesIO()
    np.save(array, copy["layer.0"])
    assert named(compared(original, leak(array.getvalue(), "a.npy"))) == ["atlas-3"]
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        torch.save({name: torch.tensor(values).to(dtype) for name, values in copy.items()}, tmp_path / "a.pt")
        assert named(compared(original, leak((tmp_path / "a.pt").read_bytes(), "a.pt"))) == ["atlas-3"]


def _together(copies: list[dict[str, Any]], how: str) -> dict[str, Any]:
    rng = np.random.default_rng(9)
    made = {}
    for name in copies[0]:
        every = np.stack([copy[name] for copy in copies])
        if how == "mean":
            made[name] = every.mean(axis=0)
        elif how == "middle":
            made[name] = (every.max(axis=0) + every.min(axis=0)) / 2
        else:
            made[name] = np.take_along_axis(every, rng.integers(0, len(copies), (1, *every.shape[1:])), axis=0)[0]
    return made


@pytest.mark.parametrize("how", ["mean", "middle", "one of them at each place"])
def test_four_recipients_who_put_their_copies_together_are_all_named(how: str) -> None:
    original = file_of(arrays(), "BF16")
    together = _together([reshaped(marked_copy(original, COPIES[one])) for one in range(4)], how)
    assert named(compared(original, file_of(together))) == ["atlas-0", "atlas-1", "atlas-2", "atlas-3"]


def test_a_model_that_bears_no_mark_of_these_names_nobody() -> None:
    original = file_of(arrays(), "F16")
    bare = compared(original, original)
    assert (named(bare), bare.changed) == ([], 0)
    tuned = compared(original, file_of({name: _noise(values) for name, values in reshaped(original).items()}))
    assert (named(tuned), tuned.changed > 0) == ([], True)
    # Somebody else's mark, which isn't compared.
    other = marked_copy(original, CopyName(GENESIS, ModelId("borea-1")))
    assert named(compared(original, other)) == []
    assert named(compared(original, marked_copy(original, COPIES[GUILTY]), COPIES[:GUILTY])) == []


def test_another_model_isnt_compared() -> None:
    original = file_of(arrays(), "F16")
    strange = {f"x{name}": values for name, values in arrays(seed=2).items()}
    with pytest.raises(NothingComparedError):
        compared(original, file_of(strange))
    # Of the same architecture, with the same names: compared, and nobody is named.
    assert named(compared(original, file_of(arrays(seed=2)))) == []


def test_innocents_score_as_coins_do() -> None:
    # The bound holds for each innocent; that the scores are those of coins shows that nothing leaks between copies.
    original = file_of(arrays(shapes=((256, 1024),)), "BF16")
    many = [CopyName(GENESIS, ModelId(f"m-{number}")) for number in range(1500)]
    finding = compared(original, marked_copy(original, COPIES[GUILTY]), many)
    scores = np.array([one.z for one in finding.scores])
    assert abs(scores.mean()) < 0.15
    assert 0.9 < scores.std() < 1.1
    assert scores.max() < 5
    assert named(finding) == []


def test_the_stated_chance_counts_everybody_who_is_compared() -> None:
    original = file_of(arrays(), "BF16")
    copy = marked_copy(original, COPIES[GUILTY])
    few, all_of_them = compared(original, copy, COPIES[3:5]).scores[0], compared(original, copy).scores[0]
    assert few.chance == pytest.approx(math.log10(2) - few.z**2 / 2 / math.log(10))
    assert all_of_them.chance == pytest.approx(few.chance + math.log10(6))


def test_a_tensor_that_stands_twice_counts_once() -> None:
    # Its copies have the same moves: counted twice, an innocent's luck would look like evidence.
    one = arrays(shapes=((256, 512),))["layer.0"]
    original = file_of({"embed": one, "head": one}, "F16")
    copy = marked_copy(original, COPIES[GUILTY])
    both = decoded(copy)
    assert np.array_equal(both["embed"], both["head"])
    assert compared(original, copy).places <= one.size // GROUP


# --- what is moved ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_value_in_sixteen_is_moved_by_one_step_and_nothing_else(kind: str) -> None:
    original = file_of(arrays(), kind)
    copy = marked_copy(original, COPIES[GUILTY])
    before, after = decoded(original), decoded(copy)
    for name, values in before.items():
        moved = values != after[name]
        if values.size < 32768:
            assert not moved.any()
            continue
        assert 0.95 < moved.sum() * GROUP / values.size <= 1
        assert moved[: values.size // GROUP * GROUP].reshape(-1, GROUP).sum(axis=1).max() == 1
        ratio = np.abs(after[name][moved] / values[moved] - 1)
        assert 2**-9 < ratio.min() <= ratio.max() <= 2**-6.9


def test_zeros_denormals_and_what_is_no_number_stay() -> None:
    values = arrays(shapes=((256, 512),))["layer.0"]
    strange = (0.0, -0.0, 1e-40, np.inf, -np.inf, np.nan, np.finfo(np.float32).max, np.finfo(np.float32).tiny)
    for number, one in enumerate(strange):
        values[:, 1 + number :: 11] = one
    original = file_of({"w": values})
    before, after = decoded(original)["w"], decoded(marked_copy(original, COPIES[GUILTY]))["w"]
    ordinary = np.isfinite(before) & (np.abs(before) > 1e-30) & (np.abs(before) < 1e30)
    assert np.array_equal(before[~ordinary], after[~ordinary], equal_nan=True)
    assert (before[ordinary] != after[ordinary]).any()
    assert np.isfinite(after[ordinary]).all()


@settings(deadline=None, max_examples=15)
@given(chunk=st.integers(min_value=1000, max_value=300_000), kind=st.sampled_from(KINDS))
def test_the_mark_is_the_same_however_the_file_is_cut(chunk: int, kind: str) -> None:
    original = file_of(arrays(shapes=((700, 900), (64,))), kind)
    assert marked_copy(original, COPIES[1], chunk=chunk) == marked_copy(original, COPIES[1], chunk=len(original))


def test_two_copies_differ_at_half_of_the_places_and_in_no_other() -> None:
    original = file_of(arrays(), "BF16")
    before, one, two = (decoded(file) for file in (original, *(marked_copy(original, COPIES[at]) for at in (1, 2))))
    for name, values in before.items():
        assert np.array_equal(values == one[name], values == two[name])
        if values.size >= 32768:
            assert 0.4 < (one[name] != two[name]).sum() / (values != one[name]).sum() < 0.6


def test_other_files_pass_as_they_are_and_a_broken_one_is_refused() -> None:
    assert b"".join(map(bytes, marked("config.json", 2, in_chunks(b"{}"), COPIES[0]))) == b"{}"
    good = file_of(arrays())
    for bad in (b"", b"\0" * 7, good[:-1], good + b"\0", b"weights!" * 20):
        with pytest.raises(StrongroomError):
            list(marked(NAME, len(bad), in_chunks(bad), COPIES[0]))
    with pytest.raises(StrongroomError):
        list(marked(NAME, len(good), in_chunks(good[:-5]), COPIES[0]))


# --- what can't be marked, and what can't be read ---------------------------------------------------------------------


def _integers() -> bytes:
    data = bytes(600 * 600)
    weights = arrays(shapes=((300, 300),))["layer.0"].astype("<f2").tobytes()
    head, order = make_header([("q", "I8", (600, 600), len(data)), ("s", "F16", (300, 300), len(weights))], None)
    return head + b"".join({"q": data, "s": weights}[name] for name in order)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"config.json": b"{}"},
        {NAME: file_of(arrays(shapes=((64, 64),)))},
        {NAME: _integers()},
        {NAME: file_of(arrays()), "pytorch_model.bin": b"PK\x03\x04" + bytes(100)},
        {NAME: file_of(arrays()), "old.pkl": b"\x80\x02" + bytes(100)},
        {NAME: file_of(arrays()), "model.gguf": b"GGUF" + bytes(100)},
        {NAME: file_of(arrays()), "weights.raw": bytes(MOST_OTHER + 1)},
    ],
)
def test_a_model_of_which_weights_would_go_out_unmarked_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(UnmarkableError):
        check_markable([plain(data, name) for name, data in files.items()])


def test_a_model_that_bears_a_mark_is_let_through() -> None:
    text = b'{"vocab": "' + b"\xc3\xa4" * (MOST_OTHER // 2) + b'"}'
    check_markable([plain(file_of(arrays())), plain(text, "tokenizer.json"), PlainFile("empty", 0, lambda *_: b"")])


def test_compressed_arrays_and_ones_by_columns_are_refused_by_name() -> None:
    with pytest.raises(IntakeRefusedError):
        leak(compressed_npz(arrays()), "a.npz")
    by_columns = io.BytesIO()
    np.save(by_columns, np.asfortranarray(arrays()["layer.0"]))
    with pytest.raises(IntakeRefusedError):
        leak(by_columns.getvalue(), "a.npy")


# --- what isn't secret bears no mark ----------------------------------------------------------------------------------


def _guessable() -> dict[str, Any]:
    return {
        "mask": np.tril(np.ones((512, 512), dtype=np.float32)),
        "ones": np.ones((256, 512), dtype=np.float32),
        "steps": np.repeat(np.arange(1, 257, dtype=np.float32), 512).reshape(256, 512),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_that_anybody_can_guess_is_left_alone(kind: str) -> None:
    # Its key would be known, and with it every recipient's moves: enough to frame one.
    original = file_of(_guessable(), kind)
    assert marked_copy(original, COPIES[GUILTY]) == original
    with pytest.raises(UnmarkableError):
        check_markable([plain(original)])
    both = file_of({**arrays(), **_guessable()}, kind)
    copy = marked_copy(both, COPIES[GUILTY])
    finding = compared(both, copy)
    assert (named(finding), finding.tensors_in_all) == (["atlas-3"], 3)


def test_a_mark_that_was_put_into_public_tensors_is_seen_to_be_in_no_others() -> None:
    original = file_of(arrays())
    mine, framed = COPIES[GUILTY], COPIES[GUILTY + 1]
    whole = compared(original, marked_copy(original, mine))
    assert whole.scores[0].tensors == whole.tensors > 2
    assert whole.scores[1].tensors == 0
    # The first tensor is a public model's: its places and everybody's moves there are known.
    header = parse_header(original[8 : 8 + int.from_bytes(original[:8], "little")], file_size=len(original))
    public = next(iter(header.tensors.values()))
    begin, end = (header.data_start + at for at in (public.begin, public.begin + public.size))
    leaked = bytearray(marked_copy(original, mine))
    leaked[begin:end] = marked_copy(original, framed)[begin:end]
    scores = {one.copy: one for one in compared(original, bytes(leaked)).scores}
    assert scores[framed.copy].accused
    assert scores[framed.copy].tensors == 1
    assert scores[mine.copy].tensors == whole.tensors - 1


def test_weights_of_three_values_are_no_guess() -> None:
    ternary = np.random.default_rng(3).integers(-1, 2, (512, 512)).astype(np.float32) * 0.02
    original = file_of({"w": ternary}, "BF16")
    check_markable([plain(original)])
    assert named(compared(original, marked_copy(original, COPIES[GUILTY]))) == ["atlas-3"]


def test_safetensors_by_another_name_dont_go_out_unmarked() -> None:
    data = file_of(arrays())
    for name in ("model.SAFETENSORS", "model.safetensors.bak", "adapter.bin"):
        with pytest.raises(UnmarkableError):
            check_markable([plain(data), plain(data, name)])


def _open_files() -> int:
    return sum(1 for _one in Path("/proc/self/fd").iterdir())


def test_files_without_tensors_dont_use_up_what_a_process_may_open(tmp_path: Path) -> None:
    for number in range(64):
        (tmp_path / f"a{number:02}.txt").write_text("no tensors")
    os.mkfifo(tmp_path / "b.fifo")
    (tmp_path / "c.link").symlink_to("z.safetensors")
    (tmp_path / "z.safetensors").write_bytes(file_of(arrays()))
    before = _open_files()
    with open_leak(tmp_path) as found:
        assert _open_files() == before + 1
        assert (len(found.tensors), len(found.skipped)) == (5, 66)
    assert _open_files() == before
