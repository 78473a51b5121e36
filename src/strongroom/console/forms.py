"""Forms as browsers post them, read with bounds: one value for each name, no uploads, nothing that wasn't asked for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import parse_qsl

from strongroom.console.errors import ForeignFormError, FormError

MAX_FORM: Final = 64 * 1024
MAX_FIELDS: Final = 32
FORM_TYPE: Final = "application/x-www-form-urlencoded"
CSRF: Final = "csrf"


def read_form(data: bytes, content_type: str) -> dict[str, str]:
    """Return a form's fields.

    :raises FormError: another type, no UTF-8, too much, or a name twice.
    """
    if content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise FormError(f"a form is sent as `{FORM_TYPE}`")
    if len(data) > MAX_FORM:
        raise FormError(f"a form has at most {MAX_FORM} bytes")
    try:
        pairs = parse_qsl(
            data.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(data), errors="strict",
            max_num_fields=MAX_FIELDS,
        )  # fmt: skip
    except ValueError:
        raise FormError("the form can't be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise FormError("a field is there twice")
    return fields


def need_fields(form: Mapping[str, str], names: Collection[str]) -> None:
    """Check that a form has these fields and no others, beside its token.

    :raises FormError: one is missing, or one too many.
    """
    if set(form) - {CSRF} != set(names):
        raise FormError(f"the form has other fields than {', '.join(sorted(names)) or 'none'}")


def token_for(secret: bytes, path: str) -> str:
    """Return the token of the form that posts to ``path``: good for one session, and for that address alone."""
    return hmac.new(secret, b"form " + path.encode(), hashlib.sha256).hexdigest()


def check_token(secret: bytes, path: str, form: Mapping[str, str]) -> None:
    """Check that a page of this session made the form.

    :raises ForeignFormError: it didn't.
    """
    if not hmac.compare_digest(token_for(secret, path).encode(), form.get(CSRF, "").encode()):
        raise ForeignFormError("the form's token isn't this session's", remedy="load the page again, and send it anew")


def check_origin(headers: Mapping[str, str], origin: str) -> None:
    """Check that a browser sent a form from a page of ours. A missing `Origin` is no excuse: browsers send it.

    :raises ForeignFormError: another origin's page sent it.
    """
    site = headers.get("sec-fetch-site", "same-origin")
    if headers.get("origin") != origin or site != "same-origin":
        raise ForeignFormError("the form came from another origin", remedy=f"open the console at {origin}")
