"""TDX domains under Azure's paravisor: our own reading of Intel's TCB levels is dcap-qvl's, and as strict."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.azure_vtpm import AZURE_TD
from simulators.intel_chain import (
    CPU_SVN,
    EVALUATION,
    FMSPC,
    NOW,
    PCE_SVN,
    REPORT_DATA,
    IntelChain,
    Signer,
    intel_chain,
)
from strongroom.attestation.azure.tcb_levels import verdict
from strongroom.attestation.azure.td_report import ParavisorTdReport
from strongroom.attestation.bindings import ExpectedBinding, RecordedBinding, Slot
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import Collateral, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    CertificateRevokedError,
    ChainRefusedError,
    NotGenuineError,
    TcbRefusedError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.tdx.collateral import IntelCollateral
from strongroom.attestation.tdx.pck import Pck
from strongroom.attestation.tdx.quote import parse_td_quote
from strongroom.attestation.tdx.tcb import TcbStatus, TcbVerdict
from strongroom.attestation.trust_anchors import load_certificate, vendor_anchors
from strongroom.attestation.verifiers import azure_domain
from strongroom.attestation.verifiers.azure_domain import AzureDomainVerifier
from strongroom.attestation.verifiers.tdx import TdxStatement, TdxVerifier
from strongroom.core.clock import parse_instant
from strongroom.core.errors import MalformedError, StrongroomError
from support.examples import examples
from support.vectors import vectors_folder

CHAIN = intel_chain()
BINDING = ExpectedBinding({Slot.REPORT_DATA: REPORT_DATA})
STATUSES = [status.value for status in TcbStatus if "Relaunch" not in status]


def own(quote: bytes, collateral: bytes) -> TcbVerdict:
    """Judge with our own reading alone."""
    parsed, told = parse_td_quote(quote), IntelCollateral.parse(collateral)
    return verdict(
        told.tcb_info.text,
        told.qe_identity.text,
        pck=Pck.of(load_certificate(parsed.pck_chain[0])),
        domain=parsed.body,
        quoting=parsed.qe_report,
    )


def librarys(quote: bytes, collateral: bytes) -> TcbVerdict:
    """Judge with dcap-qvl, which takes quotes with SEPT_VE_DISABLE."""
    statement = TdxStatement(parse_td_quote(quote))
    tcb = TdxVerifier().genuine(statement, BINDING, CHAIN.endorsements(collateral), NOW).statement.tcb
    assert tcb is not None
    if tcb.status is None:
        raise TcbRefusedError("the library was never asked: the collateral is another platform's")
    return tcb


def agree(quote: bytes, collateral: bytes) -> bool:
    """Compare verdicts; return whether there was one."""
    try:
        theirs = librarys(quote, collateral)
    except NotGenuineError:
        with pytest.raises((NotGenuineError, MalformedError)):
            own(quote, collateral)
        return False
    ours = own(quote, collateral)
    assert replace(ours, pck=theirs.pck) == theirs
    assert ours.pck.ppid == theirs.pck.ppid
    return True


def level(
    status: str, *advisories: str, sgx: Any = CPU_SVN, pce: int = PCE_SVN, tdx: Any = bytes(16)
) -> dict[str, Any]:
    return {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn, "category": "BIOS"} for svn in sgx],
            "pcesvn": pce,
            "tdxtcbcomponents": [{"svn": svn} for svn in tdx],
        },
        "tcbDate": "2024-03-13T00:00:00Z",
        "tcbStatus": status,
        "advisoryIDs": list(advisories),
    }


def simple(status: str, svn: int, *advisories: str) -> dict[str, Any]:
    return {
        "tcb": {"isvsvn": svn},
        "tcbDate": "2024-03-13T00:00:00Z",
        "tcbStatus": status,
        "advisoryIDs": list(advisories),
    }


def module(*levels: dict[str, Any], name: str = "TDX_01", **changed: Any) -> dict[str, Any]:
    told = {"id": name, "mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    return {"tdxModuleIdentities": [told | {"tcbLevels": list(levels)} | changed]}


PARTS = st.sampled_from(["UpToDate", "OutOfDate"])


@given(st.sampled_from(STATUSES), PARTS, PARTS, st.sampled_from(["2023", "2024", "2025"]))
@settings(max_examples=examples(80), deadline=None)
def test_the_worst_of_platform_module_and_quoting_enclave_counts(
    platform: str, tdx: str, quoting: str, year: str
) -> None:
    dated = {"tcbDate": f"{year}-03-13T00:00:00Z"}
    info = {
        "tcbLevels": [level(platform, "INTEL-SA-00001") | dated],
        **module(simple(tdx, 1, "INTEL-SA-00002")),
    }
    identity = {"tcbLevels": [simple(quoting, 1, "INTEL-SA-00003")]}
    collateral = CHAIN.collateral(tcb_info=info, identity=identity)
    assert agree(CHAIN.td_quote(), collateral)
    assert own(CHAIN.td_quote(), collateral).advisories == ("INTEL-SA-00001", "INTEL-SA-00002", "INTEL-SA-00003")


SVNS = st.lists(st.integers(0, 6), min_size=16, max_size=16)


@given(
    st.lists(st.tuples(SVNS, st.integers(9, 12), SVNS, st.sampled_from(STATUSES)), min_size=1, max_size=4), st.data()
)
@settings(max_examples=examples(60), deadline=None)
def test_levels_are_chosen_alike(levels: list[tuple[list[int], int, list[int], str]], data: st.DataObject) -> None:
    reachable = [
        ([min(one, have) for one, have in zip(sgx, CPU_SVN, strict=True)], pce, tdx, status)
        for sgx, pce, tdx, status in levels
    ]
    told = [level(status, sgx=sgx, pce=pce, tdx=tdx) for sgx, pce, tdx, status in reachable]
    svn = bytes(data.draw(SVNS))
    quote = CHAIN.td_quote(tee_tcb_svn=svn[:1] + b"\1" + svn[2:])
    info = {"tcbLevels": told, **module(simple("UpToDate", 3), simple("OutOfDate", 1))}
    agree(quote, CHAIN.collateral(tcb_info=info))


@pytest.mark.parametrize(
    "info",
    [
        {"tcbLevels": []},
        {"tcbLevels": [level("Revoked")]},
        {"tcbLevels": [level("Unheard of")]},
        {"tcbLevels": [level("UpToDate", pce=PCE_SVN + 1)]},
        {"tcbLevels": [level("UpToDate", sgx=CPU_SVN[:15])]},
        {"tcbLevels": [level("UpToDate", tdx=bytes(15))]},
        {"tcbLevels": [level("UpToDate", tdx=bytes(15) + b"\1")]},
        module(simple("UpToDate", 7)),
        module(simple("Revoked", 1)),
        module(),
        module(simple("UpToDate", 1), name="TDX_02"),
        module(simple("UpToDate", 1), mrsigner="11" * 48),
        module(simple("UpToDate", 1), attributes="01" + "00" * 7),
        module(simple("UpToDate", 1), mrsigner="00" * 47),
        {"fmspc": "000000000000"},
        {"version": 2},
    ],
)
def test_both_refuse_a_platform_that_intel_doesnt_vouch_for(info: dict[str, Any]) -> None:
    assert not agree(CHAIN.td_quote(), CHAIN.collateral(tcb_info=info))


@pytest.mark.parametrize(
    "identity",
    [
        {"tcbLevels": []},
        {"tcbLevels": [simple("UpToDate", 9)]},
        {"tcbLevels": [simple("Revoked", 1)]},
        {"mrsigner": "00" * 32},
        {"isvprodid": 1},
        {"attributes": "13" + "00" * 15},
        {"miscselect": "01000000"},
    ],
)
def test_both_refuse_another_quoting_enclave(identity: dict[str, Any]) -> None:
    assert not agree(CHAIN.td_quote(), CHAIN.collateral(identity=identity))


@pytest.mark.parametrize("status", ["SWHardeningNeeded", "ConfigurationNeeded", "TDRelaunchAdvised", "unheard of"])
def test_a_part_in_a_state_that_intel_doesnt_publish_is_refused(status: str) -> None:
    with pytest.raises(TcbRefusedError):
        own(CHAIN.td_quote(), CHAIN.collateral(identity={"tcbLevels": [simple(status, 1)]}))
    with pytest.raises(TcbRefusedError):
        own(CHAIN.td_quote(), CHAIN.collateral(tcb_info=module(simple(status, 1))))


@pytest.mark.parametrize("info", [{"id": "SGX"}, {"tcbType": 1}, {"pceId": "0001"}, {"tdxModuleIdentities": []}])
def test_we_refuse_what_isnt_for_this_platform(info: dict[str, Any]) -> None:
    with pytest.raises(TcbRefusedError):
        own(CHAIN.td_quote(), CHAIN.collateral(tcb_info=info))


def test_module_attributes_outside_intels_mask_are_refused() -> None:
    collateral = CHAIN.collateral(tcb_info=module(simple("UpToDate", 1), attributesMask="00" * 8))
    assert agree(CHAIN.td_quote(), collateral)
    assert not agree(CHAIN.td_quote(seam_attributes=b"\2" + bytes(7)), collateral)


def test_a_module_without_levels_of_its_own_is_compared_with_the_general_one() -> None:
    quote = CHAIN.td_quote(tee_tcb_svn=b"\6\0\4" + bytes(13))
    assert agree(quote, CHAIN.collateral())
    other = {"tdxModule": {"mrsigner": "11" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}}
    assert not agree(quote, CHAIN.collateral(tcb_info=other))


def test_the_real_platform_gets_the_same_verdict() -> None:
    folder = vectors_folder("attestation/tdx")
    quote = (folder / "tdx-v4-up-to-date.quote").read_bytes()
    collateral = (folder / "tdx-v4-up-to-date.collateral.json").read_bytes()
    item = read_item(CollateralKind.INTEL_TCB, collateral).item
    endorsements = Endorsements(anchors=vendor_anchors(), collateral=Collateral((item,)))
    at = parse_instant("2025-07-01T00:00:00Z")
    found = TdxVerifier().genuine(TdxStatement(parse_td_quote(quote)), RecordedBinding(), endorsements, at)
    assert found.statement.tcb == own(quote, collateral)
    paths = azure_domain._paths(parse_td_quote(quote), IntelCollateral.parse(collateral), endorsements, at)
    assert len(paths) == 3


# The verifier around it.


def on_azure(chain: IntelChain, *collateral: bytes, **fields: Any) -> Any:
    quote = parse_td_quote(chain.td_quote(**{**AZURE_TD, **fields}))
    report = ParavisorTdReport(**{name: getattr(quote.body, name) for name in quote.body.__dataclass_fields__})
    statement = TdxStatement(replace(quote, body=report))
    return AzureDomainVerifier().genuine(statement, BINDING, chain.endorsements(*collateral), NOW)


@pytest.mark.parametrize("status", STATUSES)
def test_a_domain_without_sept_ve_disable_gets_its_verdict(status: str) -> None:
    found = on_azure(CHAIN, CHAIN.collateral(status=status, advisories=["INTEL-SA-01234"]))
    assert found.statement.tcb.status == status
    assert found.statement.tcb.advisories == ("INTEL-SA-01234",)
    assert found.statement.tcb.evaluation_number == EVALUATION
    assert found.isolation is IsolationClass.VM_SIMULATED
    assert found.revocation_checked
    assert found.endorsed_until > NOW
    assert found.measurements.keys() == AzureDomainVerifier.reference_names | AzureDomainVerifier.optional_names
    assert found.statement.tcb.pck.fmspc == FMSPC


def test_both_ways_end_at_the_same_time() -> None:
    collateral = CHAIN.collateral()
    usual = on_azure(CHAIN, collateral, td_attributes=(1 << 28).to_bytes(8, "little"))
    assert usual.endorsed_until == on_azure(CHAIN, collateral).endorsed_until
    assert usual.measurements == on_azure(CHAIN, collateral).measurements


def test_a_revoked_level_is_refused_here_too() -> None:
    with pytest.raises(TcbRefusedError):
        on_azure(CHAIN, CHAIN.collateral(status="Revoked"))


def test_without_collateral_nothing_is_known_and_old_collateral_is_refused() -> None:
    assert on_azure(CHAIN).isolation is IsolationClass.NONE
    with pytest.raises(NotGenuineError):
        on_azure(CHAIN, CHAIN.collateral(next_update=NOW - 1))
    with pytest.raises(NotGenuineError):
        on_azure(CHAIN, CHAIN.collateral(lists_end=NOW - 1))


# Step 1 by itself: dcap-qvl would refuse each of these before.


def paths(chain: IntelChain, collateral: bytes, endorsements: Endorsements | None = None) -> Any:
    told = IntelCollateral.parse(collateral)
    return azure_domain._paths(parse_td_quote(chain.td_quote()), told, endorsements or chain.endorsements(), NOW)


def test_collateral_that_intel_didnt_sign_is_refused() -> None:
    stranger = Signer.make("Simulated SGX TCB Signing", CHAIN.root)
    assert len(paths(CHAIN, CHAIN.collateral())) == 3
    with pytest.raises(BadSignatureError):
        paths(CHAIN, CHAIN.collateral(signer=stranger))
    for name in ("tcb_info", "qe_identity"):
        changed = json.loads(CHAIN.collateral())
        changed[name] = changed[name].replace("UpToDate", "UpToDatE")
        with pytest.raises(BadSignatureError):
            paths(CHAIN, json.dumps(changed).encode())
        changed = json.loads(CHAIN.collateral())
        changed[f"{name}_signature"] = changed[f"{name}_signature"][:-2]
        with pytest.raises(BadSignatureError):
            paths(CHAIN, json.dumps(changed).encode())


def test_collateral_under_another_root_is_refused() -> None:
    other = IntelChain.make()
    mixed = json.loads(CHAIN.collateral())
    theirs = json.loads(other.collateral())
    for name in ("tcb_info", "qe_identity"):
        for member in (name, f"{name}_signature", f"{name}_issuer_chain"):
            mixed[member] = theirs[member]
    with pytest.raises(ChainRefusedError):
        paths(CHAIN, json.dumps(mixed).encode())
    with pytest.raises(ChainRefusedError):
        paths(CHAIN, CHAIN.collateral(), Endorsements(anchors=vendor_anchors()))


def test_a_revoked_signer_or_platform_is_refused() -> None:
    for revoked in (CHAIN.tcb_signer, CHAIN.pck_ca, CHAIN.pck):
        with pytest.raises(CertificateRevokedError):
            paths(CHAIN, CHAIN.collateral(revoked=[revoked]))
    with pytest.raises(ChainRefusedError, match="current revocation list"):
        paths(CHAIN, CHAIN.collateral(lists_end=NOW - 1))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["id", "version", "fmspc", "tcbLevels", "tdxModule", "tdxModuleIdentities"]), JSON)
)
@settings(deadline=None)
def test_any_tcb_information_is_judged_or_refused(changed: dict[str, Any]) -> None:
    parsed, told = parse_td_quote(CHAIN.td_quote()), IntelCollateral.parse(CHAIN.collateral())
    text = json.dumps(json.loads(told.tcb_info.text) | changed)
    pck = Pck.of(load_certificate(parsed.pck_chain[0]))
    try:
        verdict(text, told.qe_identity.text, pck=pck, domain=parsed.body, quoting=parsed.qe_report)
    except StrongroomError:
        return
