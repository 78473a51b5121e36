"""Whatever bytes arrive, the parsers of the sealed format answer with a value or a StrongroomError, never otherwise."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PersonId
from strongroom.sealing.errors import NameCollisionError, SealedIndexError, SealedObjectError, UnsafeNameError
from strongroom.sealing.header import HEADER_LENGTH, Geometry, SealedHeader
from strongroom.sealing.index import Index, SealedFile
from strongroom.sealing.manifest import MANIFEST_TYPE, Manifest, ManifestObject, read_manifest
from strongroom.sealing.names import check_distinct, file_name
from strongroom.sealing.open import check_header
from strongroom.sealing.prelude import MAGIC, PRELUDE_LENGTH, Prelude
from strongroom.sealing.source import BytesSource
from support.examples import examples
from support.sealed import GENESIS, MODEL, content, expectation, sealed_bytes

SEALED, FACTS = sealed_bytes(content(3000))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MANIFEST = Manifest(
    genesis=GENESIS,
    model=MODEL,
    version=1,
    predecessor=None,
    data_key_id="atlas-1",
    commitment=bytes(32),
    publisher=PersonId("dana"),
    index=ManifestObject(object_id=bytes(16), size=5000, header=Digest.of(b"h"), root=Digest.of(b"r")),
    objects=(
        ManifestObject(
            object_id=b"1" * 16,
            size=Geometry.of_plaintext(7, 1 << 16).size,
            header=Digest.of(b"h"),
            root=Digest.of(b"r"),
        ),
    ),
)
FILE: dict[str, Json] = {
    "name": "config.json",
    "mode": 0o644,
    "size": 7,
    "object": (b"1" * 16).hex(),
}
INDEX: dict[str, Json] = {"v": 1, "files": [FILE], "canaries": []}


@given(data=st.binary(max_size=HEADER_LENGTH + 50))
@settings(max_examples=examples(300), deadline=None)
def test_header_of_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(SealedObjectError):
        SealedHeader.parse(data)
    with pytest.raises(SealedObjectError):
        Prelude.parse(MAGIC + data)
    with pytest.raises(SealedObjectError):
        check_header(BytesSource(data), expectation(FACTS))


@given(fixed=st.binary(min_size=70, max_size=70))
@settings(max_examples=examples(300), deadline=None)
def test_prelude_with_arbitrary_fields_is_refused_or_means_exactly_its_bytes(fixed: bytes) -> None:
    for start in (b"", b"\0\1\0\1\x14\0"):
        data = (MAGIC + start + fixed[len(start) :]).ljust(PRELUDE_LENGTH, b"\0")
        with contextlib.suppress(SealedObjectError):
            assert Prelude.parse(data).to_bytes() == data


@given(size=st.integers(0, 2**63), bits=st.integers(16, 24))
@settings(max_examples=examples(300), deadline=None)
def test_geometry_of_any_size_is_refused_or_adds_up(size: int, bits: int) -> None:
    with contextlib.suppress(SealedObjectError):
        geometry = Geometry.of_object(size, 1 << bits)
        assert geometry.size == size
        assert Geometry.of_plaintext(geometry.plain_size, 1 << bits) == geometry


@given(data=st.binary(max_size=400) | st.text(max_size=200).map(str.encode) | JSON.map(lambda v: repr(v).encode()))
@settings(max_examples=examples(300), deadline=None)
def test_manifest_and_index_of_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(StrongroomError):
        Manifest.parse(data)
    with pytest.raises(SealedIndexError):
        Index.parse(data, MANIFEST)
    with pytest.raises(StrongroomError):
        read_manifest(Envelope(MANIFEST_TYPE, data, ()))
    with pytest.raises(StrongroomError):
        read_manifest(Envelope.parse(data))


@given(member=st.sampled_from([*FILE, "other"]), value=JSON)
@settings(max_examples=examples(300), deadline=None)
def test_index_with_an_arbitrary_member_is_refused_or_means_exactly_its_bytes(member: str, value: Json) -> None:
    try:
        data = encode(INDEX | {"files": [FILE | {member: value}]})
    except StrongroomError:
        return
    with contextlib.suppress(SealedIndexError):
        assert Index.parse(data, MANIFEST).to_bytes() == data


def test_an_index_that_fits_is_read() -> None:
    index = Index.parse(encode(INDEX), MANIFEST)
    assert index.files == (SealedFile(name="config.json", mode=0o644, size=7, object_id=b"1" * 16),)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 8},
        {"size": 2**53 - 1},
        {"object": "00" * 16},
        {"mode": 0o1000},
        {"name": "/etc/passwd"},
        {"name": "../x"},
        {"name": "a/../../x"},
        {"name": "a\\x"},
        {"name": "C:x"},
        {"name": "a\u202eb"},
    ],
)
def test_an_index_that_lies_is_refused(change: dict[str, Json]) -> None:
    with pytest.raises(SealedIndexError):
        Index.parse(encode(INDEX | {"files": [FILE | change]}), MANIFEST)


def test_an_index_out_of_order_is_refused() -> None:
    two = replace(MANIFEST, objects=(*MANIFEST.objects, replace(MANIFEST.objects[0], object_id=b"2" * 16)))
    second = FILE | {"name": "z", "object": (b"2" * 16).hex()}
    assert len(Index.parse(encode(INDEX | {"files": [FILE, second]}), two).files) == 2
    with pytest.raises(SealedIndexError):
        Index.parse(encode(INDEX | {"files": [second, FILE]}), two)


def test_an_index_that_names_a_file_twice_is_refused() -> None:
    with pytest.raises(SealedIndexError):
        Index.parse(encode(INDEX | {"files": [FILE, FILE]}), MANIFEST)
    with pytest.raises(SealedIndexError):
        Index.parse(encode(INDEX | {"files": []}), MANIFEST)


@given(name=st.text(max_size=40) | st.text("./\\aA \0é", max_size=12))
@settings(max_examples=examples(400), deadline=None)
def test_a_name_that_passes_stays_inside(name: str) -> None:
    try:
        checked = file_name(name)
    except UnsafeNameError:
        return
    assert checked == name
    assert not name.startswith("/")
    assert not {"", ".", ".."} & set(name.split("/"))
    assert name.isprintable()


@pytest.mark.parametrize(
    "names",
    [
        ["a", "A"],
        ["Model/x", "model/y"],
        ["caf\u00e9", "cafe\u0301"],
        ["stra\u00dfe", "STRASSE"],
        ["\ufb01le", "file"],
        ["a", "a/b"],
        ["a/b", "a/b"],
    ],
)
def test_names_that_mean_one_file_collide(names: list[str]) -> None:
    with pytest.raises(NameCollisionError):
        check_distinct(names)


def test_names_that_differ_do_not_collide() -> None:
    check_distinct(["a/b", "a/c", "b", "c/a/b", "a.b"])
