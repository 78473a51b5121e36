"""What every answer carries, so that a page can load, send and be framed by nothing but its own origin."""

from __future__ import annotations

from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; "
    # No policy may be made: text can become markup, script or an address of one nowhere in our script.
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content Security Policy Level 3, and Trusted Types. No host, nonce or hash: what isn't a file of ours doesn't run."""

HEADERS: Final[tuple[tuple[str, str], ...]] = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    # Not no-referrer: browsers then send `Origin: null` with every form, and the check of the origin refuses it.
    ("referrer-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("cache-control", "no-store"),
    ("strict-transport-security", "max-age=63072000"),
)
"""The headers of every answer. What is shown is nobody else's to keep: nothing is cached, files of ours included."""
