"""Hostile bytes where a security key's bytes are read: a value, or one of our errors; never anything else."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.security_key import Maker, SoftwareSecurityKey
from strongroom.client.adapters.security_key import SecurityKeySigner
from strongroom.client.wallet import Identity, SecurityKeys
from strongroom.core.canonical import encode
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.signature import PublicKey, SignatureError
from strongroom.core.webauthn import (
    MAX_CLIENT_DATA,
    Assertion,
    AssertionRefusedError,
    Ceremony,
    Flag,
    assertion_counter,
    check_authenticator_data,
    check_client_data,
)
from strongroom.personnel.authenticators import Authenticator, load_certificate
from strongroom.personnel.enrolment import Enrolment, check_attested, credential_key
from support.examples import examples
from support.security_keys import RP_ID, Parts, Ports, allowed, pin_of, seeded_ed25519, seeded_p256

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
CLIENT_DATA = st.one_of(
    st.binary(max_size=300),
    st.fixed_dictionaries(
        {},
        optional={
            "type": JSON | st.sampled_from(["webauthn.get", "webauthn.create"]),
            "challenge": JSON,
            "origin": JSON | st.sampled_from([f"https://{RP_ID}", "https://[", "https://a:99999999999"]),
            "crossOrigin": JSON,
            "topOrigin": JSON,
        },
    ).map(lambda value: json.dumps(value).encode()),
)
KEYS = [Parts(seeded_p256()).public_key, Parts(seeded_ed25519()).public_key]
ENROLMENTS: list[Enrolment] = []


def enrolment() -> Enrolment:
    """Return a good enrolment, the same each time."""
    if not ENROLMENTS:
        with pytest.MonkeyPatch.context() as patch:
            ENROLMENTS.append(Ports(patch, {name: SoftwareSecurityKey() for name in ("first", "second")}).enrol()[0])
    return ENROLMENTS[0]


@given(st.sampled_from(KEYS), st.binary(max_size=400), st.binary(max_size=64))
def test_any_bytes_as_a_signature(key: PublicKey, value: bytes, message: bytes) -> None:
    with pytest.raises(SignatureError):
        key.verify(value, message)


@given(
    st.sampled_from(KEYS),
    st.binary(min_size=37, max_size=37),
    CLIENT_DATA.filter(lambda data: 0 < len(data) <= MAX_CLIENT_DATA),
    st.binary(min_size=1, max_size=80),
)
def test_any_parts_of_a_signature(key: PublicKey, data: bytes, client_data: bytes, signature: bytes) -> None:
    value = Assertion(data, client_data, signature).to_bytes()
    with pytest.raises(SignatureError):
        key.verify(value, b"message")
    assert assertion_counter(value) == int.from_bytes(data[33:], "big")


@given(CLIENT_DATA, st.sampled_from(Ceremony))
def test_any_client_data(data: bytes, ceremony: Ceremony) -> None:
    with pytest.raises(AssertionRefusedError):
        check_client_data(data, ceremony=ceremony, rp_id=RP_ID, challenge=bytes(32))


@given(st.binary(max_size=80))
def test_any_authenticator_data(data: bytes) -> None:
    with pytest.raises(AssertionRefusedError):
        check_authenticator_data(data, rp_id=RP_ID, also=Flag(0))


@given(st.text(max_size=60), st.sampled_from(["webauthn-es256", "webauthn-ed25519", "webauthn-", "ed25519"]))
def test_any_text_as_a_public_key(text: str, algorithm: str) -> None:
    for given_text in (text, f"{algorithm}:{text}", f"{algorithm}:{base64.b64encode(text.encode()).decode()}"):
        with contextlib.suppress(MalformedError):
            PublicKey.parse(given_text)


@settings(max_examples=examples(200))
@given(st.data())
def test_an_attestation_with_any_bytes_changed(data: st.DataObject) -> None:
    good = enrolment().keys[0].attestation
    start = data.draw(st.integers(0, len(good) - 1))
    size = data.draw(st.integers(0, 6))
    changed = good[:start] + data.draw(st.binary(max_size=6)) + good[start + size :]
    with contextlib.suppress(MalformedError):
        credential_key(changed, RP_ID)
    body: Any = json.loads(enrolment().to_bytes())
    body["keys"][0]["attestation"] = base64.b64encode(changed).decode()
    if changed == good:
        return
    try:
        check_attested(Enrolment.parse(encode(body)), allowed(Maker()))
    except StrongroomError:
        return
    # A change that leaves everything that counts as it was, e.g. another order of CBOR members.
    assert credential_key(changed, RP_ID) == credential_key(good, RP_ID)


READERS: list[Callable[[bytes], object]] = [Enrolment.parse, SecurityKeys.parse, Identity.parse, load_certificate]


@given(st.sampled_from(READERS), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_an_enrolment_a_wallet_or_a_certificate(read: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


@given(st.dictionaries(st.sampled_from(["aaguid", "name", "roots", "more"]), JSON, max_size=4))
def test_any_object_as_an_allowed_model(value: Any) -> None:
    with pytest.raises(MalformedError), Fields(value, "authenticator") as fields:
        Authenticator.read(fields)


class LyingKey(SoftwareSecurityKey):
    """A device one of whose answers has some bytes changed."""

    lie: tuple[int, int, bytes] | None = None
    calls: int = 0

    def call(self, *given: Any, **named: Any) -> bytes:
        """Answer; the given one of several answers with a lie."""
        answer = super().call(*given, **named)
        self.calls += 1
        if self.lie is None or self.calls - 1 != self.lie[0]:
            return answer
        start, new = self.lie[1] % len(answer), self.lie[2]
        return (answer[:start] + new + answer[start + len(new) :]) or b"\x7f"


@settings(max_examples=examples(100))
@given(st.integers(0, 8), st.integers(0, 400), st.binary(max_size=12))
def test_a_device_that_answers_with_anything(number: int, start: int, new: bytes) -> None:
    device = LyingKey(pin="2468")
    with pytest.MonkeyPatch.context() as patch:
        keys = Ports(patch, {"first": device, "second": SoftwareSecurityKey()}).enrol()[1]
        device.lie, device.calls = (number, start, new), 0
        signer = SecurityKeySigner(keys, pin_of("2468"))
        try:
            value = signer.sign(b"message")
        except StrongroomError:
            return
        signer.public_key.verify(value, b"message")
