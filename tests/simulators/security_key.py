"""A security key in software: CTAP 2.1 with a PIN, packed attestation by a maker of its own, and counters.

The real client drives it, in this process or over a Unix socket (``python -m simulators.security_key``). What it
guards is worth nothing: its private keys lie in the process's memory.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from fido2 import cbor
from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.ctap2.pin import ClientPin, PinProtocolV1, PinProtocolV2
from fido2.hid import CAPABILITY, CTAPHID

from strongroom.core.webauthn import Flag

TESTS: Final = Path(__file__).resolve().parents[1]
AAGUID: Final = "73696d756c617465642d6b6579000001"
ES256, EDDSA = -7, -8
PIN_TRIES: Final = 8
TRIES_PER_POWER_UP: Final = 3
AAGUID_EXTENSION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
ERR = CtapError.ERR
NOTHING: Final = Flag(0)
PinProtocol = Any
"""The library's own are untyped."""


def private_key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that a name stands for; the same in every process."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1, ec.SECP256R1())


@dataclass(frozen=True)
class Maker:
    """Who makes security keys of one model: a root, and a certificate that each device carries."""

    name: str = "maker"
    aaguid: str = AAGUID
    certified_aaguid: str | None = None
    """What the certificate says, where that isn't the model."""
    extension: bool = True

    @property
    def root_certificate(self) -> bytes:
        """The self-signed root, DER."""
        key = private_key(f"{self.name} root")
        return self._certificate(self._subject("root"), key, self._subject("root"), key, ca=True)

    @property
    def device_key(self) -> ec.EllipticCurvePrivateKey:
        """What devices sign attestations with; one for a batch of them."""
        return private_key(f"{self.name} batch")

    @property
    def device_certificate(self) -> bytes:
        """What devices show, DER."""
        return self._certificate(
            self._subject("batch 1"), self.device_key, self._subject("root"), private_key(f"{self.name} root"), ca=False
        )

    def _subject(self, name: str) -> x509.Name:
        parts = {
            NameOID.COUNTRY_NAME: "SE",
            NameOID.ORGANIZATION_NAME: self.name,
            NameOID.ORGANIZATIONAL_UNIT_NAME: "Authenticator Attestation",
            NameOID.COMMON_NAME: name,
        }
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items()])

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool,
    ) -> bytes:
        begin = datetime(2020, 1, 1, tzinfo=UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(2 - ca)
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=36500))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        )
        if not ca and self.extension:
            said = b"\x04\x10" + bytes.fromhex(self.certified_aaguid or self.aaguid)
            builder = builder.add_extension(x509.UnrecognizedExtension(AAGUID_EXTENSION, said), critical=False)
        return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


