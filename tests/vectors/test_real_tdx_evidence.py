"""Quotes that real Intel machines made, with the collateral that Intel signed for them: each comes out as published."""

from __future__ import annotations

import pytest

from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, RecordedBinding, Slot
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import Collateral, CollateralKind
from strongroom.attestation.containers import intel
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    CollateralExpiredError,
    DebugModeError,
    EvidenceReplayedError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.sgx import SgxPolicy
from strongroom.attestation.policies.tdx import TdxPolicy
from strongroom.attestation.tdx.collateral import IntelCollateral
from strongroom.attestation.tdx.tcb import TcbStatus
from strongroom.attestation.trust_anchors import Vendor, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.sgx import SgxStatement, SgxVerifier
from strongroom.attestation.verifiers.tdx import TdxStatement, TdxVerifier
from strongroom.core.canonical import encode
from strongroom.core.clock import parse_instant
from strongroom.core.extras import need
from strongroom.core.fields import Fields
from support.vectors import vectors_folder

PIN = parse_instant("2025-07-01T00:00:00Z")
UP_TO_DATE = "tdx-v4-up-to-date"
HARDENING = "sgx-v3-hardening-needed"
DEBUG = "tdx-v4-debug"
TDX, SGX = TdxVerifier(), SgxVerifier()
dcap_qvl = need("dcap_qvl", extra="intel")
REPORT_DATA = {
    UP_TO_DATE: "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
    "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20",
    HARDENING: b"Hello, world!".ljust(64, b"\0").hex(),
}


def quote(name: str) -> bytes:
    return (vectors_folder("attestation/tdx") / f"{name}.quote").read_bytes()


def collateral(name: str) -> bytes:
    return (vectors_folder("attestation/tdx") / f"{name}.collateral.json").read_bytes()


def endorsements(*names: str) -> Endorsements:
    items = tuple(read_item(CollateralKind.INTEL_TCB, collateral(name)).item for name in names)
    return Endorsements(anchors=vendor_anchors(), collateral=Collateral(items))


def tdx(binding: ItemBinding, at: int = PIN, names: tuple[str, ...] = (UP_TO_DATE, HARDENING)) -> Genuine[TdxStatement]:
    return TDX.genuine(TDX.parse(quote(UP_TO_DATE)), binding, endorsements(*names), at)


def sgx(binding: ItemBinding, at: int = PIN) -> Genuine[SgxStatement]:
    return SGX.genuine(SGX.parse(quote(HARDENING)), binding, endorsements(UP_TO_DATE, HARDENING), at)


def bound(name: str) -> ExpectedBinding:
    return ExpectedBinding({Slot.REPORT_DATA: bytes.fromhex(REPORT_DATA[name])})


def test_the_up_to_date_trust_domain_is_genuine_for_what_it_commits_to() -> None:
    found = tdx(bound(UP_TO_DATE))
    assert found.bound.fresh
    assert found.isolation is IsolationClass.CVM
    assert found.revocation_checked
    assert found.statement.tcb is not None
    assert found.statement.tcb.status is TcbStatus.UP_TO_DATE
    assert found.statement.tcb.advisories == ()
    assert found.hardware_id.hex() == "811dca2a26b952e85bb6448b097ba4fd"
    assert found.measurements["mrtd"].startswith("91eb2b44d141d4ec")
    assert found.measurements["rtmr2"].startswith("d833feef2cd94514")
    # The quoting enclave's identity was signed 17 minutes after the TCB information, which ends first.
    assert PIN < found.endorsed_until <= parse_instant("2025-07-19T10:16:03Z")
    assert not tdx(RecordedBinding()).bound.fresh


def test_the_up_to_date_trust_domain_meets_rules_that_name_what_its_platform_does() -> None:
    told = TdxPolicy.strictest().to_json()
    platform = told["platform"]
    assert isinstance(platform, dict)
    platform |= dict.fromkeys(("allow_dynamic_platform", "allow_cached_keys", "allow_smt"), True)
    platform |= {"evaluation_number": 17, "platforms": ["811dca2a26b952e85bb6448b097ba4fd"]}
    with Fields(told, "policy") as fields:
        policy = TdxPolicy.read(fields)
    assert [claim.name for claim in TDX.judge(tdx(bound(UP_TO_DATE)), policy) if not claim.ok] == []
    refused = {claim.name for claim in TDX.judge(tdx(bound(UP_TO_DATE)), TdxPolicy.strictest()) if not claim.ok}
    assert refused == {"tcb-evaluation-number", "dynamic-platform", "cached-keys", "smt", "platform"}


