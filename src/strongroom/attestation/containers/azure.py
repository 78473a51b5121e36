"""Files that hold the evidence of an Azure confidential virtual machine, in Confidential Containers' generations.

- without a version, SEV-SNP: ``{quote: {message, pcrs, signature}, report, vcek}``, bytes as arrays of numbers, the
  certificate in PEM
- without a version, TDX: ``{tpm_quote: {message, pcrs, signature}, hcl_report, td_quote}``, the same way
- versions 1 and 2: ``{version, tpm_quote, hcl_report, vcek | td_quote}``, the quote's parts in hex, the rest in
  base64url (RFC 4648, section 5). Version 2 has the challenge in the runtime data too

Each byte string may be spelt in any of these ways in any generation; each spelling is read strictly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from strongroom.attestation.azure.hcl_report import HardwareKind
from strongroom.attestation.azure.statement import PCRS, VtpmEvidence
from strongroom.attestation.containers.base64_text import read_base64
from strongroom.attestation.containers.contained import Contained, check_size
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.sev_snp.certificate_table import VCEK, ders_in, table_of
from strongroom.core.canonical import Json, parse
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

_GENERATIONS: Final = (0, 1, 2)
_HEX: Final = re.compile(r"([0-9a-f]{2})+")
_PEM: Final = "-----BEGIN CERTIFICATE-----"
_MAX_BYTES: Final = 64 * 1024
_MAX_TEXT: Final = 2 * _MAX_BYTES
_QUOTES: Final = ("tpm_quote", "quote")
_REPORTS: Final = ("hcl_report", "report")
_KINDS: Final = {
    "vcek": (HardwareKind.SEV_SNP, EvidenceKind.AZURE_SNP_VTPM),
    "td_quote": (HardwareKind.TDX, EvidenceKind.AZURE_TDX_VTPM),
}


def read(data: bytes) -> Contained | None:
    """Read a file; None when it isn't of these forms.

    :raises MalformedError: it is, but it is broken.
    """
    check_size(data)
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        value = parse(data)
    except MalformedError:
        return None  # JSON of another kind, or of none: nothing in it says that it is ours
    if not isinstance(value, dict) or not (named := _named(value)):
        return None
    report, quote, endorsement = named
    hardware, kind = _KINDS[endorsement]
    with Fields(value, "Azure evidence") as fields:
        version = fields.integer("version") if fields.optional("version") else 0
        if version not in _GENERATIONS:
            raise MalformedError(f"`Azure evidence` has version {version}; up to {_GENERATIONS[-1]} is read")
        with fields.child(quote) as told:
            message, signature = _taken(told, "message", _quote_part), _taken(told, "signature", _quote_part)
            pcrs = tuple(_quote_part(item, where) for where, item in told.items("pcrs", most=len(PCRS)))
        evidence = VtpmEvidence(
            hcl_report=_taken(fields, report, _blob),
            quote=message,
            signature=signature,
            pcrs=pcrs,
            endorsement=_taken(fields, endorsement, _vcek if hardware is HardwareKind.SEV_SNP else _blob),
        )
    return Contained(
        form=f"Azure vTPM evidence, {kind.value}, version {version}",
        items=(EvidenceItem(kind, evidence.to_bytes(hardware)),),
    )


def _named(value: dict[str, Json]) -> tuple[str, str, str] | None:
    """Return the names of report, quote and endorsement, if there is one of each."""
    found = [[name for name in names if name in value] for names in (_REPORTS, _QUOTES, _KINDS)]
    if any(len(names) != 1 for names in found) or not isinstance(value[found[1][0]], dict):
        return None
    return found[0][0], found[1][0], found[2][0]


def _taken(fields: Fields, name: str, read_as: Callable[[Json, str], bytes]) -> bytes:
    return read_as(fields.value(name), f"{fields.where}.{name}")


def _quote_part(value: Json, where: str) -> bytes:
    """Read an array of numbers, or hex; base64 where it isn't hex."""
    if isinstance(value, str) and len(value) <= _MAX_TEXT and _HEX.fullmatch(value):
        return bytes.fromhex(value)
    return _blob(value, where)


def _blob(value: Json, where: str) -> bytes:
    """Read an array of numbers, or base64 of either alphabet."""
    if isinstance(value, list) and len(value) <= _MAX_BYTES:
        if all(type(number) is int and 0 <= number <= 0xFF for number in value):
            return bytes(value)  # type: ignore[arg-type]  # every one was looked at
    elif isinstance(value, str) and len(value) <= _MAX_TEXT and value.isascii():
        return read_base64(value.encode(), where)
    raise MalformedError(f"`{where}` must be an array of bytes, or text, of at most {_MAX_BYTES} bytes")


def _vcek(value: Json, where: str) -> bytes:
    """Read the chip's certificate; return a certificate table that holds it, or nothing for none."""
    if isinstance(value, str) and value.startswith(_PEM) and len(value) <= _MAX_TEXT and value.isascii():
        (der, *more) = ders_in(value.encode())
        if more:
            raise MalformedError(f"`{where}` holds more than the chip's certificate")
    else:
        der = _blob(value, where)
    return table_of([(VCEK, der)]) if der else b""
