"""Statements of AWS Nitro enclaves through the Nitro Secure Module, ``/dev/nsm`` (linux/nsm.h).

One ``ioctl`` carries two buffers: a CBOR request of at most 4,096 bytes and room for a response of at most 12,288.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from strongroom.attestation.bindings import Slot
from strongroom.attestation.errors import CollectionError
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nitro.cbor import decode
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.extras import need

DEVICE: Final = Path("/dev/nsm")
MAX_REQUEST: Final = 0x1000
MAX_RESPONSE: Final = 0x3000
NSM_IOCTL: Final = 0xC0200A00
"""_IOWR(0x0A, 0, struct nsm_raw of 32 bytes)."""
MAX_NONCE: Final = 512
MAX_USER_DATA: Final = 512


class _Buffer(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("length", ctypes.c_size_t))


class NsmMessage(ctypes.Structure):
    """``struct nsm_raw``: request and response, each an address and a length."""

    _fields_ = (("request", _Buffer), ("response", _Buffer))


Ioctl = Callable[[int, int, NsmMessage], object]


class NsmDevice:
    """The device file. ``ioctl`` is the system call; a test may play the kernel."""

    def __init__(self, path: Path = DEVICE, ioctl: Ioctl = fcntl.ioctl) -> None:
        self._path = path
        self._ioctl = ioctl

    def exchange(self, request: bytes) -> bytes:
        """Send one request and return the response.

        :raises CollectionError: the device isn't there, or the module refused.
        :raises UsageError: the request is too long.
        """
        if len(request) > MAX_REQUEST:
            raise UsageError(f"a request to the Nitro module has at most {MAX_REQUEST} bytes, not {len(request)}")
        sent = ctypes.create_string_buffer(request, len(request))
        room = ctypes.create_string_buffer(MAX_RESPONSE)
        message = NsmMessage(
            _Buffer(ctypes.addressof(sent), len(request)), _Buffer(ctypes.addressof(room), MAX_RESPONSE)
        )
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._ioctl(descriptor, NSM_IOCTL, message)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CollectionError(
                f"`{self._path}`: {os.strerror(error.errno or 0)}", remedy="run inside an AWS Nitro enclave"
            ) from None
        if message.response.length > MAX_RESPONSE:
            raise CollectionError("the Nitro module says that it wrote more than there was room for")
        return room.raw[: message.response.length]


class NsmSource:
    """Statements of the enclave that this process runs in."""

    kind: Final = EvidenceKind.NITRO

    def __init__(self, device: NsmDevice | None = None) -> None:
        self._device = device or NsmDevice()

    def statement(self, slots: Mapping[Slot, bytes]) -> EvidenceItem:
        """Have an attestation document made over a nonce and user data."""
        nonce, user_data = slots.get(Slot.NONCE, b""), slots.get(Slot.USER_DATA, b"")
        if not 1 <= len(nonce) <= MAX_NONCE or not 1 <= len(user_data) <= MAX_USER_DATA:
            raise UsageError(f"a Nitro document commits to a nonce and user data of 1 to {MAX_NONCE} bytes each")
        cbor2 = need("cbor2", extra="nitro")
        # The recipient key, 1,216 bytes, is longer than `public_key` may be; the user data commits to it.
        wanted = {"user_data": user_data, "nonce": nonce, "public_key": None}
        return EvidenceItem(self.kind, _document(self._device.exchange(cbor2.dumps({"Attestation": wanted}))))


def _document(response: bytes) -> bytes:
    try:
        answer = decode(response, "Nitro module's response", max_bytes=MAX_RESPONSE)
    except MalformedError as error:
        raise CollectionError(f"the Nitro module's response can't be read: {error.message}") from None
    if isinstance(answer, dict) and isinstance(code := answer.get("Error"), str):
        raise CollectionError(f"the Nitro module refused: {code[:64]!r}")
    attestation = answer.get("Attestation") if isinstance(answer, dict) else None
    document = attestation.get("document") if isinstance(attestation, dict) else None
    if not isinstance(document, bytes):
        raise CollectionError("the Nitro module's response holds no attestation document")
    return document
