"""Files with quotes of Intel's, in the forms that tools write; others are left alone, and broken ones are refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping

import pytest

from simulators.intel_chain import REPORT_DATA, intel_chain, sized
from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.contained import MAX_FILE
from strongroom.attestation.containers.intel import read
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.tdx.bodies import BodyType
from strongroom.core.errors import MalformedError

TD = intel_chain().td_quote()
TD_5 = intel_chain().td_quote(body=BodyType.TD_1_5_EXTENDED)
SGX = intel_chain().sgx_quote()


def lines(data: bytes) -> bytes:
    return base64.encodebytes(data)


def compact(length: int) -> bytes:
    return (
        bytes([length << 2])
        if length < 64
        else (length << 2 | 1 if length < 1 << 14 else length << 2 | 2).to_bytes(2 if length < 1 << 14 else 4, "little")
    )


def dstack(quote: bytes) -> bytes:
    event = bytes(8) + compact(48) + bytes(48) + compact(4) + b"boot" + compact(0)
    runtime = compact(3) + b"app" + compact(2) + b"id"
    tail = compact(1) + event + compact(1) + runtime + REPORT_DATA + compact(2) + b"{}"
    return b"\0\0" + compact(len(quote)) + quote + tail


FORMS: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "hex": lambda quote: quote.hex().encode(),
    "hex after 0x": lambda quote: b"0x" + quote.hex().upper().encode() + b"\n",
    "base64": base64.b64encode,
    "base64 in lines": lines,
    "base64 for addresses, without padding": lambda quote: base64.urlsafe_b64encode(quote).rstrip(b"="),
    "configfs-tsm": lambda quote: json.dumps(
        {"provider": "tdx_guest\n", "outblob": base64.b64encode(quote).decode(), "auxblob": "", "generation": 3}
    ).encode(),
    "a member quote": lambda quote: json.dumps(
        {"quote": base64.b64encode(quote).decode(), "cc_eventlog": "AAAA"}
    ).encode(),
    "a member quote in hex": lambda quote: json.dumps({"quote": quote.hex(), "event_log": "[]"}).encode(),
    "dstack": dstack,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("quote", "kind"), [(TD, EvidenceKind.TDX), (TD_5, EvidenceKind.TDX), (SGX, EvidenceKind.SGX)])
def test_every_form_gives_the_quote(form: str, quote: bytes, kind: EvidenceKind) -> None:
    found = read(FORMS[form](quote))
    assert found is not None
    assert [(item.kind, item.body) for item in found.items] == [(kind, quote)]
    assert found.form.startswith(kind.value.upper())
    assert found.certificates == ()


def test_what_a_file_says_of_its_challenge_is_told() -> None:
    tsm = {"provider": "tdx_guest", "inblob": base64.b64encode(REPORT_DATA).decode()}
    tsm["outblob"] = base64.urlsafe_b64encode(TD).decode()
    for data in (json.dumps(tsm).encode(), dstack(TD)):
        found = read(data)
        assert found is not None
        assert found.stated == {Slot.REPORT_DATA: REPORT_DATA}


def test_zeros_after_a_quote_stay_with_it() -> None:
    found = read(TD + bytes(100))
    assert found is not None
    assert found.items[0].body == TD + bytes(100)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"provider":"sev_guest","outblob":"AAAA"}',
        b'{"provider":7,"outblob":"AAAA"}',
        b'{"quote":"AAAA"}',
        b'{"quote":1.5}',
        b'{"quote":["a"]}',
        b"A" * 4096,
        b"0" * 4096,
        b"0x" + b"f" * 4095,
        bytes(1184),
        b"\0\0\x04a",
        b"-_+/" * 100,
        TD[:40],
    ],
)
def test_files_of_another_kind_are_left_to_others(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize(
    "data",
    [
        TD[:-1],
        TD + b"\x01",
        SGX[:1000],
        TD[:4] + b"\x07" + TD[5:],
        TD[:2] + b"\x03" + TD[3:],
        base64.b64encode(TD[:-2]),
        base64.b64encode(TD)[:-3] + b"=",
        json.dumps({"quote": TD[:-1].hex()}).encode(),
        json.dumps({"provider": "tdx_guest", "outblob": "AAAA"}).encode(),
        json.dumps({"provider": "tdx_guest", "outblob": 7}).encode(),
        json.dumps({"provider": "tdx_guest", "outblob": base64.b64encode(TD).decode(), "inblob": "é"}).encode(),
        dstack(TD) + b"\0",
        dstack(TD)[:-1],
        bytes(MAX_FILE + 1),
    ],
)
def test_broken_files_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


def quote(**quoting: object) -> bytes:
    return intel_chain().td_quote(quoting=quoting)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 7, 99])
def test_quotes_without_their_certificates_are_refused_by_name(kind: int) -> None:
    with pytest.raises(MalformedError, match=f"type {kind} ") as seen:
        read(quote(chain_type=kind))
    assert "PCK certificate chain" in seen.value.remedy


def test_certificates_are_pem_and_nothing_else() -> None:
    chain = intel_chain().pck_chain
    assert read(quote(chain=chain + b"\0")) is not None
    assert read(quote(chain=chain.replace(b"\n", b"\r\n"))) is not None
    for broken in (
        b"",
        b"\0",
        chain + b"\0\0",
        b" " + chain,
        chain + b"x",
        chain.replace(b"-----\n-----", b"-----\n\n-----", 1),
        chain.replace(b"\n", b"\n\x0b", 1),
        chain[:-30],
        chain * 2,
        chain.replace(b"A", b"\xc4", 1),
    ):
        with pytest.raises(MalformedError):
            read(quote(chain=broken))


def test_headers_that_say_something_else_are_refused() -> None:
    def changed(at: int, value: bytes) -> bytes:
        return TD[:at] + value + TD[at + len(value) :]

    for broken in (
        changed(2, b"\x03\0"),  # an attestation key on P-384
        changed(0, b"\x03\0"),  # version 3, of SGX only
        changed(0, b"\x05\0"),  # version 5, whose body has a type
        TD_5[:48] + b"\x05\0" + TD_5[50:],
        TD_5[:50] + b"\x74\x03" + TD_5[52:],
        quote(nested_type=5),
        TD[:632] + sized(TD[636:] + b"\0"),
    ):
        with pytest.raises(MalformedError):
            read(broken)