@dataclass
class SoftwareSecurityKey(CtapDevice):
    """One device. ``attestation`` and ``more_flags`` make it another kind of device than those that are allowed."""

    maker: Maker = field(default_factory=Maker)
    pin: str = "2468"
    algorithms: tuple[int, ...] = (ES256, EDDSA)
    attestation: str = "packed"
    """``packed``, ``self`` or ``none``."""
    more_flags: Flag = NOTHING
    """Set in everything that it signs, e.g. "backup eligible"."""
    fewer_flags: Flag = NOTHING
    touched: bool = True
    plugged: bool = True
    counter: int = 0
    tries: int = PIN_TRIES
    credentials: dict[bytes, tuple[bytes, ec.EllipticCurvePrivateKey | Ed25519PrivateKey]] = field(default_factory=dict)
    pins_asked: int = 0

    def __post_init__(self) -> None:
        self.replug()

    def replug(self) -> None:
        """Take it out and put it in again: tokens and session keys are gone, the PIN's tries and counters stay."""
        self.plugged = True
        self._agreement = ec.generate_private_key(ec.SECP256R1())
        self._token = os.urandom(32)
        self._wrong_in_a_row = 0

    @property
    def capabilities(self) -> int:
        """CTAP2 alone."""
        return int(CAPABILITY.CBOR)

    @classmethod
    def list_devices(cls) -> Iterator[CtapDevice]:
        """None is found by itself."""
        return iter(())

    def call(
        self,
        cmd: int,
        data: bytes = b"",
        event: Event | None = None,
        on_keepalive: Callable[[STATUS], None] | None = None,
    ) -> bytes:
        """Carry out one command; the answer begins with its status."""
        del event
        if not self.plugged:
            raise OSError(19, "No such device")
        if cmd != CTAPHID.CBOR or not data:
            raise CtapError(ERR.INVALID_COMMAND)
        given: dict[int, Any] = dict(cbor.decode(data[1:])) if data[1:] else {}  # type: ignore[arg-type]
        commands = {1: self._make_credential, 2: self._get_assertion, 4: self._get_info, 6: self._client_pin}
        try:
            if data[0] not in commands:
                raise CtapError(ERR.INVALID_COMMAND)
            answer = commands[data[0]](given, on_keepalive or (lambda _status: None))
        except CtapError as error:
            return bytes([error.code])
        return b"\0" + cbor.encode(answer)

    def _get_info(self, _given: Mapping[int, Any], _keepalive: Callable[[STATUS], None]) -> Mapping[int, Any]:
        return {
            1: ["FIDO_2_1"],
            3: bytes.fromhex(self.maker.aaguid),
            4: {"rk": False, "up": True, "clientPin": bool(self.pin), "pinUvAuthToken": True},
            5: 2048,
            6: [2, 1],
            7: 8,
            8: 128,
            9: ["usb"],
            10: [{"alg": algorithm, "type": "public-key"} for algorithm in self.algorithms],
        }

    def _client_pin(self, given: Mapping[int, Any], _keepalive: Callable[[STATUS], None]) -> Mapping[int, Any]:
        protocol = self._protocol(given.get(1))
        match given.get(2):
            case ClientPin.CMD.GET_PIN_RETRIES:
                return {3: self.tries}
            case ClientPin.CMD.GET_KEY_AGREEMENT:
                numbers = self._agreement.public_key().public_numbers()
                x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
                return {1: {1: 2, 3: -25, -1: 1, -2: x, -3: y}}
            case ClientPin.CMD.GET_TOKEN_USING_PIN:
                return {2: self._pin_token(protocol, given[3], given[6])}
        raise CtapError(ERR.INVALID_SUBCOMMAND)

    def _pin_token(self, protocol: PinProtocol, peer: Mapping[int, bytes], pin_hash: bytes) -> bytes:
        self.pins_asked += 1
        if self.tries == 0:
            raise CtapError(ERR.PIN_BLOCKED)
        if self._wrong_in_a_row == TRIES_PER_POWER_UP:
            raise CtapError(ERR.PIN_AUTH_BLOCKED)
        x, y = int.from_bytes(peer[-2], "big"), int.from_bytes(peer[-3], "big")
        point = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        shared = protocol.kdf(self._agreement.exchange(ec.ECDH(), point))
        self.tries -= 1
        if not hmac.compare_digest(protocol.decrypt(shared, pin_hash), hashlib.sha256(self.pin.encode()).digest()[:16]):
            self._agreement = ec.generate_private_key(ec.SECP256R1())
            self._wrong_in_a_row += 1
            if self.tries == 0:
                raise CtapError(ERR.PIN_BLOCKED)
            raise CtapError(ERR.PIN_AUTH_BLOCKED if self._wrong_in_a_row == TRIES_PER_POWER_UP else ERR.PIN_INVALID)
        self.tries, self._wrong_in_a_row = PIN_TRIES, 0
        self._token = os.urandom(32)
        return bytes(protocol.encrypt(shared, self._token))

    @staticmethod
    def _protocol(version: object) -> PinProtocol:
        if version not in {1, 2}:
            raise CtapError(ERR.INVALID_PARAMETER)
        return PinProtocolV2() if version == 2 else PinProtocolV1()

    def _verified(self, client_data_hash: bytes, mac: bytes | None, version: object) -> Flag:
        if mac is None:
            return NOTHING
        if not hmac.compare_digest(self._protocol(version).authenticate(self._token, client_data_hash), mac):
            raise CtapError(ERR.PIN_AUTH_INVALID)
        return Flag.USER_VERIFIED

    def _touch(self, keepalive: Callable[[STATUS], None]) -> Flag:
        keepalive(STATUS.UPNEEDED)
        if not self.touched:
            raise CtapError(ERR.USER_ACTION_TIMEOUT)
        return Flag.USER_PRESENT

    def _make_credential(self, given: Mapping[int, Any], keepalive: Callable[[STATUS], None]) -> Mapping[int, Any]:
        rp_id = given[2]["id"]
        algorithm = next((p["alg"] for p in given[4] if p["alg"] in self.algorithms), None)
        if algorithm is None:
            raise CtapError(ERR.UNSUPPORTED_ALGORITHM)
        verified = self._verified(given[1], given.get(8), given.get(9))
        if not verified:
            raise CtapError(ERR.PUAT_REQUIRED)
        present = self._touch(keepalive)
        if any(listed["id"] in self.credentials for listed in given.get(5, ())):
            raise CtapError(ERR.CREDENTIAL_EXCLUDED)
        credential_id = os.urandom(48)
        key = Ed25519PrivateKey.generate() if algorithm == EDDSA else ec.generate_private_key(ec.SECP256R1())
        self.credentials[credential_id] = (rp_id.encode(), key)
        attested = bytes.fromhex(self.maker.aaguid) + struct.pack(">H", len(credential_id)) + credential_id
        attested += cbor.encode(cose(key))
        data = self._authenticator_data(rp_id, present | verified | Flag.ATTESTED_CREDENTIAL) + attested
        return {
            1: "none" if self.attestation == "none" else "packed",
            2: data,
            3: self._statement(data + given[1], key),
        }

    def _statement(self, signed: bytes, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> Mapping[str, Any]:
        if self.attestation == "none":
            return {}
        if self.attestation == "self":
            return {"alg": EDDSA if isinstance(key, Ed25519PrivateKey) else ES256, "sig": sign(key, signed)}
        chain = [self.maker.device_certificate]
        return {"alg": ES256, "sig": sign(self.maker.device_key, signed), "x5c": chain}

    def _get_assertion(self, given: Mapping[int, Any], keepalive: Callable[[STATUS], None]) -> Mapping[int, Any]:
        rp_id = given[1]
        wanted = [listed["id"] for listed in given.get(3, ())]
        verified = self._verified(given[2], given.get(6), given.get(7))
        silent = given.get(5, {}).get("up") is False
        present = NOTHING if silent else self._touch(keepalive)
        found = [id_ for id_ in wanted if self.credentials.get(id_, (b"",))[0] == rp_id.encode()]
        if not found:
            raise CtapError(ERR.NO_CREDENTIALS)
        data = self._authenticator_data(rp_id, present | verified)
        signature = sign(self.credentials[found[0]][1], data + given[2])
        return {1: {"id": found[0], "type": "public-key"}, 2: data, 3: signature}

    def _authenticator_data(self, rp_id: str, flags: Flag) -> bytes:
        # Looking for a credential doesn't count as signing.
        self.counter += bool(flags & Flag.USER_PRESENT)
        shown = (flags | self.more_flags) & ~self.fewer_flags
        return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", shown, self.counter)


def sign(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, data: bytes) -> bytes:
    """Sign as WebAuthn wants it."""
    return key.sign(data) if isinstance(key, Ed25519PrivateKey) else key.sign(data, ec.ECDSA(hashes.SHA256()))


def point_of(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    """Return the public point as :class:`strongroom.core.webauthn.CredentialKey` holds it."""
    if isinstance(key, Ed25519PrivateKey):
        return key.public_key().public_bytes_raw()
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def cose(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> Mapping[int, Any]:
    """Return the public key in COSE's form."""
    point = point_of(key)
    if isinstance(key, Ed25519PrivateKey):
        return {1: 1, 3: EDDSA, -1: 6, -2: point}
    return {1: 2, 3: ES256, -1: 1, -2: point[1:33], -3: point[33:]}


class SecurityKeyProcess:
    """A :class:`SoftwareSecurityKey` in a process of its own, behind a Unix socket."""

    def __init__(self, path: Path, **facts: object) -> None:
        self.path = path
        self._facts = facts
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """How a client names it."""
        return f"unix:{self.path}"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "simulators.security_key", str(self.path), json.dumps(self._facts)]
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, cwd=TESTS)
        deadline = time.monotonic() + 30
        while not self.path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the simulated security key didn't start")
            time.sleep(0.01)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.unplug()

    def unplug(self) -> None:
        """Take it out for good."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        self.path.unlink(missing_ok=True)


def serve(device: SoftwareSecurityKey, path: Path) -> None:
    """Serve one connection after another: each message is a CTAPHID command, its length in two bytes, its payload."""
    staging = path.with_name(f".{path.name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(staging))
        listener.listen()
        staging.rename(path)  # it appears once somebody listens
        while True:
            channel, _peer = listener.accept()
            with channel, channel.makefile("rwb") as stream:
                while len(head := stream.read(3)) == 3:
                    command, size = struct.unpack(">BH", head)
                    data = stream.read(size)

                    def keepalive(status: STATUS) -> None:
                        _write(stream, CTAPHID.KEEPALIVE, bytes([status]))

                    try:
                        _write(stream, command, device.call(command, data, None, keepalive))
                    except CtapError as error:
                        _write(stream, CTAPHID.ERROR, bytes([error.code]))


def _write(stream: Any, command: int, data: bytes) -> None:
    stream.write(struct.pack(">BH", command, len(data)) + data)
    stream.flush()


def main() -> None:
    """Serve one device until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("facts", type=json.loads)
    given = parser.parse_args()
    facts = dict(given.facts)
    maker = Maker(**facts.pop("maker", {}))
    algorithms = tuple(facts.pop("algorithms", (ES256, EDDSA)))
    serve(SoftwareSecurityKey(maker=maker, algorithms=algorithms, **facts), given.path)


if __name__ == "__main__":
    main()
