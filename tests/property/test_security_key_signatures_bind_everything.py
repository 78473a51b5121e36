"""Whatever a security key's signature covers, and whatever says how it came about: nothing of it can be changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.envelope import pae, payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey, SignatureAlgorithm, SignatureError
from strongroom.core.webauthn import (
    Assertion,
    AssertionRefusedError,
    CredentialKey,
    Flag,
    assertion_counter,
    check_rp_id,
)
from support.security_keys import GOOD_FLAGS, ORIGIN, RP_ID, Parts, seeded_ed25519, seeded_p256

MESSAGE = pae(payload_type("approval.v1"), b'{"v":1}')
CURVES: list[Callable[[], Parts]] = [lambda: Parts(seeded_p256()), lambda: Parts(seeded_ed25519())]
both_curves = pytest.mark.parametrize("make", CURVES, ids=["es256", "ed25519"])


def refused(parts: Parts, value: bytes, message: bytes = MESSAGE) -> str:
    """Return the reason of a refusal that must come."""
    with pytest.raises(SignatureError) as caught:
        parts.public_key.verify(value, message)
    return caught.value.reason


@both_curves
def test_what_a_security_key_signed_verifies(make: Callable[[], Parts]) -> None:
    parts = make()
    value = parts.sign(MESSAGE)
    parts.public_key.verify(value, MESSAGE)
    assert parts.public_key.hardware
    assert not parts.public_key.hybrid
    assert PublicKey.parse(str(parts.public_key)) == parts.public_key
    assert len(str(parts.public_key)) <= MAX_KEY_TEXT


@both_curves
def test_any_flipped_bit_is_refused(make: Callable[[], Parts]) -> None:
    parts = make()
    value = parts.sign(MESSAGE)
    for place in range(8 * len(value)):
        flipped = bytearray(value)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(SignatureError):
            parts.public_key.verify(bytes(flipped), MESSAGE)


@given(st.binary(max_size=200), st.sampled_from(CURVES))
def test_any_other_message_is_refused(message: bytes, make: Callable[[], Parts]) -> None:
    parts = make()
    if message != MESSAGE:
        assert refused(parts, parts.sign(MESSAGE), message) == "challenge-mismatch"


def test_an_approval_is_no_denial() -> None:
    parts = Parts(seeded_p256())
    value = parts.sign(pae(payload_type("approval.v1"), b"{}"))
    assert refused(parts, value, pae(payload_type("denial.v1"), b"{}")) == "challenge-mismatch"


@both_curves
def test_a_key_of_another_relying_party_is_another_key(make: Callable[[], Parts]) -> None:
    parts = make()
    other = Parts(parts.private, rp_id="other.example.org", origin="https://other.example.org")
    assert other.public_key.key_id != parts.public_key.key_id
    assert refused(parts, other.sign(MESSAGE)) == "origin-mismatch"
    # A page of ours, and a device that was asked for another relying party.
    assert refused(parts, parts.sign(MESSAGE, rp_id="other.example.org")) == "relying-party-mismatch"


@both_curves
@given(flags=st.integers(0, 255))
def test_only_present_and_verified_and_nothing_else(make: Callable[[], Parts], flags: int) -> None:
    parts = make()
    parts.flags = flags
    value = parts.sign(MESSAGE)
    if flags == GOOD_FLAGS:
        parts.public_key.verify(value, MESSAGE)
        return
    expected = (
        "user-not-present"
        if not flags & Flag.USER_PRESENT
        else "user-not-verified"
        if not flags & Flag.USER_VERIFIED
        else "backup-eligible"
        if flags & (Flag.BACKUP_ELIGIBLE | Flag.BACKED_UP)
        else "assertion-malformed"
    )
    assert refused(parts, value) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "webauthn.create"}, "client-data-type"),
        ({"kind": None}, "client-data-type"),
        ({"kind": ["webauthn.get"]}, "client-data-type"),
        ({"challenge": ""}, "challenge-mismatch"),
        ({"challenge": 7}, "challenge-mismatch"),
        ({"origin": "https://example.org"}, "origin-mismatch"),
        ({"origin": f"https://{RP_ID}.evil.org"}, "origin-mismatch"),
        ({"origin": f"https://evil{RP_ID}"}, "origin-mismatch"),
        ({"origin": f"https://evil.org/{RP_ID}"}, "origin-mismatch"),
        ({"origin": f"https://{RP_ID}@evil.org"}, "origin-mismatch"),
        ({"origin": f"https://{RP_ID}/"}, "origin-mismatch"),
        ({"origin": f"https://{RP_ID}\n"}, "origin-mismatch"),
        ({"origin": f"https://{RP_ID}:0"}, "origin-mismatch"),
        ({"origin": f"https://{RP_ID}:65536"}, "origin-mismatch"),
        ({"origin": f"https://.{RP_ID}"}, "origin-mismatch"),
        ({"origin": f"HTTPS://{RP_ID}"}, "origin-mismatch"),
        ({"origin": f"http://{RP_ID}"}, "origin-mismatch"),
        ({"origin": "http://localhost"}, "origin-mismatch"),
        ({"origin": "null"}, "origin-mismatch"),
        ({"origin": None}, "origin-mismatch"),
        ({"cross_origin": True}, "origin-embedded"),
        ({"cross_origin": 0}, "origin-embedded"),
        ({"cross_origin": "false"}, "origin-embedded"),
        ({"more": {"topOrigin": ORIGIN}}, "origin-embedded"),
        ({"more": {"topOrigin": None}}, "origin-embedded"),
        ({"rest": b"\xa0"}, "assertion-malformed"),
        ({"client_data": b"[]"}, "client-data-malformed"),
        ({"client_data": b"\xff"}, "client-data-malformed"),
        ({"client_data": b'{"type":"webauthn.get","type":"webauthn.get"}'}, "client-data-malformed"),
        ({"client_data": b'{"type":1.5}'}, "client-data-malformed"),
        ({"client_data": b"[" * 1500}, "client-data-malformed"),
        ({"client_data": b" " * 2048 + b"{}"}, "assertion-malformed"),
    ],
)
@both_curves
def test_each_part_that_is_not_ours_is_refused(
    make: Callable[[], Parts], changes: dict[str, object], reason: str
) -> None:
    parts = make()
    for name, value in changes.items():
        setattr(parts, name, value)
    assert refused(parts, parts.sign(MESSAGE)) == reason


@pytest.mark.parametrize(
    ("rp_id", "origin"),
    [
        (RP_ID, f"https://{RP_ID}:8443"),
        (RP_ID, f"https://console.{RP_ID}"),
        (RP_ID, f"https://a.b.{RP_ID}:65535"),
        ("localhost", "http://localhost:8080"),
        ("localhost", "https://localhost"),
    ],
)
def test_pages_of_the_relying_party_may_ask(rp_id: str, origin: str) -> None:
    parts = Parts(seeded_p256(), rp_id=rp_id, origin=origin, cross_origin=None)
    # Browsers may add members: a verifier that compares with a template would break one day.
    parts.more = {"other_keys_can_be_added_here": "do not compare clientDataJSON against a template"}
    parts.public_key.verify(parts.sign(MESSAGE), MESSAGE)


def test_plain_http_is_for_localhost_itself_alone() -> None:
    parts = Parts(seeded_p256(), rp_id="localhost", origin="http://evil.localhost")
    assert refused(parts, parts.sign(MESSAGE)) == "origin-mismatch"


def test_a_plain_ed25519_signature_is_none_of_a_security_key_and_the_other_way_round() -> None:
    private = seeded_ed25519()
    parts = Parts(private)
    plain = PublicKey(SignatureAlgorithm.ED25519, private.public_key().public_bytes_raw())
    assert refused(parts, private.sign(MESSAGE)) == "assertion-malformed"
    with pytest.raises(SignatureError):
        plain.verify(parts.sign(MESSAGE), MESSAGE)


def test_the_counter_tells_a_copy() -> None:
    parts = Parts(seeded_p256(), counter=41)
    assert assertion_counter(parts.sign(MESSAGE)) == 41
    parts.counter = 2**32 - 1
    assert assertion_counter(parts.sign(MESSAGE)) == 2**32 - 1


@given(st.binary(max_size=400))
def test_a_signature_value_has_one_form(value: bytes) -> None:
    try:
        read = Assertion.parse(value)
    except AssertionRefusedError:
        return
    assert read.to_bytes() == value


@given(
    st.binary(min_size=37, max_size=37),
    st.binary(min_size=1, max_size=2048),
    st.binary(min_size=1, max_size=80),
    st.binary(min_size=1, max_size=3),
    st.integers(1, 60),
)
def test_what_is_written_is_read_and_nothing_more_or_less(
    data: bytes, client_data: bytes, signature: bytes, more: bytes, cut: int
) -> None:
    whole = Assertion(data, client_data, signature)
    assert Assertion.parse(whole.to_bytes()) == whole
    for other in (whole.to_bytes() + more, whole.to_bytes()[:-cut]):
        with pytest.raises(AssertionRefusedError):
            Assertion.parse(other)


@given(st.binary(max_size=300), st.sampled_from(["webauthn-es256", "webauthn-ed25519"]))
def test_a_public_key_has_one_form(raw: bytes, algorithm: str) -> None:
    text = f"{algorithm}:{base64.b64encode(raw).decode()}"
    try:
        key = PublicKey.parse(text)
    except MalformedError:
        return
    assert str(key) == text
    assert key.credential.to_bytes() == raw


def test_a_compressed_point_is_no_second_spelling() -> None:
    point = Parts(seeded_p256()).public_key.credential.point
    compressed = bytes([2 + point[-1] % 2]) + point[1:33]
    for other in (compressed, compressed + bytes(32), bytes([6 + point[-1] % 2]) + point[1:], b"\x04" + bytes(64)):
        with pytest.raises(MalformedError):
            CredentialKey(RP_ID, other)


@pytest.mark.parametrize(
    "name",
    ["", "org", "Example.org", "example.org.", ".example.org", "a..org", "-a.org", "a-.org", "10.0.0.1", "[::1]",
     "example.org:443", "example.org/", "bücher.example", "a" * 64 + ".org", "a." * 126 + "org", "example.org\n"],
)  # fmt: skip
def test_a_name_that_is_no_relying_party_is_refused(name: str) -> None:
    with pytest.raises(MalformedError):
        check_rp_id(name)


def test_a_relying_party_as_long_as_names_get_fits_every_limit() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(longest) == 253
    parts = Parts(seeded_p256(), rp_id=longest, origin=f"https://{longest}")
    parts.public_key.verify(parts.sign(MESSAGE), MESSAGE)
    assert PublicKey.parse(str(parts.public_key)) == parts.public_key
    assert len(parts.sign(MESSAGE)) < 8192
    assert json.loads(Assertion.parse(parts.sign(MESSAGE)).client_data)["origin"] == f"https://{longest}"
