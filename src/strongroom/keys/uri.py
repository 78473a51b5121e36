"""How a key service is named: one URI, read strictly, in which no secret can stand.

``local:``, ``tpm2:``, ``pkcs11:`` (RFC 7512), ``transit:``, ``aws-kms:``, ``gcp-kms:`` and ``azure-kv:``. What proves
who asks (a PIN, a token, a profile) is named by a file or left to the service's own library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from strongroom.core.errors import UsageError

MAX_URI: Final = 1024
_FILE: Final = r"/[^?&;]+"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
# What is sent in clear may stay on this machine only; and an address carries no user and no password.
_ADDRESS: Final = (
    r"(?:https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|https?://(?:127\.0\.0\.1|localhost|\[::1\]))(?::\d{1,5})?"
)
_TEXT: Final = r"(?:[A-Za-z0-9._~/:@,+=$!*'()-]|\[|\]|;|%[0-9A-F]{2})*"
_NOT_ESCAPED: Final = re.compile(r"[A-Za-z0-9._~-]")
_SOLE: Final = ("sole", "yes")
"""Says that the key holds nothing but this deployment's root: its old versions may be destroyed from here."""
_SECRETS: Final = frozenset({"pin", "pin-value", "password", "passphrase", "token", "secret", "auth", "access-key"})


class KeyUriError(UsageError):
    """The URI names no key service that is known, or in another form than its own."""

    code = "key-uri"


class Service(StrEnum):
    """The kinds of key service; each is its URI's scheme."""

    LOCAL = "local"
    TPM2 = "tpm2"
    PKCS11 = "pkcs11"
    TRANSIT = "transit"
    AWS = "aws-kms"
    GCP = "gcp-kms"
    AZURE = "azure-kv"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What may stand in one service's URI: its path, settings that must be there, settings that may."""

    path: str
    example: str
    needs: tuple[tuple[str, str], ...] = ()
    allows: tuple[tuple[str, str], ...] = ()


_FORMS: Final = {
    Service.LOCAL: _Form(path=r"", example="local:"),
    Service.TPM2: _Form(
        path=rf"(?:device|unix):(?P<file>{_FILE})",
        example="tpm2:device:/dev/tpmrm0?pcrs=0,2,4,7",
        needs=(("pcrs", r"(?:\d|1\d|2[0-3])(?:,(?:\d|1\d|2[0-3]))*"),),
        allows=(("auth-file", _FILE), ("parent", r"0x81[0-9a-f]{6}")),
    ),
    Service.PKCS11: _Form(
        path=r"token=(?P<token>[^;?]{1,96});object=(?P<object>[^;?]{1,96})",
        example="pkcs11:token=NAME;object=KEY?module-path=/usr/lib/MODULE.so&pin-source=file:/PATH",
        needs=(("module-path", _FILE), ("pin-source", rf"file:{_FILE}")),
        allows=(("algorithm", r"aes-gcm|aes-kwp"), _SOLE),
    ),
    Service.TRANSIT: _Form(
        path=rf"(?P<address>{_ADDRESS})/(?P<mount>{_NAME}(?:/{_NAME}){{0,3}})/(?P<key>{_NAME})",
        example="transit:https://HOST:8200/transit/KEY?token-file=/PATH",
        needs=(("token-file", _FILE),),
        allows=(("ca-file", _FILE), ("namespace", rf"{_NAME}(?:/{_NAME}){{0,7}}"), _SOLE),
    ),
    Service.AWS: _Form(
        path=r"arn:aws(?:-[a-z-]{1,16})?:kms:(?P<region>[a-z0-9-]{1,32}):\d{12}:key/[a-z0-9-]{1,64}",
        example="aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID",
        allows=(("profile", _NAME), ("endpoint", _ADDRESS)),
    ),
    Service.GCP: _Form(
        path=rf"projects/{_NAME}/locations/{_NAME}/keyRings/{_NAME}/cryptoKeys/{_NAME}",
        example="gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K",
        allows=(("endpoint", r"http://(?:127\.0\.0\.1|localhost)(?::\d{1,5})"), _SOLE),
    ),
    Service.AZURE: _Form(
        path=rf"(?P<vault>https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)/keys/(?P<key>{_NAME})/(?P<version>[0-9a-f]{{32}})",
        example="azure-kv:https://VAULT/keys/KEY/VERSION",
        allows=(("algorithm", r"RSA-OAEP-256|A256KW"),),
    ),
}


