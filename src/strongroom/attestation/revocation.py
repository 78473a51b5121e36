"""Certificate revocation lists (RFC 5280, section 5), handed in with the collateral and never fetched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ExtensionOID

from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError

MAX_LIST: Final = 4 * 1024 * 1024
_HASHES: Final = (SHA256, SHA384, SHA512)
_UNDERSTOOD: Final = frozenset({ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.CRL_NUMBER})


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What an issuer's current list says of one certificate."""

    revoked_at: Instant | None
    until: Instant
    """The list's ``nextUpdate``."""


@dataclass(frozen=True, slots=True)
class RevocationLists:
    """The lists at hand. A list counts only for the issuer that signed it, and only while it is current."""

    lists: tuple[x509.CertificateRevocationList, ...]

    @classmethod
    def load(cls, ders: Iterable[bytes]) -> RevocationLists:
        """Parse DER lists.

        :raises MalformedError: too long or not a list.
        """
        return cls(tuple(map(load_list, ders)))

    def look_up(self, certificate: x509.Certificate, issuer: x509.Certificate, at: Instant) -> LookedUp | None:
        """Look a certificate up in its issuer's lists; None when there is no current one that the issuer signed.

        A list that names it counts even when another, also current, doesn't: an older list must not hide a newer one.
        """
        found = None
        for known in self.lists:
            until = _current_until(known, at)
            if until is None or known.issuer != issuer.subject or not _signed(known, issuer):
                continue
            entry = known.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if entry is not None:
                return LookedUp(int(entry.revocation_date_utc.timestamp()), until)
            found = LookedUp(None, max(until, found.until if found else 0))
        return found


NO_LISTS: Final = RevocationLists(())


def load_list(data: bytes) -> x509.CertificateRevocationList:
    """Parse one DER revocation list.

    :raises MalformedError: too long or not a list.
    """
    if len(data) > MAX_LIST:
        raise MalformedError(f"a revocation list has {len(data)} bytes; at most {MAX_LIST} are read")
    try:
        loaded = x509.load_der_x509_crl(data)
        # Parsed lazily: what is broken must fail here, not in the middle of a decision.
        _ = loaded.extensions, loaded.issuer, loaded.last_update_utc, loaded.next_update_utc
    # TypeError: a name whose text is a bit string.
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion):
        raise MalformedError("the bytes aren't a certificate revocation list in DER") from None
    return loaded


def _current_until(known: x509.CertificateRevocationList, at: Instant) -> Instant | None:
    until = known.next_update_utc
    if until is None or not known.last_update_utc <= datetime.fromtimestamp(at, UTC) <= until:
        return None
    # A delta or partial list says nothing of the certificates that it leaves out.
    if any(extension.critical and extension.oid not in _UNDERSTOOD for extension in known.extensions):
        return None
    return int(until.timestamp())


def _signed(known: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign or not isinstance(known.signature_hash_algorithm, _HASHES):
            return False
        return known.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # other kinds raise TypeError
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
