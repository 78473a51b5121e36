"""Services that others run, over TLS: whom to believe there, and what to say where there was no answer."""

from __future__ import annotations

import ssl
from pathlib import Path


def believing(*, file: Path | str | None = None, pem: str | None = None) -> ssl.SSLContext:
    """Return a client's context that believes the authorities in a file or a text, PEM each, or else the system's.

    Made by hand: ``create_default_context`` writes session keys wherever the environment's SSLKEYLOGFILE says.

    :raises OSError: the file can't be read, or there are no certificates. :raises ValueError: the text isn't ASCII.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if file is None and pem is None:
        context.load_default_certs()
    elif pem is not None and not pem.isascii():
        raise ValueError("certificates in PEM are ASCII")
    else:
        context.load_verify_locations(cafile=file, cadata=pem)
    return context


def why_unreached(error: Exception) -> str:
    """Say why there was no answer. The error's text may quote what the other side sent; its type says enough."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate isn't trusted: {cause.verify_message}"
    return type(error).__name__
