"""Azure confidential virtual machines of our own making: what is accepted, and each reason for which one is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from simulators import intel_chain as intel
from simulators import sev_snp_chain as amd
from simulators.azure_vtpm import (
    CHALLENGE,
    CONFIGURATION,
    MACHINE,
    PARAVISOR,
    PCRS,
    USER_DATA,
    Vtpm,
    jwk,
    td_report_of,
    vtpm_key,
)
from strongroom.attestation.azure.hcl_report import HardwareKind, HclReport
from strongroom.attestation.azure.runtime_data import RuntimeData
from strongroom.attestation.azure.statement import VtpmEvidence
from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, Slot
from strongroom.attestation.claims import Claim
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    ChainRefusedError,
    CollateralMissingError,
    DebugModeError,
    EvidenceReplayedError,
    PcrMismatchError,
    RuntimeDataMismatchError,
    UnsafeAttributesError,
    WrongBankError,
    WrongSelectionError,
    WrongStructureError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.allowed import ANYTHING, NOTHING, Allowed
from strongroom.attestation.policies.azure import AzureSnpPolicy, AzureTdxPolicy, VtpmRules
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.azure import AzureSnpVtpmVerifier, AzureTdxVtpmVerifier
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields

SNP, TDX = AzureSnpVtpmVerifier(), AzureTdxVtpmVerifier()
BINDING = ExpectedBinding({Slot.QUALIFYING_DATA: CHALLENGE})
RULES = replace(VtpmRules.strictest(), machines=Allowed((MACHINE,)), user_data=Allowed((USER_DATA.hex(),)))
_STRICT = AzureSnpPolicy.strictest()
POLICY = AzureSnpPolicy(
    hardware=replace(_STRICT.hardware, chips=Allowed((amd.chip().hex(),)), revocation=RevocationRule.WHEN_PRESENT),
    vtpm=RULES,
)


def on_snp(
    evidence: VtpmEvidence | None = None,
    *,
    binding: ItemBinding = BINDING,
    endorsements: Endorsements | None = None,
) -> Genuine[Any]:
    body = (evidence or Vtpm().on_snp()).to_bytes(HardwareKind.SEV_SNP)
    return SNP.genuine(SNP.parse(body), binding, endorsements or Endorsements(anchors=amd.anchors()), amd.NOW)


def on_tdx(evidence: VtpmEvidence | None = None, *, endorsements: Endorsements | None = None) -> Genuine[Any]:
    body = (evidence or Vtpm().on_tdx()).to_bytes(HardwareKind.TDX)
    chain = intel.intel_chain()
    return TDX.genuine(TDX.parse(body), BINDING, endorsements or chain.endorsements(chain.collateral()), intel.NOW)


def refused(claims: Iterable[Claim]) -> list[str]:
    return [claim.name for claim in claims if not claim.ok]


def with_rules(**changed: Any) -> AzureSnpPolicy:
    return replace(POLICY, vtpm=replace(RULES, **changed))


# Accepted.


@pytest.mark.parametrize("hash_type", [1, 2, 3])
def test_an_honest_machine_on_snp_is_genuine_and_wanted(hash_type: int) -> None:
    found = on_snp(Vtpm(hash_type=hash_type).on_snp())
    assert refused(SNP.judge(found, POLICY)) == []
    assert found.bound.fresh
    assert found.isolation is IsolationClass.VM_SIMULATED
    assert found.hardware_id == amd.chip()
    assert found.reset_count == 7
    assert found.measurements["measurement"] == amd.MEASUREMENT.hex()
    assert found.measurements["pcr11"] == PCRS[11].hex()
    assert found.details["machine"] == MACHINE
    assert SNP.reference_names | SNP.optional_names == found.measurements.keys()


def test_an_honest_machine_on_tdx_is_genuine_and_wanted() -> None:
    found = on_tdx()
    policy = AzureTdxPolicy.strictest()
    wanted = replace(policy, vtpm=RULES)
    assert set(refused(TDX.judge(found, wanted))) <= set(refused(TDX.judge(found, policy)))
    assert not {
        name for name in refused(TDX.judge(found, wanted)) if name.startswith(("pcr", "configuration", "debug"))
    }
    assert "machine" not in refused(TDX.judge(found, wanted))
    assert "unsafe-attributes" not in refused(TDX.judge(found, wanted))
    assert found.isolation is IsolationClass.VM_SIMULATED
    assert found.measurements["mrtd"] == intel.TD_FIELDS["mr_td"].hex()
    assert TDX.reference_names | TDX.optional_names == found.measurements.keys()


def test_production_anchors_refuse_simulated_machines() -> None:
    with pytest.raises(ChainRefusedError):
        on_snp(endorsements=Endorsements(anchors=vendor_anchors()))
    with pytest.raises(ChainRefusedError):
        on_tdx(endorsements=Endorsements(anchors=vendor_anchors()))


# Steps 1 and 2.


def test_a_quote_by_another_key_is_refused() -> None:
    with pytest.raises(BadSignatureError, match="runtime data"):
        on_snp(Vtpm(signing_key="another").on_snp())


def test_a_quote_changed_after_signing_is_refused() -> None:
    evidence = Vtpm().on_snp()
    with pytest.raises(BadSignatureError):
        on_snp(replace(evidence, quote=Vtpm(qualifying_data=bytes(32)).quote()))


@pytest.mark.parametrize("signature", [b"", bytes(256), bytes(512), b"\1"])
def test_no_signature_at_all_is_refused(signature: bytes) -> None:
    with pytest.raises(BadSignatureError):
        on_snp(replace(Vtpm().on_snp(), signature=signature))


def test_signed_bytes_that_no_tpm_generated_are_refused() -> None:
    with pytest.raises(WrongStructureError):
        on_snp(Vtpm(magic=0xFF544348).on_snp())


# Step 3.


@pytest.mark.parametrize("challenge", [b"", bytes(32), CHALLENGE[:-1], CHALLENGE + b"\0"])
def test_another_challenge_is_refused(challenge: bytes) -> None:
    with pytest.raises(EvidenceReplayedError):
        on_snp(Vtpm(qualifying_data=challenge).on_snp())


def test_user_data_is_no_substitute_for_the_challenge() -> None:
    with pytest.raises(UsageError):
        on_snp(binding=ExpectedBinding({Slot.USER_DATA: USER_DATA}))


# Steps 4 and 5.


@pytest.mark.parametrize("banks", [(), ((0x0004, 0xFFFFFF),), ((0x000B, 0xFFFFFF), (0x0004, 1)), ((0x000C, 0xFFFFFF),)])
def test_another_bank_is_refused(banks: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(WrongBankError):
        on_snp(Vtpm(banks=banks).on_snp())


@pytest.mark.parametrize("bits", [0, 0xFFFFFE, 0x7FFFFF, 1 << 4])
def test_fewer_registers_are_refused(bits: int) -> None:
    with pytest.raises(WrongSelectionError):
        on_snp(Vtpm(banks=((0x000B, bits),)).on_snp())


def test_other_registers_than_the_quoted_ones_are_refused() -> None:
    other = (*PCRS[:4], bytes(32), *PCRS[5:])
    with pytest.raises(PcrMismatchError):
        on_snp(Vtpm(pcrs=other, quoted_pcrs=PCRS).on_snp())
    swapped = (PCRS[1], PCRS[0], *PCRS[2:])
    with pytest.raises(PcrMismatchError):
        on_snp(Vtpm(pcrs=swapped, quoted_pcrs=PCRS).on_snp())


# Step 6.


def test_a_virtual_tpm_that_the_hardware_doesnt_commit_to_is_refused() -> None:
    forged = Vtpm(keys=(jwk("HCLAkPub", "sign", vtpm_key("mine")),), signing_key="mine")
    with pytest.raises(RuntimeDataMismatchError):
        on_snp(forged.on_snp(report_data=Vtpm().report_data()))
    with pytest.raises(RuntimeDataMismatchError):
        on_tdx(forged.on_tdx(report_data=Vtpm().report_data()))


@pytest.mark.parametrize("at", [32, 63])
def test_report_data_beyond_the_digest_must_be_zero(at: int) -> None:
    data = bytearray(Vtpm().report_data())
    data[at] = 1
    with pytest.raises(RuntimeDataMismatchError):
        on_snp(Vtpm().on_snp(report_data=bytes(data)))


def test_runtime_data_under_another_hash_is_refused() -> None:
    honest = Vtpm(hash_type=2)
    with pytest.raises(RuntimeDataMismatchError):
        on_snp(honest.on_snp(report_data=Vtpm(hash_type=1).report_data()))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_report_that_the_guest_asked_for_is_refused_whatever_the_policy(level: int) -> None:
    with pytest.raises(RuntimeDataMismatchError, match="paravisor"):
        on_snp(Vtpm().on_snp(replace(PARAVISOR, vmpl=level)))


def test_a_report_with_a_broken_signature_is_refused() -> None:
    evidence = Vtpm().on_snp()
    broken = bytearray(evidence.hcl_report)
    broken[32 + 0x90] ^= 1
    with pytest.raises(BadSignatureError):
        on_snp(replace(evidence, hcl_report=bytes(broken)))


def test_without_the_chips_certificate_nothing_is_genuine() -> None:
    with pytest.raises(CollateralMissingError):
        on_snp(replace(Vtpm().on_snp(), endorsement=b""))


def test_without_intels_collateral_nothing_is_known_of_the_platform() -> None:
    assert on_tdx(endorsements=intel.intel_chain().endorsements()).isolation is IsolationClass.NONE


@pytest.mark.parametrize("name", ["report_data", "td_attributes", "xfam", "mr_td", "mr_owner", "rtmr3"])
def test_a_td_report_that_differs_from_the_quote_is_refused(name: str) -> None:
    vtpm = Vtpm()
    told = {**intel.TD_FIELDS, "td_attributes": bytes(8), "report_data": vtpm.report_data()}
    told |= {f"rtmr{number}": bytes(48) for number in range(4)}
    size = {"td_attributes": 8, "xfam": 8, "report_data": 64}.get(name, 48)
    on_tdx(vtpm.on_tdx(td_report=td_report_of(told)))
    with pytest.raises(RuntimeDataMismatchError):
        on_tdx(vtpm.on_tdx(td_report=td_report_of({**told, name: b"\x77" * size})))


def test_a_domain_under_debug_is_refused() -> None:
    with pytest.raises(DebugModeError):
        on_tdx(Vtpm().on_tdx(td_attributes=b"\1" + bytes(7)))


@pytest.mark.parametrize("bit", [29, 17, 40])
def test_unsafe_attributes_of_a_domain_are_refused(bit: int) -> None:
    with pytest.raises(UnsafeAttributesError):
        on_tdx(Vtpm().on_tdx(td_attributes=(1 << bit).to_bytes(8, "little")))


def test_a_debug_guest_on_snp_is_refused() -> None:
    found = on_snp(Vtpm().on_snp(replace(PARAVISOR, policy=PARAVISOR.policy | 1 << 19)))
    assert found.isolation is IsolationClass.NONE
    assert refused(SNP.judge(found, POLICY)) == ["debug"]


# The policy's fields.


def test_another_paravisor_is_refused() -> None:
    assert refused(SNP.judge(on_snp(Vtpm().on_snp(replace(PARAVISOR, id_key_digest=bytes(48)))), POLICY)) == ["id-key"]


def test_the_hardwares_rules_are_asked() -> None:
    elsewhere = on_snp(Vtpm().on_snp(replace(PARAVISOR, product=Product.MILAN)))
    assert "product" in refused(SNP.judge(elsewhere, POLICY))
    assert refused(SNP.judge(on_snp(), _STRICT)) == ["chip", "revocation", "machine"]


@pytest.mark.parametrize("value", [False, 1, "true", None, "left out"])
def test_a_switch_that_isnt_as_wanted_is_refused(value: Any) -> None:
    configuration = {**CONFIGURATION, "secure-boot": value}
    if value == "left out":
        del configuration["secure-boot"]
    found = on_snp(Vtpm(configuration=configuration).on_snp())
    assert refused(SNP.judge(found, POLICY)) == ["configuration.secure-boot"]


def test_any_switch_can_be_asked_for() -> None:
    found = on_snp()
    assert refused(SNP.judge(found, with_rules(configuration={"console-enabled": False}))) == [
        "configuration.console-enabled"
    ]
    assert refused(SNP.judge(found, with_rules(configuration={"interactive-console-enabled": False}))) == [
        "configuration.interactive-console-enabled"
    ]
    newer = on_snp(Vtpm(configuration={**CONFIGURATION, "interactive-console-enabled": False}).on_snp())
    assert refused(SNP.judge(newer, with_rules(configuration={"interactive-console-enabled": False}))) == []


@pytest.mark.parametrize("value", [bytes(32), b"\xff" * 32])
def test_an_empty_register_is_refused_where_it_must_be_measured(value: bytes) -> None:
    found = on_snp(Vtpm(pcrs=(*PCRS[:7], value, *PCRS[8:])).on_snp())
    assert refused(SNP.judge(found, POLICY)) == ["pcr7.measured"]
    assert refused(SNP.judge(found, with_rules(measured_pcrs=()))) == []


def test_an_unsafe_clock_is_refused() -> None:
    found = on_snp(Vtpm(safe=False).on_snp())
    assert refused(SNP.judge(found, POLICY)) == ["clock-safe"]
    assert refused(SNP.judge(found, with_rules(clock_must_be_safe=False))) == []


def test_an_unlisted_machine_is_refused() -> None:
    other = {**CONFIGURATION, "vmUniqueId": MACHINE.replace("2", "3")}
    assert refused(SNP.judge(on_snp(Vtpm(configuration=other).on_snp()), POLICY)) == ["machine"]
    assert refused(SNP.judge(on_snp(), with_rules(machines=NOTHING))) == ["machine"]


@pytest.mark.parametrize("user_data", [None, b"", bytes(64)])
def test_other_user_data_is_refused(user_data: bytes | None) -> None:
    found = on_snp(Vtpm(user_data=user_data).on_snp())
    assert refused(SNP.judge(found, POLICY)) == ["user-data"]
    assert refused(SNP.judge(found, with_rules(user_data=ANYTHING))) == []


def test_what_isnt_genuine_yet_cant_be_judged() -> None:
    found = on_snp()
    with pytest.raises(UsageError):
        SNP.judge(replace(found, statement=replace(found.statement, proven=None)), POLICY)


# The forms.


@pytest.mark.parametrize(
    ("offset", "number"),
    [
        (0, 0x414C4349),  # signature
        (4, 0),  # header version
        (4, 3),
        (8, 0),  # report size
        (8, 2**32 - 1),
        (12, 1),  # request type
        (16, 1),  # status
        (20, 1),  # reserved
        (28, 1),
        (1216, 0),  # data size
        (1216, 2**32 - 1),
        (1220, 2),  # runtime data version
        (1224, 3),  # hardware kind
        (1224, 0),
        (1224, 4),
        (1228, 0),  # hash type
        (1228, 4),
        (1232, 0),  # runtime data size
        (1232, 2**32 - 1),
    ],
)
def test_an_hcl_report_with_another_header_is_malformed(offset: int, number: int) -> None:
    with pytest.raises(MalformedError):
        SNP.parse(Vtpm(header={offset: number}).on_snp().to_bytes(HardwareKind.SEV_SNP))


def test_an_hcl_report_ends_in_zeros_only() -> None:
    with pytest.raises(MalformedError):
        SNP.parse(Vtpm(padding=bytes(99) + b"\1").on_snp().to_bytes(HardwareKind.SEV_SNP))
    with pytest.raises(MalformedError):
        SNP.parse(Vtpm(padding=bytes(8192)).on_snp().to_bytes(HardwareKind.SEV_SNP))
    assert refused(SNP.judge(on_snp(Vtpm(padding=b"").on_snp()), POLICY)) == []


def test_bytes_behind_a_td_report_are_malformed() -> None:
    report = td_report_of({**intel.TD_FIELDS}) + b"\1"
    with pytest.raises(MalformedError):
        TDX.parse(Vtpm().on_tdx(td_report=report).to_bytes(HardwareKind.TDX))


def test_evidence_of_one_hardware_isnt_read_as_the_others() -> None:
    snp, tdx = Vtpm().on_snp(), Vtpm().on_tdx()
    with pytest.raises(MalformedError):
        SNP.parse(tdx.to_bytes(HardwareKind.TDX))
    with pytest.raises(MalformedError):
        SNP.parse(replace(tdx, endorsement=b"").to_bytes(HardwareKind.SEV_SNP))
    with pytest.raises(MalformedError):
        TDX.parse(replace(snp, endorsement=tdx.endorsement).to_bytes(HardwareKind.TDX))


@pytest.mark.parametrize("pcrs", [PCRS[:-1], (*PCRS, PCRS[0]), (*PCRS[:-1], b""), (*PCRS[:-1], bytes(33))])
def test_anything_but_24_registers_of_32_bytes_is_malformed(pcrs: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError):
        SNP.parse(replace(Vtpm().on_snp(), pcrs=pcrs).to_bytes(HardwareKind.SEV_SNP))


def weak_key() -> dict[str, Any]:
    return jwk("HCLAkPub", "sign", rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505 - weak on purpose


@pytest.mark.parametrize(
    "changed",
    [
        [],
        ["again"],
        [{"kid": "HCLEkPub"}],
        [{"key_ops": ["encrypt"]}],
        [{"key_ops": ["sign", "encrypt"]}],
        [{"kty": "EC"}],
        [{"e": "Aw"}],
        [{"e": "AQAB="}],
        [{"n": "AA"}],
        [{"n": "!"}],
        [{"n": "A" * 342}],
        [{"extra": 1}],
        ["weak"],
    ],
)
def test_an_attestation_key_of_another_form_is_malformed(changed: list[Any]) -> None:
    honest = jwk("HCLAkPub", "sign", vtpm_key("AK"))
    keys: list[dict[str, Any]] = [honest | change for change in changed if isinstance(change, dict)]
    keys += [honest, honest] * ("again" in changed) + [weak_key()] * ("weak" in changed)
    with pytest.raises(MalformedError):
        RuntimeData.parse(Vtpm(keys=tuple(keys)).runtime_data())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":[],"keys":[]}',
        Vtpm()
        .runtime_data()
        .replace(b'"vm-configuration":{', b'"vm-configuration":[{')
        .replace(b'},"user', b'}],"user'),
        Vtpm().runtime_data() + b"\0",
        Vtpm().runtime_data()[:-1] + b',"more":1}',
        Vtpm(user_data=bytes(65)).runtime_data(),
        Vtpm().runtime_data().replace(b'0000"}', b'000"}'),
        Vtpm().runtime_data().replace(b'0000"}', b'00 0"}'),
    ],
)
def test_runtime_data_of_another_form_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedError):
        RuntimeData.parse(text)


def test_a_machine_id_of_another_type_names_no_machine() -> None:
    found = on_snp(Vtpm(configuration={**CONFIGURATION, "vmUniqueId": 7}).on_snp())
    assert refused(SNP.judge(found, POLICY)) == ["machine"]


def test_an_hcl_report_cut_anywhere_is_malformed() -> None:
    report = Vtpm(padding=b"").on_snp().hcl_report
    for size in range(len(report)):
        with pytest.raises(MalformedError):
            HclReport.parse(report[:size])


# The policies' forms.


@pytest.mark.parametrize("policy", [POLICY, AzureSnpPolicy.strictest(), AzureTdxPolicy.strictest()])
def test_a_policy_reads_what_it_writes(policy: AzureSnpPolicy | AzureTdxPolicy) -> None:
    with Fields(policy.to_json(), "policy") as fields:
        assert type(policy).read(fields) == policy


@pytest.mark.parametrize("name", list(RULES.to_json()))
def test_every_rule_is_mandatory(name: str) -> None:
    written = RULES.to_json()
    del written[name]
    with pytest.raises(MalformedError):
        VtpmRules.read(Fields(written, "rules"))


@pytest.mark.parametrize(
    "changed",
    [
        {"configuration": {"secure-boot": 1}},
        {"configuration": []},
        {"measured_pcrs": [24]},
        {"measured_pcrs": [-1]},
        {"measured_pcrs": [7, 4]},
        {"measured_pcrs": [True]},
        {"clock_must_be_safe": "yes"},
        {"machines": [MACHINE.lower()]},
        {"user_data": ["0"]},
        {"user_data": ["00" * 65]},
    ],
)
def test_rules_out_of_their_bounds_are_malformed(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        VtpmRules.read(Fields(RULES.to_json() | changed, "rules"))


def test_a_policy_that_takes_a_paravisor_by_anybody_is_malformed() -> None:
    hardware = replace(POLICY.hardware, id_keys=ANYTHING)
    with pytest.raises(MalformedError, match="id_keys"):
        replace(POLICY, hardware=hardware)
    with pytest.raises(MalformedError, match="id_keys"):
        AzureSnpPolicy.read(Fields(POLICY.to_json() | {"hardware": hardware.to_json()}, "policy"))
