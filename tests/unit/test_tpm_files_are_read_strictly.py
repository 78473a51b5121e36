from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from simulators.tpm_chain import (
    MADE,
    NONCE,
    agile_log,
    attestation_message,
    boot,
    protobuf,
    quote_message,
    registers,
    virtual_tpm,
)
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.containers.contained import MAX_FILE, Contained
from strongroom.attestation.containers.protobuf import MAX_FIELDS, Message
from strongroom.attestation.containers.tpm import read
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import WrongBankError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.attestation.trust_anchors import TrustAnchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier, TpmEvidence
from strongroom.core.errors import MalformedError
from strongroom.tpm import wire

MACHINE = virtual_tpm()
BANKS = (wire.ALG_SHA1, wire.ALG_SHA256, wire.ALG_SHA384)
LOG = agile_log(boot(), BANKS)
QUOTES = {bank: quote_message(MACHINE, registers(LOG, bank), bank) for bank in BANKS}
WHOLE = attestation_message(MACHINE, list(QUOTES.values()), LOG)


def statement(contained: Contained | None) -> TpmStatement:
    assert contained is not None
    (item,) = contained.items
    assert item.kind is EvidenceKind.TPM2
    return TpmStatement.parse(item.body)


def judged(contained: Contained | None) -> Genuine[TpmEvidence]:
    verifier = Tpm2Verifier()
    parsed = verifier.parse(statement(contained).to_bytes())
    binding = ExpectedBinding({Slot.QUALIFYING_DATA: NONCE})
    return verifier.genuine(parsed, binding, Endorsements(anchors=TrustAnchors((MACHINE.anchor,))), MADE)


def test_an_attestation_of_every_bank_counts_in_sha256() -> None:
    contained = read(WHOLE)
    proven = judged(contained)
    assert contained is not None
    assert contained.form == "go-tpm-tools attestation, sha256 bank"
    assert proven.isolation is IsolationClass.VM_SIMULATED
    assert proven.measurements["pcr4"] == registers(LOG)[4].hex()
    assert proven.details["secure boot"] == "enabled"


def test_sha384_is_taken_next_and_sha1_only_to_be_refused() -> None:
    strong = read(attestation_message(MACHINE, [QUOTES[wire.ALG_SHA1], QUOTES[wire.ALG_SHA384]], LOG))
    assert judged(strong).measurements["pcr4"] == registers(LOG, wire.ALG_SHA384)[4].hex()
    weak = read(attestation_message(MACHINE, [QUOTES[wire.ALG_SHA1]], LOG))
    with pytest.raises(WrongBankError):
        judged(weak)


@pytest.mark.parametrize(
    "written",
    [
        base64.b64encode(WHOLE),
        base64.encodebytes(WHOLE),
        base64.urlsafe_b64encode(WHOLE).rstrip(b"="),
        WHOLE.hex().encode(),
        b"  " + WHOLE.hex().upper().encode() + b"\n",
    ],
    ids=["base64", "base64 in lines", "base64url", "hex", "HEX"],
)
def test_text_of_an_attestation_is_the_attestation(written: bytes) -> None:
    assert statement(read(written)) == statement(read(WHOLE))


def test_a_confidential_machines_own_statement_is_said_to_be_unread() -> None:
    for number in (8, 9):
        contained = read(attestation_message(MACHINE, list(QUOTES.values()), LOG, (number, b"a statement")))
        assert contained is not None
        assert "its TEE statement isn't read" in contained.form


