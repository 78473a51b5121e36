"""What a login leaves in the wallet: a key and a certificate for hours, and where the last login was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from strongroom.client.adapters.wallet_folder import (
    TLS_CERTIFICATE,
    TLS_KEY,
    FileMissingError,
    WalletFolder,
)
from strongroom.client.login import session_end
from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant
from strongroom.core.fields import Fields

PLACE: Final = "login.json"
MAX_PLACE: Final = 8192


class NewSession(NamedTuple):
    """A session key (PKCS#8 PEM, no stronger than the hours that it is good for), and its request (PKCS#10, DER)."""

    key: bytes
    request: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPlace:
    """Where a wallet logs in: the identity listener's address, and the issuer that was seen there, or nothing."""

    url: str
    issuer: str = ""


def new_session(person: str) -> NewSession:
    """Make a session key and the request that proves it is held."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, person)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return NewSession(private, request.public_bytes(Encoding.DER))


def login_place(wallet: WalletFolder) -> LoginPlace | None:
    """Return where the wallet logged in last, or None.

    :raises WalletError: others can reach the file. :raises MalformedError: it has another form.
    """
    try:
        data = wallet.read(PLACE)
    except FileMissingError:
        return None
    with Fields(decode(data, max_bytes=MAX_PLACE), "login place") as fields:
        fields.constant("v", 1)
        return LoginPlace(url=fields.text("url", max_length=2048), issuer=fields.text("issuer", max_length=2048))


def remember_place(wallet: WalletFolder, place: LoginPlace) -> None:
    """Keep where the wallet logs in."""
    data = encode({"v": 1, "url": place.url, "issuer": place.issuer})
    write_durably(wallet.path / PLACE, data)


def session_until(wallet: WalletFolder) -> Instant | None:
    """Return until when the wallet's client certificate holds, or None where there is none.

    :raises MalformedError: the file isn't a certificate.
    """
    try:
        return session_end(wallet.read(TLS_CERTIFICATE))
    except FileMissingError:
        return None


def forget_session(wallet: WalletFolder) -> bool:
    """Remove the session's key and certificate, the key first; tells whether there was one."""
    found = False
    for name in (TLS_KEY, TLS_CERTIFICATE):
        try:
            (wallet.path / name).unlink()
            found = True
        except FileNotFoundError:
            continue
    sync_folder(wallet.path)
    return found
