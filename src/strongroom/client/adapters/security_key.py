"""Signing with a security key: CTAP 2 over USB, or over a Unix socket to a simulator.

The signer is handed the message and hashes it itself: it never takes a hash from outside, so nobody can have it sign
something that wasn't parsed here. Each signature is verified before it is handed on. The PIN is asked for only when
the key wants one, goes to the key encrypted, and is kept nowhere.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Final

from fido2.client import ClientError, DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import ClientPin
from fido2.hid import CAPABILITY, CTAPHID, ConnectionFailure, CtapHidDevice
from fido2.webauthn import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialCreationOptions,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRequestOptions,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from strongroom.client.wallet import SecurityKey, SecurityKeys
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, LockedError, UnavailableError, UsageError
from strongroom.core.ids import PersonId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.core.webauthn import Assertion, challenge_of, check_rp_id
from strongroom.personnel.enrolment import EnrolledKey, Enrolment, credential_key, enrolment_challenge

AskPin = Callable[[], SecretBytes]
HID: Final = "hid"
UNIX: Final = "unix:"
TOUCH_SECONDS: Final = 60
MAX_MESSAGE: Final = 7609
"""The most that CTAPHID carries in one message."""
MIN_PIN_BYTES: Final = 4
MAX_PIN_BYTES: Final = 63
_ALGORITHMS: Final = (-7, -8)
"""ES256 and EdDSA (COSE), the first one preferred."""
_HEADER: Final = struct.Struct(">BH")
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    OverflowError,
    RecursionError,
    struct.error,
)
"""What the library lets through when a device's answer isn't what it expects."""


class SecurityKeyMissingError(UnavailableError):
    """No security key is plugged in, or not one that the wallet names."""

    code = "security-key-missing"


class SecurityKeyFailedError(UnavailableError):
    """A security key didn't do what it was asked: nobody touched it, it was taken out, or it can't."""

    code = "security-key-failed"


class WrongPinError(LockedError):
    """The security key doesn't accept the PIN; after eight wrong ones it locks itself for good."""

    code = "wrong-pin"


class SecurityKeyLockedError(LockedError):
    """The security key takes no PIN any more, until it is taken out, or for good."""

    code = "security-key-locked"


class SameSecurityKeyError(DeniedError):
    """The second security key is the first one again."""

    code = "same-security-key"


class SocketDevice(CtapDevice):
    """A device behind a Unix stream socket: CTAPHID's commands without its packets.

    Each message is a command byte, a length in two bytes, and the payload; keep-alives come between a command and its
    answer, as over USB.
    """

    def __init__(self, path: str) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.settimeout(TOUCH_SECONDS)
        try:
            self._channel.connect(path)
        except OSError:
            self._channel.close()
            raise

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
        """Send one command and return its answer."""
        self._channel.sendall(_HEADER.pack(cmd, len(data)) + data)
        while True:
            # Set when the time for a touch is over; a device that only keeps itself alive would hold us for ever.
            if event is not None and event.is_set():
                raise CtapError(CtapError.ERR.KEEPALIVE_CANCEL)
            kind, size = _HEADER.unpack(self._read(_HEADER.size))
            if size > MAX_MESSAGE:
                raise ConnectionFailure("a message that is too long")
            answer = self._read(size)
            if kind == CTAPHID.KEEPALIVE and size == 1:
                if on_keepalive:
                    on_keepalive(STATUS(answer[0]))
            elif kind == CTAPHID.ERROR and size == 1:
                raise CtapError(answer[0])
            elif kind == cmd and size:
                return answer
            else:
                raise ConnectionFailure("an answer to another command")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._channel.recv(size - len(data))
            if not part:
                raise ConnectionFailure("the device closed its connection")
            data += part
        return data

    def close(self) -> None:
        """Give the connection up."""
        self._channel.close()


@contextmanager
def plugged_in(addresses: Sequence[str]) -> Iterator[tuple[CtapDevice, ...]]:
    """Open every device that is there: at each ``unix:PATH`` that answers, and all USB devices for ``hid``.

    :raises UsageError: an address of another form.
    """
    with ExitStack() as stack:
        found: list[CtapDevice] = []
        for address in dict.fromkeys(addresses):
            if address == HID:
                found += [stack.enter_context(device) for device in CtapHidDevice.list_devices()]
            elif address.startswith(UNIX) and len(address) > len(UNIX):
                try:
                    found.append(stack.enter_context(SocketDevice(address.removeprefix(UNIX))))
                except OSError:
                    continue  # it isn't plugged in
            else:
                raise UsageError("a security key is named `hid`, or `unix:PATH` for a simulator")
        yield tuple(found)


