"""Every form in which tools write an SEV-SNP report is read, and a broken one is refused, not guessed at."""

from __future__ import annotations

import base64
import json

import pytest

from simulators.sev_snp_chain import Machine, authorities
from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers import amd
from strongroom.attestation.containers.contained import MAX_FILE
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.sev_snp import certificate_table as table
from strongroom.attestation.sev_snp.body import read_body
from strongroom.attestation.sev_snp.certificate_table import MAX_TABLE, CertificateTable, ders_in, table_of
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import Report
from strongroom.core.errors import MalformedError, StrongroomError

MACHINE = Machine(report_data=bytes(range(64)))
REPORT = MACHINE.report()
TABLE = MACHINE.certificates()


def read(data: bytes) -> tuple[bytes, bytes]:
    found = amd.read(data)
    assert found is not None
    (item,) = found.items
    assert item.kind is EvidenceKind.SEV_SNP
    return read_body(item.body)


def configfs(**changed: object) -> bytes:
    blobs = {"outblob": REPORT, "auxblob": TABLE, "inblob": MACHINE.report_data}
    told = {name: base64.b64encode(blob).decode() for name, blob in blobs.items()}
    return json.dumps({"provider": "sev_guest\n", "generation": 1, **told, **changed}).encode()


def test_a_bare_report() -> None:
    assert read(REPORT) == (REPORT, b"")


def test_a_report_and_its_table_with_and_without_padding() -> None:
    assert read(REPORT + TABLE) == (REPORT, TABLE)
    assert read(REPORT + TABLE + bytes(4096)) == (REPORT, TABLE + bytes(4096))
    assert read(REPORT + bytes(4096)) == (REPORT, b"")


def test_the_firmwares_answer() -> None:
    answer = bytes(4) + (1184).to_bytes(4, "little") + bytes(24) + REPORT
    assert read(answer + bytes(4000 - len(answer))) == (REPORT, b"")
    with pytest.raises(MalformedError):
        amd.read(answer + b"\x01")


@pytest.mark.parametrize("written", [base64.b64encode, base64.encodebytes, base64.urlsafe_b64encode])
def test_base64_text(written: object) -> None:
    assert callable(written)
    assert read(written(REPORT + TABLE)) == (REPORT, TABLE)
    assert read(written(REPORT).rstrip(b"=") + b"\n") == (REPORT, b"")


def test_hex_text() -> None:
    assert read(REPORT.hex().encode() + b"\n") == (REPORT, b"")
    assert read(REPORT.hex().upper().encode()) == (REPORT, b"")


def test_configfs_json_says_what_it_was_asked_for() -> None:
    found = amd.read(configfs())
    assert found is not None
    assert found.stated == {Slot.REPORT_DATA: MACHINE.report_data}
    assert read(configfs()) == (REPORT, TABLE)
    bare = base64.urlsafe_b64encode(REPORT).rstrip(b"=").decode()
    for empty in ("", None):
        assert read(configfs(outblob=bare, auxblob=empty)) == (REPORT, b"")


@pytest.mark.parametrize(
    "outblob", ["", "!" * 1580, base64.b64encode(REPORT[:-1]).decode(), base64.b64encode(REPORT).decode() + "-", 5]
)
def test_broken_configfs_json_is_refused(outblob: object) -> None:
    with pytest.raises(MalformedError):
        amd.read(configfs(outblob=outblob))


def test_configfs_json_of_another_maker_is_not_ours() -> None:
    assert amd.read(configfs(provider="tdx_guest\n")) is None
    for other in (b"{}", b'{"a": 1.5}', b"[1]", b"{", b'{"provider": "sev_guest"}'):
        assert amd.read(other) is None


def scale(data: bytes) -> bytes:
    size = len(data)
    if size < 1 << 6:
        return bytes((size << 2,)) + data
    return ((size << 2 | 1).to_bytes(2, "little") if size < 1 << 14 else (size << 2 | 2).to_bytes(4, "little")) + data


def test_dstacks_attestation() -> None:
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
        for der in (MACHINE.certificate(), authorities().ask.der)
    )
    events = b"\x04" + scale(b"boot") + scale(b"x" * 100)
    said = scale(REPORT) + b"\x04" + scale(pem) + scale(b"{}") + events + MACHINE.report_data + scale(b"c" * 20000)
    found = amd.read(b"\x00\x03" + said)
    assert found is not None
    assert found.stated == {Slot.REPORT_DATA: MACHINE.report_data}
    assert found.certificates[1] == authorities().ask.der
    assert read_body(found.items[0].body) == (REPORT, b"")
    for broken in (said + b"\0", said[:-1], scale(REPORT) + b"\xff" + said):
        with pytest.raises(MalformedError):
            amd.read(b"\x00\x03" + broken)


def field(number: int, value: int | bytes) -> bytes:
    def varint(rest: int) -> bytes:
        head = b""
        while rest > 0x7F:
            head += bytes((rest & 0x7F | 0x80,))
            rest >>= 7
        return head + bytes((rest,))

    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value


SIZES = {11: 64, 12: 48, 13: 32, 14: 48, 15: 48, 16: 32, 17: 32}
NUMBERS = {1: (0, 4), 2: (4, 4), 3: (8, 8), 6: (0x30, 4), 7: (0x34, 4), 8: (0x38, 8), 9: (0x40, 8), 10: (0x48, 4)}
VERSIONS = {21: 0x1E8, 22: 0x1E9, 23: 0x1EA, 24: 0x1EC, 25: 0x1ED, 26: 0x1EE}


