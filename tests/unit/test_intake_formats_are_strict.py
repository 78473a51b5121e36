from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest

from strongroom.intake.formats.gguf import _TYPES
from strongroom.intake.formats.identify import Format, check_delivery
from strongroom.intake.rules import IntakeRefusedError, Rule
from support.delivered import (
    checkpoint_file,
    checkpoint_files,
    delivery,
    gguf_file,
    message,
    npy_file,
    npz_file,
    onnx_file,
    safetensors_file,
    sources,
    zip_of,
)


def refused(files: dict[str, bytes]) -> Rule:
    with pytest.raises(IntakeRefusedError) as found:
        check_delivery(sources(files))
    return found.value.rule


def test_a_good_delivery_is_let_in_whole() -> None:
    found = check_delivery(sources(delivery()))
    assert set(found) == set(delivery())
    assert {one.format for one in found.values()} == set(Format)


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("model.py", b"x", Rule.UNKNOWN_FORMAT),
        ("model.so", b"x", Rule.UNKNOWN_FORMAT),
        ("model", b"x", Rule.UNKNOWN_FORMAT),
        ("weights.data", b"x", Rule.UNKNOWN_FORMAT),
        ("readme.txt", b"\x7fELF" + bytes(60), Rule.EXECUTABLE),
        ("readme.txt", b"#!/bin/sh\n", Rule.EXECUTABLE),
        ("model.bin", b"\x1f\x8b" + bytes(60), Rule.ARCHIVE),
        ("model.bin", bytes(257) + b"ustar" + bytes(250), Rule.ARCHIVE),
        ("model.json", gguf_file(), Rule.NAME_AND_CONTENT),
        ("model.safetensors", gguf_file(), Rule.NAME_AND_CONTENT),
        ("model.txt", pickle.dumps(1, 4), Rule.NAME_AND_CONTENT),
        ("model.json", checkpoint_file(), Rule.NAME_AND_CONTENT),
        ("model.gguf", safetensors_file(), Rule.GGUF),
        ("model.safetensors", safetensors_file() + b"x", Rule.SAFETENSORS),
        ("model.safetensors", safetensors_file()[:-1], Rule.SAFETENSORS),
        ("model.safetensors", (1 << 25).to_bytes(8, "little") + bytes((1 << 25) + 8), Rule.SAFETENSORS),
        ("a.npy", npy_file([{}]), Rule.NPY_OBJECT),
        ("a.npy", npy_file() + b"x", Rule.NPY_FORM),
        ("a.npy", npy_file().replace(b"False", b"open"), Rule.NPY_FORM),
        ("config.json", b'{"a":1,"a":2}', Rule.FORM),
        ("config.json", b'{"auto_map":{"AutoModel":"x.Y"}}', Rule.REMOTE_CODE),
        ("config.json", b'{"x":[{"custom_pipelines":{}}]}', Rule.REMOTE_CODE),
        ("config.json", b"{}{}", Rule.FORM),
        ("config.json", b"[" * 100_000, Rule.FORM),
        ("readme.md", b"a\x1b[2Jb", Rule.FORM),
        ("readme.md", b"a\xff", Rule.FORM),
        ("tokenizer.model", b"not a message", Rule.FORM),
    ],
)
def test_what_isnt_what_it_says_is_refused(name: str, data: bytes, rule: Rule) -> None:
    assert refused({name: data}) is rule


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GGUF\x03", b"GGUF\x01"),
        (b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03"),
        (struct.pack("<QQ", 2, 5), struct.pack("<QQ", 2**63, 5)),
        (struct.pack("<QQ", 2, 5), struct.pack("<QQ", 2, 2**40)),
        (struct.pack("<II", 4, 32), struct.pack("<II", 4, 33)),
        (struct.pack("<II", 4, 32), struct.pack("<II", 4, 0)),
        (struct.pack("<IIQ", 9, 8, 2), struct.pack("<IIQ", 9, 8, 2**60)),
        (struct.pack("<IIQ", 9, 5, 3), struct.pack("<IIQ", 9, 5, 2**62)),
        (struct.pack("<IIQ", 9, 8, 2), struct.pack("<IIQ", 9, 9, 2)),
        (struct.pack("<IB", 7, 1), struct.pack("<IB", 7, 2)),
        (struct.pack("<IQQIQ", 2, 2, 3, 0, 0), struct.pack("<IQQIQ", 2, 2, 3, 0, 32)),
        (struct.pack("<IQQIQ", 2, 2, 3, 0, 0), struct.pack("<IQQIQ", 2, 2**61, 3, 0, 0)),
        (struct.pack("<IQQIQ", 2, 2, 3, 0, 0), struct.pack("<IQQIQ", 2, 2, 3, 77, 0)),
        (struct.pack("<IQIQ", 1, 32, 8, 32), struct.pack("<IQIQ", 1, 31, 8, 32)),
        (struct.pack("<IQIQ", 1, 32, 8, 32), struct.pack("<IQIQ", 1, 32, 8, 0)),
        (struct.pack("<IQIQ", 1, 32, 8, 32), struct.pack("<IQIQ", 1, 32, 8, 64)),
        (struct.pack("<IQIQ", 1, 32, 8, 32), struct.pack("<IQIQ", 9, 32, 8, 32)),
        (b"q\x01\0\0\0\x20", b"t\x01\0\0\0\x20"),
        (b"flag", b"\xfflag"),
        (b"\x03\0\0\0\0\0\0\0ids", b"\xff\xff\xff\xff\xff\xff\xff\xffids"),
    ],
)
def test_gguf_bounds_hold(old: bytes, new: bytes) -> None:
    data = gguf_file()
    assert data.count(old) == 1
    assert refused({"m.gguf": data.replace(old, new)}) is Rule.GGUF


