"""An enclave's quote is genuine step by step, as a trust domain's is, and wanted rule by rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from simulators.intel_chain import NOW, PPID, REPORT_DATA, SGX_FIELDS, IntelChain, intel_chain
from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, RecordedBinding, Slot
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    ChainRefusedError,
    DebugModeError,
    EvidenceReplayedError,
    UnsafeAttributesError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.allowed import ANYTHING, NOTHING, Allowed
from strongroom.attestation.policies.sgx import SgxPolicy
from strongroom.attestation.tdx.bodies import SgxAttribute
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.sgx import SgxStatement, SgxVerifier
from strongroom.attestation.verifiers.tdx import TdxVerifier
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields

BINDING = ExpectedBinding({Slot.REPORT_DATA: REPORT_DATA})
VERIFIER = SgxVerifier()
STRICT = SgxPolicy.strictest()
POLICY = replace(
    STRICT,
    platform=replace(STRICT.platform, platforms=Allowed((PPID.hex(),))),
    mr_signers=Allowed(("51" * 32,)),
    isv_prod_ids=Allowed(("7",)),
    isv_svn=3,
)
XFRM = SGX_FIELDS["attributes"][8:]


def proven(
    quote: bytes | None = None,
    *,
    chain: IntelChain | None = None,
    collateral: tuple[bytes, ...] | None = None,
    binding: ItemBinding = BINDING,
) -> Genuine[SgxStatement]:
    made_by = chain or intel_chain()
    statement = VERIFIER.parse(made_by.sgx_quote() if quote is None else quote)
    about = made_by.endorsements(*((made_by.collateral(tee="SGX"),) if collateral is None else collateral))
    return VERIFIER.genuine(statement, binding, about, NOW)


def refused(found: Genuine[SgxStatement], policy: SgxPolicy = POLICY) -> list[str]:
    return [claim.name for claim in VERIFIER.judge(found, policy) if not claim.ok]


def flags(*bits: int) -> bytes:
    return sum(1 << bit for bit in bits).to_bytes(8, "little") + XFRM


def test_an_honest_quote_is_genuine_and_wanted() -> None:
    found = proven()
    assert refused(found) == []
    assert found.bound.fresh
    assert found.isolation is IsolationClass.VM_SIMULATED
    assert found.revocation_checked
    assert found.measurements["mrenclave"] == "ec" * 32
    assert found.measurements["isv_prod_id"] == "7"
    assert VERIFIER.reference_names | VERIFIER.optional_names == found.measurements.keys()
    assert refused(found, STRICT) == ["platform", "mr-signer", "isv-prod-id"]


def test_every_field_of_an_enclaves_report_is_the_one_that_the_library_reads() -> None:
    odd: dict[str, Any] = {
        "misc_select": b"\x01\0\0\0",
        "isv_ext_prod_id": bytes(range(16)),
        "config_id": bytes(range(64)),
        "config_svn": b"\x34\x12",
        "isv_family_id": bytes(range(16, 32)),
    }
    found = proven(intel_chain().sgx_quote(attributes=flags(0, 2, 7), **odd))
    report = found.statement.quote.body
    assert (report.config_svn, report.misc_select) == (0x1234, 1)
    assert refused(found) == ["attributes", "config-id"]


def test_reserved_bytes_that_are_not_zero_are_refused() -> None:
    for name in ("reserved1", "reserved2", "reserved3", "reserved4"):
        changed: dict[str, Any] = {name: b"\x01"}
        with pytest.raises(MalformedError, match="reserved"):
            proven(intel_chain().sgx_quote(**changed))


def test_production_anchors_refuse_simulated_quotes() -> None:
    chain = intel_chain()
    about = Endorsements(
        anchors=vendor_anchors(), collateral=chain.endorsements(chain.collateral(tee="SGX")).collateral
    )
    with pytest.raises(ChainRefusedError):
        VERIFIER.genuine(VERIFIER.parse(chain.sgx_quote()), BINDING, about, NOW)


def test_a_report_changed_after_it_was_signed_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        proven(intel_chain().sgx_quote().replace(b"\xec" * 32, b"\xed" * 32))


def test_other_report_data_is_a_replay() -> None:
    with pytest.raises(EvidenceReplayedError):
        proven(intel_chain().sgx_quote(bytes(64)))
    assert not proven(binding=RecordedBinding()).bound.fresh


@pytest.mark.parametrize("collateral", [None, ()])
def test_an_enclave_under_debug_is_refused_with_collateral_or_without(collateral: tuple[bytes, ...] | None) -> None:
    with pytest.raises(DebugModeError):
        proven(intel_chain().sgx_quote(attributes=flags(0, 1, 2)), collateral=collateral)


def test_an_enclave_that_was_never_initialised_is_refused() -> None:
    with pytest.raises(UnsafeAttributesError):
        proven(intel_chain().sgx_quote(attributes=flags(2)))


def test_collateral_of_trust_domains_says_nothing_of_enclaves() -> None:
    found = proven(collateral=(intel_chain().collateral(),))
    assert found.isolation is IsolationClass.NONE
    assert "SGX" in found.details["tcb-status"]


def test_a_quote_of_the_other_kind_is_not_read() -> None:
    with pytest.raises(MalformedError, match="enclave"):
        VERIFIER.parse(intel_chain().td_quote())
    with pytest.raises(MalformedError, match="trust domain"):
        TdxVerifier().parse(intel_chain().sgx_quote())


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded"])
def test_a_status_that_is_not_listed_refuses(status: str) -> None:
    found = proven(collateral=(intel_chain().collateral(tee="SGX", status=status, advisories=("INTEL-SA-00615",)),))
    assert refused(found) == ["tcb-status", "advisories"]


@pytest.mark.parametrize(
    ("bit", "attribute"),
    [
        (4, SgxAttribute.PROVISION_KEY),
        (5, SgxAttribute.LAUNCH_KEY),
        (6, SgxAttribute.CET),
        (7, SgxAttribute.KSS),
        (10, SgxAttribute.AEX_NOTIFY),
    ],
)
def test_each_attribute_is_refused_unless_listed(bit: int, attribute: SgxAttribute) -> None:
    found = proven(intel_chain().sgx_quote(attributes=flags(0, 2, bit)))
    assert refused(found) == ["attributes"]
    assert refused(found, replace(POLICY, attributes=(*POLICY.attributes, attribute))) == []
    assert refused(proven(), replace(POLICY, attributes=(attribute,))) == ["attributes"]


def test_an_attribute_that_nobody_knows_is_refused() -> None:
    found = proven(intel_chain().sgx_quote(attributes=flags(0, 2, 40)))
    everything = tuple(set(SgxAttribute) - {SgxAttribute.DEBUG, SgxAttribute.INIT})
    assert refused(found, replace(POLICY, attributes=everything)) == ["attributes"]


RULES: Mapping[str, tuple[SgxPolicy, str]] = {
    "xfrm": (replace(POLICY, xfrm=0x3), "xfrm"),
    "mr_signers": (replace(POLICY, mr_signers=NOTHING), "mr-signer"),
    "isv_prod_ids": (replace(POLICY, isv_prod_ids=Allowed(("8",))), "isv-prod-id"),
    "isv_svn": (replace(POLICY, isv_svn=4), "isv-svn"),
    "config_ids": (replace(POLICY, config_ids=Allowed(("11" * 64,))), "config-id"),
    "platforms": (replace(POLICY, platform=replace(POLICY.platform, platforms=NOTHING)), "platform"),
    "evaluation_number": (
        replace(POLICY, platform=replace(POLICY.platform, evaluation_number=21)),
        "tcb-evaluation-number",
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_refuses_by_its_name(name: str) -> None:
    policy, claim = RULES[name]
    assert refused(proven(), policy) == [claim]


def test_extra_state_that_is_saved_is_refused_unless_allowed() -> None:
    found = proven(intel_chain().sgx_quote(misc_select=b"\x02\0\0\0"))
    assert refused(found) == ["misc-select"]
    assert refused(found, replace(POLICY, misc_select=0x3)) == []


def test_a_quote_that_was_not_proven_is_not_judged() -> None:
    found = replace(proven(), statement=VERIFIER.parse(intel_chain().sgx_quote()))
    with pytest.raises(UsageError):
        VERIFIER.judge(found, POLICY)


def read(value: Any) -> SgxPolicy:
    with Fields(value, "policy") as fields:
        return SgxPolicy.read(fields)


def test_policies_are_read_as_they_are_written_and_nothing_may_be_left_out() -> None:
    for policy in (STRICT, POLICY, replace(POLICY, mr_signers=ANYTHING, attributes=(SgxAttribute.KSS,))):
        assert read(policy.to_json()) == policy
    told = POLICY.to_json()
    for name in told:
        with pytest.raises(MalformedError):
            read({key: value for key, value in told.items() if key != name})
    for changed in (
        {"attributes": ["debug"]},
        {"attributes": ["init"]},
        {"isv_prod_ids": ["07"]},
        {"isv_svn": 65536},
        {"misc_select": "1"},
        {"mr_signers": ["51" * 31]},
        {"more": 1},
    ):
        with pytest.raises(MalformedError):
            read(told | changed)
