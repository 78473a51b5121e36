"""Makers' own files as items of collateral: whatever they publish or their tools write, one thing or several in a file.

PEM certificates and revocation lists, DER certificates, revocation lists and OCSP answers, Intel's quote collateral in
JSON, NVIDIA's manifests in XML, and bundles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from strongroom.attestation.bundle.format import MAX_BUNDLE, Bundle, require_few_values
from strongroom.attestation.bundle.manifest import id_in_file_name
from strongroom.attestation.bundle.reading import ReadItem, read_item
from strongroom.attestation.collateral import MAX_ITEMS, CollateralKind
from strongroom.attestation.containers.base64_text import read_base64
from strongroom.core.canonical import encode, parse
from strongroom.core.errors import MalformedError

_LABELS: Final = {
    b"CERTIFICATE": CollateralKind.CERTIFICATE,
    b"X509 CRL": CollateralKind.REVOCATION_LIST,
}
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,32})-----([A-Za-z0-9+/=\r\n]*)-----END \1-----")
_BARE: Final = (CollateralKind.CERTIFICATE, CollateralKind.REVOCATION_LIST, CollateralKind.OCSP_ANSWER)
_SEQUENCE: Final = 0x30


def read_collateral_file(data: bytes, *, file_name: str = "") -> tuple[ReadItem, ...]:
    """Read a file.

    :param file_name: where NVIDIA's manifest of a VBIOS or a switch has its RIM id.
    :raises MalformedError: too long, none of these, or one of these that is broken.
    """
    if len(data) > MAX_BUNDLE:
        raise MalformedError(f"a file of collateral has {len(data)} bytes; at most {MAX_BUNDLE} are read")
    head = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:11]
    if head.startswith(b"<"):
        return (read_item(CollateralKind.NVIDIA_RIM, data, name=id_in_file_name(file_name)),)
    if head.startswith(b"{"):
        return _json(data)
    if b"-----BEGIN " in data:
        return tuple(_pem(data))
    if data[:1] == bytes((_SEQUENCE,)):
        return (_der(data),)
    raise MalformedError("the file isn't collateral of a form that is known", remedy=_FORMS)


_FORMS: Final = (
    "give a bundle, certificates or revocation lists (PEM or DER), Intel's quote collateral (JSON), NVIDIA's reference "
    "manifests (XML) or OCSP answers (DER)"
)


def _json(data: bytes) -> tuple[ReadItem, ...]:
    require_few_values(data)
    told = parse(data, max_bytes=MAX_BUNDLE)
    if isinstance(told, dict) and "items" in told:
        return Bundle.parse(data).items
    if isinstance(told, dict) and "tcb_info" in told:
        # Each JSON text that is signed is a string in here: how the object around them is spelt means nothing.
        return (read_item(CollateralKind.INTEL_TCB, encode(told)),)
    raise MalformedError("the JSON isn't a bundle, and isn't Intel's quote collateral", remedy=_FORMS)


def _pem(data: bytes) -> Iterator[ReadItem]:
    found = 0
    for block in _BLOCK.finditer(data):
        kind = _LABELS.get(block[1])
        if kind is None:
            raise MalformedError("a PEM block is neither a certificate nor a revocation list", remedy=_FORMS)
        found += 1
        if found > MAX_ITEMS:
            raise MalformedError(f"a file has at most {MAX_ITEMS} PEM blocks")
        yield read_item(kind, read_base64(block[2], "PEM block"))
    if found != data.count(b"-----BEGIN "):
        raise MalformedError("a PEM block in the file is broken")


def _der(data: bytes) -> ReadItem:
    for kind in _BARE:
        try:
            return read_item(kind, data)
        except MalformedError:
            continue
    raise MalformedError("the DER isn't a certificate, a revocation list or an OCSP answer", remedy=_FORMS)
