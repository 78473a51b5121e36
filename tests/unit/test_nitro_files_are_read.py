"""Files that hold a Nitro document: each form that tools write is read, and nothing that merely resembles one."""

from __future__ import annotations

import base64
from functools import cache

import pytest

from simulators.nitro_chain import USER_DATA, nitro_chain
from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers import aws
from strongroom.attestation.containers.contained import MAX_FILE
from strongroom.attestation.kinds import EvidenceKind
from strongroom.core.errors import MalformedError

REPORT_DATA = USER_DATA.ljust(64, b"\0")


@cache
def document() -> bytes:
    # Once: each signature differs.
    return nitro_chain().document(user_data=REPORT_DATA)


def compact(number: int) -> bytes:
    """Write a SCALE compact integer."""
    if number < 1 << 6:
        return bytes([number << 2])
    if number < 1 << 14:
        return (number << 2 | 1).to_bytes(2, "little")
    return (number << 2 | 2).to_bytes(4, "little")


def dstack(
    *,
    body: bytes | None = None,
    length: bytes | None = None,
    platform: bytes = b"\x02",
    events: bytes = compact(1) + compact(6) + b"app-id" + compact(3) + b"\1\2\3",
    after: bytes = b"",
) -> bytes:
    held = document() if body is None else body
    config = compact(2) + b"{}"
    framed = (compact(len(held)) if length is None else length) + held
    return b"\0" + platform + framed + events + REPORT_DATA + config + after


@pytest.mark.parametrize("tag", [b"", b"\xd2"])
def test_a_document_as_the_security_module_gives_it_is_read(tag: bytes) -> None:
    found = aws.read(tag + document())
    assert found is not None
    assert [(item.kind, item.body) for item in found.items] == [(EvidenceKind.NITRO, tag + document())]
    assert found.stated == {}


def spellings() -> list[bytes]:
    plain, url = base64.b64encode(document()), base64.urlsafe_b64encode(document())
    lines = base64.encodebytes(document())
    tagged = base64.b64encode(b"\xd2" + document())
    return [
        plain,
        plain + b"\n",
        plain.rstrip(b"="),
        url,
        url.rstrip(b"="),
        lines,
        lines.replace(b"\n", b"\r\n"),
        tagged,
    ]


@pytest.mark.parametrize("spelling", range(8))
def test_base64_is_read_in_each_spelling_that_tools_write(spelling: int) -> None:
    found = aws.read(spellings()[spelling])
    assert found is not None
    assert found.items[0].body.removeprefix(b"\xd2") == document()


@pytest.mark.parametrize("foreign", [b"!", b" ", b"\0", b"=", b"-+"])
def test_base64_with_foreign_characters_is_refused_and_never_cleaned(foreign: bytes) -> None:
    text = base64.b64encode(document())
    with pytest.raises(MalformedError):
        aws.read(text[:100] + foreign + text[100:])


def test_bits_after_the_last_byte_of_base64_are_refused() -> None:
    body = document()
    body += bytes(-len(body) % 3) + b"\0"
    text = base64.b64encode(body)
    assert text.endswith(b"A==")
    with pytest.raises(MalformedError):
        aws.read(text[:-3] + b"B==")


def test_dstacks_framing_is_read_to_its_last_byte() -> None:
    found = aws.read(dstack())
    assert found is not None
    assert found.items[0].body == document()
    assert found.stated == {Slot.USER_DATA: REPORT_DATA}


def test_dstacks_framing_with_another_length_is_refused() -> None:
    size = len(document())
    for wrong in (compact(size - 1), compact(size + 1)):
        with pytest.raises(MalformedError):
            aws.read(dstack(length=wrong))
    # Longer than the file, or no number in its shortest spelling: not a frame at all.
    assert aws.read(dstack(length=compact(16000))) is None
    assert aws.read(dstack(length=(size << 2 | 2).to_bytes(4, "little"))) is None
    assert aws.read(dstack(length=b"\x03\xff\xff\xff\xff")) is None


def test_dstacks_framing_with_more_behind_it_is_refused() -> None:
    with pytest.raises(MalformedError, match="after its end"):
        aws.read(dstack(after=b"\0"))


def test_dstacks_framing_cut_anywhere_is_refused() -> None:
    whole = dstack()
    behind = whole.index(document()) + len(document())
    for size in range(behind, len(whole)):
        with pytest.raises(MalformedError):
            aws.read(whole[:size])
    # Without the whole document, two bytes are all that speaks for this form.
    for size in range(behind):
        assert aws.read(whole[:size]) is None


def test_a_document_is_never_searched_for() -> None:
    for data in (b"\0" + document(), b"\0\2" + document(), dstack(platform=b"\1"), b"junk" + dstack(), b"", b"\0\2"):
        assert aws.read(data) is None


def test_more_events_than_the_bound_are_refused() -> None:
    with pytest.raises(MalformedError):
        aws.read(dstack(events=compact(5000)))
    with pytest.raises(MalformedError):
        aws.read(dstack(events=b"\xfe\xff\xff\xff"))


def test_a_file_above_the_bound_is_refused() -> None:
    with pytest.raises(MalformedError):
        aws.read(bytes(MAX_FILE + 1))
