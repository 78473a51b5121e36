"""Webhooks: which receivers are told of what, what is sent to them, and to which addresses it may go.

The form is that of Standard Webhooks 1.0 (standardwebhooks.com): ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature: v1,<base64 of HMAC-SHA256>`` over ``id.timestamp.body``.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from strongroom.broker.notices import Notice, NoticeKind
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import DeniedError, MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes

MAX_FILE: Final = 64 * 1024
MAX_WEBHOOKS: Final = 16
MAX_URL: Final = 2048
SECRET_BYTES: Final = 32
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the standard's prefix, no secret
MAX_SECRET_TEXT: Final = 128
TEST: Final = "test"
"""The type of the message that a test sends; no notice has it."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_URL: Final = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_FILE: Final = "file:"
_METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
"""Where clouds serve credentials to whoever asks, beside 169.254.169.254."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")
_LOOPBACK_NAMES: Final = frozenset({"localhost"})
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class WebhookConfigError(MalformedError):
    """The file of webhooks, or what it refers to, isn't what it should be."""

    code = "webhook-config"


class AddressRefusedError(DeniedError):
    """A webhook's host is at an address to which nothing is sent."""

    code = "webhook-address-refused"


class NotTakenError(StrongroomError):
    """A receiver didn't take a message. ``reason`` says whether it can be reached at all."""

    code = "webhook-not-taken"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: the parts of an address that was read once, so that no second reader can see another host."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """The part of the address that may be shown; its path may hold a password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine, by its own name."""
        if self.host in _LOOPBACK_NAMES:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A receiver. ``secret`` and ``authority`` are file names, from the folder of the file that lists them."""

    name: str
    url: str
    kinds: frozenset[NoticeKind]
    """Of what it is told; nothing here means of everything."""
    secret: str
    authority: str | None = None
    """A file of PEM certificates; without one, the system's authorities are trusted."""

    @property
    def target(self) -> Target:
        """Where to send."""
        return read_url(self.url)

    def wants(self, notice: Notice) -> bool:
        """Tell whether a notice goes to this receiver."""
        return not self.kinds or notice.kind in self.kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent. ``id`` is the same at every try, so that a receiver can tell a repetition."""

    id: str
    body: bytes


# --- the file ---------------------------------------------------------------------------------------------------------


def read_webhooks(data: bytes) -> tuple[Webhook, ...]:
    """Read ``webhooks.toml``.

    :raises WebhookConfigError: not TOML, an unknown or missing key, or a name that is there twice.
    """
    if len(data) > MAX_FILE:
        raise WebhookConfigError(f"`webhooks.toml` is larger than {MAX_FILE} bytes")
    try:
        parsed = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        raise WebhookConfigError("`webhooks.toml` isn't TOML") from None
    try:
        with Fields({"webhook": [], **parsed}, "webhooks") as fields:
            webhooks = fields.objects("webhook", _webhook, most=MAX_WEBHOOKS)
    except MalformedError as error:
        raise WebhookConfigError(f"`webhooks.toml`: {error.message}", remedy=error.remedy) from None
    if len({webhook.name for webhook in webhooks}) < len(webhooks):
        raise WebhookConfigError("`webhooks.toml` has two webhooks of one name")
    return webhooks


def _webhook(fields: Fields) -> Webhook:
    webhook = Webhook(
        name=fields.parsed("name", webhook_name),
        url=fields.text("url", max_length=MAX_URL),
        kinds=frozenset(_kind(text) for text in fields.texts("kinds", most=len(NoticeKind), max_length=64))
        if fields.optional("kinds")
        else frozenset(),
        secret=fields.parsed("secret", _file_name),
        authority=fields.parsed("authority", _file_name) if fields.optional("authority") else None,
    )
    read_url(webhook.url)
    return webhook


def _kind(text: str) -> NoticeKind:
    try:
        return NoticeKind(text)
    except ValueError:
        raise MalformedError("`kinds` names one that doesn't exist", remedy="see `notify add --help`") from None


def _file_name(text: str) -> str:
    name = text.removeprefix(_FILE)
    if name == text or not name or '"' in name or "\\" in name:
        raise MalformedError(f"a file is named `{_FILE}` and its path")
    return name


def webhook_name(text: str) -> str:
    """Check and return a webhook's name.

    :raises MalformedError: another form.
    """
    if not _NAME.fullmatch(text):
        raise MalformedError("a webhook's name is 1 to 32 characters of a-z, 0-9 and `-`")
    return text


def write_webhooks(webhooks: Iterable[Webhook]) -> bytes:
    """Return the file that lists ``webhooks``."""
    lines = ["# Written by `strongroom notify`; the broker reads it again when it changes.\n"]
    for webhook in webhooks:
        members: dict[str, Json] = {"name": webhook.name, "url": webhook.url}
        if webhook.kinds:
            members["kinds"] = [*sorted(webhook.kinds)]
        members["secret"] = _FILE + webhook.secret
        if webhook.authority is not None:
            members["authority"] = _FILE + webhook.authority
        # For this text without control characters, a JSON string is a TOML basic string.
        lines.append("\n[[webhook]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in members.items()))
    return "".join(lines).encode()


def read_secret(text: str) -> SecretBytes:
    """Read a webhook's secret: ``whsec_`` and base64 of 24 to 64 bytes, as the standard has it.

    :raises WebhookConfigError: anything else.
    """
    try:
        secret = from_base64(text.strip().removeprefix(SECRET_PREFIX))
    except MalformedError:
        secret = b""
    if not text.startswith(SECRET_PREFIX) or not 24 <= len(secret) <= 64:
        raise WebhookConfigError("a webhook's secret file doesn't hold a secret", remedy="add the webhook again")
    return SecretBytes(bytearray(secret))


def secret_text(secret: bytes) -> str:
    """Return a secret as its receiver is told it."""
    return SECRET_PREFIX + to_base64(secret)


# --- addresses --------------------------------------------------------------------------------------------------------


def read_url(url: str) -> Target:
    """Read a webhook's address: HTTPS, or HTTP to this machine; no password in the host's place, no fragment.

    :raises MalformedError: anything else.
    """
    wrong = MalformedError("a webhook's address is like `https://host/path`, in lower case up to the path")
    if len(url) > MAX_URL or not _URL.fullmatch(url.lower()) or not url.isascii():
        raise wrong
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if parts.netloc.startswith("["):
            host = ipaddress.IPv6Address(host).compressed
    except ValueError:
        raise wrong from None
    if (
        parts.scheme not in {"https", "http"}
        or "@" in parts.netloc
        or "#" in url
        or parts.netloc != parts.netloc.lower()
    ):
        raise wrong
    if not (":" in host or _HOST.fullmatch(host)) or port == 0:
        raise wrong
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    secure = parts.scheme == "https"
    target = Target(secure, host, port or (443 if secure else 80), path)
    if not secure and not target.loopback:
        raise MalformedError("a webhook's address must be HTTPS, except on this machine")
    return target


def check_address(text: str, target: Target) -> None:
    """Check an address that a webhook's host resolved to, just before it is used.

    Private networks are allowed: receivers stand there. A name that leads to this machine isn't, for services trust
    what comes from it; nor one to link-local addresses, where clouds hand out credentials.

    :raises AddressRefusedError: nothing is sent there.
    """
    try:
        address = _inner(ipaddress.ip_address(text))
    except ValueError:
        raise AddressRefusedError("a webhook's host resolves to no address") from None
    if address.is_loopback and target.loopback:
        return
    refused = (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or address in _METADATA
        or address in _THIS_NETWORK
    )
    if refused or target.loopback:
        raise AddressRefusedError(
            "a webhook's host leads to an address that isn't allowed",
            remedy="this machine is reached as `localhost`; link-local and metadata addresses never",
        )


def _inner(address: Address) -> Address:
    # An IPv6 address that a translator turns into an IPv4 one is as good as that one.
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


# --- messages ---------------------------------------------------------------------------------------------------------


def message_of(genesis: Digest, notice: Notice) -> Message:
    """Return the message that tells a notice. Its id is the notice's own, in this deployment."""
    name = f"sr-{genesis.value[:8].hex()}-{notice.index}-{notice.kind.value}"
    body: Json = {"type": notice.kind.value, "timestamp": format_instant(notice.at), "data": notice.to_json()}
    return Message(id=name, body=encode(body))


def trial(genesis: Digest, at: Instant) -> Message:
    """Return a message that only shows that a receiver is reached and checks signatures."""
    text = "a trial: nothing happened"
    body: Json = {"type": TEST, "timestamp": format_instant(at), "data": {"kind": TEST, "text": text}}
    return Message(id=f"sr-{genesis.value[:8].hex()}-{TEST}-{at}", body=encode(body))


def signed_headers(message: Message, secret: SecretBytes, at: Instant) -> dict[str, str]:
    """Return the headers that prove a message: Standard Webhooks, symmetric, version 1."""
    signed = b".".join((message.id.encode(), str(at).encode(), message.body))
    signature = to_base64(hmac.digest(secret.reveal(TOKEN), signed, "sha256"))
    return {"webhook-id": message.id, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}
