"""Reports that real processors signed come out as their README says, at their pinned time."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, RecordedBinding, Slot
from strongroom.attestation.containers import amd
from strongroom.attestation.errors import (
    BadSignatureError,
    CollateralMissingError,
    EvidenceReplayedError,
    NotGenuineError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.allowed import ANYTHING
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.policies.sev_snp import Floor, SevSnpPolicy
from strongroom.attestation.sev_snp import certificate_table as table
from strongroom.attestation.sev_snp.body import read_body, write_body
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import FirmwareVersion, SigningKey
from strongroom.attestation.trust_anchors import load_certificate, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.sev_snp import SevSnpStatement, SevSnpVerifier
from strongroom.core.clock import parse_instant
from support.snp import endorsements
from support.vectors import vectors_folder

VERIFIER = SevSnpVerifier()
OPEN = replace(
    SevSnpPolicy.strictest(),
    floors={
        Product.MILAN: Floor(dict.fromkeys(("bootloader", "tee", "snp", "microcode"), 0), FirmwareVersion(1, 49, 0)),
        Product.GENOA: Floor(dict.fromkeys(("bootloader", "tee", "snp", "microcode"), 0), FirmwareVersion(1, 55, 0)),
    },
    signing_keys=(SigningKey.VCEK,),
    allow_smt=True,
    guest_rules=(),
    platform_features=(),
    chips=ANYTHING,
    revocation=RevocationRule.WHEN_PRESENT,
)


@dataclass(frozen=True, slots=True)
class Case:
    file: str
    vcek: str | None
    pin: str
    isolation: IsolationClass
    product: str
    version: int
    refused: tuple[str, ...]
    """The claims that fail even under the open policy."""


CASES = (
    Case(
        "milan-v2-report.bin",
        "milan-v2-vcek.der",
        "2024-01-15T00:00:00Z",
        IsolationClass.CVM_WEAK,
        "milan",
        2,
        (),
    ),
    Case(
        "milan-v2-debug-report.bin",
        "milan-v2-debug-vcek.der",
        "2024-01-15T00:00:00Z",
        IsolationClass.NONE,
        "milan",
        2,
        ("debug",),
    ),
    Case(
        "genoa-v3-configfs-tsm.json",
        None,
        "2026-01-15T00:00:00Z",
        IsolationClass.CVM,
        "genoa",
        3,
        (),
    ),
)
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)


def folder() -> Path:
    return vectors_folder("attestation/sev-snp")


def body(case: Case) -> bytes:
    found = amd.read((folder() / case.file).read_bytes())
    assert found is not None
    assert len(found.items) == 1
    return found.items[0].body


def genuine(case: Case, binding: ItemBinding, *, certificates: tuple[bytes, ...] = ()) -> Genuine[SevSnpStatement]:
    beside = ((folder() / case.vcek).read_bytes(),) if case.vcek else ()
    given = endorsements(vendor_anchors(), certificates=(*beside, *certificates))
    return VERIFIER.genuine(VERIFIER.parse(body(case)), binding, given, parse_instant(case.pin))


@EACH
def test_it_comes_out_as_its_readme_says(case: Case) -> None:
    recorded = genuine(case, RecordedBinding())
    assert not recorded.bound.fresh
    assert recorded.isolation is case.isolation
    assert recorded.details["product"] == case.product
    assert recorded.statement.report.version == case.version
    assert not recorded.revocation_checked
    assert tuple(claim.name for claim in VERIFIER.judge(recorded, OPEN) if not claim.ok) == case.refused
    report_data = recorded.bound.seen[Slot.REPORT_DATA]
    assert genuine(case, ExpectedBinding({Slot.REPORT_DATA: report_data})).bound.fresh


@EACH
def test_other_report_data_is_a_replay(case: Case) -> None:
    report_data = genuine(case, RecordedBinding()).bound.seen[Slot.REPORT_DATA]
    for other in (bytes(63) + b"\x01", report_data[:63], report_data + b"\0"):
        with pytest.raises(EvidenceReplayedError):
            genuine(case, ExpectedBinding({Slot.REPORT_DATA: other}))


@EACH
def test_a_key_that_did_not_sign_it_is_refused(case: Case) -> None:
    wrong = [(folder() / name).read_bytes() for name in ("wrong-vcek-new.der", "milan-v2-vcek.der")]
    wrong += [(folder() / "milan-v2-debug-vcek.der").read_bytes()]
    own = case.vcek and (folder() / case.vcek).read_bytes()
    report, _certificates = read_body(body(case))
    bare = VERIFIER.parse(write_body(report))
    for der in wrong:
        if der == own:
            continue
        given = endorsements(vendor_anchors(), certificates=(der,))
        with pytest.raises(CollateralMissingError):
            VERIFIER.genuine(bare, RecordedBinding(), given, parse_instant(case.pin))
        handed_in = VERIFIER.parse(write_body(report, table.table_of(((table.VCEK, der),))))
        with pytest.raises(BadSignatureError):
            VERIFIER.genuine(handed_in, RecordedBinding(), endorsements(vendor_anchors()), parse_instant(case.pin))


@EACH
def test_outside_its_certificates_time_it_is_refused(case: Case) -> None:
    for pin in ("2019-01-01T00:00:00Z", "2050-01-01T00:00:00Z"):
        with pytest.raises(NotGenuineError):
            genuine(replace(case, pin=pin), RecordedBinding())


def test_the_shipped_roots_are_the_ones_in_the_vectors() -> None:
    shipped = {anchor.certificate for anchor in vendor_anchors().anchors}
    for name in ("milan-ask-ark.pem", "genoa-ask-ark.pem"):
        ders = _ders(folder() / name)
        roots = [der for der in ders if load_certificate(der).issuer == load_certificate(der).subject]
        assert len(roots) == 1
        assert roots[0] in shipped


def test_the_strictest_policy_names_what_the_genoa_machine_lacks() -> None:
    failed = [
        c.name for c in VERIFIER.judge(genuine(CASES[2], RecordedBinding()), SevSnpPolicy.strictest()) if not c.ok
    ]
    assert {"tcb.snp", "tcb.microcode", "smt", "chip", "revocation"} <= set(failed)
    assert "debug" not in failed
    assert "product" not in failed


def _ders(path: Path) -> list[bytes]:
    blocks = path.read_text(encoding="ascii").split("-----BEGIN CERTIFICATE-----")[1:]
    return [b64decode(block.split("-----END")[0]) for block in blocks]
