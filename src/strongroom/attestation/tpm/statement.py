"""The body of evidence of kind ``tpm2``: a quote, its signature, and what stands behind the PCRs that it covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.attestation.measurement import MAX_EVENTS, Measurement
from strongroom.attestation.tpm.public_area import MAX_PUBLIC
from strongroom.attestation.tpm.quote import MAX_ATTEST
from strongroom.attestation.tpm.signature import MAX_SIGNATURE
from strongroom.attestation.trust_anchors import MAX_CERTIFICATE
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_BODY: Final = 320 * 1024
MAX_FIRMWARE_LOG: Final = 192 * 1024
MAX_CERTIFICATES: Final = 5
_MAX_PCR: Final = 23
_PCR_BYTES: Final = frozenset({20, 32, 48, 64})


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A line of the launch log: which PCR was extended, and with what."""

    pcr: int
    measurement: Measurement

    @classmethod
    def read(cls, fields: Fields) -> LoggedEvent:
        """Read ``{pcr, name, digest}``."""
        return cls(fields.integer("pcr", most=_MAX_PCR), Measurement.read(fields))

    def to_json(self) -> dict[str, Json]:
        """Return ``{pcr, name, digest}``."""
        return {"pcr": self.pcr, **self.measurement.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmStatement:
    """A TPM's quote (TPMS_ATTEST), its signature (TPMT_SIGNATURE), and the logs behind it. Parsing proves nothing."""

    quote: bytes
    signature: bytes
    events: tuple[LoggedEvent, ...] = ()
    """The launch log (:mod:`~strongroom.attestation.measurement`); empty where nothing was launched by a launcher."""
    pcrs: Mapping[int, bytes] = field(default_factory=dict)
    """The values that were quoted, by number; empty where the launch log says it all."""
    event_log: bytes = b""
    """The firmware's log, in either form that :class:`~strongroom.attestation.tpm.event_log.EventLog` reads."""
    ak_public: bytes = b""
    """The attestation key, by its holder's word alone: TPMT_PUBLIC, or SubjectPublicKeyInfo in DER."""
    ak_certificates: tuple[bytes, ...] = ()
    """The attestation key's certificate and those above it (DER), the pinned root left out or last."""

    @classmethod
    def parse(cls, body: bytes) -> TpmStatement:
        """Read canonical bytes.

        :raises MalformedError: too long, not canonical, or another form.
        """
        with Fields(decode(body, max_bytes=MAX_BODY), "tpm2") as fields:
            fields.constant("v", 1)
            size = (MAX_CERTIFICATE + 2) // 3 * 4
            certificates = fields.texts("ak_certificates", most=MAX_CERTIFICATES, max_length=size)
            with fields.child("pcrs") as pcrs:
                values = {_number(name): _value(pcrs, name) for name in pcrs.names(most=_MAX_PCR + 1)}
            return cls(
                quote=fields.binary("quote", max_length=MAX_ATTEST),
                signature=fields.binary("signature", max_length=MAX_SIGNATURE),
                events=fields.objects("events", LoggedEvent.read, most=MAX_EVENTS),
                pcrs=values,
                event_log=fields.binary("event_log", max_length=MAX_FIRMWARE_LOG),
                ak_public=fields.binary("ak_public", max_length=MAX_PUBLIC),
                ak_certificates=tuple(map(from_base64, certificates)),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes.

        :raises MalformedError: longer than is read.
        """
        body = encode(
            {
                "v": 1,
                "quote": to_base64(self.quote),
                "signature": to_base64(self.signature),
                "events": [event.to_json() for event in self.events],
                "pcrs": {str(number): value.hex() for number, value in sorted(self.pcrs.items())},
                "event_log": to_base64(self.event_log),
                "ak_public": to_base64(self.ak_public),
                "ak_certificates": [to_base64(der) for der in self.ak_certificates],
            }
        )
        if len(body) > MAX_BODY:
            raise MalformedError(f"a TPM's statement has {len(body)} bytes; at most {MAX_BODY} are read")
        return body


def _number(name: str) -> int:
    number = int(name) if name.isascii() and name.isdecimal() else -1
    # One number has one spelling.
    if not 0 <= number <= _MAX_PCR or str(number) != name:
        raise MalformedError(f"`tpm2.pcrs` has a member that isn't a PCR's number, 0 to {_MAX_PCR}")
    return number


def _value(fields: Fields, name: str) -> bytes:
    text = fields.text(name, max_length=2 * max(_PCR_BYTES))
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) not in _PCR_BYTES or value.hex() != text:
        raise MalformedError(f"`{fields.where}.{name}` must be a PCR's value in lower-case hex")
    return value
