"""A conversion refuses what it can't keep, keeps the checkpoint's bytes, and makes no large file of a small one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strongroom.core.safetensors_header import header_length, parse_header
from strongroom.intake.formats import conversion
from strongroom.intake.formats.conversion import convert, convert_index, converted_name
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import BytesSource
from support.delivered import zip_of

BODY = bytes(range(24))


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def view(shape: bytes = b"K\x02K\x03\x86", stride: bytes = b"K\x03K\x01\x86", kind: bytes = b"FloatStorage") -> bytes:
    """Return the opcodes that make a tensor of a storage of six elements."""
    storage = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text("0") + text("cpu") + b"K\x06tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + stride + b"\x89}tR"


def checkpoint(root: bytes, body: bytes = BODY) -> BytesSource:
    return BytesSource(zip_of({"a/data.pkl": b"\x80\x02" + root + b".", "a/data/0": body, "a/byteorder": b"little"}))


def tensors(source: BytesSource) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    made = b"".join(convert(source, "a.pt").pieces())
    assert len(made) == convert(source, "a.pt").size
    length = header_length(made, file_size=len(made))
    header = parse_header(made[8 : 8 + length], file_size=len(made))
    data = made[header.data_start :]
    return {name: (one.dtype, one.shape, data[one.begin : one.end]) for name, one in header.tensors.items()}


def test_tensors_keep_their_names_types_shapes_and_bytes() -> None:
    nested = b"}" + text("model") + b"}" + text("w") + view() + b"ss"
    assert tensors(checkpoint(nested)) == {"model.w": ("F32", (2, 3), BODY)}
    turned = b"}" + text("t") + view(b"K\x03K\x02\x86", b"K\x01K\x03\x86") + b"s"
    words = [BODY[at : at + 4] for at in range(0, 24, 4)]
    assert tensors(checkpoint(turned)) == {"t": ("F32", (3, 2), b"".join(words[at] for at in (0, 3, 1, 4, 2, 5)))}
    repeated = b"}" + text("r") + view(b"K\x05\x85", b"K\x00\x85") + b"s"
    assert tensors(checkpoint(repeated)) == {"r": ("F32", (5,), words[0] * 5)}


def test_values_that_arent_tensors_are_left_out() -> None:
    mixed = b"}(" + text("w") + view() + text("step") + b"K\x07" + text("names") + b"]" + text("x") + b"au"
    assert set(tensors(checkpoint(mixed))) == {"w"}


REFUSED: dict[str, Callable[[], BytesSource]] = {
    "a tensor in a list": lambda: checkpoint(b"}" + text("l") + b"]" + view() + b"as"),
    "a tensor that was replaced": lambda: checkpoint(b"}(" + text("w") + view() + text("w") + view() + b"u"),
    "a tensor alone": lambda: checkpoint(view()),
    "a tensor under a number": lambda: checkpoint(b"}K\x01" + view() + b"s"),
    "a dictionary within itself": lambda: checkpoint(b"}q\x01(" + text("w") + view() + text("d") + b"h\x01u"),
    "two under one name": lambda: checkpoint(
        b"}(" + text("a.b") + view() + text("a") + b"}" + text("b") + view() + b"su"
    ),
    "a name that can't be printed": lambda: checkpoint(b"}" + text("w\n") + view() + b"s"),
    "a type that safetensors hasn't": lambda: checkpoint(
        b"}" + text("w") + view(kind=b"ComplexDoubleStorage") + b"s", bytes(96)
    ),
    "a set instead of a dictionary": lambda: checkpoint(
        b"}(" + text("w") + view() + text("s") + b"c__builtin__\nset\n)Ru"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_missing_is_refused(name: str) -> None:
    with pytest.raises(IntakeRefusedError) as refused:
        convert(REFUSED[name](), "a.pt")
    assert refused.value.rule is Rule.TORCH_STORAGE


def nested(depth: int) -> bytes:
    """Return a dictionary that holds the next one sixty times, as often as ``depth`` says."""
    if depth == 0:
        return b"}" + text("w") + view() + b"sq\x00"
    again = b"h" + bytes([depth - 1])
    others = b"".join(text(f"n{one}") + again for one in range(1, 60))
    return b"}(" + text("n0") + nested(depth - 1) + others + b"uq" + bytes([depth])


def test_dictionaries_that_hold_each_other_many_times_have_no_names_without_end() -> None:
    with pytest.raises(IntakeRefusedError, match="one dictionary in two places"):
        convert(checkpoint(nested(8)), "a.pt")


def test_one_element_doesnt_become_a_terabyte() -> None:
    huge = b"}" + text("w") + view(b"J\xff\xff\xff\x7f\x85", b"K\x00\x85") + b"s"
    with pytest.raises(IntakeRefusedError, match="overlap"):
        convert(checkpoint(huge), "a.pt")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pytorch_model.bin", "model.safetensors"),
        ("sub/pytorch_model-00001-of-00002.bin", "sub/model-00001-of-00002.safetensors"),
        ("pytorch_model.bin.index.json", "model.safetensors.index.json"),
        ("adapter.v2.pt", "adapter.v2.safetensors"),
        ("sub.d/weights.ckpt", "sub.d/weights.safetensors"),
    ],
)
def test_names_are_those_that_loaders_look_for(old: str, new: str) -> None:
    assert converted_name(old) == new


def test_an_index_names_the_new_shards() -> None:
    made = convert_index(BytesSource(b'{"weight_map":{"a":"pytorch_model-00001-of-00002.bin"}}'), "a.json")
    assert b"model-00001-of-00002.safetensors" in made
    for wrong in (b"[]", b"{}", b'{"weight_map":{"a":1}}', b'{"weight_map":[]}'):
        with pytest.raises(IntakeRefusedError):
            convert_index(BytesSource(wrong), "a.json")


def test_one_element_expanded_is_never_in_memory_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_PIECE", 8)
    made = convert(checkpoint(b"}" + text("r") + view(b"K\x05\x85", b"K\x00\x85") + b"s"), "a.pt")
    header, *pieces = made.pieces()
    assert [len(one) for one in pieces] == [8, 8, 4]
    assert len(header) + sum(map(len, pieces)) == made.size
