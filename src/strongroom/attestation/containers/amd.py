"""Files that hold an AMD SEV-SNP report, in the forms that tools write.

- the report as ``snpguest`` and the firmware give it: 1,184 bytes
- the report, then the host's certificate table (go-sev-guest's ``attest``, extended reports), zeros allowed after it
- the firmware's answer MSG_REPORT_RSP: status, length and 24 zeros before the report (``/dev/sev-guest``)
- configfs-tsm as JSON: ``provider``, ``outblob``, ``auxblob``, and ``inblob`` where it was kept
- go-sev-guest's ``sevsnp.Attestation`` as a protocol buffer
- dstack's attestation, version 0, in SCALE
- base64 or hex text of the first three
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.amd_protobuf import is_attestation, read_attestation
from strongroom.attestation.containers.base64_text import blob, read_base64
from strongroom.attestation.containers.contained import Contained, check_size
from strongroom.attestation.containers.protobuf import Message
from strongroom.attestation.containers.scale import begun, compact_length, ended, pass_part
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.sev_snp.body import write_body
from strongroom.attestation.sev_snp.certificate_table import MAX_TABLE, CertificateTable, ders_in
from strongroom.attestation.sev_snp.report import REPORT_BYTES, VERSIONS, Report
from strongroom.core.canonical import parse
from strongroom.core.errors import MalformedError

_PROVIDER: Final = "sev_guest"
_MAX_JSON: Final = 256 * 1024
_MAX_PROTOBUF: Final = 128 * 1024
_HEADER: Final = bytes(4) + REPORT_BYTES.to_bytes(4, "little") + bytes(24)
_SIGNATURE_ALGORITHM: Final = slice(0x34, 0x38)
_ECDSA: Final = b"\x01\0\0\0"
_ZEROS: Final = slice(0x4C, 0x50)
_LEAST_TEXT: Final = REPORT_BYTES * 4 // 3
_MOST_TEXT: Final = 256 * 1024
_HEX: Final = re.compile(rb"[0-9a-fA-F\r\n]+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\-\r\n]+={0,2}")
_PROTOBUF: Final = b"\x0a"
"""Field 1, of a length that follows. As a report's version it would be 10."""
_SCALE: Final = b"\x00\x03"
_MAX_CERTIFICATES: Final = 8


def read(data: bytes) -> Contained | None:
    """Read a file; None when it isn't of these forms.

    :raises MalformedError: it is, but it is broken.
    """
    check_size(data)
    if data.lstrip()[:1] == b"{":
        return _configfs(data)
    return _binary(data) or _protobuf(data) or _scale(data) or _text(data)


def _contained(form: str, report: bytes, certificates: bytes = b"", stated: bytes = b"") -> Contained:
    # Parsed here, so that who imports a broken file hears it at once.
    Report.parse(report)
    CertificateTable.parse(certificates)
    return Contained(
        form=form,
        items=(EvidenceItem(EvidenceKind.SEV_SNP, write_body(report, certificates)),),
        stated={Slot.REPORT_DATA: stated} if stated else {},
    )


def _is_report(data: bytes) -> bool:
    """Tell whether this can only be a report: a version, ECDSA and a reserved word stand where they must.

    A version that isn't known counts where the length alone says so, and is refused by name.
    """
    version = int.from_bytes(data[:4], "little")
    known = version in VERSIONS or (version < 0x100 and len(data) == REPORT_BYTES)
    return len(data) >= REPORT_BYTES and known and data[_SIGNATURE_ALGORITHM] == _ECDSA and not any(data[_ZEROS])


def _binary(data: bytes) -> Contained | None:
    if data.startswith(_HEADER) and _is_report(data[len(_HEADER) : len(_HEADER) + REPORT_BYTES]):
        report, rest = data[len(_HEADER) :][:REPORT_BYTES], data[len(_HEADER) + REPORT_BYTES :]
        # The kernel's buffer is longer than the answer.
        if any(rest):
            raise MalformedError("the firmware's answer has bytes after its report")
        return _contained("SEV-SNP MSG_REPORT_RSP", report)
    if not _is_report(data):
        return None
    report, rest = data[:REPORT_BYTES], data[REPORT_BYTES:]
    form = "SEV-SNP report with certificate table" if any(rest) else "SEV-SNP report"
    return _contained(form, report, rest if any(rest) else b"")


def _protobuf(data: bytes) -> Contained | None:
    if not data.startswith(_PROTOBUF) or len(data) > _MAX_PROTOBUF:
        return None
    try:
        message = Message(data, "sevsnp.Attestation")
    except MalformedError:
        return None
    if not is_attestation(message):
        return None
    return _contained("go-sev-guest attestation", *read_attestation(message))


def _text(data: bytes) -> Contained | None:
    text = data.strip()
    if not _LEAST_TEXT <= len(text) <= _MOST_TEXT:
        return None
    try:
        if _HEX.fullmatch(text):
            return _binary(bytes.fromhex(text.decode("ascii")))
        if _BASE64.fullmatch(text):
            return _binary(read_base64(text, "SEV-SNP report"))
    except ValueError:
        pass  # an odd number of digits: text of another kind
    return None


def _configfs(data: bytes) -> Contained | None:
    try:
        whole = parse(data, max_bytes=_MAX_JSON)
    except MalformedError:
        return None  # JSON of another kind, with numbers that aren't read here for example
    if not isinstance(whole, dict) or "outblob" not in whole:
        return None
    provider = whole.get("provider")
    if not isinstance(provider, str) or provider.strip() != _PROVIDER:
        return None
    certificates = blob(whole, "auxblob")
    if len(certificates) > MAX_TABLE:
        raise MalformedError(f"`auxblob` has {len(certificates)} bytes; at most {MAX_TABLE} are read")
    return _contained("configfs-tsm JSON", blob(whole, "outblob"), certificates, blob(whole, "inblob"))


def _scale(data: bytes) -> Contained | None:
    found = begun(data, _SCALE, REPORT_BYTES)
    if found is None or not _is_report(found[1]):
        return None
    reader, report = found
    count = compact_length(reader, _MAX_CERTIFICATES)
    blobs = [reader.take(compact_length(reader, MAX_TABLE)) for _blob in range(count)]
    pass_part(reader)  # the configuration that HOST_DATA commits to
    made = _contained("dstack attestation, version 0", report, stated=ended(reader))
    return replace(made, certificates=tuple(der for blob in blobs for der in ders_in(blob)))
