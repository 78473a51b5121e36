"""Intel's collateral for quotes: TCB information, the quoting enclave's identity, revocation lists and their issuers.

One JSON object with the members of ``sgx_ql_qve_collateral_t`` version 3, as the PCK caching service's clients and
dcap-qvl write it. The parts are signed by Intel; nothing here believes them, it only tells which are meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.attestation.errors import CollateralExpiredError, TcbRefusedError
from strongroom.attestation.trust_anchors import load_certificate
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.encoding import from_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_COLLATERAL: Final = 1024 * 1024
TDX: Final = "TDX"
SGX: Final = "SGX"
TCB_SIGNER: Final = "SGX TCB Signing"
_MAX_ISSUERS: Final = 6
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]{1,16384})-----END CERTIFICATE-----", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPart:
    """A JSON text that Intel signed, as text: only those bytes verify."""

    text: str
    signature: bytes
    issuers: str
    """PEM certificates, the signing one first, and nothing between them: written anew from what was read."""
    issued: Instant
    next_update: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelCollateral:
    """Collateral for one kind of platform."""

    tee: str
    """``TDX`` or ``SGX``, as the TCB information says."""
    fmspc: bytes
    tcb_info: SignedPart
    qe_identity: SignedPart
    root_ca_crl: bytes
    pck_crl: bytes
    pck_crl_issuers: str

    @classmethod
    def parse(cls, data: bytes) -> IntelCollateral:
        """Read the JSON object. The last few are kept: a fleet's quotes are judged by one and the same.

        :raises MalformedError: too long, a member missing, unknown or of another form.
        """
        return _parsed(data)

    @classmethod
    def _parse(cls, data: bytes) -> IntelCollateral:
        with Fields(parse(data, max_bytes=MAX_COLLATERAL), "intel-collateral") as fields:
            info, inner = _part(fields, "tcb_info")
            identity, _ = _part(fields, "qe_identity")
            collateral = cls(
                tee=_text(inner, "id", "tcb_info"),
                fmspc=_hex(_text(inner, "fmspc", "tcb_info"), "tcb_info.fmspc"),
                tcb_info=info,
                qe_identity=identity,
                root_ca_crl=_hex(_member(fields, "root_ca_crl"), "root_ca_crl"),
                pck_crl=_hex(_member(fields, "pck_crl"), "pck_crl"),
                pck_crl_issuers=_issuers(fields, "pck_crl_issuer_chain"),
            )
            # Quotes carry their own PCK chain, which is the one that was checked; another is never looked at.
            if fields.optional("pck_certificate_chain"):
                _member(fields, "pck_certificate_chain")
            return collateral

    def require_tcb_signer(self) -> None:
        """Check that both signed parts name Intel's TCB signing certificate as their signer.

        Intel's root also leads to every platform's own PCK certificate. Whoever has a platform could otherwise sign
        with its key that it is up to date; dcap-qvl checks the chain and never the name.

        :raises TcbRefusedError: another certificate.
        """
        for name, part in (("TCB information", self.tcb_info), ("quoting enclave identity", self.qe_identity)):
            if not is_tcb_signer(x509.load_pem_x509_certificate(part.issuers.encode())):
                raise TcbRefusedError(
                    f"Intel's {name} is signed by another certificate than Intel's for that",
                    wanted=TCB_SIGNER,
                    remedy="fetch the collateral anew, and find out where this one came from",
                )

    def require_current(self, at: Instant) -> None:
        """Check that both signed parts are current.

        :raises CollateralExpiredError: one isn't yet, or isn't any more.
        """
        for name, part in (("TCB information", self.tcb_info), ("quoting enclave identity", self.qe_identity)):
            if not part.issued <= at <= part.next_update:
                raise CollateralExpiredError(
                    f"Intel's {name} for this platform isn't current",
                    seen=format_instant(at),
                    wanted=f"from {format_instant(part.issued)} to {format_instant(part.next_update)}",
                    remedy="import newer collateral for this platform",
                )


def is_tcb_signer(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is named as Intel's for signing TCB information (``Intel SGX TCB Signing``)."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return len(names) == 1 and str(names[0].value).endswith(TCB_SIGNER)


@lru_cache(maxsize=8)
def _parsed(data: bytes) -> IntelCollateral:
    return IntelCollateral._parse(data)  # noqa: SLF001 - its own module


def choose(candidates: Iterable[bytes], *, tee: str, at: Instant) -> IntelCollateral | None:
    """Choose collateral for a platform: the newest that was there at the instant, current or not; None for none.

    ``candidates`` is the data of the items with the platform's name, newest first; those for the other technology
    share it. What was published later is left aside, so that an old decision can be judged again at its own time.

    :raises MalformedError: an item can't be read.
    """
    for found in map(IntelCollateral.parse, candidates):
        if found.tee == tee and max(found.tcb_info.issued, found.qe_identity.issued) <= at:
            return found
    return None


def _part(fields: Fields, name: str) -> tuple[SignedPart, dict[str, Json]]:
    text = _member(fields, name)
    inner = parse(text.encode(), max_bytes=MAX_COLLATERAL)
    if not isinstance(inner, dict):
        raise MalformedError(f"`intel-collateral.{name}` must hold a JSON object")
    part = SignedPart(
        text=text,
        signature=_hex(_member(fields, f"{name}_signature"), f"{name}_signature"),
        issuers=_issuers(fields, f"{name}_issuer_chain"),
        issued=parse_instant(_text(inner, "issueDate", name)),
        next_update=parse_instant(_text(inner, "nextUpdate", name)),
    )
    return part, inner


def _issuers(fields: Fields, name: str) -> str:
    """Read a chain in PEM and write it anew.

    dcap-qvl reads blocks of every label, and we those of certificates: what was checked here must be all that it finds.
    """
    blocks = _PEM.findall(_member(fields, name))
    if not 1 <= len(blocks) <= _MAX_ISSUERS:
        raise MalformedError(f"`intel-collateral.{name}` must hold 1 to {_MAX_ISSUERS} certificates in PEM")
    chain = (load_certificate(from_base64("".join(block.split()))) for block in blocks)
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in chain)


def _member(fields: Fields, name: str) -> str:
    # PEM has line ends, which `Fields.text` refuses.
    value = fields.value(name)
    if not isinstance(value, str):
        raise MalformedError(f"`intel-collateral.{name}` must be a string")
    return value


def _text(inner: dict[str, Json], name: str, where: str) -> str:
    value = inner.get(name)
    if not isinstance(value, str) or len(value) > 64:
        raise MalformedError(f"`intel-collateral.{where}.{name}` must be a short string")
    return value


def _hex(text: str, where: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if data.hex() != text.lower() or not data:
        raise MalformedError(f"`intel-collateral.{where}` must be hex")
    return data
