"""The body of an evidence item: the report, and the certificate table that came with it.

Canonical JSON ``{"v": 1, "report": base64, "certificates": base64 of the table, or ""}``.
"""

from __future__ import annotations

from typing import Final

from strongroom.attestation.sev_snp.certificate_table import MAX_TABLE
from strongroom.attestation.sev_snp.report import REPORT_BYTES
from strongroom.core.canonical import decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.fields import Fields

MAX_SNP_BODY: Final = 96 * 1024


def write_body(report: bytes, certificates: bytes = b"") -> bytes:
    """Return the body for a report and a certificate table."""
    return encode({"v": 1, "report": to_base64(report), "certificates": to_base64(certificates)})


def read_body(body: bytes) -> tuple[bytes, bytes]:
    """Return report and table, both as bytes that weren't looked at.

    :raises MalformedError: too long, another form, or not canonical.
    """
    with Fields(decode(body, max_bytes=MAX_SNP_BODY), "sev-snp") as fields:
        fields.constant("v", 1)
        return (
            fields.binary("report", max_length=REPORT_BYTES),
            fields.binary("certificates", max_length=MAX_TABLE),
        )
