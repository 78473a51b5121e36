"""Files of evidence as NVIDIA's tools and their users write them.

JSON list           [{arch, evidence, certificate, nonce, ...}]       attestation-sdk, nvtrust
JSON object         {evidences: [...]}                                nvattest collect-evidence
                    {evidence_list: [...], nonce, arch}               requests to NVIDIA's remote service
                    {device_evidence_list: [...]}                     Confidential Containers
old names           {attestationReportHexStr, certChainBase64Encoded} nvtrust before 2
hex or raw          one report (request and answer)
PEM                 one device's chain
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from cryptography.x509.oid import NameOID

from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.contained import MAX_FILE, Contained, check_size
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.opaque import Field, OpaqueData
from strongroom.attestation.nvidia.spdm import MAX_REPORT, NONCE_BYTES, Report, whole_report
from strongroom.attestation.nvidia.statement import MAX_CERTIFICATES, read_bundle, to_body
from strongroom.attestation.trust_anchors import load_certificate
from strongroom.core.canonical import Json, parse
from strongroom.core.errors import MalformedError

MOST_DEVICES: Final = 64
_LISTS: Final = ("evidences", "evidence_list", "device_evidence_list")
_REPORT_NAMES: Final = ("evidence", "attestationReportHexStr")
_CHAIN_NAMES: Final = ("certificate", "certChainBase64Encoded")
_SWITCHES: Final = re.compile(r"(?:LS|LR|SV)_?[0-9]{2}")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")
_BEGINNING: Final = b"\x11\xe0"
_PEM: Final = b"-----BEGIN CERTIFICATE-----"


def read(data: bytes) -> Contained | None:
    """Take a file apart; None when it is of none of these forms.

    :raises MalformedError: it is of one of them, and broken or too large.
    """
    check_size(data)
    text = data.strip()
    if text[:1] in {b"[", b"{"}:
        return _json(text)
    if text.startswith(_PEM):
        return _chain(text)
    if data.startswith(_BEGINNING):
        return _report("NVIDIA report", data)
    if text[:4].lower() == _BEGINNING.hex().encode():
        return _report("NVIDIA report in hex", _from_hex(b"".join(text.split()).decode("ascii", "replace")))
    return None


def _report(form: str, raw: bytes) -> Contained:
    # What the device is stands in its certificates, and they come otherwise; only switches list GPUs.
    opaque = OpaqueData.parse(Report.parse(whole_report(raw)).opaque)
    kind = EvidenceKind.NVIDIA_SWITCH if Field.SWITCH_GPUS in opaque.fields else EvidenceKind.NVIDIA_GPU
    return Contained(form=form, items=(_item(raw, b"", kind),))


def _chain(text: bytes) -> Contained | None:
    try:
        certificates = read_bundle(text)
        names = [load_certificate(der).issuer.rfc4514_string() for der in certificates]
    except MalformedError:
        return None  # some other maker's bundle
    if not all("NVIDIA" in name for name in names):
        return None
    return Contained(form="NVIDIA certificate chain", items=(), certificates=certificates)


def _json(text: bytes) -> Contained | None:
    try:
        whole = parse(text, max_bytes=MAX_FILE)
    except MalformedError:
        return None
    form, outer = "NVIDIA evidence list", {}
    if isinstance(whole, dict):
        name = next((one for one in _LISTS if one in whole), None)
        if name is None:
            entries: Json = [whole]
        else:
            form, outer, entries = f"NVIDIA evidence list (`{name}`)", whole, whole[name]
    else:
        entries = whole
    if not isinstance(entries, list) or not entries or not all(map(_is_device, entries)):
        return None
    if len(entries) > MOST_DEVICES:
        raise MalformedError(f"a file of evidence has at most {MOST_DEVICES} devices")
    devices = [entry for entry in entries if isinstance(entry, dict)]
    items = tuple(_device(entry, outer) for entry in devices)
    nonces = {nonce for entry in devices if (nonce := _nonce(entry, outer))}
    stated = {Slot.NONCE: nonces.pop()} if len(nonces) == 1 else {}
    return Contained(form=form, items=items, stated=stated)


def _is_device(entry: Json) -> bool:
    return isinstance(entry, dict) and any(
        isinstance(entry.get(report), str) and isinstance(entry.get(chain), str)
        for report, chain in zip(_REPORT_NAMES, _CHAIN_NAMES, strict=True)
    )


def _device(entry: dict[str, Json], outer: dict[str, Json]) -> EvidenceItem:
    report = next(str(entry[name]) for name in _REPORT_NAMES if name in entry)
    chain = next(str(entry[name]) for name in _CHAIN_NAMES if name in entry)
    bundle = chain.encode() if chain.lstrip().startswith(_PEM.decode()) else _from_base64(chain, MAX_CERTIFICATES)
    compact = "".join(report.split())
    # Hex is also base64 text of other bytes, and is the older way; so it is tried first.
    raw = _from_hex(compact) if _HEX.fullmatch(compact) else _from_base64(compact, MAX_REPORT + 1)
    return _item(raw, bundle, _kind(entry.get("arch", outer.get("arch")), bundle))


def _item(raw: bytes, bundle: bytes, kind: EvidenceKind) -> EvidenceItem:
    report = whole_report(raw)
    Report.parse(report)
    return EvidenceItem(kind, to_body(report, bundle))


def _kind(arch: Json, bundle: bytes) -> EvidenceKind:
    """Tell GPUs from switches by what the file says, or by the leaf's name. The verifier refuses what is told wrong."""
    if isinstance(arch, str) and arch:
        name = arch.upper()
    else:
        names = [
            one
            for der in read_bundle(bundle)[:1]
            for one in load_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
        name = str(names[0].value) if names else ""
    return EvidenceKind.NVIDIA_SWITCH if _SWITCHES.match(name) else EvidenceKind.NVIDIA_GPU


def _nonce(entry: dict[str, Json], outer: dict[str, Json]) -> bytes:
    text = entry.get("nonce", outer.get("nonce"))
    if not isinstance(text, str) or len(text) != 2 * NONCE_BYTES or not _HEX.fullmatch(text):
        return b""
    return bytes.fromhex(text)


def _from_hex(text: str) -> bytes:
    if len(text) > 2 * (MAX_REPORT + 1) or not _HEX.fullmatch(text):
        raise MalformedError(f"a report in hex has at most {MAX_REPORT} bytes and no other characters")
    return bytes.fromhex(text)


def _from_base64(text: str, most: int) -> bytes:
    compact = "".join(text.split())
    if len(compact) > (most + 2) // 3 * 4:
        raise MalformedError(f"a text in base64 has at most {most} bytes here")
    try:
        # Without `validate` the library drops foreign characters silently, and other bytes come out.
        return base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("a text in the file of evidence isn't base64") from None
