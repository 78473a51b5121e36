"""Security event tokens: whoever a verified one lowers is suspended before its sender is answered; all else is refused.

The real application and ``joserfc``; the keeper's side is played by :mod:`support.people`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from structlog.testing import capture_logs

from strongroom.broker.people.errors import EventSettingsError
from strongroom.broker.people.signed_events import MAX_TOKEN
from support.people import CAEP, EC, ISSUER, NOW, RISC, RSA, Lab, call, claims, lab, signed

pytestmark = pytest.mark.integration
SCIM = "urn:ietf:params:scim:event:prov:"
DISABLED = f"{RISC}account-disabled"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def refused(here: Lab, token: bytes, err: str) -> None:
    answer = here.event(token)
    assert (answer.status, answer.json["err"]) == (400, err), answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-language"] == "en"
    assert here.suspended == []


# --- what lowers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "body", "cause"),
    [
        (f"{CAEP}session-revoked", {}, "session-revoked"),
        (f"{CAEP}credential-change", {"change_type": "revoke"}, "credential-changed"),
        (f"{CAEP}credential-change", {"change_type": "delete"}, "credential-changed"),
        (f"{CAEP}assurance-level-change", {"change_direction": "decrease"}, "assurance-lowered"),
        (f"{CAEP}assurance-level-change", {}, "assurance-lowered"),
        (f"{CAEP}device-compliance-change", {"current_status": "not-compliant"}, "device-not-compliant"),
        (f"{CAEP}risk-level-change", {"current_level": "HIGH", "principal": "USER"}, "risk-raised"),
        (f"{RISC}account-disabled", {"reason": "hijacking"}, "deactivated"),
        (f"{RISC}account-purged", {}, "left"),
        (f"{RISC}credential-compromise", {"credential_type": "password"}, "credential-compromised"),
        (f"{RISC}sessions-revoked", {}, "session-revoked"),
        (f"{SCIM}deactivate", {}, "deactivated"),
        (f"{SCIM}delete", {}, "left"),
    ],
)
def test_an_event_that_lowers_suspends(here: Lab, event: str, body: dict[str, Any], cause: str) -> None:
    assert here.event(signed(claims(event, body))).status == 202
    assert here.suspended == [("dana", cause)]


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (f"{CAEP}credential-change", {"change_type": "create"}),
        (f"{CAEP}credential-change", {"change_type": "update"}),
        (f"{CAEP}assurance-level-change", {"change_direction": "increase"}),
        (f"{CAEP}device-compliance-change", {"current_status": "compliant"}),
        (f"{CAEP}risk-level-change", {"current_level": "LOW"}),
        (f"{RISC}account-enabled", {}),
        (f"{SCIM}activate", {}),
        ("https://example.org/unknown", {"x": 1}),
        ("https://schemas.openid.net/secevent/ssf/event-type/verification", {"state": "abc"}),
    ],
)
def test_an_event_that_raises_or_is_unknown_changes_nothing(here: Lab, event: str, body: dict[str, Any]) -> None:
    # A verification names the stream, in a format that names no user: it is taken all the same (SSF 1.0 section 8.1.4).
    subject = {"format": "opaque", "id": "stream"}
    assert here.event(signed(claims(event, body, sub_id=subject))).status == 202
    assert here.suspended == []


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES256"), (RSA, "RS256"), (RSA, "PS256")])
def test_the_allowed_algorithms_are_taken(here: Lab, key: ECKey | RSAKey, alg: str) -> None:
    assert here.event(signed(claims(DISABLED), key=key, alg=alg)).status == 202
    assert here.suspended == [("dana", "deactivated")]


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_ed25519_is_taken_under_both_its_names(here: Lab, alg: str) -> None:
    key = OKPKey.generate_key("Ed25519", {"kid": "ed"})
    (here.folder / "idp.jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    here.open()
    head = encoded({"alg": alg, "kid": "ed", "typ": "secevent+jwt"}) + "." + encoded(claims(DISABLED))
    token = f"{head}.{encoded(key.private_key.sign(head.encode()))}".encode()  # type: ignore[union-attr]
    assert here.event(token).status == 202
    assert here.suspended == [("dana", "deactivated")]


# --- who is meant -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        {"format": "email", "email": "Dana@Example.org"},
        {"format": "account", "uri": "acct:dana@example.org"},
        {"format": "iss_sub", "iss": ISSUER, "sub": "dana"},
        {"format": "opaque", "id": "dana"},
        {"format": "scim", "externalId": "dana"},
        {"format": "aliases", "identifiers": [{"format": "opaque", "id": "?"}, {"format": "opaque", "id": "dana"}]},
        {"format": "complex", "user": {"format": "opaque", "id": "dana"}, "session": {"format": "opaque", "id": "s"}},
    ],
)
def test_each_subject_format_finds_the_roster(here: Lab, subject: dict[str, Any]) -> None:
    assert here.event(signed(claims(DISABLED, sub_id=subject))).status == 202
    assert here.suspended == [("dana", "deactivated")]


def test_subjects_are_found_in_the_directory_first(here: Lab) -> None:
    user = here.user("d.e@example.org", externalId="00u8c1", emails=[{"value": "D.E@mail.example"}])
    assert here.scim("PUT", f"/Users/{user}", {}).status == 400
    here.patch(f"/Users/{user}", {"op": "add", "path": "externalId", "value": "dana"})
    here.patch(f"/Users/{user}", {"op": "add", "path": "externalId", "value": "00u8c1"})
    here.patch(f"/Users/{user}", {"op": "add", "path": "emails", "value": [{"value": "D.E@mail.example"}]})
    subjects = [
        {"format": "email", "email": "d.e@MAIL.example"},
        {"format": "email", "email": "D.E@example.org"},
        {"format": "iss_sub", "iss": ISSUER, "sub": "00u8c1"},
        {"format": "scim", "uri": f"/Users/{user}"},
    ]
    for number, subject in enumerate(subjects):
        assert here.event(signed(claims(DISABLED, sub_id=subject, jti=f"j{number}"))).status == 202
    assert here.suspended == [("dana", "deactivated")] * len(subjects)


def test_another_issuers_subject_is_nobody(here: Lab) -> None:
    subject = {"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "dana"}
    with capture_logs() as logs:
        assert here.event(signed(claims(DISABLED, sub_id=subject))).status == 202
    assert here.suspended == []
    assert "no person" in [entry["event"] for entry in logs]


def test_an_issuer_that_the_settings_name_may_be_told_of(tmp_path: Path) -> None:
    with lab(tmp_path, transmitter='subject_issuers = ["https://elsewhere.example"]') as here:
        subject = {"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "dana"}
        assert here.event(signed(claims(DISABLED, sub_id=subject))).status == 202
        assert here.suspended == [("dana", "deactivated")]


@pytest.mark.parametrize(
    "subject", [None, {}, {"format": "phone_number", "phone_number": "+1"}, {"format": "complex", "device": {}}, "dana"]
)
def test_a_lowering_about_nobody_readable_is_refused(here: Lab, subject: Any) -> None:
    refused(here, signed(claims(DISABLED, sub_id=subject)), "invalid_request")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_unsigned_token_is_refused(here: Lab) -> None:
    head = encoded({"alg": "none", "kid": "ec", "typ": "secevent+jwt"})
    refused(here, f"{head}.{encoded(claims(DISABLED))}.".encode(), "invalid_key")


@pytest.mark.parametrize("key", [EC, RSA])
def test_a_public_key_used_as_a_shared_secret_is_refused(here: Lab, key: ECKey | RSAKey) -> None:
    head = encoded({"alg": "HS256", "kid": key.kid, "typ": "secevent+jwt"}) + "." + encoded(claims(DISABLED))
    for secret in (key.as_pem(private=False), json.dumps(key.as_dict(private=False)).encode()):
        mac = hmac.new(secret, head.encode(), hashlib.sha256).digest()
        refused(here, f"{head}.{encoded(mac)}".encode(), "invalid_key")


def test_an_unknown_key_is_refused(here: Lab) -> None:
    stranger = ECKey.generate_key("P-256", {"kid": "other"})
    refused(here, signed(claims(DISABLED), key=stranger), "invalid_key")
    # The same under a pinned key's id, and with the key brought along in the header.
    refused(here, signed(claims(DISABLED), key=ECKey.generate_key("P-256", {"kid": "ec"})), "invalid_key")
    refused(here, signed(claims(DISABLED), key=stranger, jwk=stranger.as_dict(private=False)), "invalid_request")


def test_an_algorithm_of_another_kind_of_key_is_refused(here: Lab) -> None:
    refused(here, signed(claims(DISABLED), key=RSA, alg="RS256", kid="ec"), "invalid_key")


def test_an_algorithm_that_the_settings_leave_out_is_refused(tmp_path: Path) -> None:
    with lab(tmp_path, transmitter='algorithms = ["PS256"]') as here:
        refused(here, signed(claims(DISABLED), key=RSA, alg="RS256"), "invalid_key")
        assert here.event(signed(claims(DISABLED), key=RSA, alg="PS256")).status == 202


def test_a_changed_token_is_refused(here: Lab) -> None:
    head, body, signature = signed(claims(DISABLED)).decode().split(".")
    other = encoded(claims(DISABLED, sub_id={"format": "opaque", "id": "sam"}))
    refused(here, f"{head}.{other}.{signature}".encode(), "invalid_key")
    refused(here, f"{head}.{body}.{signature[:-4]}AAAA".encode(), "invalid_key")


def test_another_issuer_is_refused(here: Lab) -> None:
    refused(here, signed(claims(DISABLED, iss="https://evil.example")), "invalid_issuer")


@pytest.mark.parametrize("audience", ["https://other.example", [], ["https://other.example"], None, {}])
def test_another_audience_is_refused(here: Lab, audience: Any) -> None:
    refused(here, signed(claims(DISABLED, aud=audience)), "invalid_audience")


@pytest.mark.parametrize("issued", [NOW - 3601, 0, NOW + 301, 2**53])
def test_an_old_or_future_token_is_refused(here: Lab, issued: int) -> None:
    refused(here, signed(claims(DISABLED, iat=issued)), "invalid_request")


def test_an_expired_token_is_refused(here: Lab) -> None:
    refused(here, signed(claims(DISABLED, exp=NOW)), "invalid_request")


@pytest.mark.parametrize("name", ["iss", "aud", "iat", "jti", "events", "sub_id"])
def test_a_token_without_a_needed_claim_is_refused(here: Lab, name: str) -> None:
    body = claims(DISABLED)
    del body[name]
    answer = here.event(signed(body))
    assert answer.status == 400
    assert here.suspended == []


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", ""])
def test_a_token_of_another_type_is_refused(here: Lab, kind: str) -> None:
    # An ID token of the same provider, signed by the same key, is no security event.
    refused(here, signed(claims(DISABLED), typ=kind), "invalid_request")


@pytest.mark.parametrize("kind", ["application/jwt", "application/json", ""])
def test_a_body_of_another_media_type_is_refused(here: Lab, kind: str) -> None:
    answer = here.event(signed(claims(DISABLED)), kind=kind)
    assert (answer.status, answer.json["err"]) == (400, "invalid_request")
    assert here.suspended == []


def test_a_body_too_large_is_refused(here: Lab) -> None:
    assert here.event(b"x" * (MAX_TOKEN + 1)).status == 413


# --- once -------------------------------------------------------------------------------------------------------------


def test_a_token_sent_again_is_answered_alike_and_does_nothing(here: Lab) -> None:
    token = signed(claims(DISABLED))
    assert [here.event(token).status for _ in range(3)] == [202, 202, 202]
    here.open()  # the broker starts again
    assert here.event(token).status == 202
    assert here.suspended == [("dana", "deactivated")]


def test_another_token_under_a_known_jti_is_refused(here: Lab) -> None:
    assert here.event(signed(claims(DISABLED))).status == 202
    here.open()
    answer = here.event(signed(claims(DISABLED, sub_id={"format": "opaque", "id": "sam"})))
    assert (answer.status, answer.json["err"]) == (400, "invalid_request")
    assert here.suspended == [("dana", "deactivated")]


def test_a_replay_is_refused_by_its_age_once_it_is_forgotten(here: Lab) -> None:
    token = signed(claims(DISABLED))
    here.event(token)
    here.clock.at += 24 * 3600
    assert here.event(signed(claims(DISABLED, jti="two", iat=here.clock.at))).status == 202
    assert here.event(token).status == 400
    assert len(here.suspended) == 2


def test_without_the_keeper_the_sender_keeps_the_token(here: Lab) -> None:
    token = signed(claims(DISABLED))
    here.keeper_up = False
    assert here.event(token).status == 503
    here.keeper_up = True
    assert here.event(token).status == 202
    assert here.suspended == [("dana", "deactivated")]


def test_events_that_the_settings_leave_out_are_taken_and_set_aside(tmp_path: Path) -> None:
    with lab(tmp_path, transmitter='events = ["account-disabled"]') as here:
        assert here.event(signed(claims(f"{CAEP}session-revoked"))).status == 202
        assert here.suspended == []
        assert here.event(signed(claims(DISABLED, jti="two"))).status == 202
        assert here.suspended == [("dana", "deactivated")]


def test_answers_and_logs_name_nobody_who_was_refused(here: Lab) -> None:
    with capture_logs() as logs:
        answer = here.event(signed(claims(DISABLED, aud="Zx9-secret", sub_id={"format": "Zx9-secret"})))
    assert b"Zx9" not in answer.body
    assert "Zx9" not in repr(logs)


def test_other_addresses_and_methods_are_refused(here: Lab) -> None:
    app = here.apps.mounts["/ssf"]
    assert here.runner.run(call(app, "POST", "/ssf/other", b"", {})).status == 404
    assert here.runner.run(call(app, "GET", "/ssf/events", b"", {})).status == 405


# --- settings ---------------------------------------------------------------------------------------------------------


def test_pinned_keys_that_could_be_abused_are_refused_at_the_start(here: Lab) -> None:
    private = {"keys": [EC.as_dict(private=True)]}
    shared = {"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers()  # noqa: S505
    weak = {"keys": [{"kty": "RSA", "kid": "w", "n": encoded(short.n.to_bytes(128, "big")), "e": "AQAB"}]}
    twice = {"keys": [EC.as_dict(private=False), {**RSA.as_dict(private=False), "kid": "ec"}]}
    nameless = {"keys": [{name: value for name, value in EC.as_dict(private=False).items() if name != "kid"}]}
    encrypting = {"keys": [{**RSA.as_dict(private=False), "use": "enc"}]}
    other = {"keys": [ECKey.generate_key("P-384", {"kid": "p"}).as_dict(private=False)]}
    files: list[Any] = [private, shared, weak, twice, nameless, encrypting, other, {"keys": []}, [], "x"]
    for wrong in files:
        (here.folder / "idp.jwks.json").write_text(json.dumps(wrong))
        with pytest.raises(EventSettingsError):
            here.open()


def test_the_library_would_have_warned_of_none_of_it(here: Lab) -> None:
    # `EdDSA` warns in the library, because it may mean curves that aren't allowed here; warnings fail a test.
    assert "EdDSA" in jws.JWSRegistry.algorithms
    assert here.event(signed(claims(DISABLED))).status == 202
