"""Quotes that real TPMs made: a virtual TPM of Google Compute Engine, and an RSA one from Confidential Containers."""

from __future__ import annotations

import pytest

from strongroom.attestation.bindings import ExpectedBinding, RecordedBinding, Slot
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.containers.contained import Contained
from strongroom.attestation.containers.tpm import read
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import ChainRefusedError, EvidenceReplayedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.allowed import Allowed
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.policies.tpm2 import Bank, LogRule, SecureBootRule, Tpm2Policy, Voucher
from strongroom.attestation.tpm.event_log import EventLog, replay
from strongroom.attestation.tpm.public_area import PublicArea
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.attestation.trust_anchors import TrustAnchors, Vendor, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier, TpmEvidence
from support.vectors import vectors_folder

AT = 1_795_000_000
COMPUTE_ENGINE = "gce-cos-85-nonce9009.pb"
RSA = "tpm-rsa-quote.json"
NONCES = {
    COMPUTE_ENGINE: bytes.fromhex("9009"),
    RSA: bytes.fromhex(
        "a04182b506878d4f29b91ee606a71a0d3361ccf1b22db20c98adcaa537bea393ef0e41a18b3569ab678f1497fbc5c120"
    )
    + bytes(16),
}
VERIFIER = Tpm2Verifier()
ENDORSEMENTS = Endorsements(anchors=vendor_anchors())
POLICY = Tpm2Policy(
    clock_must_be_safe=True,
    banks=(Bank.SHA256,),
    event_log=LogRule.FIRMWARE,
    secure_boot=SecureBootRule.REQUIRED,
    firmware_versions=Allowed(("2016051100162800",)),
    ak_vouched_by=(Voucher.CERTIFICATE,),
    revocation=RevocationRule.WHEN_PRESENT,
)


def contained(name: str) -> Contained:
    found = read((vectors_folder("attestation/tpm") / name).read_bytes())
    assert found is not None
    return found


def judged(name: str, endorsements: Endorsements = ENDORSEMENTS) -> Genuine[TpmEvidence]:
    parsed = VERIFIER.parse(contained(name).items[0].body)
    return VERIFIER.genuine(parsed, ExpectedBinding({Slot.QUALIFYING_DATA: NONCES[name]}), endorsements, AT)


def test_the_compute_engine_attestation_is_genuine_and_its_log_replays() -> None:
    proven = judged(COMPUTE_ENGINE)
    assert proven.isolation is IsolationClass.MEASURED_HOST
    assert [claim.name for claim in VERIFIER.judge(proven, POLICY) if not claim.ok] == []
    assert proven.details["firmware log"] == "replays to PCR 0 1 2 3 4 5 6 7 8 9"
    assert proven.details["boot loader's last text"].startswith("/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd ")
    assert proven.measurements["pcr0"] == "0f35c214608d93c7a6e68ae7359b4a8be5a0e99eea9107ece427c4dea4e439cf"
    assert proven.details["compute engine instance"].endswith("/us-central1-a/cos-test (6797026933021542085)")
    assert (proven.reset_count, proven.endorsed_until) == (10, 2_576_531_765)


def test_the_compute_engine_log_replays_in_all_three_banks() -> None:
    log = EventLog.parse(TpmStatement.parse(contained(COMPUTE_ENGINE).items[0].body).event_log)
    assert log.banks == {0x0004, 0x000B, 0x000C}
    assert replay(log, 0x0004)[0].hex().startswith("c032c3b51dbb6f96b04742")
    assert replay(log, 0x000C)[0].hex().startswith("46ce251b0b5b3da7917c5e")


def test_the_compute_engine_key_is_an_attestation_key_by_its_own_word_too() -> None:
    statement = TpmStatement.parse(contained(COMPUTE_ENGINE).items[0].body)
    PublicArea.parse(statement.ak_public).require_attestation_key()
    assert len(statement.ak_certificates) == 1


def test_googles_other_root_or_none_refuses() -> None:
    roots = vendor_anchors().of(Vendor.GOOGLE_VTPM)
    for anchors in ((), roots[:1], tuple(a for a in vendor_anchors().anchors if a.vendor is not Vendor.GOOGLE_VTPM)):
        with pytest.raises(ChainRefusedError):
            judged(COMPUTE_ENGINE, Endorsements(anchors=TrustAnchors(anchors)))


def test_google_intermediates_that_came_along_do_no_harm() -> None:
    folder = vectors_folder("attestation/tpm")
    items = tuple(
        CollateralItem(
            kind=CollateralKind.CERTIFICATE, name=path.name, data=path.read_bytes(), not_before=0, not_after=AT
        )
        for path in sorted(folder.glob("*.c*r*"))
    )
    assert len(items) == 5
    assert judged(COMPUTE_ENGINE, Endorsements(anchors=vendor_anchors(), collateral=Collateral(items))).endorsed_until


def test_the_rsa_quote_is_genuine_and_nobodys() -> None:
    proven = judged(RSA)
    assert proven.isolation is IsolationClass.NONE
    assert proven.details["attestation key"] == "nobody vouches for this key"
    assert proven.measurements["pcr0"] == "00" * 32
    failed = [claim.name for claim in VERIFIER.judge(proven, POLICY) if not claim.ok]
    assert failed == ["key-vouched-by", "tpm-firmware", "event-log", "secure-boot"]


@pytest.mark.parametrize("name", NONCES)
def test_each_is_bound_to_its_nonce_and_to_no_other(name: str) -> None:
    parsed = VERIFIER.parse(contained(name).items[0].body)
    recorded = VERIFIER.genuine(parsed, RecordedBinding(), ENDORSEMENTS, AT).bound
    assert (recorded.fresh, recorded.seen) == (False, {Slot.QUALIFYING_DATA: NONCES[name]})
    for wrong in (NONCES[name] + b"\0", NONCES[name][:-1], bytes(32)):
        with pytest.raises(EvidenceReplayedError):
            VERIFIER.genuine(parsed, ExpectedBinding({Slot.QUALIFYING_DATA: wrong}), ENDORSEMENTS, AT)
