"""AWS Nitro attestation documents of our own making: what is accepted, and each reason for which one is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.nitro_chain import (
    DEBUG_PCRS,
    INSTANCE,
    MADE,
    NONCE,
    PCRS,
    USER_DATA,
    NitroChain,
    nitro_chain,
)
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.claims import Claim
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    CertificateRevokedError,
    ChainRefusedError,
    EvidenceReplayedError,
    NotGenuineError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.allowed import ANYTHING, NOTHING, Allowed
from strongroom.attestation.policies.nitro import NitroPolicy
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.trust_anchors import TrustAnchors, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.nitro import NitroStatement, NitroVerifier
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from support.certificates import usage

BINDING = ExpectedBinding({Slot.NONCE: NONCE, Slot.USER_DATA: USER_DATA})
AT = MADE + 10
POLICY = NitroPolicy(
    max_age=60,
    max_skew=5,
    locked_pcrs=(3, 4, 8),
    pcr3=Allowed((PCRS[3].hex(),)),
    pcr4=Allowed((PCRS[4].hex(),)),
    pcr8=Allowed((PCRS[8].hex(),)),
    instances=Allowed((INSTANCE,)),
    revocation=RevocationRule.WHEN_PRESENT,
)
VERIFIER = NitroVerifier()


def endorsements(chain: NitroChain, *lists: bytes) -> Endorsements:
    items = tuple(
        CollateralItem(kind=CollateralKind.REVOCATION_LIST, name="", data=der, not_before=0, not_after=0)
        for der in lists
    )
    return Endorsements(anchors=TrustAnchors((chain.anchor,)), collateral=Collateral(items))


def proven(
    body: bytes | None = None,
    *,
    chain: NitroChain | None = None,
    lists: tuple[bytes, ...] = (),
    binding: ExpectedBinding = BINDING,
    at: int = AT,
) -> Genuine[NitroStatement]:
    made_by = chain or nitro_chain()
    statement = VERIFIER.parse(made_by.document() if body is None else body)
    return VERIFIER.genuine(statement, binding, endorsements(made_by, *lists), at)


def refused(found: Genuine[NitroStatement], policy: NitroPolicy = POLICY) -> list[str]:
    return [claim.name for claim in VERIFIER.judge(found, policy) if not claim.ok]


def test_an_honest_document_is_genuine_and_wanted() -> None:
    found = proven()
    assert refused(found) == []
    assert found.bound.fresh
    assert found.hardware_id == INSTANCE.encode()
    assert found.isolation is IsolationClass.VM_SIMULATED
    assert found.measurements["pcr0"] == PCRS[0].hex()
    assert found.endorsed_until == MADE + 3 * 3600
    assert {claim.name for claim in VERIFIER.judge(found, POLICY)} >= {"debug", "age", "instance", "revocation"}
    assert VERIFIER.reference_names <= found.measurements.keys()


def test_a_tagged_document_is_the_same_document() -> None:
    body = nitro_chain().document()
    assert VERIFIER.parse(b"\xd2" + body) == VERIFIER.parse(body)


def test_an_indefinite_map_as_aws_writes_it_is_read() -> None:
    pairs = b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in nitro_chain().fields().items())
    assert refused(proven(nitro_chain().sign(b"\xbf" + pairs + b"\xff"))) == []


def test_production_anchors_refuse_simulated_documents() -> None:
    statement = VERIFIER.parse(nitro_chain().document())
    with pytest.raises(ChainRefusedError):
        VERIFIER.genuine(statement, BINDING, Endorsements(anchors=vendor_anchors()), AT)


# Step 1.


def test_a_document_changed_after_signing_is_refused() -> None:
    body = nitro_chain().document()
    with pytest.raises(BadSignatureError):
        proven(body.replace(USER_DATA, USER_DATA.upper()))


def test_a_document_signed_by_another_key_is_refused() -> None:
    other = NitroChain.make()
    with pytest.raises(BadSignatureError):
        proven(other.document(certificate=nitro_chain().enclave.der))


def test_a_key_on_another_curve_is_refused() -> None:
    chain = NitroChain.make(curve=ec.SECP256R1())
    body = cbor2.loads(chain.document())
    body[3] = bytes(32) + body[3]
    with pytest.raises(BadSignatureError):
        proven(cbor2.dumps(body), chain=chain)


# Steps 2 and 3.


def test_a_ca_as_signer_is_refused() -> None:
    chain = NitroChain.make(authority=True, key_usage=usage(certificates=True))
    with pytest.raises(ChainRefusedError, match="CA"):
        proven(chain=chain)


def test_a_certificate_that_may_not_sign_is_refused() -> None:
    with pytest.raises(ChainRefusedError, match="may not sign"):
        proven(chain=NitroChain.make(key_usage=usage(sign=False)))


def test_a_chain_without_its_zone_is_refused() -> None:
    chain = nitro_chain()
    region, _zone, instance = chain.between
    with pytest.raises(ChainRefusedError):
        proven(chain.document(cabundle=[chain.root.der, region.der, instance.der]))


def test_a_bundle_in_the_wrong_order_is_refused() -> None:
    chain = nitro_chain()
    with pytest.raises(ChainRefusedError):
        proven(chain.document(cabundle=list(reversed(chain.fields()["cabundle"]))))


@pytest.mark.parametrize("at", [MADE - 4, MADE + 3 * 3600 + 1])
def test_a_document_outside_its_certificates_life_is_refused(at: int) -> None:
    with pytest.raises(ChainRefusedError, match="valid at this time"):
        proven(at=at)


def test_a_revoked_zone_is_refused() -> None:
    region, zone, _instance = nitro_chain().between
    with pytest.raises(CertificateRevokedError):
        proven(lists=(region.revokes(zone),))


def test_revocation_is_checked_only_when_every_certificate_that_names_a_list_was_looked_up() -> None:
    chain = nitro_chain()
    of_root, of_region = chain.root.revokes(), chain.between[0].revokes()
    required = replace(POLICY, revocation=RevocationRule.REQUIRED)
    assert refused(proven(), required) == ["revocation"]
    assert refused(proven(lists=(of_root,)), required) == ["revocation"]
    assert refused(proven(lists=(of_root, of_region)), required) == []


# Step 4.


@pytest.mark.parametrize("seconds", [-4, 3 * 3600 + 1])
def test_a_document_made_outside_its_certificates_life_is_refused(seconds: int) -> None:
    with pytest.raises(ChainRefusedError, match="wasn't made while"):
        proven(nitro_chain().document(timestamp=(MADE + seconds) * 1000))


# Step 5.


@pytest.mark.parametrize(
    "changed", [{"nonce": bytes(32)}, {"nonce": None}, {"nonce": NONCE[:-1]}, {"user_data": None}, {"user_data": b""}]
)
def test_another_challenge_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(EvidenceReplayedError):
        proven(nitro_chain().document(**changed))


# The policy's fields.


def test_a_debug_enclave_is_refused_by_the_loosest_policy() -> None:
    loosest = NitroPolicy(
        max_age=3 * 3600,
        max_skew=300,
        locked_pcrs=(),
        pcr3=ANYTHING,
        pcr4=ANYTHING,
        pcr8=ANYTHING,
        instances=ANYTHING,
        revocation=RevocationRule.WHEN_PRESENT,
    )
    assert refused(proven(), loosest) == []
    assert refused(proven(nitro_chain().document(pcrs=dict(DEBUG_PCRS))), loosest) == ["debug"]
    one_zero = {**PCRS, 1: bytes(48)}
    assert refused(proven(nitro_chain().document(pcrs=one_zero)), loosest) == ["debug"]
    absent = {number: value for number, value in PCRS.items() if number != 2}
    assert refused(proven(nitro_chain().document(pcrs=absent)), loosest) == ["debug"]


@pytest.mark.parametrize(("seconds", "claim"), [(60, []), (61, ["age"]), (-3, [])])
def test_age_is_bounded(seconds: int, claim: list[str]) -> None:
    assert refused(proven(at=MADE + seconds)) == claim


def test_a_document_from_the_future_is_refused() -> None:
    body = nitro_chain().document(timestamp=(MADE + 100) * 1000)
    assert refused(proven(body, at=MADE + 95)) == []
    assert refused(proven(body, at=MADE + 94)) == ["age"]


def test_age_is_unknown_before_a_document_is_genuine() -> None:
    found = proven()
    assert refused(replace(found, statement=replace(found.statement, appraised=None))) == ["age"]


@pytest.mark.parametrize("number", [3, 4, 8])
def test_role_instance_and_image_signer_can_be_required(number: int) -> None:
    other = proven(nitro_chain().document(pcrs={**PCRS, number: b"\x77" * 48}))
    assert refused(other) == [f"pcr{number}.allowed"]
    zero = proven(nitro_chain().document(pcrs={**PCRS, number: bytes(48)}))
    assert refused(zero) == [f"pcr{number}.locked", f"pcr{number}.allowed"]


def test_an_unlisted_instance_is_refused() -> None:
    other = proven(nitro_chain().document(module_id="i-0fedcba9876543210-enc01"))
    assert refused(other) == ["instance"]
    assert refused(proven(), replace(POLICY, instances=NOTHING)) == ["instance"]
    unnamed = proven(nitro_chain().document(module_id="something else"))
    assert unnamed.hardware_id == b""
    assert refused(unnamed) == ["instance"]


# The document's form (AWS, section 3.2.2).


@pytest.mark.parametrize(
    "changed",
    [
        {"module_id": ""},
        {"module_id": "i" * 129},
        {"module_id": "i-1\n"},
        {"module_id": b"i-1"},
        {"digest": "SHA256"},
        {"timestamp": 0},
        {"timestamp": -1},
        {"timestamp": 1.5},
        {"timestamp": True},
        {"timestamp": 2**64 - 1},
        {"pcrs": {}},
        {"pcrs": {32: bytes(48)}},
        {"pcrs": {-1: bytes(48)}},
        {"pcrs": {True: bytes(48)}},
        {"pcrs": {"0": bytes(48)}},
        {"pcrs": {0: bytes(47)}},
        {"pcrs": {0: None}},
        {"pcrs": [bytes(48)]},
        {"certificate": b""},
        {"certificate": bytes(1025)},
        {"certificate": None},
        {"cabundle": []},
        {"cabundle": [bytes(1025)]},
        {"cabundle": [b"x"] * 9},
        {"cabundle": [None]},
        {"public_key": bytes(1025)},
        {"public_key": "text"},
        {"user_data": bytes(1025)},
        {"nonce": 7},
        {"nitrotpm_pcrs": {}},
    ],
)
def test_a_document_out_of_its_bounds_is_malformed(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        VERIFIER.parse(nitro_chain().document(**changed))


@pytest.mark.parametrize("name", ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"])
def test_a_document_without_a_required_field_is_malformed(name: str) -> None:
    fields = nitro_chain().fields()
    del fields[name]
    with pytest.raises(MalformedError):
        VERIFIER.parse(nitro_chain().sign(cbor2.dumps(fields)))


def test_a_register_named_twice_is_malformed() -> None:
    payload = cbor2.dumps(nitro_chain().fields() | {"pcrs": {0: bytes(48), 1: bytes(48)}})
    first, second = cbor2.dumps({0: bytes(48)})[1:], cbor2.dumps({1: bytes(48)})[1:]
    assert payload.count(first + second) == 1
    with pytest.raises(MalformedError):
        VERIFIER.parse(nitro_chain().sign(payload.replace(first + second, first + first)))


@pytest.mark.parametrize(
    "headers", [{}, {1: -7}, {1: -35, 2: [1]}, {1: -35, 4: b"key"}, {1: -35.0}, {True: -35}, {"1": -35}, [1, -35]]
)
def test_any_other_protected_header_is_malformed(headers: Any) -> None:
    chain = nitro_chain()
    with pytest.raises(MalformedError):
        VERIFIER.parse(chain.sign(cbor2.dumps(chain.fields()), headers=cbor2.dumps(headers)))


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, b""), (0, "text"), (1, {4: b"key"}), (1, []), (2, b""), (2, None), (3, bytes(95)), (3, bytes(97)), (3, None)],
)
def test_any_other_cose_structure_is_malformed(place: int, value: Any) -> None:
    body = cbor2.loads(nitro_chain().document())
    body[place] = value
    with pytest.raises(MalformedError):
        VERIFIER.parse(cbor2.dumps(body))


def test_bytes_after_the_document_are_malformed() -> None:
    chain = nitro_chain()
    with pytest.raises(MalformedError, match="after its end"):
        VERIFIER.parse(chain.document() + b"\0")
    with pytest.raises(MalformedError, match="after its end"):
        VERIFIER.parse(chain.sign(cbor2.dumps(chain.fields()) + b"\0"))


@pytest.mark.parametrize("tag", [0, 1, 2, 18, 24, 28, 29, 35, 36, 258, 55799, 99999])
def test_tags_are_malformed_wherever_they_stand(tag: int) -> None:
    chain = nitro_chain()
    with pytest.raises(MalformedError):
        VERIFIER.parse(chain.sign(cbor2.dumps(cbor2.CBORTag(tag, chain.fields()))))
    with pytest.raises(MalformedError):
        VERIFIER.parse(chain.document(nonce=cbor2.CBORTag(tag, NONCE)))
    with pytest.raises(MalformedError):
        VERIFIER.parse(b"\xd2" + cbor2.dumps(cbor2.CBORTag(tag, cbor2.loads(chain.document()))))


# The policy's form.


def test_a_policy_reads_what_it_writes() -> None:
    for policy in (POLICY, NitroPolicy.strictest(), replace(POLICY, pcr3=ANYTHING)):
        with Fields(policy.to_json(), "policy") as fields:
            assert NitroPolicy.read(fields) == policy


@pytest.mark.parametrize("name", list(POLICY.to_json()))
def test_every_field_of_a_policy_is_mandatory(name: str) -> None:
    written = POLICY.to_json()
    del written[name]
    with pytest.raises(MalformedError):
        NitroPolicy.read(Fields(written, "policy"))


@pytest.mark.parametrize(
    "changed",
    [
        {"max_age": 0},
        {"max_age": 3 * 3600 + 1},
        {"max_skew": 301},
        {"locked_pcrs": [2]},
        {"locked_pcrs": [32]},
        {"locked_pcrs": [4, 3]},
        {"locked_pcrs": [3, 3]},
        {"locked_pcrs": [True]},
        {"pcr3": "none"},
        {"pcr3": ["ab"]},
        {"pcr3": ["AB" * 48]},
        {"pcr4": [PCRS[4].hex()] * 2},
        {"pcr8": None},
        {"instances": ["m-0123456789"]},
        {"instances": [1]},
        {"revocation": "never"},
    ],
)
def test_a_policy_out_of_its_bounds_is_malformed(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        NitroPolicy.read(Fields(POLICY.to_json() | changed, "policy"))


def test_refusals_say_what_was_seen_and_wanted() -> None:
    claim = next(claim for claim in VERIFIER.judge(proven(), NitroPolicy.strictest()) if claim.name == "instance")
    assert claim == Claim("instance", claim.aspect, INSTANCE, "nothing", ok=False)
    with pytest.raises(NotGenuineError) as error:
        proven(at=MADE + 86400 * 2)
    assert error.value.seen
    assert error.value.wanted
