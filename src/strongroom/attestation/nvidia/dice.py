"""What a device's certificates say of it: model, identifier, and the digest of the firmware that holds the key.

The chain is NVIDIA root, family, provisioner, device, attestation key. The *device* certificate was made in the factory
for a key in fuses; the *attestation* certificate is made by the device at each start, for a key that changes with the
firmware (TCG DICE). So the device certificate's serial number is what names a chip: NVIDIA's own ``ueid`` claim is the
attestation certificate's, and becomes another with every firmware update.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom.attestation.chain import is_ca
from strongroom.attestation.errors import ChainRefusedError
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.trust_anchors import public_key_bytes
from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

PDI_BYTES: Final = 8
_COMPOSITE_DEVICE: Final = x509.ObjectIdentifier("2.23.133.5.4.1")
"""RIoT's composite device id, the forerunner of DICE's: Hopper and its switches."""
_TCB_INFO: Final = x509.ObjectIdentifier("2.23.133.5.4.1.1")
"""TCG DICE TcbInfo: Blackwell."""
_MAX_EXTENSION: Final = 4096
_SEQUENCE: Final = 0x30
_OCTETS: Final = 0x04
_FWIDS: Final = 0xA6
_MODEL: Final = re.compile(r"([A-Z]{2}_?[0-9]{2,3}) .{1,64}")


class Architecture(StrEnum):
    """Generations of devices that can attest."""

    HOPPER = "hopper"
    BLACKWELL = "blackwell"
    LS10 = "ls10"
    """The NVSwitch of Hopper machines."""

    @property
    def kind(self) -> EvidenceKind:
        """GPU or switch."""
        return EvidenceKind.NVIDIA_SWITCH if self is Architecture.LS10 else EvidenceKind.NVIDIA_GPU


_FAMILIES: Final = (
    (re.compile(r"GH[0-9]{3}"), Architecture.HOPPER),
    (re.compile(r"GB[0-9]{3}"), Architecture.BLACKWELL),
    (re.compile(r"LS_?10"), Architecture.LS10),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIdentity:
    """What NVIDIA's provisioner signed for this device."""

    architecture: Architecture
    model: str
    """``GH100``, ``LS_10``."""
    serial: bytes
    """The device certificate's serial number: one byte for the family, then the device's 8-byte identifier (PDI)."""
    ueid: str
    """NVIDIA's ``ueid`` claim: the attestation certificate's serial number, in decimal."""

    @property
    def pdi(self) -> bytes:
        """The 8 bytes by which devices name each other."""
        return self.serial[-PDI_BYTES:]


def device_identity(leaf: x509.Certificate, device: x509.Certificate) -> DeviceIdentity:
    """Read the identity of a device whose chain was walked.

    :raises ChainRefusedError: a leaf that isn't a P-384 key for signing, or a device of no known architecture.
    """
    key = leaf.public_key()
    if is_ca(leaf) or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ChainRefusedError("the report's signer isn't a device's attestation key")
    try:
        if not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            raise ChainRefusedError("the report's signer has a key that may not sign")
    except x509.ExtensionNotFound:
        raise ChainRefusedError("the report's signer has no key usage") from None
    # The provisioner's word for what the device is. The device's own, where it has one, must not differ.
    model = _model(device)
    if not model:
        raise ChainRefusedError("the device's certificate doesn't name its model")
    if _model(leaf) not in {model, ""}:
        raise ChainRefusedError("the attestation certificate names another model than the device's")
    for family, architecture in _FAMILIES:
        if family.fullmatch(model):
            serial = device.serial_number
            return DeviceIdentity(
                architecture=architecture,
                model=model,
                serial=serial.to_bytes((serial.bit_length() + 7) // 8, "big"),
                ueid=str(leaf.serial_number),
            )
    raise ChainRefusedError("the device is of an architecture that isn't known", seen=model, wanted="GH*, GB* or LS_10")


def certified_fwid(leaf: x509.Certificate, device: x509.Certificate, architecture: Architecture) -> bytes:
    """Return the digest of firmware that the attestation certificate was made for.

    :raises MalformedError: there is none, or the extension can't be read.
    :raises ChainRefusedError: the extension was made for another device's key.
    """
    wanted = _TCB_INFO if architecture is Architecture.BLACKWELL else _COMPOSITE_DEVICE
    try:
        extension = leaf.extensions.get_extension_for_oid(wanted).value
    except x509.ExtensionNotFound:
        raise MalformedError("the attestation certificate says nothing of its firmware (TCG DICE)") from None
    if not isinstance(extension, x509.UnrecognizedExtension):
        raise MalformedError("the attestation certificate's DICE extension can't be read")
    outer = _Der(extension.value).enter(_SEQUENCE)
    if wanted == _TCB_INFO:
        return _first_fwid(outer)
    outer.skip()  # version
    if outer.whole() != public_key_bytes(device):
        raise ChainRefusedError("the attestation certificate was made for another device's key")
    return outer.enter(_SEQUENCE).second_octets()


def _model(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    found = _MODEL.fullmatch(str(names[0].value)) if len(names) == 1 else None
    return found[1] if found is not None else ""


def _first_fwid(tcb_info: _Der) -> bytes:
    # The other members are optional, so the list is told by its tag and not by its place.
    while tcb_info.left:
        if tcb_info.tag == _FWIDS:
            return tcb_info.enter(_FWIDS).enter(_SEQUENCE).second_octets()
        tcb_info.skip()
    raise MalformedError("the attestation certificate's DICE extension has no digest of firmware")


class _Der:
    """As much of DER as these two extensions need: one-byte tags, definite lengths."""

    def __init__(self, data: bytes) -> None:
        self._reader = Reader(data, "dice extension", max_bytes=_MAX_EXTENSION)
        self._data = data

    @property
    def left(self) -> int:
        return self._reader.left

    @property
    def tag(self) -> int:
        return self._data[self._reader.at] if self.left else 0

    def whole(self) -> bytes:
        """Take one element, its tag and length included."""
        start = self._reader.at
        self._take()
        return self._data[start : self._reader.at]

    def skip(self) -> None:
        self._take()

    def enter(self, tag: int) -> _Der:
        if self.tag != tag:
            raise MalformedError("the attestation certificate's DICE extension has another form")
        return _Der(self._take())

    def second_octets(self) -> bytes:
        """Return the value of ``SEQUENCE { algorithm, OCTET STRING }``."""
        self.skip()
        if self.tag != _OCTETS:
            raise MalformedError("the attestation certificate's DICE extension has another form")
        return self._take()

    def _take(self) -> bytes:
        self._reader.take(1)
        length = self._reader.integer(1)
        if length & 0x80:
            if length & 0x7F > 2:
                raise MalformedError("the attestation certificate's DICE extension holds too long an element")
            length = self._reader.integer(length & 0x7F)
        return self._reader.take(length)
