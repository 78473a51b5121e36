"""Our tokens are read by joserfc, and joserfc's by us; and the draft's own example has the members that ours have."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from strongroom.attestation.ear import OUR_PROFILE, EarRefusedError, issue, verify
from strongroom.core.signature import Ed25519Signer, SignatureError
from support.attestation_results import AT, IMAGE, wanted

jwt = pytest.importorskip("joserfc.jwt")
jwk = pytest.importorskip("joserfc.jwk")
errors = pytest.importorskip("joserfc.errors")

SEED = bytes(range(32))
SIGNER = Ed25519Signer.from_seed(SEED)
HEADER = {"alg": "Ed25519", "kid": str(SIGNER.public_key.key_id), "typ": "eat+jwt"}


def key(*, private: bool = False) -> Any:
    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    members = {"kty": "OKP", "crv": "Ed25519", "x": text(SIGNER.public_key.raw)}
    return jwk.OKPKey.import_key(members | ({"d": text(SEED)} if private else {}))


def test_joserfc_reads_ours() -> None:
    read = jwt.decode(issue(wanted(), SIGNER, AT), key(), algorithms=["Ed25519"])
    assert read.header == HEADER
    assert read.claims["ear_status"] == "affirming"
    jwt.JWTClaimsRegistry(now=AT, exp={"essential": True}, iat={"essential": True}).validate(read.claims)
    with pytest.raises(errors.ExpiredTokenError):
        jwt.JWTClaimsRegistry(now=AT + 301).validate(read.claims)


def test_joserfc_refuses_a_change_of_ours() -> None:
    token = issue(wanted(), SIGNER, AT)
    with pytest.raises(errors.BadSignatureError):
        jwt.decode(token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:], key(), algorithms=["Ed25519"])


def test_we_read_joserfcs() -> None:
    claims = jwt.decode(issue(wanted(), SIGNER, AT), key(), algorithms=["Ed25519"]).claims
    token = jwt.encode(HEADER, claims, key(private=True), algorithms=["Ed25519"])
    assert verify(token, [SIGNER.public_key], AT).require_affirming() == IMAGE


def test_we_refuse_what_else_joserfc_can_make() -> None:
    claims = jwt.decode(issue(wanted(), SIGNER, AT), key(), algorithms=["Ed25519"]).claims
    secret = jwk.OctKey.import_key(SIGNER.public_key.raw)
    confused = jwt.encode(HEADER | {"alg": "HS256"}, claims, secret, algorithms=["HS256"])
    with pytest.raises(EarRefusedError) as caught:
        verify(confused, [SIGNER.public_key], AT)
    assert caught.value.reason == "ear-algorithm"
    head, _, rest = confused.partition(".")
    ours = issue(wanted(), SIGNER, AT).partition(".")[0]
    with pytest.raises((SignatureError, EarRefusedError)):
        verify(f"{ours}.{rest}", [SIGNER.public_key], AT)
    assert head != ours


EXAMPLE = json.loads(
    """{"ear_raw_evidence": ["application/octet-stream", "3q2-7w"],
        "ear_verifier_id": {"build": "rrtrap-v1.0.0", "developer": "Acme Inc."},
        "eat_profile": "tag:ietf.org,2026:rats/ear#04", "iat": 1666091373,
        "submods": {"test": {"ear_appraisal_policy_ids": ["policy://test/01234"], "ear_status": "affirming",
        "ear_trustworthiness_vector": {"configuration": 2, "executables": 3, "file-system": 2, "hardware": 2,
        "instance-identity": 2, "runtime-opaque": 2, "sourced-data": 2, "storage-opaque": 2}}}}"""
)
"""What Veraison's ``ear`` (Apache-2.0), revision for draft -04, writes in its own example."""


def test_our_spelling_is_veraisons() -> None:
    ours = jwt.decode(issue(wanted(), SIGNER, AT), key(), algorithms=["Ed25519"]).claims
    assert set(EXAMPLE) - set(ours) == {"ear_raw_evidence"}
    assert ours["eat_profile"] == EXAMPLE["eat_profile"]
    assert set(ours["ear_verifier_id"]) == set(EXAMPLE["ear_verifier_id"])
    theirs, mine = EXAMPLE["submods"]["test"], ours["submods"]["cpu0"]
    assert set(theirs) <= set(mine)
    assert set(theirs["ear_trustworthiness_vector"]) == set(mine["ear_trustworthiness_vector"])


def test_veraisons_example_signed_by_a_believed_key_lacks_only_what_is_ours() -> None:
    claims = EXAMPLE | {"iat": AT, "exp": AT + 60, "ear_status": "affirming"}
    token = jwt.encode(HEADER, claims, key(private=True), algorithms=["Ed25519"])
    with pytest.raises(EarRefusedError, match=OUR_PROFILE):
        verify(token, [SIGNER.public_key], AT)