class SecurityKeySigner:
    """Signs with whichever of a person's security keys is plugged in; they touch it and give its PIN.

    :param pin: asked only when the key wants a PIN, at each signature anew.
    """

    def __init__(self, keys: SecurityKeys, pin: AskPin) -> None:
        self._keys = keys
        self._pin = pin
        self._found: SecurityKey | None = None

    @property
    def public_key(self) -> PublicKey:
        """The public key of the one that is plugged in.

        :raises SecurityKeyMissingError: none is.
        """
        if self._found is None:
            with plugged_in(self._keys.devices) as devices:
                self._found = _find(devices, self._keys.keys)[1]
        return self._found.key

    def sign(self, message: bytes) -> bytes:
        """Sign ``message``: the value is a :class:`strongroom.core.webauthn.Assertion`'s.

        :raises SecurityKeyMissingError: no key is plugged in, or not the one that :attr:`public_key` named.
        :raises WrongPinError: the PIN is wrong; the message says how many tries are left.
        :raises SecurityKeyLockedError: too many wrong ones.
        :raises SecurityKeyFailedError: nobody touched it in time, or it was taken out.
        """
        wanted = self._keys.keys if self._found is None else (self._found,)
        with plugged_in(self._keys.devices) as devices:
            device, self._found = _find(devices, wanted)
            value = _assert(device, self._found, message, self._pin)
        # A broken or hostile device must not waste an approval.
        self._found.key.verify(value, message)
        return value

    def __repr__(self) -> str:
        return f"<SecurityKeySigner {', '.join(one.key.key_id for one in self._keys.keys)}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolAt:
    """Where one of the keys to enrol is, and how its PIN is asked for."""

    device: str
    pin: AskPin


def enrol_keys(
    places: Sequence[EnrolAt],
    *,
    rp_id: str,
    genesis: Digest,
    person: PersonId,
    at: Instant,
    ready: Callable[[int], None],
) -> tuple[Enrolment, SecurityKeys]:
    """Make a credential on each of several security keys, one after the other, and ask each for its attestation.

    :param ready: called with 0, 1, ... before each key is looked for: time to plug it in.
    :raises SecurityKeyMissingError: there is none. :raises UsageError: there are several at once.
    :raises SameSecurityKeyError: a key was left plugged in.
    :raises WrongPinError: and the others of :meth:`SecurityKeySigner.sign`.
    """
    check_rp_id(rp_id)
    enrolled: list[EnrolledKey] = []
    kept: list[SecurityKey] = []
    for number, place in enumerate(places):
        ready(number)
        with plugged_in((place.device,)) as devices:
            if not devices:
                raise SecurityKeyMissingError("no security key is plugged in")
            if len(devices) > 1:
                raise UsageError("several security keys are plugged in", remedy="leave only the one to enrol")
            made = _make(devices[0], rp_id, enrolment_challenge(genesis, person), person, place.pin, kept)
        key, credential_id = credential_key(made.attestation, rp_id)
        enrolled.append(EnrolledKey(key=key, attestation=made.attestation, client_data=made.client_data))
        kept.append(SecurityKey(key, credential_id))
    devices_named = tuple(dict.fromkeys(place.device for place in places))
    enrolment = Enrolment(genesis=genesis, person=person, keys=tuple(enrolled), at=at)
    return enrolment, SecurityKeys(keys=tuple(kept), devices=devices_named)


@dataclass(frozen=True, slots=True)
class _Made:
    attestation: bytes
    client_data: bytes


class _Asking(UserInteraction):
    def __init__(self, pin: AskPin) -> None:
        self._pin = pin

    def prompt_up(self) -> None:
        # To the error stream: what a program reads isn't disturbed.
        sys.stderr.write("Touch your security key.\n")

    def request_pin(self, permissions: ClientPin.PERMISSION, rp_id: str | None) -> str:
        del permissions, rp_id
        with self._pin() as secret:
            # A PIN that can't be right would cost one of eight tries.
            if not MIN_PIN_BYTES <= len(secret) <= MAX_PIN_BYTES:
                raise UsageError(f"a security key's PIN has {MIN_PIN_BYTES} to {MAX_PIN_BYTES} bytes")
            try:
                # The library takes text, which can't be wiped; ours is, and the copy ends with this process.
                return bytes(secret.reveal(TOKEN)).decode("utf-8")
            except UnicodeDecodeError:
                raise UsageError("a security key's PIN is UTF-8 text") from None


def _client(device: CtapDevice, rp_id: str, pin: AskPin) -> Fido2Client:
    # The command line stands for the page at the relying party's own address. No extensions: their outputs would be
    # bytes in a signature that nobody checks.
    return Fido2Client(device, DefaultClientDataCollector(f"https://{rp_id}"), _Asking(pin), extensions=())


