"""What the paravisor states at start, bound into the hardware's report by its digest: the virtual TPM's keys, the
machine's configuration, and up to 64 bytes that the guest chose.

The names are Microsoft's (``runtime_claims`` of openvmm). Newer paravisors add members to the configuration, so those
are kept as they come, and a policy asks for the ones that it wants by name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from strongroom.attestation.azure.hcl_report import MAX_HCL_REPORT
from strongroom.core.canonical import Json, parse
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

ATTESTATION_KEY: Final = "HCLAkPub"
MAX_USER_DATA: Final = 64
_MAX_KEYS: Final = 8
_RSA_BITS: Final = (2048, 3072, 4096)
_EXPONENT: Final = b"\x01\x00\x01"
_MAX_NUMBER_TEXT: Final = 1024
_MACHINE: Final = "vmUniqueId"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeData:
    """Parsed runtime data."""

    attestation_key: rsa.RSAPublicKey
    """The key that the virtual TPM quotes with."""
    configuration: Mapping[str, Json]
    """Name to value, as the paravisor wrote them."""
    machine: str
    """Azure's id of the virtual machine (``vmUniqueId``)."""
    user_data: bytes
    """What the guest wrote to NV index 0x01400002, filled up with zeros; empty when absent."""

    @classmethod
    def parse(cls, data: bytes) -> RuntimeData:
        """Read the JSON.

        :raises MalformedError: not such JSON, no attestation key or two of them, or a key that isn't RSA of at least
            2,048 bits.
        """
        fields = Fields(parse(data, max_bytes=MAX_HCL_REPORT), "runtime data")
        keys = [key for key in fields.objects("keys", _key, most=_MAX_KEYS) if key is not None]
        if len(keys) != 1:
            raise MalformedError(f"`runtime data` must hold exactly one key `{ATTESTATION_KEY}`")
        configuration = fields.value("vm-configuration")
        if not isinstance(configuration, dict):
            raise MalformedError("`runtime data.vm-configuration` must be a JSON object")
        machine = configuration.get(_MACHINE, "")
        user_data = fields.text("user-data") if fields.optional("user-data") else ""
        fields.end()
        return cls(
            attestation_key=keys[0],
            configuration=configuration,
            machine=machine if isinstance(machine, str) and machine.isprintable() else "",
            user_data=_user_data(user_data),
        )


def _key(fields: Fields) -> rsa.RSAPublicKey | None:
    """Read one JWK; None for another key than the attestation key."""
    name = fields.text("kid")
    fields.constant("kty", "RSA")
    uses = fields.texts("key_ops", most=4)
    exponent = fields.text("e", max_length=_MAX_NUMBER_TEXT)
    modulus = fields.text("n", max_length=_MAX_NUMBER_TEXT)
    if name != ATTESTATION_KEY:
        return None
    if uses != ("sign",) or _number(exponent) != _EXPONENT:
        raise MalformedError(f"`{fields.where}`: the attestation key signs, and its exponent is 65537")
    number = _number(modulus)
    if len(number) * 8 not in _RSA_BITS or not number[0] & 0x80:
        raise MalformedError(f"`{fields.where}`: the attestation key has 2048, 3072 or 4096 bits")
    try:
        return rsa.RSAPublicNumbers(int.from_bytes(_EXPONENT, "big"), int.from_bytes(number, "big")).public_key()
    except ValueError:
        raise MalformedError(f"`{fields.where}` isn't an RSA public key") from None


def _number(text: str) -> bytes:
    """Read base64url without padding (RFC 7518, section 2)."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("a number in a JWK isn't base64url") from None
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise MalformedError("a number in a JWK isn't base64url in its one canonical spelling")
    return data


def _user_data(text: str) -> bytes:
    if len(text) > 2 * MAX_USER_DATA or len(text) % 2 or not set(text) <= set("0123456789abcdefABCDEF"):
        raise MalformedError(f"`runtime data.user-data` must be at most {MAX_USER_DATA} bytes in hex")
    return bytes.fromhex(text)
