"""Files that hold a quote of Intel SGX or TDX, in the forms that tools write.

- the raw quote (SGX version 3, TDX versions 4 and 5), with or without zeros after it
- base64 or hex text of it, hex with ``0x`` before it or not
- configfs-tsm as JSON: ``provider``, ``outblob``, and ``inblob`` where it was kept
- JSON with the quote in a member ``quote``, as base64 or hex (Trustee, dstack, Intel Trust Authority's clients); its
  other members are signed by nobody and are left aside
- dstack's attestation, version 0, in SCALE
"""

from __future__ import annotations

import re
from typing import Final

from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.base64_text import blob, read_base64
from strongroom.attestation.containers.contained import Contained, check_size
from strongroom.attestation.containers.scale import begun, ended, pass_events
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.tdx.quote import (
    HEADER_BYTES,
    MAX_QUOTE,
    TEE_SGX,
    TEE_TDX,
    parse_sgx_quote,
    parse_td_quote,
    tee_type,
)
from strongroom.core.canonical import parse
from strongroom.core.errors import MalformedError

_PROVIDER: Final = "tdx_guest"
_MAX_JSON: Final = 1024 * 1024
_MOST_TEXT: Final = 2 * MAX_QUOTE + 8192
_HEX: Final = re.compile(rb"(?:0[xX])?([0-9a-fA-F\r\n]+)")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\-\r\n]+={0,2}")
_SCALE: Final = b"\x00\x00"


def read(data: bytes) -> Contained | None:
    """Read a file; None when it isn't of these forms.

    :raises MalformedError: it is, but it is broken.
    """
    check_size(data)
    if data.lstrip()[:1] == b"{":
        return _json(data)
    return _quote(data) or _scale(data) or _text(data)


def _quote(data: bytes, form: str = "quote", stated: bytes = b"") -> Contained | None:
    found = tee_type(data)
    if found is None:
        return None
    # Parsed here, so that who imports a broken file hears it at once.
    if found == TEE_TDX:
        kind, name, version = EvidenceKind.TDX, "TDX", parse_td_quote(data).header.version
    elif found == TEE_SGX:
        kind, name, version = EvidenceKind.SGX, "SGX", parse_sgx_quote(data).header.version
    else:
        raise MalformedError(f"the quote's TEE type is 0x{found:x}", remedy="quotes of SGX (0) and TDX (0x81) are read")
    return Contained(
        form=f"{name} {form}, version {version}",
        items=(EvidenceItem(kind, data),),
        stated={Slot.REPORT_DATA: stated} if stated else {},
    )


def _text(data: bytes, form: str = "quote") -> Contained | None:
    text = data.strip()
    if not HEADER_BYTES <= len(text) <= _MOST_TEXT:
        return None
    try:
        if matched := _HEX.fullmatch(text):
            return _quote(bytes.fromhex(matched[1].decode("ascii")), f"{form} in hex")
    except ValueError:
        return None  # an odd number of digits: text of another kind
    if _BASE64.fullmatch(text) and _begins_like_a_quote(text):
        return _quote(read_base64(text, "quote"), f"{form} in base64")
    return None


def _begins_like_a_quote(text: bytes) -> bool:
    """Tell by the header alone, so that text of another kind isn't called broken."""
    try:
        return tee_type(read_base64(b"".join(text.split())[: HEADER_BYTES * 4 // 3], "quote")) is not None
    except MalformedError:
        return False


def _json(data: bytes) -> Contained | None:
    try:
        whole = parse(data, max_bytes=_MAX_JSON)
    except MalformedError:
        return None  # JSON of another kind, with numbers that aren't read here for example
    if not isinstance(whole, dict):
        return None
    provider = whole.get("provider")
    if isinstance(provider, str) and provider.strip() == _PROVIDER and "outblob" in whole:
        found = _quote(blob(whole, "outblob"), "quote in configfs-tsm JSON", blob(whole, "inblob"))
        if found is None:
            raise MalformedError("`outblob` isn't a quote by an Intel quoting enclave")
        return found
    quote = whole.get("quote")
    return _text(quote.encode("ascii"), "quote in JSON") if isinstance(quote, str) and quote.isascii() else None


def _scale(data: bytes) -> Contained | None:
    found = begun(data, _SCALE, MAX_QUOTE)
    if found is None or tee_type(found[1]) is None:
        return None
    reader, quote = found
    # Of the boot: the register and the event's type; then digest, name and payload.
    pass_events(reader, 3, fixed=8)
    return _quote(quote, "quote in a dstack attestation", ended(reader))
