"""Real reports with one bit changed, cut short, or with a length at its maximum are refused, quickly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.containers import amd
from strongroom.attestation.sev_snp import certificate_table as table
from strongroom.attestation.sev_snp.body import read_body, write_body
from strongroom.attestation.sev_snp.certificate_table import CertificateTable
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifiers.sev_snp import SevSnpVerifier
from strongroom.core.clock import parse_instant
from strongroom.core.errors import StrongroomError
from support.hostile import flips
from support.snp import endorsements
from support.vectors import vectors_folder

VERIFIER = SevSnpVerifier()
AT = parse_instant("2026-01-15T00:00:00Z")
NAMES = ("milan-v2-report.bin", "milan-v2-debug-report.bin", "genoa-v3-configfs-tsm.json")
EACH = pytest.mark.parametrize("name", NAMES)
STRIDE = 13


def parts(name: str) -> tuple[bytes, bytes]:
    """Return a vector's report and its key's certificate, as the row of a table."""
    folder: Path = vectors_folder("attestation/sev-snp")
    found = amd.read((folder / name).read_bytes())
    assert found is not None
    report, certificates = read_body(found.items[0].body)
    if certificates:
        return report, CertificateTable.parse(certificates).certificates(table.VCEK)[0]
    return report, (folder / name.replace("report.bin", "vcek.der")).read_bytes()


def judge(report: bytes, certificates: bytes) -> None:
    statement = VERIFIER.parse(write_body(report, certificates))
    VERIFIER.genuine(statement, RecordedBinding(), endorsements(vendor_anchors()), AT)


def refuses_each(changed: Iterator[bytes], check: Callable[[bytes], None]) -> int:
    count = 0
    for data in changed:
        with pytest.raises(StrongroomError):
            check(data)
        count += 1
    return count


def row(der: bytes) -> bytes:
    return table.table_of(((table.VCEK, der),))


def flipped_certificate(der: bytes, stride: int) -> Iterator[bytes]:
    # The byte before the issuer's RSA signature of 4,096 bits says how many of its last bits don't count. Where those
    # are zero anyway, another number there spells the same signature, and nothing that it signs has changed.
    return flips(der, stride, but=len(der) - 513)


@EACH
def test_one_bit_of_the_report_is_refused(name: str) -> None:
    report, vcek = parts(name)
    judge(report, row(vcek))
    assert refuses_each(flips(report, STRIDE), lambda data: judge(data, row(vcek))) > 700


@EACH
def test_one_bit_of_the_certificate_is_refused(name: str) -> None:
    report, vcek = parts(name)
    assert refuses_each(flipped_certificate(vcek, STRIDE), lambda data: judge(report, row(data))) > 700


@pytest.mark.heavy
@EACH
def test_every_bit_of_report_and_certificate_is_refused(name: str) -> None:
    report, vcek = parts(name)
    refuses_each(flips(report, 1), lambda data: judge(data, row(vcek)))
    refuses_each(flipped_certificate(vcek, 1), lambda data: judge(report, row(data)))


@EACH
def test_every_truncation_and_one_byte_more_are_refused(name: str) -> None:
    report, vcek = parts(name)
    assert refuses_each((report[:size] for size in range(len(report))), lambda data: judge(data, row(vcek))) == 1184
    refuses_each(iter((report + b"\0", report * 2)), lambda data: judge(data, row(vcek)))
    whole = row(vcek)
    refuses_each((whole[:size] for size in range(1, len(whole))), lambda data: judge(report, data))


@EACH
def test_lengths_and_offsets_at_their_maximum_are_refused(name: str) -> None:
    report, vcek = parts(name)
    whole = row(vcek)
    for at in (16, 20):
        for value in (0xFFFFFFFF, 0x80000000, len(whole)):
            changed = whole[:at] + value.to_bytes(4, "little") + whole[at + 4 :]
            with pytest.raises(StrongroomError):
                judge(report, changed)


def test_every_version_that_is_not_known_is_refused_by_name() -> None:
    report, vcek = parts(NAMES[0])
    for version in (0, 1, 6, 7, 0xFFFFFFFF):
        with pytest.raises(StrongroomError, match=f"version {version} isn't known"):
            judge(version.to_bytes(4, "little") + report[4:], row(vcek))
