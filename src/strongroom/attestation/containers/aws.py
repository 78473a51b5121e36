"""Files that hold an AWS Nitro attestation document, in the forms that tools write.

- the COSE_Sign1 as the Nitro Security Module gives it, tagged or not
- base64 of it: one line or broken into lines, as ``base64`` and HTTP interfaces write it
- dstack's attestation, version 0, in SCALE (``nsm-attest``, ``dstack-attest``): ``00``, the platform's number ``02``,
  the document with a compact length, runtime events, 64 bytes of report data, the configuration. Every length must
  be met and the last one end the file: a search for the document's first bytes would find what somebody hid there.
"""

from __future__ import annotations

import base64
from typing import Final

from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.base64_text import read_base64
from strongroom.attestation.containers.contained import Contained, check_size
from strongroom.attestation.containers.scale import begun, ended
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nitro.cose import MAX_SIGN1

_UNTAGGED: Final = b"\x84\x44\xa1\x01\x38\x22"
"""An array of four, whose first item is a byte string of four bytes: the map {1: -35}."""
_TAGGED: Final = b"\xd2" + _UNTAGGED
_SCALE: Final = b"\x00\x02"
_TEXT_BYTES: Final = 8
_IN_BASE64: Final = frozenset(base64.b64encode(start)[:_TEXT_BYTES] for start in (_UNTAGGED, _TAGGED))
"""Six bytes: they hold no character in which the two alphabets differ."""


def read(data: bytes) -> Contained | None:
    """Read a file; None when it isn't of these forms.

    :raises MalformedError: it is, but it is broken.
    """
    check_size(data)
    if _is_document(data):
        return _contained("Nitro attestation document", data)
    if data.startswith(_SCALE):
        return _scale(data)
    if data.lstrip()[:_TEXT_BYTES] in _IN_BASE64:
        return _contained("Nitro attestation document, base64", read_base64(data, "Nitro document"))
    return None


def _is_document(data: bytes) -> bool:
    return data.startswith((_UNTAGGED, _TAGGED))


def _contained(form: str, document: bytes, stated: bytes = b"") -> Contained:
    return Contained(
        form=form,
        items=(EvidenceItem(EvidenceKind.NITRO, document),),
        stated={Slot.USER_DATA: stated} if stated else {},
    )


def _scale(data: bytes) -> Contained | None:
    found = begun(data, _SCALE, MAX_SIGN1)
    if found is None or not _is_document(found[1]):
        return None
    reader, document = found
    return _contained("dstack attestation, version 0", document, ended(reader))
