"""Files that hold a TPM 2.0 quote, in the forms that tools write.

- ``gotpm attest`` (google/go-tpm-tools): protocol buffer ``attest.Attestation``, on the wire, in hex or base64, or as
  ``--format textproto`` writes it
- ``TpmAttestation`` in JSON, as Google's Confidential Computing API takes it
- the TPM evidence of Confidential Containers' guest components, in JSON

A file that has a quote of each bank gives one item: the first of SHA-256, SHA-384 and SHA-512, because reference values
are of one bank. SHA-1 is taken where there is nothing else, to be refused. ``tpm2_quote`` of tpm2-tools writes message,
signature and PCRs into three files, none of which says anything alone: those aren't read.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.base64_text import read_base64
from strongroom.attestation.containers.contained import MAX_FILE, Contained, check_size
from strongroom.attestation.containers.protobuf import Message
from strongroom.attestation.containers.protobuf_text import Form, to_wire
from strongroom.attestation.errors import WrongStructureError
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.tpm.event_log import REGISTERS
from strongroom.attestation.tpm.quote import PcrSelection, Quote
from strongroom.attestation.tpm.statement import MAX_CERTIFICATES, MAX_FIRMWARE_LOG, TpmStatement
from strongroom.core.canonical import Json, parse
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.tpm import wire

_MAX_QUOTES: Final = 8
_AREAS: Final = tuple(
    wire.u16(kind) + wire.u16(name) for kind in (wire.ALG_RSA, wire.ALG_ECC) for name in sorted(wire.STRONG_HASHES)
)
"""How a TPMT_PUBLIC begins."""
_KEY_FIELD: Final = 0x0A
"""Field 1 of a protocol buffer, a byte string."""
_ORDER: Final = (wire.ALG_SHA256, wire.ALG_SHA384, wire.ALG_SHA512, wire.ALG_SHA1)
_ATTESTATION: Final = "attest.Attestation"
_PCRS: Final = Form(
    {"hash": 1, "pcrs": 2}, {"pcrs": Form({"key": 1, "value": 2}, {}, {})}, {"SHA1": 4, "SHA256": 11, "SHA384": 12}
)
_TEXT: Final = Form(
    {
        "ak_pub": 1,
        "quotes": 2,
        "event_log": 3,
        "instance_info": 0,
        "canonical_event_log": 0,
        "ak_cert": 6,
        "intermediate_certs": 7,
        "sev_snp_attestation": 8,
        "tdx_attestation": 9,
    },
    {"quotes": Form({"quote": 1, "raw_sig": 2, "pcrs": 3}, {"pcrs": _PCRS}, {})},
    {},
)
_TEXT_BEGINS: Final = b"ak_pub:"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quoted:
    """One quote of a file, with the values that came with it."""

    message: bytes
    signature: bytes
    pcrs: Mapping[int, bytes]


def read(data: bytes) -> Contained | None:
    """Read a file; None when it isn't of these forms.

    :raises MalformedError: it is, but it is broken.
    """
    check_size(data)
    if _is_attestation(data):
        return _attestation(data, "go-tpm-tools attestation")
    text = data.strip()
    if text.startswith(b"{"):
        return _json(text)
    if text.startswith(_TEXT_BEGINS):
        return _attestation(to_wire(text, _TEXT, _ATTESTATION), "go-tpm-tools attestation, as text")
    if binary := _written_out(text):
        return _attestation(binary, "go-tpm-tools attestation, as text")
    return None


def _is_attestation(data: bytes) -> bool:
    # Field 1 is the key; its length takes two bytes for RSA and one for an elliptic curve.
    return data[:1] == bytes([_KEY_FIELD]) and any(data[at : at + 4] in _AREAS for at in (2, 3))


def _written_out(text: bytes) -> bytes | None:
    """Undo hex or base64, if what it hides is an attestation; any other text is somebody else's."""
    start = text[:16]
    try:
        if _is_attestation(bytes.fromhex(start.decode("ascii", "replace"))):
            return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    try:
        if not _is_attestation(binascii.a2b_base64(start, strict_mode=True)):
            return None
    except ValueError:
        return None
    return read_base64(text, _ATTESTATION)


def _attestation(data: bytes, form: str) -> Contained:
    message = Message(data, _ATTESTATION)
    certificates = [der for der in (message.single(6), *message.several(7, MAX_CERTIFICATES)) if der]
    if certificates and not message.single(6):
        raise MalformedError(f"`{_ATTESTATION}` has certificates and none of its key")
    quotes = [_quoted(Message(one, "tpm.Quote")) for one in message.several(2, _MAX_QUOTES)]
    # A confidential VM's own statement stands beside the TPM's there, taken apart; its form isn't read here.
    beside = " (its TEE statement isn't read)" if message.has(8) or message.has(9) else ""
    return _contained(
        form + beside,
        quotes,
        event_log=message.single(3),
        ak_public=message.single(1),
        certificates=certificates,
    )


def _quoted(message: Message) -> _Quoted:
    pcrs: dict[int, bytes] = {}
    for pair in Message(message.single(3), "tpm.PCRs").several(2, REGISTERS):
        one = Message(pair, "tpm.PCRs.pcrs")
        _put(pcrs, one.integer(1), one.single(2))
    return _Quoted(message=message.single(1), signature=message.single(2), pcrs=pcrs)


