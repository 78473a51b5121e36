"""One content has one archive, and an archive has one content: nothing can be said beside what is counted."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.egress.archive import LENGTH, MAGIC, MAX_DEPTH, MAX_FILES, Archive, ArchivedFile, check_name

parts = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="/\\"), min_size=1, max_size=8
).filter(lambda part: part not in {".", ".."} and part.isprintable())
names = st.lists(parts, min_size=1, max_size=3).map("/".join)
contents = st.dictionaries(names, st.binary(max_size=64), max_size=6).filter(
    lambda found: not any(f"{one}/" in other for one in found for other in found if other.startswith(f"{one}/"))
)
facts = st.dictionaries(st.sampled_from(["code", "signal", "left-out-link"]), st.integers(0, 2**53 - 1))


@given(contents, facts, st.randoms(use_true_random=False))
def test_order_of_packing_makes_no_difference(found: dict[str, bytes], told: dict[str, int], chance: object) -> None:
    files = [ArchivedFile(name, data) for name, data in found.items()]
    data = Archive.of(files, told).to_bytes()
    chance.shuffle(files)  # type: ignore[attr-defined]  # hypothesis' random
    assert Archive.of(files, told).to_bytes() == data
    read = Archive.parse(data)
    assert {one.name: one.data for one in read.files} == found
    assert dict(read.facts) == told
    assert read.to_bytes() == data


@given(contents, st.data())
def test_every_other_byte_is_another_archive_or_none(found: dict[str, bytes], data: st.DataObject) -> None:
    packed = Archive.of(ArchivedFile(name, what) for name, what in found.items()).to_bytes()
    place = data.draw(st.integers(0, len(packed) - 1))
    changed = bytearray(packed)
    changed[place] ^= data.draw(st.integers(1, 255))
    for other in (bytes(changed), packed[:place], packed + b"\0"):
        try:
            read = Archive.parse(other)
        except MalformedError:
            continue
        assert read.to_bytes() == other


@given(st.binary(max_size=200))
@example(MAGIC)
@example(MAGIC + (1 << 31).to_bytes(LENGTH, "big"))
@example(MAGIC + (2).to_bytes(LENGTH, "big") + b"{}")
def test_parsing_is_total(data: bytes) -> None:
    for candidate in (data, MAGIC + data):
        try:
            Archive.parse(candidate)
        except StrongroomError:
            continue


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a\nb",
        "a\x1b[2J",
        "a\\b",
        "\ud800",
        "x" * 256,
        "a" + "/a" * MAX_DEPTH,
    ],
)
def test_names_that_no_file_may_have_are_refused(name: str) -> None:
    with pytest.raises(MalformedError):
        check_name(name)


def test_what_contradicts_itself_is_refused() -> None:
    one, inner = ArchivedFile("a", b""), ArchivedFile("a/b", b"")
    for files in ((one, one), (inner, one), (one, inner)):
        with pytest.raises(MalformedError):
            Archive(files=files)
    with pytest.raises(MalformedError):
        Archive.of(ArchivedFile(str(n), b"") for n in range(MAX_FILES + 1))
    for told in ({"Code": 1}, {"code": -1}, {"code": 2**53}, {f"n{chr(97 + n)}": 1 for n in range(17)}):
        with pytest.raises(MalformedError):
            Archive.of([], told)


def test_a_header_that_promises_terabytes_asks_for_no_memory() -> None:
    packed = Archive.of([ArchivedFile("a", b"x")]).to_bytes()
    huge = packed.replace(b'"size":1}', b'"size":268435456}')
    header = len(huge) - len(MAGIC) - LENGTH - 1
    with pytest.raises(MalformedError, match="as long as"):
        Archive.parse(MAGIC + header.to_bytes(LENGTH, "big") + huge[len(MAGIC) + LENGTH :])
