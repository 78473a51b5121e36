"""A trust domain's quote is genuine step by step and wanted rule by rule; the numbers are those of the verifier."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.intel_chain import (
    CPU_SVN,
    DAY,
    FMSPC,
    NEXT_UPDATE,
    NOW,
    PPID,
    REPORT_DATA,
    IntelChain,
    Signer,
    flag,
    intel_chain,
    pair,
    point,
    sgx_extension,
    tlv,
)
from strongroom.attestation.bindings import ExpectedBinding, RecordedBinding, Slot
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    CertificateRevokedError,
    ChainRefusedError,
    CollateralExpiredError,
    DebugModeError,
    EvidenceAmbiguousError,
    EvidenceReplayedError,
    TcbRefusedError,
    UnsafeAttributesError,
    WrongStructureError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.tdx import TdxPolicy
from strongroom.attestation.tdx.bodies import BodyType
from strongroom.attestation.tdx.tcb import TcbStatus
from strongroom.attestation.trust_anchors import TrustAnchors, vendor_anchors
from strongroom.attestation.verifiers import intel as steps
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.extras import need
from support.trust_domains import BINDING, BODIES, VERIFIER, attributes, proven, refused


@pytest.mark.parametrize("body", BODIES)
def test_an_honest_quote_of_every_version_is_genuine_and_wanted(body: BodyType) -> None:
    found = proven(intel_chain().td_quote(body=body))
    assert refused(found) == []
    assert found.bound.fresh
    assert found.isolation is IsolationClass.VM_SIMULATED
    assert found.hardware_id == PPID
    assert found.revocation_checked
    assert found.endorsed_until == NEXT_UPDATE
    assert found.measurements["mrtd"] == "d0" * 48
    assert found.measurements["rtmr3"] == "e3" * 48
    assert VERIFIER.reference_names | VERIFIER.optional_names == found.measurements.keys()


def test_a_1_0_report_in_a_quote_of_version_5_is_read_too() -> None:
    assert refused(proven(intel_chain().td_quote(body=BodyType.TD_1_0, version=5))) == []


def test_zeros_of_the_drivers_buffer_are_no_part_of_the_quote() -> None:
    quote = intel_chain().td_quote()
    assert VERIFIER.parse(quote + bytes(8192 - len(quote))) == VERIFIER.parse(quote)
    for rest in (b"\x01", bytes(100) + b"\x01", quote):
        with pytest.raises(MalformedError, match="followed by"):
            VERIFIER.parse(quote + rest)
    with pytest.raises(MalformedError):
        VERIFIER.parse(quote + bytes(VERIFIER.max_bytes))


def test_production_anchors_refuse_simulated_quotes() -> None:
    chain = intel_chain()
    about = Endorsements(anchors=vendor_anchors(), collateral=chain.endorsements(chain.collateral()).collateral)
    with pytest.raises(ChainRefusedError):
        VERIFIER.genuine(VERIFIER.parse(chain.td_quote()), BINDING, about, NOW)


# 1.


def test_a_report_changed_after_it_was_signed_is_refused() -> None:
    quote = intel_chain().td_quote()
    with pytest.raises(BadSignatureError, match="attestation key"):
        proven(quote.replace(b"\xe1" * 48, b"\xe4" * 48))


def test_an_attestation_key_off_the_curve_is_refused() -> None:
    quote = intel_chain().td_quote()
    with pytest.raises(BadSignatureError, match="P-256"):
        proven(quote.replace(point(intel_chain().quoting_key), b"\x01" * 64))


# 2.


def test_a_quoting_enclave_that_speaks_for_another_key_is_refused() -> None:
    other = point(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(WrongStructureError, match="another attestation key"):
        proven(intel_chain().td_quote(quoting={"committed": other}))


# 3.


def test_a_quoting_enclave_that_another_platform_vouches_for_is_refused() -> None:
    other = Signer.make("other", intel_chain().pck_ca, extension=sgx_extension())
    with pytest.raises(BadSignatureError, match="PCK"):
        proven(intel_chain().td_quote(quoting={"qe_signer": other}))


@pytest.mark.parametrize(
    "extension",
    [
        None,
        tlv(0x30, b""),
        sgx_extension(ppid=bytes(15)),
        sgx_extension(fmspc=bytes(7)),
        sgx_extension() + b"\0",
        tlv(0x31, sgx_extension()[4:]),
        tlv(0x30, sgx_extension()[4:] + pair((4,), tlv(0x04, FMSPC))),
        sgx_extension().replace(pair((7, 1), flag(value=False)), pair((7, 1), tlv(0x01, b"\x01"))),
    ],
)
def test_a_certificate_without_intels_extension_or_with_a_broken_one_is_refused(extension: bytes | None) -> None:
    chain = intel_chain()
    pck = Signer.make("Simulated SGX PCK Certificate", chain.pck_ca, extension=extension)
    broken = replace(chain, pck=pck)
    with pytest.raises(MalformedError):
        proven(broken.td_quote(), chain=broken)


def test_a_pck_certificate_of_another_ca_is_refused() -> None:
    chain = intel_chain()
    ca = Signer.make("Simulated SGX Other CA", chain.root, authority=True)
    broken = replace(chain, pck_ca=ca, pck=Signer.make("pck", ca, extension=sgx_extension()))
    with pytest.raises(MalformedError, match="PCK Platform CA"):
        proven(broken.td_quote(), chain=broken, collateral=())


# 4.


def test_another_root_of_the_same_name_is_refused() -> None:
    other = IntelChain.make()
    about = intel_chain().endorsements(intel_chain().collateral())
    with pytest.raises(ChainRefusedError):
        VERIFIER.genuine(VERIFIER.parse(other.td_quote()), BINDING, about, NOW)


def test_no_roots_at_all_refuse() -> None:
    with pytest.raises(ChainRefusedError):
        VERIFIER.genuine(VERIFIER.parse(intel_chain().td_quote()), BINDING, Endorsements(anchors=TrustAnchors(())), NOW)


def test_an_older_certificate_of_the_same_root_is_no_hindrance_and_a_broken_one_is() -> None:
    chain = intel_chain()
    older = Signer.make("Simulated SGX Root CA", authority=True, room=1, key=chain.root.key, days=30)
    below = chain.pck.pem + chain.pck_ca.pem
    for pems in (below, below + older.pem):
        assert refused(proven(chain.td_quote(quoting={"chain": pems.encode()}))) == []
    broken = Signer.make("Simulated SGX Root CA", chain.root, authority=True, room=1)
    for pems in (below + broken.pem, chain.pck.pem + chain.root.pem, chain.pck.pem, below + below + older.pem):
        with pytest.raises((ChainRefusedError, MalformedError)):
            proven(chain.td_quote(quoting={"chain": pems.encode()}))


def test_certificates_that_ended_are_refused() -> None:
    chain = IntelChain.make(days=3)
    assert proven(chain=chain).endorsed_until == NOW + DAY
    with pytest.raises(ChainRefusedError, match="valid at this time"):
        proven(chain=chain, at=NOW + 2 * DAY)


@pytest.mark.parametrize("name", ["pck", "pck_ca"])
def test_a_platform_that_intel_revoked_is_refused(name: str) -> None:
    chain = intel_chain()
    collateral = chain.collateral(revoked=(getattr(chain, name),))
    with pytest.raises(CertificateRevokedError):
        proven(collateral=(collateral,))
    # The library looks it up by itself.
    dcap_qvl = need("dcap_qvl", extra="intel")
    theirs = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
    with pytest.raises(ValueError, match="certificate chain"):
        dcap_qvl.verify_with_root_ca(chain.td_quote(), theirs, chain.root.der, NOW)


def test_a_platform_on_another_list_of_its_issuer_is_refused() -> None:
    chain = intel_chain()
    about = chain.endorsements(chain.collateral())
    item = CollateralItem(
        kind=CollateralKind.REVOCATION_LIST,
        name="",
        data=chain.pck_ca.revokes(chain.pck),
        not_before=0,
        not_after=NEXT_UPDATE,
    )
    about = replace(about, collateral=Collateral((*about.collateral.items, item)))
    with pytest.raises(CertificateRevokedError):
        VERIFIER.genuine(VERIFIER.parse(chain.td_quote()), BINDING, about, NOW)


# 5.


def test_other_report_data_is_a_replay() -> None:
    for data in (bytes(64), REPORT_DATA[::-1]):
        with pytest.raises(EvidenceReplayedError):
            proven(intel_chain().td_quote(data))
    with pytest.raises(UsageError):
        proven(binding=ExpectedBinding({Slot.NONCE: b"n"}))
    assert not proven(binding=RecordedBinding()).bound.fresh


# 6. and 7.


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("collateral", [None, ()])
def test_a_domain_under_debug_is_refused_with_collateral_or_without(
    bit: int, collateral: tuple[bytes, ...] | None
) -> None:
    quote = intel_chain().td_quote(td_attributes=attributes(28, bit))
    with pytest.raises(DebugModeError) as seen:
        proven(quote, collateral=collateral)
    assert (seen.value.seen == "debug") == (bit == 0)


UNSAFE: Mapping[str, tuple[BodyType, dict[str, Any]]] = {
    "no-sept-ve-disable": (BodyType.TD_1_0, {"td_attributes": bytes(8)}),
    "migratable": (BodyType.TD_1_0, {"td_attributes": attributes(28, 29)}),
    "service-td-extension": (BodyType.TD_1_5_EXTENDED, {"td_attributes": attributes(28, 17)}),
    "service-td": (BodyType.TD_1_5, {"mr_service_td": b"\x01" * 48}),
    "service-td, at launch": (BodyType.TD_1_5_EXTENDED, {"init_service_td_hash": b"\x01" * 48}),
    "service-td, by now": (BodyType.TD_1_5_EXTENDED, {"cur_service_td_hash": b"\x01" * 48}),
    "partition": (BodyType.TD_1_5_EXTENDED, {"vmid": b"\x01"}),
    "bit-21": (BodyType.TD_1_5, {"td_attributes": attributes(28, 21)}),
    "bit-40": (BodyType.TD_1_0, {"td_attributes": attributes(28, 40)}),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_a_domain_that_others_may_enter_is_refused(name: str) -> None:
    body, fields = UNSAFE[name]
    with pytest.raises(UnsafeAttributesError) as seen:
        proven(intel_chain().td_quote(body=body, **fields))
    assert seen.value.seen == name.partition(",")[0]


# 8.


def test_without_collateral_no_policy_takes_the_platform_and_the_claim_names_what_to_import() -> None:
    chain = intel_chain()
    for collateral in ((), (chain.collateral(tee="SGX"),)):
        found = proven(collateral=collateral)
        assert (found.isolation, found.revocation_checked) == (IsolationClass.NONE, False)
        every_status = replace(TdxPolicy.strictest().platform, statuses=tuple(TcbStatus))
        every = replace(TdxPolicy.strictest(), platform=every_status)
        failed = {claim.name: claim.seen for claim in VERIFIER.judge(found, every) if not claim.ok}
        assert "00a0b0c0d0e0/platform" in failed["tcb-status"]


def test_collateral_that_ended_or_lies_ahead_is_refused() -> None:
    chain = intel_chain()
    with pytest.raises(CollateralExpiredError):
        proven(collateral=(chain.collateral(next_update=NOW - 1),))
    assert proven(collateral=(chain.collateral(issued=NOW + 1),)).isolation is IsolationClass.NONE


def test_a_platform_can_t_sign_for_itself_that_it_is_up_to_date() -> None:
    chain = intel_chain()
    told = json.loads(chain.collateral(signer=chain.pck))
    own = chain.pck.pem + chain.pck_ca.pem + chain.root.pem
    for members in (
        {"tcb_info_issuer_chain": own, "qe_identity_issuer_chain": own},
        {"tcb_info_issuer_chain": own},
        {"qe_identity_issuer_chain": own},
    ):
        with pytest.raises(TcbRefusedError, match="another certificate"):
            proven(collateral=(json.dumps(told | members).encode(),))


@pytest.mark.parametrize("label", ["TRUSTED CERTIFICATE", "X509 CRL", "ANYTHING"])
def test_no_second_reader_finds_another_signer_in_an_issuer_chain(label: str) -> None:
    # Whoever reads blocks of every label sees the platform's own certificate first, and Intel's only then.
    chain = intel_chain()
    told = json.loads(chain.collateral(signer=chain.pck))
    hidden = chain.pck.pem.replace("CERTIFICATE", label)
    issuers = hidden + chain.tcb_signer.pem + chain.pck_ca.pem + chain.root.pem
    told |= {"tcb_info_issuer_chain": issuers, "qe_identity_issuer_chain": issuers}
    with pytest.raises(TcbRefusedError, match="doesn't vouch"):
        proven(collateral=(json.dumps(told).encode(),))


def test_a_platform_without_identity_is_no_platform_in_particular() -> None:
    chain = intel_chain().with_extension(sgx_extension(ppid=bytes(16)))
    found = proven(chain=chain)
    assert found.hardware_id == b""
    assert refused(found) == ["platform"]


def test_the_newest_collateral_that_was_there_is_taken() -> None:
    chain = intel_chain()
    older = chain.collateral(issued=NOW - 20 * DAY, evaluation=18)
    newer = chain.collateral(issued=NOW - 2, evaluation=21)
    ahead = chain.collateral(issued=NOW + 2, evaluation=22)
    for order in ((older, newer, ahead), (ahead, newer, older)):
        assert proven(collateral=order).details["tcb-evaluation-number"] == "21"


# 9.

WRONG: Mapping[str, Callable[[IntelChain], bytes]] = {
    "signed by another": lambda chain: chain.collateral(signer=Signer.make("other", chain.root)),
    "signed by somebody revoked": lambda chain: chain.collateral(revoked=(chain.tcb_signer,)),
    "lists that ended": lambda chain: chain.collateral(lists_end=NOW - 1),
    "another platform": lambda chain: chain.collateral(tcb_info={"pceId": "0001", "tcbLevels": []}),
    "a revoked level": lambda chain: chain.collateral(status="Revoked"),
    "a status nobody knows": lambda chain: chain.collateral(status="Splendid"),
    "another quoting enclave": lambda chain: chain.collateral(identity={"mrsigner": "00" * 32}),
    "a newer quoting enclave": lambda chain: chain.collateral(
        identity={"tcbLevels": [{"tcb": {"isvsvn": 9}, "tcbDate": "2025-08-13T00:00:00Z", "tcbStatus": "UpToDate"}]}
    ),
    "the identity of SGX": lambda chain: chain.collateral(identity={"id": "QE"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_collateral_that_does_not_vouch_is_refused(name: str) -> None:
    with pytest.raises(TcbRefusedError):
        proven(collateral=(WRONG[name](intel_chain()),))


def test_a_quoting_enclave_under_debug_is_refused() -> None:
    with pytest.raises(TcbRefusedError):
        proven(intel_chain().td_quote(quoting={"qe_fields": {"attributes": bytes([0x17]) + bytes(15)}}))


def test_a_platform_below_every_level_is_refused() -> None:
    chain = IntelChain.make(extension=sgx_extension(cpu_svn=bytes((3,)) + CPU_SVN[1:]))
    with pytest.raises(TcbRefusedError, match="vouch"):
        proven(chain=chain)


def test_collateral_that_is_not_collateral_is_malformed() -> None:
    for data in (b"", b"{}", b"[]", intel_chain().collateral().replace(b'"pck_crl":', b'"pck":')):
        with pytest.raises(MalformedError):
            proven(collateral=(data,))


# 10.


def test_parsers_that_disagree_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = steps.library_form

    def other(body: Any) -> dict[str, object]:
        return ours(body) | {"mr_td": "00" * 48}

    monkeypatch.setattr(steps, "library_form", other)
    with pytest.raises(EvidenceAmbiguousError, match="report"):
        proven()