def test_the_enclave_that_needs_hardening_is_refused_unless_a_policy_lists_all_of_it() -> None:
    found = sgx(bound(HARDENING))
    assert found.isolation is IsolationClass.CVM_WEAK
    assert found.statement.tcb is not None
    assert found.statement.tcb.status is TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED
    told = SgxPolicy.strictest().to_json()
    platform = told["platform"]
    assert isinstance(platform, dict)
    platform |= {"evaluation_number": 17, "platforms": "any"}
    told |= {"mr_signers": "any", "isv_prod_ids": ["0"], "isv_svn": 0}

    def refused() -> set[str]:
        with Fields(told, "policy") as fields:
            policy = SgxPolicy.read(fields)
        return {claim.name for claim in SGX.judge(found, policy) if not claim.ok}

    assert refused() == {"tcb-status", "advisories"}
    platform["statuses"] = ["UpToDate", "ConfigurationAndSWHardeningNeeded"]
    platform["advisories"] = ["INTEL-SA-00289"]
    assert refused() == {"advisories"}
    platform["advisories"] = ["INTEL-SA-00289", "INTEL-SA-00615"]
    assert refused() == set()


@pytest.mark.parametrize("names", [(), (UP_TO_DATE,)])
def test_the_debug_trust_domain_is_refused_as_one_with_collateral_or_without(names: tuple[str, ...]) -> None:
    about = endorsements(*names)
    with pytest.raises(DebugModeError) as refused:
        TDX.genuine(TDX.parse(quote(DEBUG)), RecordedBinding(), about, PIN)
    assert refused.value.seen == "debug"


@pytest.mark.parametrize("verify", [tdx, sgx])
def test_other_report_data_is_a_replay(verify: type) -> None:
    for other in (bytes(64), bytes.fromhex(REPORT_DATA[UP_TO_DATE])[:63], b"\x01"):
        with pytest.raises(EvidenceReplayedError):
            verify(ExpectedBinding({Slot.REPORT_DATA: other}))


def test_without_collateral_of_its_own_kind_a_quote_is_genuine_and_nothing_is_known_of_its_platform() -> None:
    proven = tdx(RecordedBinding(), names=(HARDENING,))
    assert (proven.isolation, proven.revocation_checked) == (IsolationClass.NONE, False)
    failed = {claim.name: claim.seen for claim in TDX.judge(proven, TDX.policy.strictest()) if not claim.ok}
    assert failed["tcb-status"] == "not known: no TDX collateral for `b0c06f000000/platform` was imported"


def test_old_collateral_is_refused_as_such() -> None:
    with pytest.raises(CollateralExpiredError):
        tdx(RecordedBinding(), at=parse_instant("2025-07-20T00:00:00Z"))


def test_collateral_of_later_is_left_aside() -> None:
    assert tdx(RecordedBinding(), at=parse_instant("2025-06-19T10:16:02Z")).isolation is IsolationClass.NONE


@pytest.mark.parametrize("name", [UP_TO_DATE, HARDENING])
def test_the_pinned_root_is_the_one_that_the_library_ships(name: str) -> None:
    (anchor,) = vendor_anchors().of(Vendor.INTEL_SGX)
    theirs = dcap_qvl.QuoteCollateralV3.from_json(collateral(name).decode())
    built_in = dcap_qvl.verify(quote(name), theirs, PIN)
    pinned = dcap_qvl.verify_with_root_ca(quote(name), theirs, anchor.certificate, PIN)
    assert built_in.to_json() == pinned.to_json()


@pytest.mark.parametrize("name", [UP_TO_DATE, HARDENING])
def test_collateral_names_itself_as_its_quote_asks_for_it(name: str) -> None:
    item = read_item(CollateralKind.INTEL_TCB, collateral(name)).item
    read = dcap_qvl.parse_quote(quote(name))
    assert item.kind is CollateralKind.INTEL_TCB
    assert item.name == f"{read.fmspc().lower()}/{read.ca()}"
    assert item.not_before <= PIN <= item.not_after
    assert IntelCollateral.parse(item.data).tee == ("TDX" if read.is_tdx() else "SGX")


@pytest.mark.parametrize("name", [UP_TO_DATE, HARDENING, DEBUG])
def test_files_of_quotes_are_read_in_every_form(name: str) -> None:
    data = quote(name)
    bare = intel.read(data)
    assert bare is not None
    assert bare.items[0].body == data
    for form in (data.hex().encode(), b"0x" + data.hex().encode() + b"\n", encode({"quote": data.hex()})):
        found = intel.read(form)
        assert found is not None
        assert found.items == bare.items