@dataclass(frozen=True, slots=True)
class KeyUri:
    """One key of one service. ``path`` and the values of ``settings`` are decoded; ``text`` is what was written."""

    service: Service
    text: str
    path: str
    parts: tuple[tuple[str, str], ...]
    """What the path's form names within it, e.g. a token, a region."""
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> KeyUri:
        """Read a URI of at most 1,024 characters.

        :raises KeyUriError: another form, a setting that is unknown, missing or given twice, a second spelling of a
            value, or a secret where only a reference may stand.
        """
        scheme, colon, rest = text.partition(":")
        if len(text) > MAX_URI or not colon or scheme not in list(Service):
            raise KeyUriError("a key service is named by a URI", remedy=f"one of {', '.join(f'{s}:' for s in Service)}")
        service = Service(scheme)
        form = _FORMS[service]
        raw, _, query = rest.partition("?")
        found = re.fullmatch(form.path, raw)
        if not found or ("?" in rest) != bool(query):
            raise KeyUriError(f"a `{service}:` URI of another form", remedy=f"write it as `{form.example}`")
        parts = tuple((name, _decoded(value, service)) for name, value in found.groupdict().items())
        return cls(service, text, _decoded(raw, service), parts, _settings(query, service, form))

    def part(self, name: str) -> str:
        """Return what the path names ``name``."""
        return dict(self.parts)[name]

    def setting(self, name: str) -> str | None:
        """Return a setting, or None where it isn't given."""
        return dict(self.settings).get(name)

    def needed(self, name: str) -> str:
        """Return a setting that this form can't be without."""
        return dict(self.settings)[name]

    @property
    def sole(self) -> bool:
        """Whether the key holds nothing but this deployment's root, as whoever wrote the URI says."""
        return self.setting("sole") is not None

    def __str__(self) -> str:
        return self.text


def _settings(query: str, service: Service, form: _Form) -> tuple[tuple[str, str], ...]:
    known = dict((*form.needs, *form.allows))
    settings: dict[str, str] = {}
    for item in query.split("&") if query else ():
        name, _, raw = item.partition("=")
        if name in _SECRETS:
            raise KeyUriError(
                f"a `{service}:` URI holds no secret", remedy="put it into a file of mode 0600 and name the file"
            )
        value = _decoded(raw, service)
        if name not in known or name in settings or not re.fullmatch(known[name], value):
            raise KeyUriError(f"a `{service}:` URI with a setting that isn't one", remedy=f"like `{form.example}`")
        settings[name] = value
    if missing := [name for name, _ in form.needs if name not in settings]:
        raise KeyUriError(f"a `{service}:` URI needs `{missing[0]}`", remedy=f"like `{form.example}`")
    return tuple(settings.items())


def _decoded(raw: str, service: Service) -> str:
    # One spelling for each value: only what must be escaped may be, or one key would have many names.
    if not re.fullmatch(_TEXT, raw):
        raise KeyUriError(f"a `{service}:` URI holds a character that must be escaped")
    try:
        text = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise KeyUriError(f"a `{service}:` URI holds bytes that aren't UTF-8") from None
    escaped = [unquote(code, errors="replace") for code in re.findall(r"%[0-7][0-9A-F]", raw)]
    if not text.isprintable() or any(_NOT_ESCAPED.fullmatch(character) for character in escaped):
        raise KeyUriError(f"a `{service}:` URI isn't in its one spelling")
    return text