def _assert(device: CtapDevice, key: SecurityKey, message: bytes, pin: AskPin) -> bytes:
    rp_id = key.key.credential.rp_id
    options = PublicKeyCredentialRequestOptions(
        challenge=challenge_of(message),
        timeout=TOUCH_SECONDS * 1000,
        rp_id=rp_id,
        allow_credentials=[_named(key)],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    with _speaking(device):
        response = _client(device, rp_id, pin).get_assertion(options).get_response(0).response
    return Assertion(bytes(response.authenticator_data), bytes(response.client_data), response.signature).to_bytes()


def _make(
    device: CtapDevice, rp_id: str, challenge: bytes, person: PersonId, pin: AskPin, others: Sequence[SecurityKey]
) -> _Made:
    options = PublicKeyCredentialCreationOptions(
        rp=PublicKeyCredentialRpEntity(id=rp_id, name=rp_id),
        user=PublicKeyCredentialUserEntity(id=person.encode(), name=person, display_name=person),
        challenge=challenge,
        pub_key_cred_params=[
            PublicKeyCredentialParameters(type=PublicKeyCredentialType.PUBLIC_KEY, alg=algorithm)
            for algorithm in _ALGORITHMS
        ],
        timeout=TOUCH_SECONDS * 1000,
        exclude_credentials=[_named(other) for other in others],
        authenticator_selection=AuthenticatorSelectionCriteria(
            # The wallet remembers which credential to ask for, so the key's few places for resident ones stay free.
            resident_key=ResidentKeyRequirement.DISCOURAGED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        attestation=AttestationConveyancePreference.DIRECT,
    )
    with _speaking(device):
        response = _client(device, rp_id, pin).make_credential(options).response
    return _Made(bytes(response.attestation_object), bytes(response.client_data))


def _named(key: SecurityKey) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(type=PublicKeyCredentialType.PUBLIC_KEY, id=key.credential_id)


def _find(devices: Sequence[CtapDevice], wanted: Sequence[SecurityKey]) -> tuple[CtapDevice, SecurityKey]:
    # Asked without a touch, a key says whether it holds a credential, and signs nothing that anybody would accept.
    for device in devices:
        with _speaking(device):
            try:
                ctap = Ctap2(device)
            except (CtapError, ValueError):
                continue  # a key of the older kind, which verifies nobody
            for key in wanted:
                try:
                    ctap.get_assertion(
                        key.key.credential.rp_id,
                        bytes(32),
                        [{"type": "public-key", "id": key.credential_id}],
                        options={"up": False},
                    )
                except CtapError:
                    continue
                return device, key
    raise SecurityKeyMissingError(
        "no security key of this wallet is plugged in",
        remedy=f"plug in {' or '.join(f'`{key.key.key_id}`' for key in wanted)}",
    )


@contextmanager
def _speaking(device: CtapDevice) -> Iterator[None]:
    """Turn what goes wrong between client and device into our errors."""
    try:
        yield
    except ClientError as error:
        _refuse(error.cause if isinstance(error.cause, CtapError) else None, error, device)
    except CtapError as error:
        _refuse(error, None, device)
    except (OSError, ConnectionFailure):
        raise SecurityKeyFailedError(
            "the security key was taken out, or its connection broke", remedy="plug it in and try again"
        ) from None
    except _UNREADABLE:
        raise SecurityKeyFailedError("the security key answered with something that can't be read") from None


def _refuse(error: CtapError | None, said: ClientError | None, device: CtapDevice) -> None:
    codes = CtapError.ERR
    match error.code if error else None:
        case codes.PIN_INVALID:
            raise WrongPinError(f"the PIN is wrong; {_tries(device)} are left", remedy="try again, with care") from None
        case codes.PIN_AUTH_BLOCKED:
            raise SecurityKeyLockedError(
                "the security key takes no PIN after three wrong ones", remedy="take it out, put it in, try again"
            ) from None
        case codes.PIN_BLOCKED:
            raise SecurityKeyLockedError(
                "the security key is locked for good after eight wrong PINs", remedy="enrol another two keys"
            ) from None
        case codes.CREDENTIAL_EXCLUDED:
            raise SameSecurityKeyError("that is the same security key again", remedy="plug in another one") from None
        case codes.USER_ACTION_TIMEOUT | codes.ACTION_TIMEOUT | codes.KEEPALIVE_CANCEL | codes.OPERATION_DENIED:
            raise SecurityKeyFailedError("nobody touched the security key in time", remedy="try again") from None
        case codes.NO_CREDENTIALS:
            raise SecurityKeyMissingError("the security key doesn't hold this key") from None
    if said is not None and said.code == ClientError.ERR.CONFIGURATION_UNSUPPORTED:
        raise SecurityKeyFailedError(
            "the security key can't verify its user, or can't make such keys",
            remedy="set a PIN on it with its maker's program",
        ) from None
    named = error.code.name if error else said.code.name if said else "unknown"
    raise SecurityKeyFailedError(f"the security key refused: `{named}`") from None


def _tries(device: CtapDevice) -> str:
    try:
        left, _power_cycle = ClientPin(Ctap2(device)).get_pin_retries()
    except (CtapError, OSError, ConnectionFailure, *_UNREADABLE):
        return "an unknown number of tries"
    return f"{left} tries"
