"""The attestation document of a Nitro enclave, within the bounds of AWS's specification.

AWS, "Nitro Enclaves Attestation Process", sections 2.2 and 3.2.2. Absent fields arrive as null as well as left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.nitro.cbor import decode
from strongroom.attestation.nitro.cose import MAX_PAYLOAD
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError

MAX_CHOSEN: Final = 1024
"""Bytes of ``public_key``, ``user_data`` and ``nonce`` (section 2.2; section 3.2.2 says 512 for the last two)."""
IMAGE_PCRS: Final = (0, 1, 2)
"""The image, its kernel and boot ramdisk, its application."""
_REQUIRED: Final = frozenset({"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"})
_CHOSEN: Final = ("public_key", "user_data", "nonce")
_MAX_CERTIFICATE: Final = 1024
_MAX_BUNDLE: Final = 8
_MAX_PCRS: Final = 32
_PCR_BYTES: Final = frozenset({32, 48, 64})
_MAX_MODULE_ID: Final = 128
_MILLISECONDS: Final = 1000
_LAST: Final = 253402300800 * _MILLISECONDS
"""The year 10000: later times have no RFC 3339 spelling."""
_MODULE: Final = re.compile(r"(i-[0-9a-f]{8,32})-enc[0-9a-f]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed document."""

    module_id: str
    """``<EC2 instance id>-enc<enclave id>``."""
    timestamp: int
    """When it was made, in milliseconds since 1970."""
    pcrs: Mapping[int, bytes]
    """The locked PCRs."""
    certificate: bytes
    """DER: the key that signed the document. It lives three hours."""
    cabundle: tuple[bytes, ...]
    """DER, the root first."""
    public_key: bytes
    user_data: bytes
    nonce: bytes
    """Chosen inside the enclave; empty when absent."""

    @classmethod
    def parse(cls, payload: bytes) -> Document:
        """Read exactly one document.

        :raises MalformedError: a field is missing, unknown, of another type or out of its bounds.
        """
        item = decode(payload, "attestation document", max_bytes=MAX_PAYLOAD)
        if type(item) is not dict or not all(type(name) is str for name in item):
            raise MalformedError("an attestation document is a map with text names")
        # A field that nobody reads is a field that nobody checked.
        if not _REQUIRED <= item.keys() <= _REQUIRED | set(_CHOSEN):
            raise MalformedError("an attestation document misses a field, or has one that this version doesn't know")
        if item["digest"] != "SHA384":
            raise MalformedError("an attestation document's digest is `SHA384`")
        bundle = item["cabundle"]
        if type(bundle) is not list or not 1 <= len(bundle) <= _MAX_BUNDLE:
            raise MalformedError(f"`cabundle` is an array of 1 to {_MAX_BUNDLE} certificates")
        timestamp = item["timestamp"]
        if type(timestamp) is not int or not 0 < timestamp < _LAST:
            raise MalformedError("`timestamp` is a time in milliseconds since 1970")
        return cls(
            module_id=_module_id(item["module_id"]),
            timestamp=timestamp,
            pcrs=_pcrs(item["pcrs"]),
            certificate=_bytes(item["certificate"], "certificate", least=1, most=_MAX_CERTIFICATE),
            cabundle=tuple(_bytes(der, "cabundle", least=1, most=_MAX_CERTIFICATE) for der in bundle),
            **{name: _chosen(item.get(name), name) for name in _CHOSEN},
        )

    @property
    def made(self) -> Instant:
        """When it was made, in whole seconds."""
        return self.timestamp // _MILLISECONDS

    @property
    def instance(self) -> str:
        """The EC2 instance that the enclave runs beside; empty when ``module_id`` has another form."""
        found = _MODULE.fullmatch(self.module_id)
        return found[1] if found else ""


def _bytes(value: Any, name: str, *, least: int, most: int) -> bytes:
    if type(value) is not bytes or not least <= len(value) <= most:
        raise MalformedError(f"`{name}` holds {least} to {most} bytes")
    return value


def _chosen(value: Any, name: str) -> bytes:
    return b"" if value is None else _bytes(value, name, least=0, most=MAX_CHOSEN)


def _module_id(value: Any) -> str:
    if (
        type(value) is not str
        or not 1 <= len(value) <= _MAX_MODULE_ID
        or not value.isascii()
        or not value.isprintable()
    ):
        raise MalformedError(f"`module_id` is 1 to {_MAX_MODULE_ID} printable ASCII characters")
    return value


def _pcrs(value: Any) -> Mapping[int, bytes]:
    if type(value) is not dict or not 1 <= len(value) <= _MAX_PCRS:
        raise MalformedError(f"`pcrs` is a map of 1 to {_MAX_PCRS} registers")
    for number, register in value.items():
        if type(number) is not int or not 0 <= number < _MAX_PCRS:
            raise MalformedError("a PCR's number is 0 to 31")
        if type(register) is not bytes or len(register) not in _PCR_BYTES:
            raise MalformedError(f"PCR {number} holds 32, 48 or 64 bytes")
    return value
