"""Approvals and enrolments: made once, verified again and again; the same assertions by the library `fido2`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

import pytest
from benchmarks.access_parts.clockwork import Timing, timed
from fido2.cose import CoseKey
from fido2.server import Fido2Server
from fido2.utils import websafe_encode
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorAssertionResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialRpEntity,
)

from simulators.security_key import Maker, SoftwareSecurityKey, cose
from strongroom.access.request import APPROVAL_TYPE, Action
from strongroom.core.envelope import Envelope, Signature, pae, sign, verify
from strongroom.core.signature import Ed25519Signer
from strongroom.core.webauthn import Assertion, Flag
from strongroom.personnel.enrolment import check_attested
from support.facts import request_to
from support.security_keys import GOOD_FLAGS, ORIGIN, RP_ID, Parts, Ports, allowed, seeded_ed25519, seeded_p256

PAYLOAD: Final = request_to(Action.OPEN_IN_ENCLAVE).to_bytes()
MESSAGE: Final = pae(APPROVAL_TYPE, PAYLOAD)
CREDENTIAL: Final = b"c" * 48
CALLS: Final = 400


@dataclass(frozen=True, slots=True)
class _Peer:
    """A relying party of the library `fido2` that wants the user verified, and one registered credential."""

    parts: Parts

    @staticmethod
    def check(server: Fido2Server, state: Any, credential: AttestedCredentialData, value: bytes) -> None:
        """Check with what the library's user keeps."""
        assertion = Assertion.parse(value)
        response = AuthenticationResponse(
            raw_id=CREDENTIAL,
            response=AuthenticatorAssertionResponse(
                client_data=CollectedClientData(assertion.client_data),
                authenticator_data=AuthenticatorData(assertion.authenticator_data),
                signature=assertion.signature,
            ),
        )
        server.authenticate_complete(state, [credential], response)

    def checker(self) -> Callable[[bytes], None]:
        """Return a check as the library does it; what its user keeps is made beforehand."""
        server = _server()
        # The library types a key by the algorithm in it.
        credential = AttestedCredentialData.create(bytes(16), CREDENTIAL, CoseKey.parse(dict(cose(self.parts.private))))
        state = {"challenge": websafe_encode(hashlib.sha256(MESSAGE).digest()), "user_verification": "required"}
        return lambda value: self.check(server, state, credential, value)


def _server() -> Fido2Server:
    return Fido2Server(PublicKeyCredentialRpEntity(name="bench", id=RP_ID), verify_origin=lambda o: o == ORIGIN)


def _approval(parts: Parts) -> Envelope:
    return Envelope(APPROVAL_TYPE, PAYLOAD, (Signature(parts.public_key.key_id, parts.sign(MESSAGE)),))


def rows() -> Iterator[tuple[str, Timing]]:
    """Yield how long each kind of approval and an enrolment take."""
    signer = Ed25519Signer.from_seed(b"s" * 32)
    yield (
        "approval by a key file, ed25519",
        timed(
            lambda e: verify(e, APPROVAL_TYPE, [signer.public_key], threshold=1),
            [sign(APPROVAL_TYPE, PAYLOAD, signer)],
            calls=CALLS,
        ),
    )
    for name, private in (("webauthn-es256", seeded_p256()), ("webauthn-ed25519", seeded_ed25519())):
        parts = Parts(private)
        key = parts.public_key
        yield (
            f"approval by a security key, {name}",
            timed(
                lambda e, key=key: verify(e, APPROVAL_TYPE, [key], threshold=1),  # type: ignore[misc]
                [_approval(parts)],
                calls=CALLS,
            ),
        )
        yield (
            f"  the same assertion by fido2, {name}",
            timed(_Peer(parts).checker(), [parts.sign(MESSAGE)], calls=CALLS),
        )
    with pytest.MonkeyPatch.context() as patch:
        devices = {"first": SoftwareSecurityKey(), "second": SoftwareSecurityKey()}
        with redirect_stderr(StringIO()):  # it asks for a touch
            enrolment, _wallet = Ports(patch, devices).enrol()
        makers = allowed(Maker())
        yield (
            "enrolment of two attested keys",
            timed(lambda given: check_attested(given, makers), [enrolment], calls=CALLS // 4),
        )


def differences() -> Iterator[tuple[str, str, str]]:
    """Yield assertions that ours refuses, and what each of the two says to them."""
    cases = {
        "the key can be backed up": Parts(seeded_p256(), flags=GOOD_FLAGS | Flag.BACKUP_ELIGIBLE),
        "the page stood within another site's page": Parts(seeded_p256(), cross_origin=True),
        "the user wasn't verified": Parts(seeded_p256(), flags=Flag.USER_PRESENT),
    }
    for name, parts in cases.items():
        value = parts.sign(MESSAGE)
        key = parts.public_key
        yield (
            name,
            _said(lambda key=key, value=value: key.verify(value, MESSAGE)),  # type: ignore[misc]
            _said(lambda parts=parts, value=value: _Peer(parts).checker()(value)),  # type: ignore[misc]
        )


def _said(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception:  # noqa: BLE001 - whatever a library raises is its refusal
        return "refused"
    return "accepted"