def as_text(*more: str) -> bytes:
    """Write an attestation as Go's text format does: ASCII, octal escapes, blanks here and there."""

    def text(data: bytes) -> str:
        plain = {ord("\n"): "\\n", ord('"'): '\\"', ord("\\"): "\\\\"}
        return '"' + "".join(plain.get(b, chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in data) + '"'

    lines = [f"ak_pub:  {text(MACHINE.public)}"]
    for bank, name in ((wire.ALG_SHA1, "SHA1"), (wire.ALG_SHA256, "SHA256"), (wire.ALG_SHA384, "12")):
        message = MACHINE.quote(registers(LOG, bank), bank=bank)
        values = [f"  pcrs: {{ key: {n} value:  {text(v)} }}" for n, v in registers(LOG, bank).items()]
        lines += ["quotes:  {", f"quote: {text(message)}", f"raw_sig: {text(MACHINE.sign(message))}"]
        lines += ["pcrs {", f"hash: {name}", *values, "}", "}"]
    lines += [f"event_log: {text(LOG)}", f"ak_cert: {text(MACHINE.certificate)}"]
    lines += [f"intermediate_certs: {text(MACHINE.between.der)}", *more]
    return "\n".join(lines).encode("ascii")


def test_an_attestation_in_text_is_the_attestation() -> None:
    info = 'instance_info: { zone: "a\\x41\\t" project_number: 7 nested { deep: SOME } }'
    assert judged(read(as_text(info))).measurements == judged(read(WHOLE)).measurements
    contained = read(as_text("sev_snp_attestation: { report: { version: 2 } cert_chain { } }"))
    assert contained is not None
    assert "its TEE statement isn't read" in contained.form


@pytest.mark.parametrize(
    "more",
    ["}", "{", ":", "more: 7", "ak_cert", "ak_cert: ", 'ak_cert: "', 'ak_cert: "\\q"', 'ak_cert: "\\777"',
     "ak_cert: 7", "quotes: { quote: 1 }", "quotes: { other: 1 }", "instance_info: {", "@", "-1",
     "instance_info: " + "{ a: " * 5000],
)  # fmt: skip
def test_broken_text_is_refused(more: str) -> None:
    with pytest.raises(MalformedError):
        read(as_text(more))


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", b"{}", b"[1]", b"{", b"text", b"\xff" * 20, b"\x0a\x02ab", b"0a98" * 9, b"ak_pubic: 1"]
)
def test_what_is_somebody_elses_is_left_alone(data: bytes) -> None:
    assert read(data) is None


def broken() -> dict[str, bytes]:
    key = (1, MACHINE.public)
    quote = QUOTES[wire.ALG_SHA256]
    message = protobuf((1, MACHINE.quote(registers(LOG))))
    return {
        "nothing but a key": protobuf(key),
        "two keys": protobuf(key, key, (2, quote)),
        "two logs": WHOLE + protobuf((3, LOG)),
        "two certificates": WHOLE + protobuf((6, MACHINE.certificate)),
        "a number for a quote": protobuf(key, (2, 7)),
        "intermediates alone": protobuf(key, (2, quote), (7, MACHINE.between.der)),
        "nine quotes": protobuf(key, *[(2, quote)] * 9),
        "six intermediates": WHOLE + protobuf(*[(7, MACHINE.between.der)] * 6),
        "a quote of junk": protobuf(key, (2, protobuf((1, b"junk"), (2, b"x")))),
        "no quote in a quote": protobuf(key, (2, b"")),
        "a register twice": protobuf(key, (2, message + protobuf((3, protobuf(*[(2, protobuf((2, b"x")))] * 2))))),
        "register 24": protobuf(key, (2, message + protobuf((3, protobuf((2, protobuf((1, 24), (2, b"x")))))))),
        "cut": WHOLE[:-1],
        "junk behind": WHOLE + b"\xff",
        "a group": WHOLE + b"\x0b\x0c",
        "field 0": WHOLE + b"\x00\x00",
        "an endless number": WHOLE + b"\x20" + b"\xff" * 11,
        "more than 64 bits": WHOLE + b"\x20" + b"\xff" * 9 + b"\x7f",
        "an endless length": WHOLE + b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        "endless fields": WHOLE + b"\x20\x01" * MAX_FIELDS,
        "an endless log": protobuf(key, (2, quote), (3, b"\1" * 200_000)),
        "too long": WHOLE + bytes(MAX_FILE),
    }


@pytest.mark.parametrize("fault", list(broken()))
def test_a_broken_attestation_is_refused(fault: str) -> None:
    data = broken()[fault]
    with pytest.raises(MalformedError):
        read(data)


def test_memory_set_aside_behind_a_log_is_left_out() -> None:
    padded = attestation_message(MACHINE, list(QUOTES.values()), LOG + b"\xff" * 250_000)
    assert judged(read(padded)).details["secure boot"] == "enabled"


def test_unknown_fields_of_a_message_are_passed_over() -> None:
    message = Message(b"\x09" + bytes(8) + b"\x15" + bytes(4) + protobuf((3, 7), (3, 8), (4, b"x")), "a message")
    assert (message.integer(3), message.integer(9), message.single(4), message.single(9)) == (8, 0, b"x", b"")
    assert message.has(1)
    with pytest.raises(MalformedError):
        message.integer(4)


def guest_components(**changed: Any) -> dict[str, Any]:
    """Write what the guest components of Confidential Containers write."""
    spki = MACHINE.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    message = MACHINE.quote(registers(LOG))
    honest = {
        "ak_public": base64.b64encode(spki).decode(),
        "tpm_quote": {
            "message": base64.b64encode(message).decode(),
            "signature": base64.b64encode(MACHINE.sign(message)).decode(),
            "pcrs": [value.hex() for value in registers(LOG).values()],
        },
    }
    return honest | changed


def test_guest_components_evidence_is_read_with_either_key() -> None:
    area = base64.b64encode(MACHINE.public).decode()
    told = base64.b64encode(NONCE).decode()
    for changed in ({}, {"ak_public": area}, {"ak_public": area, "report_data": told}):
        contained = read(json.dumps(guest_components(**changed), indent=2).encode())
        assert judged(contained).isolation is IsolationClass.NONE
        assert contained is not None
        assert contained.stated == ({Slot.QUALIFYING_DATA: NONCE} if "report_data" in changed else {})


@pytest.mark.parametrize(
    "changed",
    [
        {"ak_public": "AAE\n="},
        {"ak_public": 7},
        {"more": 1},
        {"report_data": "!"},
        {"tpm_quote": {}},
        {"tpm_quote": []},
        {"tpm_quote": {**guest_components()["tpm_quote"], "pcrs": ["00" * 32] * 23}},
        {"tpm_quote": {**guest_components()["tpm_quote"], "pcrs": ["00" * 32] * 25}},
        {"tpm_quote": {**guest_components()["tpm_quote"], "pcrs": ["zz" * 32] * 24}},
        {"tpm_quote": {**guest_components()["tpm_quote"], "message": "AAAA"}},
        {"tpm_quote": {**guest_components()["tpm_quote"], "more": 1}},
    ],
)
def test_broken_guest_components_evidence_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        read(json.dumps(guest_components(**changed)).encode())


def google_json(**changed: Any) -> dict[str, Any]:
    """Write a ``TpmAttestation`` of Google's Confidential Computing API."""
    quotes = []
    for bank in BANKS:
        message = MACHINE.quote(registers(LOG, bank), bank=bank)
        values = {str(n): base64.b64encode(value).decode() for n, value in registers(LOG, bank).items()}
        raw = {"rawQuote": message, "rawSignature": MACHINE.sign(message)}
        quotes.append(
            {"hashAlgo": bank, "pcrValues": values} | {k: base64.b64encode(v).decode() for k, v in raw.items()}
        )
    return {
        "quotes": quotes,
        "tcgEventLog": base64.b64encode(LOG).decode(),
        "akCert": base64.b64encode(MACHINE.certificate).decode(),
        "certChain": [base64.b64encode(MACHINE.between.der).decode()],
    } | changed


def test_googles_json_is_judged_by_its_certificate() -> None:
    proven = judged(read(json.dumps(google_json()).encode()))
    assert proven.isolation is IsolationClass.VM_SIMULATED
    assert proven.details["secure boot"] == "enabled"


@pytest.mark.parametrize(
    "changed",
    [
        {"quotes": []},
        {"quotes": [{}]},
        {"akCert": None},
        {"certChain": ["AA=="] * 5},
        {"certChain": "AA=="},
        {"more": 1},
        {"quotes": [google_json()["quotes"][1] | {"pcrValues": {"24": "AA=="}}]},
        {"quotes": [google_json()["quotes"][1] | {"pcrValues": {"00": "AA==", "0": "AA=="}}]},
    ],
)
def test_broken_google_json_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        read(json.dumps(google_json(**changed)).encode())


def test_a_name_out_of_a_file_isnt_repeated_in_what_is_said_of_it() -> None:
    # U+009B begins a command to a terminal, and no control character of ASCII is needed for it.
    quote = google_json()["quotes"][1] | {"pcrValues": {"\u009b31m": 5}}
    with pytest.raises(MalformedError) as told:
        read(json.dumps(google_json(quotes=[quote])).encode())
    assert told.value.message.isprintable()
