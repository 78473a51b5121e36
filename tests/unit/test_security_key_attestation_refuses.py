"""A key is enrolled only if its maker vouches for it, for this person, and it can't be copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from fido2 import cbor
from hypothesis import given
from hypothesis import strategies as st

from simulators.security_key import AAGUID, EDDSA, Maker, SoftwareSecurityKey, private_key, sign
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.core.webauthn import Flag
from strongroom.personnel.attested_chain import KeyNotAttestedError
from strongroom.personnel.authenticators import MAX_ROOTS, Authenticator, load_certificate
from strongroom.personnel.enrolment import (
    EnrolledKey,
    Enrolment,
    check_attested,
    credential_key,
    enrolment_challenge,
    model_of,
)
from support.security_keys import AT, DANA, GENESIS, RP_ID, Parts, Ports, allowed, seeded_p256

MAKER = Maker()
STRANGER = Maker(name="stranger")
"""Of the same AAGUID: anybody can write it."""
ALLOWED = allowed(MAKER)
OTHER_AAGUID = "ff" * 16

Enrol = Callable[[SoftwareSecurityKey], Enrolment]


@pytest.fixture
def enrol(monkeypatch: pytest.MonkeyPatch) -> Enrol:
    """Return how a device is enrolled beside a good one."""

    def do(device: SoftwareSecurityKey) -> Enrolment:
        return Ports(monkeypatch, {"first": device, "second": SoftwareSecurityKey()}).enrol()[0]

    return do


def refused(enrolment: Enrolment, authenticators: tuple[Authenticator, ...] = ALLOWED) -> str:
    """Return the reason of a refusal that must come."""
    with pytest.raises(KeyNotAttestedError) as caught:
        check_attested(enrolment, authenticators)
    return caught.value.reason


def changed(enrolment: Enrolment, change: Callable[[dict[str, object]], object]) -> Enrolment:
    """Return the enrolment with its first attestation object changed."""
    first = enrolment.keys[0]
    attestation = dict(cbor.decode(first.attestation))  # type: ignore[arg-type]
    change(attestation)
    return replace(enrolment, keys=(replace(first, attestation=cbor.encode(attestation)), *enrolment.keys[1:]))


def test_two_keys_of_an_allowed_model_are_attested(enrol: Enrol) -> None:
    enrolment = enrol(SoftwareSecurityKey(algorithms=(EDDSA,)))
    first, second = check_attested(enrolment, ALLOWED)
    assert (first.key, second.key) == tuple(one.key for one in enrolment.keys)
    assert [one.key.algorithm.value for one in (first, second)] == ["webauthn-ed25519", "webauthn-es256"]
    assert first.authenticator.aaguid == AAGUID == model_of(enrolment.keys[0].attestation)
    assert first.credential_id != second.credential_id
    assert Enrolment.parse(enrolment.to_bytes()) == enrolment
    assert enrolment.rp_id == RP_ID


@pytest.mark.parametrize("form", ["none", "self"])
def test_a_key_that_no_maker_vouches_for_is_refused(enrol: Enrol, form: str) -> None:
    assert refused(enrol(SoftwareSecurityKey(attestation=form))) == "attestation-form"


def test_another_attestation_form_is_refused(enrol: Enrol) -> None:
    def as_u2f(attestation: dict[str, object]) -> None:
        attestation["fmt"] = "fido-u2f"

    assert refused(changed(enrol(SoftwareSecurityKey()), as_u2f)) == "attestation-form"


def test_a_forged_chain_is_refused(enrol: Enrol) -> None:
    assert refused(enrol(SoftwareSecurityKey(maker=STRANGER))) == "attestation-chain"


def test_the_forger_s_own_root_in_the_chain_changes_nothing(enrol: Enrol) -> None:
    def with_root(attestation: dict[str, object]) -> None:
        statement = attestation["attStmt"]
        assert isinstance(statement, dict)
        statement["x5c"].append(STRANGER.root_certificate)

    assert refused(changed(enrol(SoftwareSecurityKey(maker=STRANGER)), with_root)) == "attestation-chain"


def test_a_pinned_root_at_the_chain_s_end_is_let_be(enrol: Enrol) -> None:
    def with_root(attestation: dict[str, object]) -> None:
        statement = attestation["attStmt"]
        assert isinstance(statement, dict)
        statement["x5c"].append(MAKER.root_certificate)

    assert len(check_attested(changed(enrol(SoftwareSecurityKey()), with_root), ALLOWED)) == 2


def test_a_device_s_certificate_can_not_certify_another(enrol: Enrol) -> None:
    # The library that reads attestations checks signatures alone, and would let this pass.
    batch = x509.load_der_x509_certificate(MAKER.device_certificate)
    forged = (
        x509.CertificateBuilder(
            issuer_name=batch.subject,
            subject_name=batch.subject,
            public_key=private_key("forger").public_key(),
            serial_number=9,
            not_valid_before=datetime(2020, 1, 1, tzinfo=UTC),
            not_valid_after=datetime(2100, 1, 1, tzinfo=UTC),
            extensions=list(batch.extensions),
        )
        .sign(MAKER.device_key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    enrolment = enrol(SoftwareSecurityKey())
    first = enrolment.keys[0]

    def with_forged(attestation: dict[str, object]) -> None:
        signed = bytes(attestation["authData"]) + hashlib.sha256(first.client_data).digest()  # type: ignore[call-overload]
        sig = sign(private_key("forger"), signed)
        attestation["attStmt"] = {"alg": -7, "sig": sig, "x5c": [forged, MAKER.device_certificate]}

    assert refused(changed(enrolment, with_forged)) == "attestation-chain"


def test_a_model_that_is_not_listed_is_refused(enrol: Enrol) -> None:
    device = SoftwareSecurityKey(maker=replace(MAKER, aaguid=OTHER_AAGUID))
    assert refused(enrol(device)) == "unknown-authenticator"
    assert refused(enrol(SoftwareSecurityKey()), ()) == "unknown-authenticator"


def test_a_root_vouches_only_for_the_model_that_its_certificate_names(enrol: Enrol) -> None:
    # Two models of one maker under one root; the second isn't good enough, and says that it is the first.
    lying = replace(MAKER, certified_aaguid=OTHER_AAGUID)
    assert refused(enrol(SoftwareSecurityKey(maker=lying))) == "attestation-signature"
    silent = replace(MAKER, extension=False)
    assert refused(enrol(SoftwareSecurityKey(maker=silent))) == "aaguid-mismatch"


def test_a_root_of_another_model_vouches_for_nothing_here(enrol: Enrol) -> None:
    other = Authenticator(aaguid=OTHER_AAGUID, name="other", roots=(MAKER.root_certificate,))
    this = Authenticator(aaguid=AAGUID, name="this", roots=(STRANGER.root_certificate,))
    assert refused(enrol(SoftwareSecurityKey()), (other, this)) == "attestation-chain"


@pytest.mark.parametrize(
    ("more", "fewer", "reason"),
    [
        (Flag.BACKUP_ELIGIBLE, Flag(0), "backup-eligible"),
        (Flag.BACKUP_ELIGIBLE | Flag.BACKED_UP, Flag(0), "backup-eligible"),
        (Flag(0), Flag.USER_VERIFIED, "user-not-verified"),
        (Flag(0), Flag.USER_PRESENT, "user-not-present"),
        (Flag(0x02), Flag(0), "assertion-malformed"),
    ],
)
def test_flags_of_another_kind_of_key_are_refused(enrol: Enrol, more: Flag, fewer: Flag, reason: str) -> None:
    assert refused(enrol(SoftwareSecurityKey(more_flags=more, fewer_flags=fewer))) == reason


def test_an_attestation_serves_nobody_else_and_nowhere_else(enrol: Enrol) -> None:
    enrolment = enrol(SoftwareSecurityKey())
    for other in (replace(enrolment, person=PersonId("sam")), replace(enrolment, genesis=Digest.of(b"other"))):
        assert refused(other) == "challenge-mismatch"
    challenges = {
        enrolment_challenge(genesis, PersonId(person))
        for genesis in (GENESIS, Digest.of(b"other"))
        for person in ("dana", "sam")
    }
    assert len(challenges) == 4


def test_an_attestation_is_for_the_key_beside_it(enrol: Enrol) -> None:
    enrolment = enrol(SoftwareSecurityKey())
    first, second = enrolment.keys
    crossed = replace(enrolment, keys=(replace(first, key=second.key), replace(second, key=first.key)))
    assert refused(crossed) == "other-key"
    thief = Parts(seeded_p256()).public_key
    assert refused(replace(enrolment, keys=(replace(first, key=thief), second))) == "other-key"


def test_a_changed_attestation_is_refused(enrol: Enrol) -> None:
    enrolment = enrol(SoftwareSecurityKey())
    data = enrolment.keys[0].attestation
    for place in range(0, 8 * len(data), 37):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        keys = (replace(enrolment.keys[0], attestation=bytes(flipped)), enrolment.keys[1])
        with pytest.raises(StrongroomError):
            check_attested(replace(enrolment, keys=keys), ALLOWED)


@pytest.mark.parametrize("at", [0, 4_800_000_000])
def test_certificates_hold_at_the_enrolment_s_time(enrol: Enrol, at: int) -> None:
    assert refused(replace(enrol(SoftwareSecurityKey()), at=at)) == "attestation-chain"


@given(data=st.one_of(st.binary(max_size=300), st.just(b"\x81" * 16000), st.just(b"\xa1" * 3000)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (lambda: credential_key(data, RP_ID), lambda: model_of(data), lambda: load_certificate(data)):
        with pytest.raises(MalformedError):
            read()


_SCALARS = st.one_of(st.integers(-(2**63), 2**63), st.binary(max_size=80), st.text(max_size=8), st.booleans())
_CBOR = st.recursive(
    _SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_SCALARS, inner, max_size=4))
)
_GOOD: dict[str, Enrolment] = {}


@given(statement=st.one_of(_CBOR, st.fixed_dictionaries({"alg": _CBOR, "sig": _CBOR, "x5c": _CBOR})))
def test_any_attestation_statement_is_refused(statement: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not _GOOD:
            _GOOD["one"] = Ports(patch, {n: SoftwareSecurityKey() for n in ("first", "second")}).enrol()[0]
    attestation = dict(cbor.decode(_GOOD["one"].keys[0].attestation))  # type: ignore[arg-type]
    try:
        data = cbor.encode(attestation | {"attStmt": statement})
    except Exception:  # noqa: BLE001 - not every drawn value has a CBOR form
        return
    keys = (replace(_GOOD["one"].keys[0], attestation=data), _GOOD["one"].keys[1])
    with pytest.raises((KeyNotAttestedError, MalformedError)):
        check_attested(replace(_GOOD["one"], keys=keys), ALLOWED)


def test_an_enrolment_lists_two_to_four_security_keys_of_one_relying_party(enrol: Enrol) -> None:
    enrolment = enrol(SoftwareSecurityKey())
    first, second = enrolment.keys
    elsewhere = replace(second, key=Parts(seeded_p256(), rp_id="other.example.org").public_key)
    more = tuple(replace(first, key=Parts(seeded_p256(n)).public_key) for n in range(2, 6))
    for keys in ((first,), (first, first), (first, elsewhere), (first, *more)):
        with pytest.raises(MalformedError):
            replace(enrolment, keys=keys)


def test_an_enrolment_has_no_unknown_member_and_no_other_kind_of_key(enrol: Enrol) -> None:
    enrolment = enrol(SoftwareSecurityKey())
    body = decode(enrolment.to_bytes())
    assert isinstance(body, dict)
    plain: Json = {"key": "ed25519:" + "A" * 43 + "=", "attestation": "", "client_data": ""}
    changes: list[dict[str, Json]] = [{"more": 1}, {"v": 2}, {"person": "Dana"}, {"keys": []}, {"keys": [plain, plain]}]
    for wrong in changes:
        with pytest.raises(MalformedError):
            Enrolment.parse(encode({**body, **wrong}))
    with pytest.raises(MalformedError):
        Enrolment.parse(enrolment.to_bytes() + b" ")


def test_an_allowed_model_has_a_form_and_roots() -> None:
    root = MAKER.root_certificate
    good = Authenticator(aaguid=AAGUID, name="Key 1", roots=(root,))
    assert Authenticator.read(Fields(good.to_json(), "authenticator")) == good
    changes: list[dict[str, Any]] = [
        {"aaguid": "0" * 32},
        {"aaguid": AAGUID.upper()},
        {"aaguid": AAGUID[2:]},
        {"name": ""},
        {"name": "n" * 65},
        {"roots": ()},
        {"roots": (root, root)},
        {"roots": tuple(Maker(name=f"m{n}").root_certificate for n in range(MAX_ROOTS + 1))},
        {"roots": (b"no certificate",)},
        {"roots": (root + b"\0",)},
        {"roots": (bytes(5000),)},
    ]
    for wrong in changes:
        with pytest.raises(MalformedError):
            replace(good, **wrong)


def test_a_key_that_could_not_be_read_back_is_not_enrolled() -> None:
    plain = EnrolledKey(key=Parts(seeded_p256()).public_key, attestation=b"x", client_data=b"y")
    with pytest.raises(MalformedError):
        check_attested(
            Enrolment(genesis=GENESIS, person=DANA, keys=(plain, replace(plain, key=Parts(seeded_p256(8)).public_key)),
                      at=AT),
            ALLOWED,
        )  # fmt: skip
