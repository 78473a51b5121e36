"""Each rule for SEV-SNP reports refuses what it is about, and nothing else; debug mode needs no rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulators.sev_snp_chain import NOW, STRICT_PLATFORM, STRICT_POLICY, TCBS, Machine, anchors, chip, revocation_list
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.policies.allowed import Allowed
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.policies.sev_snp import SevSnpPolicy
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import FirmwareVersion, GuestRule, PlatformFeature, SigningKey
from strongroom.attestation.verifiers.sev_snp import SevSnpVerifier
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from support.snp import endorsements

VERIFIER = SevSnpVerifier()
CHIPS = tuple(chip(product).hex() for product in Product if product is not Product.MILAN)
STRICT = replace(SevSnpPolicy.strictest(), chips=Allowed(CHIPS))


def failed(rules: SevSnpPolicy = STRICT, /, *, listed: bool = True, **changed: Any) -> list[str]:
    made = replace(Machine(), **changed)
    given = endorsements(anchors(), lists=(revocation_list(made.product),) if listed else ())
    binding = ExpectedBinding({Slot.REPORT_DATA: made.report_data})
    proven = VERIFIER.genuine(VERIFIER.parse(made.body()), binding, given, NOW)
    return [claim.name for claim in VERIFIER.judge(proven, rules) if not claim.ok]


@pytest.mark.parametrize("product", [Product.GENOA, Product.TURIN])
@pytest.mark.parametrize("version", [2, 3, 5])
def test_the_strictest_policy_can_be_met(product: Product, version: int) -> None:
    assert failed(product=product, version=version) == []


def test_the_strictest_policy_lists_no_chip_yet() -> None:
    assert failed(SevSnpPolicy.strictest()) == ["chip"]


REFUSED: dict[str, dict[str, Any]] = {
    "debug": {"policy": STRICT_POLICY | 1 << 19},
    "migration-agent": {"policy": STRICT_POLICY | 1 << 18},
    "guest.reserved": {"policy": STRICT_POLICY | 1 << 26},
    "platform.reserved": {"platform": STRICT_PLATFORM | 1 << 8},
    "vmpl": {"vmpl": 1},
    "smt": {"policy": STRICT_POLICY | 1 << 16},
    "cxl": {"policy": STRICT_POLICY | 1 << 21},
    "guest.rapl-disabled": {"policy": STRICT_POLICY & ~(1 << 23)},
    "guest.ciphertext-hiding": {"policy": STRICT_POLICY & ~(1 << 24)},
    "guest.page-swap-disabled": {"policy": STRICT_POLICY & ~(1 << 25)},
    "platform.ecc": {"platform": STRICT_PLATFORM & ~(1 << 2)},
    "platform.rapl-disabled": {"platform": STRICT_PLATFORM & ~(1 << 3)},
    "platform.ciphertext-hiding": {"platform": STRICT_PLATFORM & ~(1 << 4)},
    "platform.alias-check-complete": {"platform": STRICT_PLATFORM & ~(1 << 5)},
    "firmware": {"firmware": (1, 55, 39)},
    "chip": {"chip_id": bytes(64)},
    "revocation": {"listed": False},
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_rule_of_the_strictest_policy_refuses(name: str) -> None:
    assert failed(**REFUSED[name]) == [name]


def test_debug_and_migration_are_refused_whatever_the_policy_says() -> None:
    wide = replace(STRICT, guest_rules=(), platform_features=(), allow_smt=True, allow_cxl=True)
    assert failed(wide, policy=1 << 17 | 1 << 19 | 1 << 18) == ["debug", "migration-agent"]


def test_a_bit_that_must_be_one_and_a_platform_with_smt_are_seen() -> None:
    assert failed(policy=STRICT_POLICY & ~(1 << 17)) == ["guest.reserved"]
    assert failed(platform=STRICT_PLATFORM | 1) == ["smt"]


def test_a_report_that_the_host_asked_for_is_refused() -> None:
    assert failed(vmpl=0xFFFFFFFF) == ["vmpl"]


@pytest.mark.parametrize("which", ["tcb", "committed_tcb", "current_tcb", "launch_tcb"])
@pytest.mark.parametrize("product", [Product.GENOA, Product.TURIN])
def test_the_floor_holds_for_every_tcb_version_and_part(product: Product, which: str) -> None:
    for part, at in {"snp": 3 if product.has_fmc else 6, "microcode": 7}.items():
        old = bytearray(TCBS[product])
        old[at] -= 1
        changed: dict[str, Any] = {which: bytes(old)}
        assert failed(product=product, **changed) == [f"tcb.{part}"]


def test_firmware_that_can_be_rolled_back_counts_as_the_older_one() -> None:
    assert failed(committed_firmware=(1, 55, 39)) == ["firmware"]
    assert failed(product=Product.TURIN, firmware=(1, 57, 255)) == ["firmware"]


def test_products_and_keys_that_are_not_listed_are_refused() -> None:
    milan = replace(STRICT, chips=Allowed((chip(Product.MILAN).hex(),)))
    assert failed(milan, product=Product.MILAN) == ["product"]
    genoa_only = replace(STRICT, floors={Product.GENOA: STRICT.floors[Product.GENOA]})
    assert failed(genoa_only, product=Product.TURIN) == ["product"]
    assert failed(signing_key=SigningKey.VLEK) == ["signing-key", "chip", "provider"]


def test_a_vlek_is_taken_from_a_named_provider() -> None:
    cloud = replace(STRICT, signing_keys=(SigningKey.VLEK,), chips=Allowed(None), providers=Allowed(("eu.example",)))
    assert failed(cloud, signing_key=SigningKey.VLEK, provider="eu.example") == []
    assert failed(cloud, signing_key=SigningKey.VLEK, provider="us.example") == ["provider"]
    assert failed(cloud) == ["signing-key"]


@pytest.mark.parametrize(
    ("rule", "field", "size", "claim"),
    [
        ("host_data", "host_data", 32, "host-data"),
        ("family_ids", "family_id", 16, "family-id"),
        ("image_ids", "image_id", 16, "image-id"),
        ("id_keys", "id_key_digest", 48, "id-key"),
    ],
)
def test_identities_come_from_a_list_or_are_left_open_in_words(rule: str, field: str, size: int, claim: str) -> None:
    value = bytes(range(1, size + 1))
    changed: dict[str, Any] = {field: value}
    listed = replace(STRICT, **{rule: Allowed((value.hex(),))})  # type: ignore[arg-type]  # one of the lists
    assert failed(listed, **changed) == []
    assert failed(listed) == [claim]


def test_an_author_key_that_the_report_does_not_vouch_for_is_none() -> None:
    key = bytes(range(48))
    listed = replace(STRICT, author_keys=Allowed((key.hex(),)))
    assert failed(listed, author_key_digest=key, author_key_enabled=True) == []
    assert failed(listed, author_key_digest=key) == ["author-key"]


def test_svn_and_mitigations_have_floors() -> None:
    wanted = replace(STRICT, guest_svn=3, mitigations=(0, 2))
    assert failed(wanted, version=5, guest_svn=3, mitigations=(5, 7)) == []
    assert failed(wanted, version=5, guest_svn=2, mitigations=(1, 7)) == ["guest-svn", "mitigation.2"]
    assert failed(wanted, version=3, guest_svn=3) == ["mitigation.0", "mitigation.2"]


def test_lists_may_be_left_out_where_the_policy_says_so() -> None:
    assert failed(replace(STRICT, revocation=RevocationRule.WHEN_PRESENT), listed=False) == []


def test_every_rule_and_feature_can_be_asked_for() -> None:
    all_of_them = replace(STRICT, guest_rules=tuple(GuestRule), platform_features=tuple(PlatformFeature))
    both: dict[str, Any] = {"policy": STRICT_POLICY | 1 << 20 | 1 << 22, "platform": STRICT_PLATFORM | 1 << 1 | 1 << 6}
    assert failed(all_of_them, **both) == []
    assert failed(all_of_them) == [
        "guest.single-socket",
        "guest.aes-256-xts",
        "platform.tsme",
        "platform.iommu-write-safe",
    ]


def read(json: object) -> SevSnpPolicy:
    with Fields(decode(encode(json)), "sev-snp") as fields:  # type: ignore[arg-type]  # tests hand in broken ones
        return SevSnpPolicy.read(fields)


def test_a_policy_reads_as_it_was_written() -> None:
    for policy in (STRICT, SevSnpPolicy.strictest(), replace(STRICT, mitigations=(1, 63), vmpls=(0, 3))):
        assert read(policy.to_json()) == policy


@pytest.mark.parametrize("name", list(STRICT.to_json()))
def test_every_field_is_mandatory(name: str) -> None:
    json = STRICT.to_json()
    del json[name]
    with pytest.raises(MalformedError, match=name):
        read(json)


WRONG: list[tuple[str, object]] = [
    ("floors", {"rome": STRICT.floors[Product.GENOA].to_json()}),
    ("floors", {"genoa": STRICT.floors[Product.TURIN].to_json()}),
    ("floors", {"turin": STRICT.floors[Product.GENOA].to_json()}),
    ("floors", {"genoa": {**STRICT.floors[Product.GENOA].to_json(), "snp": 256}}),
    ("floors", {"genoa": {**STRICT.floors[Product.GENOA].to_json(), "firmware": "1.055.1"}}),
    ("signing_keys", ["none"]),
    ("signing_keys", ["vcek", "vcek"]),
    ("vmpls", [4]),
    ("vmpls", [1, 0]),
    ("vmpls", [True]),
    ("guest_rules", ["debug"]),
    ("platform_features", ["ecc", "ecc"]),
    ("mitigations", [64]),
    ("chips", ["00"]),
    ("chips", None),
    ("host_data", "all"),
    ("guest_svn", -1),
    ("revocation", "never"),
    ("allow_smt", 1),
    ("more", 1),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_field_out_of_its_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedError):
        read({**STRICT.to_json(), name: value})


@pytest.mark.parametrize("text", ["1.55", "1.55.40.1", "1.55.256", "a.b.c", "1.55.-1", "01.55.40", ""])
def test_a_firmware_version_has_three_numbers(text: str) -> None:
    with pytest.raises(MalformedError):
        FirmwareVersion.parse(text)