def protobuf(report: bytes, eax: int, **more: bytes) -> bytes:
    numbers = NUMBERS | {18: (0x180, 8), 20: (0x1E0, 8), 27: (0x1F0, 8), 30: (0x1F8, 8), 31: (0x200, 8)}
    numbers |= {number: (at, 1) for number, at in VERSIONS.items()}
    said = {number: int.from_bytes(report[at : at + size], "little") for number, (at, size) in numbers.items()}
    told = b"".join(field(number, value) for number, value in said.items())
    at = 0x50
    for number, size in SIZES.items():
        told += field(number, report[at : at + size])
        at += size
    told += field(4, report[0x10:0x20]) + field(5, report[0x20:0x30]) + field(19, report[0x1A0:0x1E0])
    told += field(28, report[0x2A0:]) + field(29, eax)
    return field(1, told) + b"".join(field(2, chain) for chain in more.values())


@pytest.mark.parametrize(
    ("product", "version", "eax"),
    [(Product.MILAN, 2, 0), (Product.GENOA, 3, 0x00A10F11), (Product.TURIN, 5, 0x00B00F21)],
)
def test_go_sev_guests_protocol_buffer_is_put_together_again(product: Product, version: int, eax: int) -> None:
    made = Machine(product=product, version=version, mitigations=(3, 7), guest_svn=300)
    report = made.report()
    chain = field(1, made.certificate()) + field(2, authorities(product).ask.der) + field(7, b"\x0a\x01x")
    read_report, read_table = read(protobuf(report, eax, chain=chain))
    assert read_report == report
    parsed = CertificateTable.parse(read_table)
    assert [guid for guid, _contents in parsed.rows] == [table.VCEK, table.ASK]
    assert parsed.rows[1][1] == authorities(product).ask.der
    assert read(protobuf(report, eax)) == (report, b"")


def test_a_broken_protocol_buffer_is_refused_or_gives_another_report() -> None:
    whole = protobuf(REPORT, 0x00A10F11)
    assert amd.read(whole[:-1]) is None
    assert read(protobuf(REPORT, 0x00A00F11))[0] != REPORT
    for wrong in (field(6, 1 << 32), field(12, bytes(48)), field(4, b"")):
        told = field(1, protobuf(REPORT, 0)[3:] + wrong)
        with pytest.raises(MalformedError):
            amd.read(told)


def test_what_is_not_a_report_is_not_ours() -> None:
    for other in (b"", b"\x02\0\0\0", bytes(1184), bytes(5000), b"\x03\0\0\0" * 400, b"hello " * 400, b"ab" * 2000):
        assert amd.read(other) is None


def test_an_unknown_version_and_a_file_without_end_are_refused() -> None:
    with pytest.raises(MalformedError, match="version 6 isn't known"):
        amd.read(b"\x06" + REPORT[1:])
    with pytest.raises(MalformedError, match="at most"):
        amd.read(bytes(MAX_FILE + 1))


@pytest.mark.parametrize(
    ("offset", "where"),
    [(0x4C, "0x4c"), (0x18B, "0x18b"), (0x1EB, "0x1eb"), (0x1EF, "0x1ef"), (0x1F8, "0x1f8"), (0x29F, "0x1f8")],
)
def test_reserved_bytes_are_refused_where_they_stand(offset: int, where: str) -> None:
    changed = REPORT[:offset] + b"\x01" + REPORT[offset + 1 :]
    with pytest.raises(MalformedError, match=where):
        Report.parse(changed)


def test_the_unsigned_end_of_the_signature_field_carries_nothing() -> None:
    for offset in (0x330, 0x49F):
        with pytest.raises(MalformedError, match="0x330"):
            amd.read(REPORT[:offset] + b"\x01" + REPORT[offset + 1 :])


GUIDS = (table.ARK, table.ASK, table.VCEK)


def rows(*spans: tuple[int, int], size: int = 400, end: bytes = bytes(24)) -> bytes:
    head = b"".join(
        guid + at.to_bytes(4, "little") + length.to_bytes(4, "little")
        for guid, (at, length) in zip(GUIDS, spans, strict=False)
    )
    return (head + end).ljust(size, b"x")


BROKEN_TABLES = {
    "no end": rows((96, 10), size=24, end=b""),
    "in its own head": rows((47, 10)),
    "past its end": rows((390, 11)),
    "over the top": rows((0xFFFFFFFF, 0xFFFFFFFF)),
    "overlapping": rows((96, 20), (115, 20)),
    "the same twice": rows((96, 20), (96, 20)),
    "a row without a name": rows(end=bytes(16) + b"\x01" + bytes(7)),
    "too many rows": table_of([(table.ASK, b"x")] * 33),
    "too long": rows(size=MAX_TABLE + 1),
}


@pytest.mark.parametrize("fault", BROKEN_TABLES)
def test_a_broken_table_is_refused(fault: str) -> None:
    with pytest.raises(MalformedError):
        CertificateTable.parse(BROKEN_TABLES[fault])


def test_a_table_reads_as_it_was_written() -> None:
    parsed = CertificateTable.parse(TABLE)
    assert parsed.to_bytes() == TABLE
    assert CertificateTable.parse(b"").rows == ()
    assert CertificateTable.parse(bytes(4096)).rows == ()
    assert CertificateTable.parse(rows((96, 20), (0, 0))).rows == ((table.ARK, b"x" * 20),)


@pytest.mark.parametrize(
    "pem",
    [
        b"-----BEGIN CERTIFICATE-----\nAAAA",
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAA_A\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\nmore",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" * 9,
    ],
)
def test_broken_pem_is_refused(pem: bytes) -> None:
    with pytest.raises(StrongroomError):
        ders_in(pem)
