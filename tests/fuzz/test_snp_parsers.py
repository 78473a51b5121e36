"""Whatever bytes a host hands in as an SEV-SNP report, the answer is a value or an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.sev_snp_chain import Machine, anchors
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.containers import amd
from strongroom.attestation.policies.sev_snp import SevSnpPolicy
from strongroom.attestation.sev_snp.body import write_body
from strongroom.attestation.sev_snp.certificate_table import CertificateTable, ders_in
from strongroom.attestation.sev_snp.endorsement_key import EndorsementKey
from strongroom.attestation.sev_snp.report import Report
from strongroom.attestation.trust_anchors import load_certificate
from strongroom.attestation.verifiers.sev_snp import SevSnpVerifier
from strongroom.core.canonical import encode, parse
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from support.snp import endorsements

VERIFIER = SevSnpVerifier()
REPORT = Machine().report()
TABLE = Machine().certificates()
POLICY = encode(SevSnpPolicy.strictest().to_json())


def key(data: bytes) -> object:
    return EndorsementKey.read(load_certificate(data))


def policy(data: bytes) -> object:
    with Fields(parse(data), "sev-snp") as fields:
        return SevSnpPolicy.read(fields)


PARSERS: dict[Callable[[bytes], object], bytes] = {
    Report.parse: REPORT,
    CertificateTable.parse: TABLE,
    ders_in: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    key: Machine().certificate(),
    VERIFIER.parse: Machine().body(),
    amd.read: REPORT + TABLE,
    policy: POLICY,
}


@given(st.data(), st.sampled_from(list(PARSERS)))
def test_anything_is_answered(data: st.DataObject, parser: Callable[[bytes], object]) -> None:
    with suppress(StrongroomError):
        parser(data.draw(st.binary(max_size=2000)))


@given(st.data(), st.sampled_from(list(PARSERS)))
def test_a_good_one_with_some_bytes_changed_is_answered(data: st.DataObject, parser: Callable[[bytes], object]) -> None:
    changed = bytearray(PARSERS[parser])
    for at in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=4)):
        changed[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)))
    with suppress(StrongroomError):
        parser(bytes(changed[:cut] if data.draw(st.booleans()) else changed))


@given(st.binary(max_size=64), st.integers(0, len(TABLE) - 1))
def test_a_table_with_anything_in_it_makes_no_report_genuine_that_was_not_signed(noise: bytes, at: int) -> None:
    changed = TABLE[:at] + noise + TABLE[at + len(noise) :]
    forged = REPORT[:0x90] + bytes(48) + REPORT[0xC0:]
    with suppress(StrongroomError):
        statement = VERIFIER.parse(write_body(forged, changed))
        VERIFIER.genuine(statement, RecordedBinding(), endorsements(anchors()), 1_795_000_000)
        raise AssertionError("a report that nobody signed is genuine")


@settings(deadline=None)
@given(st.sampled_from(["1", "2", "3.1", "3.8", "4", "5"]), st.binary(max_size=70))
def test_any_contents_of_amds_extensions_are_answered(part: str, value: bytes) -> None:
    der = replace(Machine(), extensions={part: value}).certificate()
    with suppress(StrongroomError):
        EndorsementKey.read(load_certificate(der))
