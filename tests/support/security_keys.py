"""Security keys, enrolled and not, and signatures made part by part, so that each part can be made wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from simulators.security_key import Maker, SoftwareSecurityKey, point_of, sign
from strongroom.client.adapters import security_key as adapter
from strongroom.client.wallet import SecurityKeys
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.core.webauthn import Assertion, CredentialKey, Flag
from strongroom.personnel.authenticators import Authenticator
from strongroom.personnel.enrolment import Enrolment

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from fido2.ctap import CtapDevice

RP_ID: Final = "keys.example.org"
ORIGIN: Final = f"https://{RP_ID}"
GENESIS: Final = Digest.of(b"genesis")
DANA: Final = PersonId("dana")
AT: Final = 1_795_471_717
GOOD_FLAGS: Final = Flag.USER_PRESENT | Flag.USER_VERIFIED


def seeded_p256(seed: int = 7) -> ec.EllipticCurvePrivateKey:
    """Return the same P-256 key for the same number."""
    return ec.derive_private_key(seed, ec.SECP256R1())


def seeded_ed25519(seed: int = 7) -> Ed25519PrivateKey:
    """Return the same Ed25519 key for the same number."""
    return Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))


@dataclass
class Parts:
    """Everything that a signature is made of; changed one by one, then signed for."""

    private: ec.EllipticCurvePrivateKey | Ed25519PrivateKey
    rp_id: str = RP_ID
    kind: object = "webauthn.get"
    challenge: object = None
    """Of the message, unless something else is given."""
    origin: object = ORIGIN
    cross_origin: object = False
    more: dict[str, object] | None = None
    flags: int = GOOD_FLAGS
    counter: int = 1
    rest: bytes = b""
    """Behind the authenticator data."""
    client_data: bytes | None = None

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what is signed."""
        return PublicKey.of_credential(CredentialKey(self.rp_id, point_of(self.private)))

    def sign(self, message: bytes, *, rp_id: str | None = None) -> bytes:
        """Return a signature value over what the parts say."""
        challenge = self.challenge
        if challenge is None:
            challenge = base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode()
        members = {"type": self.kind, "challenge": challenge, "origin": self.origin}
        if self.cross_origin is not None:
            members["crossOrigin"] = self.cross_origin
        members |= self.more or {}
        client_data = self.client_data or json.dumps(members).encode()
        signed_for = (rp_id or self.rp_id).encode()
        data = hashlib.sha256(signed_for).digest() + struct.pack(">BI", self.flags, self.counter) + self.rest
        return Assertion(data, client_data, sign(self.private, data + hashlib.sha256(client_data).digest())).to_bytes()


def allowed(*makers: Maker) -> tuple[Authenticator, ...]:
    """Return a roster's list that allows the models of these makers."""
    return tuple(Authenticator(aaguid=m.aaguid, name=m.name, roots=(m.root_certificate,)) for m in makers)


def pin_of(text: str) -> adapter.AskPin:
    """Return who always answers with this PIN."""
    return lambda: SecretBytes(bytearray(text.encode()))


class Ports:
    """Where in-process devices are plugged in: address ``unix:NAME`` is the device of that name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, devices: dict[str, SoftwareSecurityKey]) -> None:
        self.devices = devices
        monkeypatch.setattr(adapter, "plugged_in", self._plugged_in)

    @contextmanager
    def _plugged_in(self, addresses: Sequence[str]) -> Iterator[tuple[CtapDevice, ...]]:
        names = [address.removeprefix("unix:") for address in addresses]
        yield tuple(self.devices[name] for name in names if name in self.devices)

    def enrol(
        self,
        names: Sequence[str] = ("first", "second"),
        *,
        person: PersonId = DANA,
        genesis: Digest = GENESIS,
        rp_id: str = RP_ID,
    ) -> tuple[Enrolment, SecurityKeys]:
        """Enrol the devices of these names, with their own PINs."""
        places = [
            adapter.EnrolAt(
                device=f"unix:{name}", pin=pin_of(self.devices[name].pin if name in self.devices else "0000")
            )
            for name in names
        ]
        return adapter.enrol_keys(
            places, rp_id=rp_id, genesis=genesis, person=person, at=AT, ready=lambda _number: None
        )
