"""Whatever bytes are handed in as collateral, the answer is items or an error of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.intel_chain import NOW, intel_chain
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.format import EMPTY, Bundle
from strongroom.attestation.bundle.manifest import MAX_ELEMENTS, ManifestHeading, id_in_file_name
from strongroom.attestation.bundle.merge import admit
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.core.canonical import encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError, StrongroomError
from support.collateral import rim, simulated_anchors, whole
from support.examples import examples

SEEDS = tuple(read.item.data for read in whole().items)
PARSERS: tuple[Callable[[bytes], object], ...] = (
    read_collateral_file,
    Bundle.parse,
    ManifestHeading.read,
    *(lambda data, kind=kind: read_item(kind, data) for kind in CollateralKind),
)
MARKED = st.sampled_from((b"", b"<", b"{", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x82")).flatmap(
    lambda head: st.binary(max_size=512).map(lambda rest: head + rest)
)


@given(data=MARKED)
@settings(max_examples=examples(200))
def test_any_bytes(data: bytes) -> None:
    for parse in PARSERS:
        with suppress(StrongroomError):
            parse(data)


@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 2**20), bit=st.integers(0, 7), cut=st.booleans())
@settings(max_examples=examples(300))
def test_changed_items_are_refused_or_unproven(seed: bytes, at: int, bit: int, *, cut: bool) -> None:
    at %= len(seed)
    changed = seed[:at] if cut else seed[:at] + bytes([seed[at] ^ 1 << bit]) + seed[at + 1 :]
    with suppress(StrongroomError):
        # What still reads and is proven is what was signed: spaces between Intel's members, say.
        admit(whole(), Bundle.of(read_collateral_file(changed)), simulated_anchors(), NOW)


@given(
    st.dictionaries(
        st.sampled_from(sorted(json.loads(intel_chain().collateral()))),
        st.one_of(st.none(), st.integers(), st.text(max_size=40), st.lists(st.none(), max_size=2)),
        max_size=3,
    )
)
def test_intels_members_of_any_type(members: dict[str, object]) -> None:
    told = json.loads(intel_chain().collateral()) | members
    with suppress(StrongroomError):
        admit(EMPTY, Bundle.of(read_collateral_file(json.dumps(told).encode())), simulated_anchors(), NOW)


@given(st.lists(st.tuples(st.sampled_from(list(CollateralKind)), st.text(max_size=20), st.binary(max_size=64))))
def test_bundles_of_any_items(items: list[tuple[CollateralKind, str, bytes]]) -> None:
    told = [{"kind": kind.value, "name": name, "data": to_base64(data)} for kind, name, data in items]
    with suppress(StrongroomError):
        Bundle.parse(encode({"v": 1, "items": told}))  # type: ignore[dict-item]  # texts


@given(st.text(max_size=60))
def test_any_file_name(name: str) -> None:
    assert isinstance(id_in_file_name(name), str)


@pytest.mark.parametrize(
    "head",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        b'<!DOCTYPE lolz [<!ENTITY a "a"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ],
)
def test_a_manifest_has_no_document_type(head: bytes) -> None:
    with pytest.raises(MalformedError, match="no document type"):
        ManifestHeading.read(head + rim())


def test_a_manifest_has_a_bounded_number_of_elements() -> None:
    flood = rim().replace(b"</SoftwareIdentity>", b"<a/>" * MAX_ELEMENTS + b"</SoftwareIdentity>")
    with pytest.raises(MalformedError, match="more than"):
        ManifestHeading.read(flood)
    deep = rim().replace(b"</SoftwareIdentity>", b"<a>" * MAX_ELEMENTS)
    with pytest.raises(MalformedError):
        ManifestHeading.read(deep)
