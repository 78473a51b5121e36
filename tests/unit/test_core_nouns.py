"""Digests, base64, instants, ids and public keys each have one spelling; anything else is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest

from strongroom.core.clock import SystemClock, format_instant, parse_instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.ids import image_id, model_id, person_id, platform_id
from strongroom.core.signature import Ed25519Signer, PublicKey, SignatureError
from support.clocks import FixedClock

HEX = hashlib.sha256(b"abc").hexdigest()
SIGNER = Ed25519Signer.from_seed(bytes(range(32)))


def test_a_digest_round_trips() -> None:
    digest = Digest.of(b"abc")
    assert str(digest) == f"sha256:{HEX}"
    assert Digest.parse(str(digest)) == digest
    assert Digest.of(bytearray(b"abc")).matches(digest)
    assert not Digest.of(b"abd").matches(digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        f"sha512:{HEX}",
        f"SHA256:{HEX}",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX[:-2]}",
        f"sha256:{HEX}00",
        f"sha256:{HEX[:-1]}",
        f"sha256: {HEX}",
        f"sha256:{HEX[:32]} {HEX[32:]}",
        f"sha256:{'g' * 64}",
        f"sha256:{HEX}\n",
    ],
)
def test_another_spelling_of_a_digest_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Digest.parse(text)


def test_a_digest_of_the_wrong_length_cannot_exist() -> None:
    with pytest.raises(MalformedError, match="31 bytes"):
        Digest(DigestAlgorithm.SHA256, bytes(31))


@pytest.mark.parametrize(
    "text", ["YQ", "YQ=", "YR==", "Y Q==", "YQ==\n", "YQ===", "-_8=", "YQ==YQ==", "é", "=", "YQ=a"]
)
def test_another_spelling_of_base64_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        from_base64(text)


def test_base64_round_trips() -> None:
    for length in range(5):
        assert from_base64(to_base64(bytes(range(length)))) == bytes(range(length))


def test_an_instant_round_trips() -> None:
    assert format_instant(1795471717) == "2026-11-23T22:08:37Z"
    assert parse_instant("2026-11-23T22:08:37Z") == 1795471717
    assert parse_instant("1970-01-01T00:00:00Z") == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T22:08:37",
        "2026-11-23T22:08:37z",
        "2026-11-23 22:08:37Z",
        "2026-11-23T22:08:37.0Z",
        "2026-11-23T22:08:37+00:00",
        "2026-11-23T24:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-23T22:08:60Z",
        "0000-01-01T00:00:00Z",
        "\u0662026-11-23T22:08:37Z",  # an Arabic-Indic digit is a digit to some parsers
        "2026-11-23T22:08:37Z\n",
    ],
)
def test_another_spelling_of_an_instant_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_instant(text)


def test_clocks_tell_whole_seconds() -> None:
    assert FixedClock(7).now() == 7
    assert SystemClock().now() > 1_700_000_000


@pytest.mark.parametrize("text", ["a", "atlas-7b", "a.b_c-d", "0", "a" * 64])
def test_a_name_is_kept_as_it_is(text: str) -> None:
    assert [str(model_id(text)), str(person_id(text)), str(image_id(text))] == [text] * 3


@pytest.mark.parametrize(
    "text", ["", "A", ".a", "a.", "-a", "a-", "a..b", "a/b", "a b", "a\n", "a\x00", "é", "\u0131", "a" * 65, "../a"]
)
def test_a_name_that_could_be_something_else_is_refused(text: str) -> None:
    for check in (model_id, person_id, image_id):
        with pytest.raises(MalformedError):
            check(text)


def test_a_platform_is_named_by_its_attestation_key() -> None:
    assert platform_id("tpm-" + HEX) == "tpm-" + HEX
    for text in ("tpm-" + HEX.upper(), "tpm-" + HEX[:-1], HEX, "tpm-" + HEX + "\n"):
        with pytest.raises(MalformedError):
            platform_id(text)


def test_a_public_key_round_trips_and_is_named_by_its_text() -> None:
    key = SIGNER.public_key
    assert PublicKey.parse(str(key)) == key
    assert key.key_id == hashlib.sha256(str(key).encode()).hexdigest()[:32]


@pytest.mark.parametrize("wrong", ["", "ed25519:", "ed25519:AAAA", "rsa:" + to_base64(bytes(32)), to_base64(bytes(32))])
def test_another_spelling_of_a_public_key_is_refused(wrong: str) -> None:
    with pytest.raises(MalformedError):
        PublicKey.parse(wrong)


def test_a_signature_verifies_over_its_message_only() -> None:
    signature = SIGNER.sign(b"message")
    SIGNER.public_key.verify(signature, b"message")
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for bad, message in (
        (signature, b"massage"),
        (flipped, b"message"),
        (signature[:-1], b"message"),
        (b"", b"message"),
    ):
        with pytest.raises(SignatureError, match="doesn't verify"):
            SIGNER.public_key.verify(bad, message)


def test_a_signature_agrees_with_rfc_8032() -> None:
    # RFC 8032 section 7.1, test 2.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    expected = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    signer = Ed25519Signer.from_seed(seed)
    assert signer.public_key.raw == public
    assert signer.sign(b"\x72").hex() == expected


def test_a_signer_does_not_show_its_key() -> None:
    shown = repr(SIGNER)
    assert SIGNER.public_key.key_id in shown
    assert bytes(range(32)).hex() not in shown
    assert base64.b64encode(bytes(range(32))).decode() not in shown


def test_event_names_follow_their_grammar() -> None:
    for event in EventName:
        family, subject, action = event.value.split(":")
        assert family == event.family
        assert subject
        assert action
