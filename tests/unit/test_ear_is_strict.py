"""An attestation result as a token: what it says, and every way in which a token is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.ear import (
    EAR_PROFILE,
    MAX_LIFETIME,
    MAX_SKEW,
    MAX_TOKEN,
    OUR_PROFILE,
    EarRefusedError,
    NotAffirmingError,
    issue,
    verify,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.results import Status
from strongroom.attestation.trust_vector import TrustTier
from strongroom.core.digest import Digest
from strongroom.core.envelope import pae
from strongroom.core.errors import MalformedError, StrongroomError, UsageError
from strongroom.core.signature import Ed25519Signer, HybridSigner, SignatureError
from support.attestation_results import AT, IMAGE, PLATFORM, refused, simulated, statement, wanted

SIGNER = Ed25519Signer.from_seed(bytes(32))
OTHER = Ed25519Signer.from_seed(bytes(31) + b"1")
KEYS = (OTHER.public_key, SIGNER.public_key)


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(token: str, part: int = 1) -> Any:
    piece = token.split(".")[part]
    return json.loads(base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)))


def signed(claims: object, header: object | None = None, signer: Ed25519Signer = SIGNER) -> str:
    default = {"alg": "Ed25519", "kid": str(signer.public_key.key_id), "typ": "eat+jwt"}
    pieces = [text(json.dumps(one).encode()) for one in (default if header is None else header, claims)]
    message = ".".join(pieces)
    return f"{message}.{text(signer.sign(message.encode()))}"


def reason(token: str, at: int = AT) -> str:
    with pytest.raises(StrongroomError) as caught:
        verify(token, KEYS, at)
    return caught.value.reason


def test_a_wanted_platform_is_affirmed() -> None:
    ear = verify(issue(wanted(), SIGNER, AT, collateral=Digest.of(b"bundle")), KEYS, AT)
    assert ear.require_affirming() == IMAGE
    assert (ear.key_id, ear.issued, ear.expires) == (SIGNER.public_key.key_id, AT, AT + 300)
    assert (ear.platform, ear.nonce, ear.isolation) == (PLATFORM, bytes(range(32)), IsolationClass.CVM)
    assert (ear.recipient_key, ear.evidence) == (Digest.of(b"key"), Digest.of(b"evidence"))
    assert (ear.reference_values, ear.collateral) == (Digest.of(b"values"), Digest.of(b"bundle"))
    assert ear.submodules["cpu0"].policies == (f"urn:strongroom:appraisal-policy:{Digest.of(b'policy')}",)


def test_the_claims_are_spelt_as_the_draft_spells_them() -> None:
    claims = decoded(issue(wanted(statement("gpu0", EvidenceKind.NVIDIA_GPU)), SIGNER, AT))
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04" == EAR_PROFILE
    assert set(claims["ear_verifier_id"]) == {"developer", "build"}
    assert claims["ear_status"] == "affirming"
    assert claims["ear_device_topology"] == {"cpu0": ["gpu0"]}
    assert claims["eat_nonce"] == text(bytes(range(32)))
    cpu = claims["submods"]["cpu0"]
    assert cpu["eat_profile"] == OUR_PROFILE
    assert cpu["ear_trustworthiness_vector"] == {
        "instance-identity": 2,
        "configuration": 0,
        "executables": 3,
        "file-system": 0,
        "hardware": 2,
        "runtime-opaque": 2,
        "storage-opaque": 0,
        "sourced-data": 0,
    }
    assert "chip" not in json.dumps(claims), "a token doesn't say which chip it was"
    assert decoded(issue(wanted(), SIGNER, AT), 0) == {
        "alg": "Ed25519",
        "kid": str(SIGNER.public_key.key_id),
        "typ": "eat+jwt",
    }


def test_a_refused_platform_is_contraindicated_and_never_affirmed() -> None:
    ear = verify(issue(refused(), SIGNER, AT), KEYS, AT)
    assert ear.tier is TrustTier.CONTRAINDICATED
    assert ear.status is Status.GENUINE
    with pytest.raises(NotAffirmingError):
        ear.require_affirming()


def test_simulated_evidence_is_never_affirmed_even_when_wanted() -> None:
    ear = verify(issue(simulated(), SIGNER, AT), KEYS, AT)
    assert ear.status is Status.WANTED
    assert ear.tier is TrustTier.CONTRAINDICATED
    with pytest.raises(NotAffirmingError):
        ear.require_affirming()


def test_a_weaker_record_or_root_weakens_what_the_token_says() -> None:
    ear = verify(issue(replace(wanted(), isolation=IsolationClass.CVM_WEAK), SIGNER, AT), KEYS, AT)
    assert ear.tier is TrustTier.WARNING


def test_a_platform_that_isnt_wanted_as_a_whole_is_contraindicated_though_each_statement_is() -> None:
    result = replace(wanted(), status=Status.GENUINE, reason="unwanted-devices", image=None, claims=())
    assert verify(issue(result, SIGNER, AT), KEYS, AT).tier is TrustTier.CONTRAINDICATED


def test_it_ends_with_what_it_rests_on() -> None:
    result = replace(wanted(), endorsed_until=AT + 10)
    assert verify(issue(result, SIGNER, AT), KEYS, AT).expires == AT + 10
    with pytest.raises(UsageError):
        issue(replace(wanted(), endorsed_until=AT), SIGNER, AT)


@pytest.mark.parametrize("lifetime", [0, -1, MAX_LIFETIME + 1])
def test_lifetimes_are_bounded(lifetime: int) -> None:
    with pytest.raises(UsageError):
        issue(wanted(), SIGNER, AT, lifetime)


def test_nothing_is_issued_for_what_wasnt_appraised_or_with_another_key() -> None:
    with pytest.raises(UsageError):
        issue(replace(wanted(), submodules=()), SIGNER, AT)
    with pytest.raises(UsageError):
        issue(wanted(), HybridSigner.from_seed(bytes(32)), AT)
    many = {f"m{number}": "f" * 256 for number in range(1000)}
    with pytest.raises(MalformedError):
        issue(replace(wanted(), submodules=(replace(statement(), measurements=many),)), SIGNER, AT)


def test_time_is_checked_at_both_ends() -> None:
    token = issue(wanted(), SIGNER, AT, 60)
    verify(token, KEYS, AT - MAX_SKEW)
    verify(token, KEYS, AT + 59)
    assert reason(token, AT - MAX_SKEW - 1) == "ear-not-yet"
    assert reason(token, AT + 60) == "ear-expired"


def test_only_the_keys_that_are_named_count() -> None:
    token = issue(wanted(), SIGNER, AT)
    with pytest.raises(EarRefusedError) as caught:
        verify(token, [OTHER.public_key], AT)
    assert caught.value.reason == "ear-unknown-key"
    with pytest.raises(EarRefusedError):
        verify(token, [], AT)


def test_a_key_isnt_borrowed() -> None:
    header = {"alg": "Ed25519", "kid": str(OTHER.public_key.key_id), "typ": "eat+jwt"}
    with pytest.raises(SignatureError):
        verify(signed(decoded(issue(wanted(), SIGNER, AT)), header), KEYS, AT)


HEADER = {"alg": "Ed25519", "kid": str(SIGNER.public_key.key_id), "typ": "eat+jwt"}


@pytest.mark.parametrize(
    "alg", ["none", "None", "EdDSA", "ed25519", "ED25519", "HS256", "ES256", "", None, 1, ["Ed25519"]]
)
def test_no_other_algorithm_is_taken(alg: object) -> None:
    claims = decoded(issue(wanted(), SIGNER, AT))
    assert reason(signed(claims, HEADER | {"alg": alg})) == "ear-algorithm"


@pytest.mark.parametrize(
    "header",
    [
        HEADER | {"jwk": {}},
        HEADER | {"crit": ["b64"], "b64": False},
        HEADER | {"x5c": []},
        HEADER | {"typ": "JWT"},
        HEADER | {"typ": "EAT+JWT"},
        {"alg": "Ed25519", "typ": "eat+jwt"},
        {"alg": "Ed25519", "kid": HEADER["kid"]},
        [],
        "x",
    ],
)
def test_a_header_has_three_members_and_no_ideas_of_its_own(header: object) -> None:
    assert reason(signed(decoded(issue(wanted(), SIGNER, AT)), header)) in {"ear-malformed", "ear-algorithm"}


def changed(**members: object) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.update(members)


def in_cpu(**members: object) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims["submods"]["cpu0"].update(members)


def in_ours(**members: object) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims[OUR_PROFILE].update(members)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (changed(eat_profile="tag:ietf.org,2026:rats/ear#03"), "ear-profile"),
        (lambda claims: claims.pop("eat_profile"), "ear-profile"),
        (lambda claims: claims.pop("exp"), "ear-malformed"),
        (lambda claims: claims.pop("iat"), "ear-malformed"),
        (changed(exp=AT + 0.5), "ear-malformed"),
        (changed(exp=True), "ear-malformed"),
        (changed(exp="9999999999"), "ear-malformed"),
        (changed(exp=AT + MAX_LIFETIME + 1), "ear-lifetime"),
        (changed(iat=AT - MAX_LIFETIME), "ear-lifetime"),
        (changed(submods={}), "ear-malformed"),
        (changed(submods={str(number): {} for number in range(33)}), "ear-malformed"),
        (lambda claims: claims.pop("submods"), "ear-malformed"),
        (lambda claims: claims.pop("ear_verifier_id"), "ear-malformed"),
        (changed(ear_status="excellent"), "ear-malformed"),
        (changed(eat_nonce="!!"), "ear-malformed"),
        (changed(eat_nonce="QQ=="), "ear-malformed"),
        (in_cpu(ear_status="none"), "ear-malformed"),
        (in_cpu(ear_trustworthiness_vector={"hardware": 128}), "ear-malformed"),
        (in_cpu(ear_trustworthiness_vector={"software": 2}), "ear-malformed"),
        (in_cpu(ear_trustworthiness_vector={"hardware": 96}), "ear-malformed"),
        (lambda claims: claims["submods"]["cpu0"].pop("ear_trustworthiness_vector"), "ear-malformed"),
        (in_ours(more=1), "ear-malformed"),
        (in_ours(evidence="sha256:00"), "ear-malformed"),
        (in_ours(platform="../x"), "ear-malformed"),
        (in_ours(isolation="perfect"), "ear-malformed"),
        (lambda claims: claims.pop(OUR_PROFILE), "ear-malformed"),
    ],
)
def test_signed_claims_are_read_strictly(change: Callable[[dict[str, Any]], object], code: str) -> None:
    claims = decoded(issue(wanted(), SIGNER, AT))
    change(claims)
    assert reason(signed(claims)) == code


def test_a_status_better_than_its_parts_is_refused() -> None:
    claims = decoded(issue(refused(), SIGNER, AT))
    claims["ear_status"] = "affirming"
    assert reason(signed(claims)) == "ear-malformed"


def test_claims_of_other_names_are_ignored_as_the_draft_demands() -> None:
    claims = decoded(issue(wanted(), SIGNER, AT)) | {"ear_raw_evidence": ["application/x", "AA"], "later": {"a": 1}}
    claims["submods"]["cpu0"]["later"] = 1
    assert verify(signed(claims), KEYS, AT).require_affirming() == IMAGE


def test_a_member_twice_is_refused() -> None:
    token = issue(wanted(), SIGNER, AT)
    doubled = base64.urlsafe_b64decode(token.split(".")[1] + "==")[:-1] + b',"exp":1}'
    message = f"{token.split('.')[0]}.{text(doubled)}"
    assert reason(f"{message}.{text(SIGNER.sign(message.encode()))}") == "ear-malformed"


def test_every_character_matters() -> None:
    token = issue(wanted(), SIGNER, AT)
    for at in range(0, len(token), 7):
        for character in ("A", "_", "=", ".", "+", " ", "\n", "é", "\ud800"):
            if token[at] != character:
                with pytest.raises(StrongroomError):
                    verify(token[:at] + character + token[at + 1 :], KEYS, AT)
    for end in range(0, len(token), 11):
        with pytest.raises(StrongroomError):
            verify(token[:end], KEYS, AT)
    for other in (token + "=", token + "A", token + ".", " " + token, token + "\n", token + "." + token):
        assert reason(other) == "ear-malformed"


def test_spare_bits_are_no_second_spelling() -> None:
    token = issue(wanted(), SIGNER, AT)
    last = token[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes leave four spare bits in the last character.
    same = [one for one in alphabet if alphabet.index(one) >> 4 == alphabet.index(last) >> 4 and one != last]
    assert len(same) == 15
    assert {reason(token[:-1] + one) for one in same} == {"ear-malformed"}


def test_size_is_bounded_before_anything_is_read() -> None:
    assert reason("A" * (MAX_TOKEN + 1)) == "ear-malformed"


def test_a_token_is_never_an_envelope_nor_the_other_way_round() -> None:
    token = issue(wanted(), SIGNER, AT)
    signing_input = token.rpartition(".")[0].encode()
    assert signing_input.startswith(b"eyJ")
    assert b" " not in signing_input, "DSSE's encoding has a blank at its seventh byte, base64url none at all"
    assert pae("x", b"y").startswith(b"DSSEv1 ")
