"""Any change to a sealed object is refused, and the refusal says what kind of change it was, and where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.digest import Digest
from strongroom.sealing.errors import (
    CiphertextMismatchError,
    ExtendedError,
    HeaderMismatchError,
    HeaderTamperedError,
    NotSealedError,
    OtherModelObjectError,
    OtherObjectError,
    SealedFormatError,
    SealedObjectError,
    SegmentDuplicatedError,
    SegmentReorderedError,
    SegmentTamperedError,
    TruncatedError,
    WrongDataKeyError,
)
from strongroom.sealing.floe import Floe
from strongroom.sealing.header import HEADER_LENGTH, SealedHeader
from strongroom.sealing.open import ObjectReader
from strongroom.sealing.plan import Part
from strongroom.sealing.seal import SealedFacts
from strongroom.sealing.source import BytesSource
from support.examples import examples
from support.sealed import (
    ROOM,
    SEGMENT,
    content,
    data_key,
    expectation,
    opened_bytes,
    prelude,
    sealed_bytes,
)

PLAIN = content(4 * ROOM + 500)
SEALED, FACTS = sealed_bytes(PLAIN)
SEGMENTS = [SEALED[i : i + SEGMENT] for i in range(HEADER_LENGTH, len(SEALED), SEGMENT)]
FULL, FULL_FACTS = sealed_bytes(content(4 * ROOM, b"full"))
FULL_SEGMENTS = [FULL[i : i + SEGMENT] for i in range(HEADER_LENGTH, len(FULL), SEGMENT)]


def _joined(segments: list[bytes], header: bytes = SEALED[:HEADER_LENGTH]) -> bytes:
    return header + b"".join(segments)


@given(bit=st.integers(0, 8 * len(SEALED) - 1))
@settings(max_examples=examples(150), deadline=None)
def test_any_flipped_bit_is_refused(bit: int) -> None:
    changed = bytearray(SEALED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealedObjectError) as caught:
        opened_bytes(bytes(changed), FACTS)
    if bit // 8 >= HEADER_LENGTH + 4 and (bit // 8 - HEADER_LENGTH) % SEGMENT >= 4:
        assert isinstance(caught.value, SegmentTamperedError)
        assert caught.value.segment == (bit // 8 - HEADER_LENGTH) // SEGMENT
        assert "objects/x.sealed" in caught.value.message


@given(byte=st.integers(0, HEADER_LENGTH - 1), mask=st.integers(1, 255))
@settings(max_examples=examples(150), deadline=None)
def test_any_header_byte_counts_even_if_the_manifest_agrees(byte: int, mask: int) -> None:
    changed = bytearray(SEALED)
    changed[byte] ^= mask
    digest = Digest.of(changed[:HEADER_LENGTH])
    forged = SealedFacts(header=digest, root=FACTS.root, size=FACTS.size, plain_size=FACTS.plain_size)
    with pytest.raises(SealedObjectError):
        opened_bytes(bytes(changed), forged)


@given(size=st.integers(0, len(SEALED) - 1), manifest_agrees=st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_any_truncation_is_refused(*, size: int, manifest_agrees: bool) -> None:
    with pytest.raises(SealedObjectError) as caught:
        opened_bytes(SEALED[:size], FACTS, size=size if manifest_agrees else None)
    if not manifest_agrees and size >= 8:
        assert isinstance(caught.value, TruncatedError)


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_truncation_on_a_segment_boundary_is_named(kept: int) -> None:
    shorter = _joined(SEGMENTS[:kept])
    with pytest.raises(TruncatedError):
        opened_bytes(shorter, FACTS)
    with pytest.raises(TruncatedError) as caught:
        opened_bytes(shorter, FACTS, size=len(shorter))
    assert caught.value.segment == kept - 1


@given(extra=st.binary(min_size=1, max_size=200))
@settings(max_examples=30, deadline=None)
def test_any_extension_is_refused(extra: bytes) -> None:
    with pytest.raises(ExtendedError):
        opened_bytes(SEALED + extra, FACTS)
    with pytest.raises(SealedObjectError):
        opened_bytes(SEALED + extra, FACTS, size=len(SEALED) + len(extra))


def test_a_segment_after_the_final_one_is_named() -> None:
    longer = _joined([*FULL_SEGMENTS, FULL_SEGMENTS[3]], FULL[:HEADER_LENGTH])
    with pytest.raises(ExtendedError):
        opened_bytes(longer, FULL_FACTS)
    with pytest.raises(SealedObjectError):
        opened_bytes(longer, FULL_FACTS, size=len(longer))


@given(order=st.permutations(range(5)))
@settings(max_examples=examples(40), deadline=None)
def test_any_reordering_is_refused(order: list[int]) -> None:
    if order == sorted(order):
        return
    with pytest.raises(SealedObjectError):
        opened_bytes(_joined([SEGMENTS[i] for i in order]), FACTS)


@given(order=st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_reordered_full_segments_are_named(order: list[int]) -> None:
    if order == sorted(order):
        return
    with pytest.raises(SegmentReorderedError) as caught:
        opened_bytes(_joined([FULL_SEGMENTS[i] for i in order], FULL[:HEADER_LENGTH]), FULL_FACTS)
    assert caught.value.segment is not None
    assert order[caught.value.segment] != caught.value.segment


@given(copied=st.integers(0, 3), over=st.integers(0, 3))
@settings(max_examples=16, deadline=None)
def test_a_copied_segment_is_named(copied: int, over: int) -> None:
    if copied == over:
        return
    segments = list(FULL_SEGMENTS)
    segments[over] = segments[copied]
    with pytest.raises(SegmentDuplicatedError) as caught:
        opened_bytes(_joined(segments, FULL[:HEADER_LENGTH]), FULL_FACTS)
    assert caught.value.segment == over


def test_an_inserted_copy_is_refused() -> None:
    longer = _joined([SEGMENTS[0], *SEGMENTS])
    with pytest.raises(ExtendedError):
        opened_bytes(longer, FACTS)
    with pytest.raises(SealedObjectError):
        opened_bytes(longer, FACTS, size=len(longer))


def test_a_segment_of_another_object_under_the_same_key_is_refused() -> None:
    other, _facts = sealed_bytes(PLAIN, seed=b"another", object_id=b"q" * 16)
    mixed = _joined([SEGMENTS[0], other[HEADER_LENGTH + SEGMENT : HEADER_LENGTH + 2 * SEGMENT], *SEGMENTS[2:]])
    with pytest.raises(SegmentTamperedError) as caught:
        opened_bytes(mixed, FACTS)
    assert caught.value.segment == 1


def test_another_model_version_and_another_object_are_told_apart() -> None:
    with pytest.raises(OtherModelObjectError):
        opened_bytes(sealed_bytes(PLAIN, model_version=b"w" * 16)[0], FACTS)
    with pytest.raises(OtherObjectError):
        opened_bytes(sealed_bytes(PLAIN, object_id=b"q" * 16)[0], FACTS)


def test_an_earlier_sealing_of_the_same_object_is_refused() -> None:
    with pytest.raises(HeaderMismatchError):
        opened_bytes(sealed_bytes(PLAIN, seed=b"earlier")[0], FACTS)


def test_wrong_key_is_told_by_its_commitment() -> None:
    with pytest.raises(WrongDataKeyError):
        opened_bytes(SEALED, FACTS, key=8)


def test_header_tag_commits_to_the_key() -> None:
    # Another key's commitment is written over the one in the prelude: FLOE's own tag must still refuse.
    other, _facts = sealed_bytes(PLAIN, key=8)
    changed = other[:78] + SEALED[78:]
    forged = SealedFacts(
        header=Digest.of(changed[:HEADER_LENGTH]),
        root=FACTS.root,
        size=FACTS.size,
        plain_size=FACTS.plain_size,
    )
    with pytest.raises(HeaderTamperedError):
        opened_bytes(changed, forged, key=8)


@pytest.mark.parametrize("plain", [b"", PLAIN, b"\x08\0\0\0\0\0\0\0{}", b"\x89PNG\r\n\x1a\n" + bytes(5000)])
def test_plaintext_is_never_accepted(plain: bytes) -> None:
    with pytest.raises(NotSealedError):
        opened_bytes(plain, FACTS)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (8, b"\0\2"),
        (10, b"\0\0"),
        (10, b"\xff\xff"),
        (12, b"\0"),
        (12, b"\x0f"),
        (12, b"\x19"),
        (12, b"\xff"),
        (13, b"\1"),
    ],
)
def test_absurd_header_values_are_refused_before_anything_is_allocated(offset: int, value: bytes) -> None:
    header = SEALED[:offset] + value + SEALED[offset + len(value) : HEADER_LENGTH]
    with pytest.raises(SealedFormatError):
        SealedHeader.parse(header)


def test_reading_the_start_proves_the_length_first() -> None:
    # Cut on a segment boundary, under a manifest that agrees: a reader of the first bytes alone must notice.
    shorter = _joined(SEGMENTS[:2])
    with pytest.raises(TruncatedError):
        ObjectReader(BytesSource(shorter), expectation(FACTS, size=len(shorter)), data_key())


def test_an_empty_last_segment_after_others_is_refused() -> None:
    # Authentic FLOE, made by a holder of the key; sealing never writes it, so one file has one ciphertext length.
    floe, tag = Floe.begin(data_key(), prelude().to_bytes(), bytes(32), prelude().parameters)
    made = bytearray(prelude().to_bytes() + tag)
    for position, size in enumerate((ROOM, 0)):
        out = bytearray(size + 32)
        plain = memoryview(bytes(size))
        floe.encrypt_segment(memoryview(out), plain, position=position, nonce=bytes(12), final=position == 1)
        made += out
    digest = Digest.of(made[:HEADER_LENGTH])
    forged = SealedFacts(header=digest, root=digest, size=len(made), plain_size=ROOM)
    with pytest.raises(ExtendedError):
        opened_bytes(bytes(made), forged)


def test_unauthenticated_plaintext_is_wiped_where_it_was_written() -> None:
    header = SealedHeader.parse(SEALED[:HEADER_LENGTH])
    floe = Floe.resume(data_key(), header.prelude.to_bytes(), header.floe, header.prelude.parameters)
    segment = bytearray(SEGMENTS[0])
    segment[-1] ^= 1
    out = bytearray(ROOM)
    with pytest.raises(SegmentTamperedError):
        floe.decrypt_segment(memoryview(out), memoryview(segment), position=0, final=False)
    assert not any(out)


def test_after_one_bad_segment_nothing_more_is_read() -> None:
    changed = bytearray(SEALED)
    changed[HEADER_LENGTH + SEGMENT + 100] ^= 1
    buffer = bytearray(b"\xaa" * ROOM)
    with ObjectReader(BytesSource(changed), expectation(FACTS), data_key()) as reader:
        reader.read_into(0, memoryview(buffer))
        assert buffer == PLAIN[:ROOM]
        with pytest.raises(SegmentTamperedError):
            reader.read_into(ROOM, memoryview(buffer))
        assert buffer == bytes(ROOM)
        with pytest.raises(SegmentTamperedError):
            reader.read_into(0, memoryview(buffer))


def test_a_forger_with_the_data_key_is_caught_before_the_last_byte() -> None:
    forged, facts = sealed_bytes(bytes(len(PLAIN)), seed=b"seed")
    assert facts.header == FACTS.header
    seen: list[int] = []
    with (
        pytest.raises(CiphertextMismatchError),
        ObjectReader(BytesSource(forged), expectation(FACTS), data_key()) as reader,
    ):
        seen.extend(len(chunk) for chunk in reader.segments())
    assert sum(seen) < len(PLAIN)
    buffer = bytearray(b"\xaa" * len(PLAIN))
    with (
        pytest.raises(CiphertextMismatchError),
        ObjectReader(BytesSource(forged), expectation(FACTS), data_key()) as reader,
    ):
        reader.read_parts_of_whole([Part(0, memoryview(buffer))])
    assert not any(buffer)
