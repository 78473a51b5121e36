"""RFC 3161 timestamps over signed checkpoints: a second anchor, by somebody whom neither log nor witnesses run.

A timestamp shows that a checkpoint, with every signature on it, existed at a time. It is verified offline against a
pinned root of the timestamping authority. Needs the extra `timestamps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from strongroom.audit.errors import TimestampError, TimestampFromFutureError
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError
from strongroom.core.extras import need

MAX_RESPONSE: Final = 1 << 16
MAX_ROOTS: Final = 1 << 16
CLOCK_SKEW: Final = 60
"""Seconds that the authority's clock may be ahead of ours."""
_EXTRA: Final = "timestamps"


@dataclass(frozen=True, slots=True)
class Stamp:
    """A verified timestamp: when, and the serial number that the authority gave it."""

    at: Instant
    serial: int


def read_roots(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read the pinned roots of a timestamping authority.

    :raises MalformedError: no PEM certificates.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise MalformedError("the timestamping authority's root must be PEM certificates") from None


def request_timestamp(message: bytes) -> bytes:
    """Return a request (DER) for a timestamp over ``message``, by its SHA-512, with a nonce, asking for certificates.

    :raises MissingExtraError: the extra isn't installed.
    """
    return bytes(need("rfc3161_client", extra=_EXTRA).TimestampRequestBuilder().data(message).build().as_bytes())


def verify_answer(
    response: bytes, message: bytes, request: bytes, roots: Sequence[x509.Certificate], *, now: Instant
) -> Stamp:
    """Check an authority's fresh answer: as :func:`verify_timestamp`, and that it answers this very request.

    :raises TimestampError: another request's answer. :raises StrongroomError: as :func:`verify_timestamp`.
    """
    stamp = verify_timestamp(response, message, roots, now=now)
    client = need("rfc3161_client", extra=_EXTRA)
    try:
        asked = client._rust.parse_timestamp_request(request).nonce  # noqa: SLF001 - the library parses none in public
        answered = client.decode_timestamp_response(response).tst_info.nonce
    except Exception:  # noqa: BLE001 - as below
        asked, answered = None, None
    if asked is None or asked != answered:
        raise TimestampError("the timestamp answers another request")
    return stamp


def verify_timestamp(response: bytes, message: bytes, roots: Sequence[x509.Certificate], *, now: Instant) -> Stamp:
    """Check that an authority under ``roots`` stamped ``message``; ``response`` is its answer (DER).

    The authority's certificates must have been valid when it stamped, not now: so an old timestamp stays good.

    :raises TimestampError: not granted, not over the message, or not by the authority.
    :raises TimestampFromFutureError: it says a time after ``now``.
    :raises MissingExtraError: the extra isn't installed.
    """
    client = need("rfc3161_client", extra=_EXTRA)
    if len(response) > MAX_RESPONSE:
        raise TimestampError(f"a timestamp has at most {MAX_RESPONSE} bytes")
    try:
        builder = client.VerifierBuilder()
        for root in roots:
            builder = builder.add_root_certificate(root)
        told = client.decode_timestamp_response(response)
        builder.build().verify_message(told, message)
        at, serial = int(told.tst_info.gen_time.timestamp()), int(told.tst_info.serial_number)
    except Exception as error:  # noqa: BLE001 - a parser in another language: whatever it raises, nothing is verified
        raise TimestampError(
            f"the timestamp isn't the authority's over this checkpoint ({type(error).__name__})"
        ) from None
    if at > now + CLOCK_SKEW:
        raise TimestampFromFutureError("the timestamp says a time that hasn't come")
    return Stamp(at, serial)