def test_gguf_block_sizes_are_the_makers() -> None:
    sizes = pytest.importorskip("gguf.constants").GGML_QUANT_SIZES
    theirs = {int(kind): tuple(size) for kind, size in sizes.items()}
    assert {kind: theirs[kind] for kind in _TYPES} == dict(_TYPES)


def _edited(data: bytes, *edits: tuple[bytes, bytes]) -> bytes:
    for old, new in edits:
        assert old in data
        data = data.replace(old, new)
    return data


def test_zips_have_one_reading() -> None:
    good = checkpoint_file()
    assert check_delivery(sources({"m.pt": good}))["m.pt"].format is Format.TORCH_ZIP
    end = good.rindex(b"PK\x05\x06")
    for data in (
        b"MZ" + good,
        b"\0" + good,
        good + b"x",
        good[:-2] + b"\x01\0x",
        good[:end] + b"x" + good[end:],
        good[:-1],
        # The local header of one entry names another: readers choose.
        good.replace(b"archive/data.pkl", b"archive/data.plk", 1),
        # A checksum that doesn't hold.
        good.replace(bytes(24), bytes(23) + b"\1"),
        # Encrypted, by its flag.
        good.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0", 1),
    ):
        assert refused({"m.pt": data}) in {Rule.ZIP_FORM, Rule.PICKLE_FORM, Rule.EXECUTABLE}


def test_zip_entries_dont_overlap() -> None:
    """Two entries of the directory over one stretch of bytes: how archives grow when they are unpacked."""
    good = zip_of({"a/data.pkl": b"N.", "a/data/0": b""})
    first = good.index(b"PK\x01\x02")
    length = 46 + len("a/data.pkl")
    directory = good[first : good.index(b"PK\x05\x06")]
    twice = directory[:length] * 2
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(twice), first, 0)
    assert refused({"m.pt": good[:first] + twice + end}) in {Rule.ZIP_NAME, Rule.ZIP_FORM}


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", "a/./b", "a\\b", "é", "a:b", "archive/DATA.pkl", "archive/byteorder/x"]
)
def test_zip_names_are_plain(name: str) -> None:
    assert refused({"m.pt": zip_of({**checkpoint_files(), name: b""})}) is Rule.ZIP_NAME


def test_zip_links_are_refused() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        link = zipfile.ZipInfo("archive/data.pkl")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert refused({"m.pt": made.getvalue()}) is Rule.ZIP_FORM


