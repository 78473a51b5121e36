"""Parsers of Nitro documents are total: any bytes are read, or refused with an error of ours."""

from __future__ import annotations

from contextlib import suppress

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from simulators.nitro_chain import nitro_chain
from strongroom.attestation.containers import aws
from strongroom.attestation.nitro.cbor import decode
from strongroom.attestation.nitro.document import Document
from strongroom.attestation.verifiers.nitro import NitroVerifier
from strongroom.core.errors import StrongroomError

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text()
ITEMS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(LEAVES | st.tuples(LEAVES), inner), max_leaves=20
)
NAMES = st.sampled_from(list(nitro_chain().fields())) | st.text()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (lambda raw: decode(raw, "item", max_bytes=200), Document.parse, NitroVerifier().parse, aws.read):
        with suppress(StrongroomError):
            parse(data)


@given(st.dictionaries(NAMES, ITEMS))
def test_any_map_is_a_document_or_refused(changed: dict[str, object]) -> None:
    with suppress(StrongroomError):
        Document.parse(cbor2.dumps(nitro_chain().fields() | changed))


@given(ITEMS, st.integers(0, 3))
def test_any_item_in_the_envelope_is_read_or_refused(item: object, place: int) -> None:
    envelope = cbor2.loads(nitro_chain().document())
    envelope[place] = item
    with suppress(StrongroomError):
        NitroVerifier().parse(cbor2.dumps(envelope))


@given(st.data())
def test_a_document_overwritten_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(nitro_chain().document())
    start = data.draw(st.integers(0, len(body)))
    body[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=9))
    with suppress(StrongroomError):
        NitroVerifier().parse(bytes(body))


@given(st.binary(max_size=300))
def test_any_frame_is_read_or_refused(data: bytes) -> None:
    for start in (b"\0\2", b"\x84\x44\xa1\x01\x38\x22", b"hEShATgi"):
        with suppress(StrongroomError):
            aws.read(start + data)