def _put(pcrs: dict[int, bytes], number: int, value: bytes) -> None:
    if number in pcrs or not 0 <= number < REGISTERS:
        raise MalformedError("a quote's PCR values name a PCR twice, or one that no TPM has")
    pcrs[number] = value


def _json(text: bytes) -> Contained | None:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    if "tpm_quote" in told and "ak_public" in told:
        return _guest_components(parse(text, max_bytes=MAX_FILE))
    if "quotes" in told and {"akCert", "tcgEventLog"} & set(told):
        return _google_json(parse(text, max_bytes=MAX_FILE))
    return None


def _guest_components(told: Json) -> Contained:
    with Fields(told, "evidence") as fields:
        # What the attester says that it was asked for; the quote alone says what it was made for.
        stated = _base64(fields, "report_data") if fields.optional("report_data") else b""
        public = _base64(fields, "ak_public")
        with fields.child("tpm_quote") as quote:
            message, signature = _base64(quote, "message"), _base64(quote, "signature")
            values = [_hex(one) for one in quote.texts("pcrs", most=REGISTERS)]
    selected = [number for one in _selections(message) for number in one.pcrs]
    if len(values) != len(selected):
        raise MalformedError("`evidence.tpm_quote.pcrs` has another number of values than the quote has PCRs")
    quoted = _Quoted(message=message, signature=signature, pcrs=dict(zip(selected, values, strict=True)))
    found = _contained("Confidential Containers TPM evidence", [quoted], ak_public=public)
    return Contained(form=found.form, items=found.items, stated={Slot.QUALIFYING_DATA: stated} if stated else {})


def _google_json(told: Json) -> Contained:
    with Fields(told, "TpmAttestation") as fields:
        chain = fields.value("certChain") if fields.optional("certChain") else []
        if not isinstance(chain, list) or len(chain) >= MAX_CERTIFICATES:
            raise MalformedError(f"`TpmAttestation.certChain` is an array of fewer than {MAX_CERTIFICATES}")
        certificate = _base64(fields, "akCert") if fields.optional("akCert") else b""
        log = _base64(fields, "tcgEventLog") if fields.optional("tcgEventLog") else b""
        if fields.optional("canonicalEventLog"):
            fields.value("canonicalEventLog")
        quotes = fields.objects("quotes", _google_quote, most=_MAX_QUOTES)
    above = [read_base64(one.encode(), "TpmAttestation.certChain") for one in chain if isinstance(one, str)]
    if above and not certificate:
        raise MalformedError("`TpmAttestation` has certificates and none of its key")
    certificates = [certificate, *above] if certificate else []
    return _contained("Google TpmAttestation JSON", quotes, event_log=log, certificates=certificates)


def _google_quote(fields: Fields) -> _Quoted:
    if fields.optional("hashAlgo"):
        fields.value("hashAlgo")  # the quote says it, signed
    pcrs: dict[int, bytes] = {}
    with fields.child("pcrValues") as values:
        for name in values.names(most=REGISTERS):
            # Before it is read: what is wrong with a member is said by its name, and this one could be any text.
            if not name.isascii() or not name.isdecimal():
                raise MalformedError("a quote's PCR values are named by their numbers")
            _put(pcrs, int(name), _base64(values, name))
    return _Quoted(message=_base64(fields, "rawQuote"), signature=_base64(fields, "rawSignature"), pcrs=pcrs)


def _contained(
    form: str,
    quotes: Iterable[_Quoted],
    *,
    ak_public: bytes = b"",
    event_log: bytes = b"",
    certificates: Iterable[bytes] = (),
) -> Contained:
    chosen, bank = _chosen(tuple(quotes))
    statement = TpmStatement(
        quote=chosen.message,
        signature=chosen.signature,
        pcrs=chosen.pcrs,
        event_log=_log(event_log),
        ak_public=ak_public,
        ak_certificates=tuple(certificates),
    )
    return Contained(form=f"{form}, {bank} bank", items=(EvidenceItem(EvidenceKind.TPM2, statement.to_bytes()),))


def _chosen(quotes: tuple[_Quoted, ...]) -> tuple[_Quoted, str]:
    if not quotes:
        raise MalformedError("the file holds no quote")
    banks = [tuple(one.bank for one in _selections(quoted.message)) for quoted in quotes]
    for bank in _ORDER:
        if (bank,) in banks:
            return quotes[banks.index((bank,))], wire.algorithm_name(bank)
    return quotes[0], "unknown"


def _selections(message: bytes) -> tuple[PcrSelection, ...]:
    try:
        return Quote.parse(message).selections
    except WrongStructureError:
        raise MalformedError("the file holds something else than a quote where its quote should be") from None


def _log(data: bytes) -> bytes:
    # Firmware sets memory aside for its log; what it didn't use says nothing.
    data = data if len(data) <= MAX_FIRMWARE_LOG else data.rstrip(b"\0").rstrip(b"\xff")
    if len(data) > MAX_FIRMWARE_LOG:
        raise MalformedError(f"the file's event log has {len(data)} bytes; at most {MAX_FIRMWARE_LOG} are read")
    return data


def _base64(fields: Fields, name: str) -> bytes:
    return read_base64(fields.text(name, max_length=MAX_FILE).encode(), f"{fields.where}.{name}")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise MalformedError("`evidence.tpm_quote.pcrs` holds a value that isn't hex") from None