def test_a_bomb_in_an_archive_is_bounded() -> None:
    bomb = zip_of({"a.npy": npy_file() + bytes(50 << 20)}, method=zipfile.ZIP_DEFLATED)
    size = struct.pack("<L", len(npy_file()) + (50 << 20))
    assert refused({"m.npz": bomb}) is Rule.NPY_FORM
    assert refused({"m.npz": bomb.replace(size, struct.pack("<L", len(npy_file())))}) is Rule.ZIP_SIZE


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"archive/data/0": bytes(20)}, Rule.TORCH_STORAGE),
        ({"archive/data/1": bytes(4)}, Rule.TORCH_STORAGE),
        ({"archive/code/x.py": b"x"}, Rule.TORCH_SCRIPT),
        ({"archive/constants.pkl": b"N."}, Rule.TORCH_SCRIPT),
        ({"archive/notes.txt": b"x"}, Rule.TORCH_LAYOUT),
        ({"other/version": b"3"}, Rule.TORCH_LAYOUT),
        ({"archive/byteorder": b"big"}, Rule.TORCH_LAYOUT),
        ({"archive/data.pkl": b"N."}, Rule.TORCH_STORAGE),
        ({"archive/data.pkl": b"cos\nsystem\n(tR."}, Rule.PICKLE_GLOBAL),
        ({"archive/inner.zip": zip_of({"a": b""})}, Rule.TORCH_LAYOUT),
    ],
)
def test_checkpoints_hold_what_their_pickle_names(change: dict[str, bytes], rule: Rule) -> None:
    assert refused({"m.pt": zip_of({**checkpoint_files(), **change})}) is rule


def test_a_view_stays_within_its_storage() -> None:
    inner = checkpoint_files()["archive/data.pkl"]
    for old, new in (
        (b"K\x02K\x03\x86", b"K\x03K\x03\x86"),
        (b"QK\0", b"QK\1"),
        (b"K\x03K\x01\x86\x89", b"K\x04K\x01\x86\x89"),
    ):
        files = {**checkpoint_files(), "archive/data.pkl": _edited(inner, (old, new))}
        assert refused({"m.pt": zip_of(files)}) is Rule.TORCH_STORAGE


def test_checkpoints_of_torch_itself_are_let_in() -> None:
    torch = pytest.importorskip("torch")
    made = io.BytesIO()
    state = OrderedDict(a=torch.ones(3, 4)[1:], b=torch.zeros(2, dtype=torch.bfloat16), c=torch.ones(5).to(torch.int8))
    torch.save({"model": state, "step": 3, "p": torch.nn.Parameter(torch.ones(2)), "type": torch.float16}, made)
    assert check_delivery(sources({"m.pt": made.getvalue()}))["m.pt"].format is Format.TORCH_ZIP
    made = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), made)
    assert refused({"m.pt": made.getvalue()}) is Rule.PICKLE_GLOBAL


def test_archives_of_arrays_hold_nothing_else() -> None:
    assert refused({"m.npz": zip_of({"a.npy": npy_file(), "b.pkl": b"N."})}) is Rule.ZIP_NESTED
    assert refused({"m.npz": zip_of({"a.npy": npz_file()})}) is Rule.NPY_FORM


@pytest.mark.parametrize("location", ["../weights.data", "/etc/passwd", "a/../../x", "", "c:x", "..\\x", "other.data"])
def test_onnx_follows_no_path_out_of_the_delivery(location: str) -> None:
    files = {"model.onnx": onnx_file(location=location), "weights.data": bytes(16)}
    assert refused(files) is Rule.ONNX_EXTERNAL


@pytest.mark.parametrize("length", ["17", "-1", "x", "9" * 30])
def test_onnx_tensors_stay_within_their_file(length: str) -> None:
    assert refused({"model.onnx": onnx_file(length=length), "weights.data": bytes(16)}) is Rule.ONNX_EXTERNAL


def test_onnx_operators_that_need_code_are_refused() -> None:
    assert refused({"model.onnx": onnx_file(domain="acme"), "weights.data": bytes(16)}) is Rule.ONNX_OPERATOR


def test_onnx_graphs_end() -> None:
    graph = message((2, b"g"))
    for _ in range(40):
        graph = message((1, message((5, message((6, graph))))))
    assert refused({"model.onnx": message((7, graph))}) is Rule.ONNX_FORM
    assert refused({"model.onnx": os.urandom(0) + b"\xff" * 30}) is Rule.ONNX_FORM
