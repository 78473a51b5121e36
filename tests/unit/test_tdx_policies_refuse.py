"""A genuine quote of a trust domain is wanted rule by rule, and each rule refuses by its own name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from simulators.intel_chain import (
    NOW,
    TEE_TCB_SVN,
    IntelChain,
    intel_chain,
    sgx_extension,
)
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.allowed import ANYTHING, NOTHING, Allowed
from strongroom.attestation.policies.tdx import TdxPolicy
from strongroom.attestation.tdx.bodies import BodyType, TdAttribute
from strongroom.attestation.tdx.pck import PckCa
from strongroom.attestation.tdx.tcb import TcbStatus
from strongroom.attestation.trust_anchors import TrustAnchors
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields
from support.trust_domains import BINDING, POLICY, STRICT, VERIFIER, attributes, proven, refused


@pytest.mark.parametrize("status", [status for status in TcbStatus if "Relaunch" not in status])
def test_every_status_but_up_to_date_is_weaker_and_refused_unless_listed(status: TcbStatus) -> None:
    found = proven(collateral=(intel_chain().collateral(status=status.value),))
    wanted = [] if status is TcbStatus.UP_TO_DATE else ["tcb-status"]
    assert refused(found) == wanted
    assert refused(found, replace(POLICY, platform=replace(POLICY.platform, statuses=tuple(TcbStatus)))) == []


def test_a_platform_that_is_not_up_to_date_is_weaker() -> None:
    chain = intel_chain()
    real = replace(chain.anchor, isolation=IsolationClass.CVM)
    for status, isolation in (("UpToDate", IsolationClass.CVM), ("SWHardeningNeeded", IsolationClass.CVM_WEAK)):
        about = chain.endorsements(chain.collateral(status=status))
        about = Endorsements(anchors=TrustAnchors((real,)), collateral=about.collateral)
        assert VERIFIER.genuine(VERIFIER.parse(chain.td_quote()), BINDING, about, NOW).isolation is isolation


def test_a_domain_launched_on_an_older_module_is_told_to_relaunch_and_refused() -> None:
    chain = intel_chain()
    old = {
        "tcb": {"isvsvn": 4},
        "tcbDate": "2024-03-13T00:00:00Z",
        "tcbStatus": "OutOfDate",
        "advisoryIDs": ["INTEL-SA-01036"],
    }
    up = {"tcb": {"isvsvn": 6}, "tcbDate": "2025-08-13T00:00:00Z", "tcbStatus": "UpToDate"}
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    collateral = chain.collateral(
        tcb_info={"tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": [up, old]}]}
    )
    quote = chain.td_quote(body=BodyType.TD_1_5, tee_tcb_svn=bytes((5,)) + TEE_TCB_SVN[1:])
    found = proven(quote, collateral=(collateral,))
    assert found.details["tcb-status"] == "TDRelaunchAdvised"
    assert refused(found) == ["tcb-status", "advisories"]


def test_an_advisory_that_is_not_listed_refuses() -> None:
    found = proven(collateral=(intel_chain().collateral(advisories=("INTEL-SA-00837", "INTEL-SA-00960")),))
    assert refused(found) == ["advisories"]
    for listed, wanted in ((("INTEL-SA-00837",), ["advisories"]), (("INTEL-SA-00960", "INTEL-SA-00837"), [])):
        assert refused(found, replace(POLICY, platform=replace(POLICY.platform, advisories=listed))) == wanted


def test_collateral_of_an_earlier_recovery_is_refused() -> None:
    assert refused(proven(collateral=(intel_chain().collateral(evaluation=19),))) == ["tcb-evaluation-number"]


@pytest.mark.parametrize("place", range(3))
def test_what_the_platform_was_set_up_with_is_judged(place: int) -> None:
    flags = (place == 0, place == 1, place == 2)
    name = ("dynamic-platform", "cached-keys", "smt")[place]
    rule: dict[str, Any] = {("allow_dynamic_platform", "allow_cached_keys", "allow_smt")[place]: True}
    found = proven(chain=IntelChain.make(extension=sgx_extension(flags=flags)))
    assert refused(found) == [name]
    assert refused(found, replace(POLICY, platform=replace(POLICY.platform, **rule))) == []


def test_a_processor_of_the_first_generation_has_no_flags() -> None:
    chain = IntelChain.make(ca=PckCa.PROCESSOR, extension=sgx_extension(flags=None))
    assert refused(proven(chain=chain)) == []


@pytest.mark.parametrize("platforms", [NOTHING, Allowed(("ff" * 16,))])
def test_a_platform_that_is_not_listed_is_refused(platforms: Allowed) -> None:
    assert refused(proven(), replace(POLICY, platform=replace(POLICY.platform, platforms=platforms))) == ["platform"]


def test_a_masked_platform_is_on_no_list() -> None:
    found = proven(chain=IntelChain.make(extension=sgx_extension(ppid=bytes(16))))
    listed = replace(POLICY.platform, platforms=Allowed(("00" * 16,)))
    assert refused(found, replace(POLICY, platform=listed)) == ["platform"]
    assert refused(found, replace(POLICY, platform=replace(listed, platforms=ANYTHING))) == []


RULES: Mapping[str, tuple[TdxPolicy, str]] = {
    "tee_tcb_svn": (replace(POLICY, tee_tcb_svn=bytes((7,)) + bytes(15)), "tee-tcb-svn"),
    "tee_tcb_svn, last byte": (replace(POLICY, tee_tcb_svn=bytes(15) + b"\x01"), "tee-tcb-svn"),
    "xfam": (replace(POLICY, xfam=POLICY.xfam & ~0x4), "xfam"),
    "mr_signer_seam": (replace(POLICY, mr_signer_seam=Allowed(("11" * 48,))), "mr-signer-seam"),
    "mr_seam": (replace(POLICY, mr_seam=Allowed(("11" * 48,))), "mr-seam"),
    "mr_config_id": (replace(POLICY, mr_config_id=Allowed(("11" * 48,))), "mr-config-id"),
    "mr_owner": (replace(POLICY, mr_owner=NOTHING), "mr-owner"),
    "mr_owner_config": (replace(POLICY, mr_owner_config=NOTHING), "mr-owner-config"),
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_refuses_by_its_name(name: str) -> None:
    policy, claim = RULES[name]
    assert refused(proven(), policy) == [claim]


def test_the_floor_holds_for_the_tcb_at_launch_and_for_the_one_that_runs() -> None:
    lower = bytes((5,)) + TEE_TCB_SVN[1:]
    floor = replace(POLICY, tee_tcb_svn=TEE_TCB_SVN)
    changes: tuple[dict[str, Any], ...] = ({"tee_tcb_svn": lower}, {"tee_tcb_svn2": lower})
    for fields in changes:
        assert refused(proven(intel_chain().td_quote(body=BodyType.TD_1_5, **fields)), floor) == ["tee-tcb-svn"]


@pytest.mark.parametrize(
    ("bit", "attribute"),
    [
        (16, TdAttribute.ICSSD),
        (27, TdAttribute.LASS),
        (30, TdAttribute.PKS),
        (31, TdAttribute.KEY_LOCKER),
        (62, TdAttribute.PROVISIONING_AGENT),
        (63, TdAttribute.PERFMON),
    ],
)
def test_each_attribute_is_refused_unless_listed(bit: int, attribute: TdAttribute) -> None:
    found = proven(intel_chain().td_quote(td_attributes=attributes(28, bit)))
    assert refused(found) == ["attributes"]
    assert refused(found, replace(POLICY, attributes=(attribute,))) == []


def test_a_quote_that_was_not_proven_is_not_judged() -> None:
    found = replace(proven(), statement=VERIFIER.parse(intel_chain().td_quote()))
    with pytest.raises(UsageError):
        VERIFIER.judge(found, POLICY)


# The policy's own form.


def read(value: Any) -> TdxPolicy:
    with Fields(value, "policy") as fields:
        return TdxPolicy.read(fields)


def test_policies_are_read_as_they_are_written() -> None:
    loose = replace(POLICY, attributes=(TdAttribute.PKS,), mr_seam=Allowed(("ab" * 48,)), mr_owner=ANYTHING)
    for policy in (STRICT, POLICY, loose):
        assert read(policy.to_json()) == policy


def test_every_field_of_a_policy_is_mandatory_and_bounded() -> None:
    told = POLICY.to_json()
    platform = told["platform"]
    assert isinstance(platform, dict)
    for name in told:
        with pytest.raises(MalformedError):
            read({key: value for key, value in told.items() if key != name})
    for name in platform:
        with pytest.raises(MalformedError):
            read(told | {"platform": {key: value for key, value in platform.items() if key != name}})
    for changed in (
        {"attributes": ["debug"]},
        {"attributes": ["migratable"]},
        {"attributes": ["sept-ve-disable"]},
        {"attributes": ["pks", "pks"]},
        {"attributes": ["other"]},
        {"xfam": "0x61ae7"},
        {"xfam": "00" * 9},
        {"tee_tcb_svn": "05"},
        {"mr_seam": ["AB" * 48]},
        {"mr_seam": "all"},
        {"more": 1},
        {"platform": platform | {"statuses": ["Revoked"]}},
        {"platform": platform | {"advisories": ["CVE-2025-1"]}},
        {"platform": platform | {"advisories": ["INTEL-SA-00837"] * 2}},
        {"platform": platform | {"evaluation_number": -1}},
    ):
        with pytest.raises(MalformedError):
            read(told | changed)
