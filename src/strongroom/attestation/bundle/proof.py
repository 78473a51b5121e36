"""Does a pinned root of its maker vouch for an item of collateral? Asked before anything is imported.

1. certificate: a chain of certificates in the bundle (or of AMD's that ship with the package) ends in a pinned root;
2. revocation list: signed by a CA of such a chain, or by a pinned root;
3. Intel's collateral: both JSON texts signed by Intel's TCB signing certificate, both lists by their CAs, all under
   Intel's root;
4. NVIDIA's manifest: as :mod:`strongroom.attestation.nvidia.manifest` verifies it;
5. OCSP answer: signed by a CA of such a chain, or by the responder that it delegated.

This says where an item comes from, and nothing about today: chains are walked at the last instant at which all of
their certificates were valid, so that what has expired since can still be shown as expired. Verifiers check everything
again, at the instant that they judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.bundle.reading import ReadItem
from strongroom.attestation.chain import MAX_DEPTH, Path, is_ca, signed_by, walk
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.errors import NotGenuineError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.nvidia.manifest import read_manifest
from strongroom.attestation.ocsp import OcspAnswers, load_answer, vouched_for
from strongroom.attestation.revocation import NO_LISTS, RevocationLists, load_list
from strongroom.attestation.sev_snp.intermediates import shipped_intermediates
from strongroom.attestation.tdx.collateral import IntelCollateral, SignedPart, is_tcb_signer
from strongroom.attestation.trust_anchors import TrustAnchor, TrustAnchors, Vendor, load_certificate
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.extras import MissingExtraError

MAX_OF_ONE_NAME: Final = 16
"""CAs of one name in a bundle: each is tried on whatever names it as its issuer."""
MAX_NAMED: Final = 5
_RAW_HALF: Final = 32
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,16384}?-----END CERTIFICATE-----")


class CollateralUnprovenError(NotGenuineError):
    """Items of collateral that no pinned root of their maker vouches for."""

    code = "collateral-unproven"


@dataclass(frozen=True, slots=True)
class Proof:
    """Which maker's root vouches for an item, and whether it is a root made for tests."""

    vendor: Vendor
    simulated: bool


@dataclass(slots=True)
class Authorities:
    """The CAs that items may lead through, and the roots where they must end. What was found is kept."""

    anchors: TrustAnchors
    at: Instant
    roots: dict[x509.Name, list[tuple[x509.Certificate, TrustAnchor]]] = field(default_factory=dict)
    named: dict[x509.Name, list[x509.Certificate]] = field(default_factory=dict)
    paths: dict[Digest, Path | None] = field(default_factory=dict)
    proven: tuple[tuple[x509.Certificate, TrustAnchor], ...] | None = None

    @classmethod
    def of(cls, certificates: Iterable[bytes], anchors: TrustAnchors, at: Instant) -> Authorities:
        """Collect the CAs among certificates (DER), and those that ship with the package.

        :raises MalformedError: more than 16 CAs of one name.
        """
        found = cls(anchors, at)
        for anchor in anchors.anchors:
            root = load_certificate(anchor.certificate)
            found.roots.setdefault(root.subject, []).append((root, anchor))
        ders = dict.fromkeys((*shipped_intermediates(), *certificates))
        for der in ders:
            certificate = load_certificate(der)
            if is_ca(certificate):
                found.named.setdefault(certificate.subject, []).append(certificate)
        if any(len(same) > MAX_OF_ONE_NAME for same in found.named.values()):
            raise MalformedError(f"a bundle has at most {MAX_OF_ONE_NAME} CA certificates of one name")
        return found

    def path(self, certificate: x509.Certificate, depth: int = 0) -> Path | None:
        """Return a chain from a certificate to a pinned root; None without one."""
        der = certificate.public_bytes(Encoding.DER)
        name = Digest.of(der)
        if name not in self.paths:
            self.paths[name] = None  # while it is sought: CAs that certify each other end here
            self.paths[name] = self._sought(certificate, der, depth)
        return self.paths[name]

    def _sought(self, certificate: x509.Certificate, der: bytes, depth: int) -> Path | None:
        for root, anchor in self.roots.get(certificate.issuer, ()):
            if signed_by(certificate, root):
                return _walked([der], (anchor,), self._when((certificate, root)))
        if depth >= MAX_DEPTH:
            return None
        for issuer in self.named.get(certificate.issuer, ()):
            above = self.path(issuer, depth + 1)
            if above is None:
                continue
            chain = (certificate, *above.certificates)
            ders = [one.public_bytes(Encoding.DER) for one in chain]
            path = _walked(ders, (above.anchor,), self._when(chain))
            if path is not None:
                return path
        return None

    def issuers(self, name: x509.Name) -> Iterable[tuple[x509.Certificate, TrustAnchor]]:
        """Return every CA of a name that leads to a pinned root, and that root; pinned roots of the name first."""
        yield from self.roots.get(name, ())
        for certificate in self.named.get(name, ()):
            path = self.path(certificate)
            if path is not None:
                yield certificate, path.anchor

    def everyone(self) -> Iterable[tuple[x509.Certificate, TrustAnchor]]:
        """Return every CA that leads to a pinned root, and that root. Sought once: a file may hold thousands of CAs."""
        if self.proven is None:
            self.proven = tuple(one for name in {**self.roots, **self.named} for one in self.issuers(name))
        return self.proven

    def walked(self, chain: Sequence[bytes], vendor: Vendor) -> Path:
        """Walk a chain that an item brings along.

        :raises ChainRefusedError: it doesn't lead to a pinned root of this maker.
        """
        certificates = tuple(map(load_certificate, chain))
        return walk(chain, self.anchors.of(vendor), self._when(certificates))

    def _when(self, chain: Iterable[x509.Certificate]) -> Instant:
        """Return the last instant, up to now, at which all of a chain was valid; one that never was ends the walk."""
        chain = tuple(chain)
        begun = max(int(one.not_valid_before_utc.timestamp()) for one in chain)
        return max(begun, min(self.at, *(int(one.not_valid_after_utc.timestamp()) for one in chain)))


def _walked(chain: Sequence[bytes], anchors: Sequence[TrustAnchor], at: Instant) -> Path | None:
    try:
        return walk(chain, anchors, at)
    except NotGenuineError:
        return None


def prove(read: ReadItem, authorities: Authorities) -> Proof:
    """Find the pinned root that vouches for an item.

    :raises NotGenuineError: there is none.
    :raises MalformedError: what is inside the item can't be read.
    :raises MissingExtraError: the item is a manifest, and the XML libraries aren't installed.
    """
    return _PROVERS[read.item.kind](read.item.data, authorities)


def prove_all(
    items: Iterable[ReadItem], through: Iterable[bytes], anchors: TrustAnchors, at: Instant
) -> dict[Digest, Vendor]:
    """Find whose pinned root vouches for each of the items, through these certificates (DER).

    :raises CollateralUnprovenError: for some there is none; names up to five, each with why.
    :raises MissingExtraError: there is a manifest, and the XML libraries aren't installed.
    """
    authorities = Authorities.of(through, anchors, at)
    makers: dict[Digest, Vendor] = {}
    refused: list[str] = []
    count = 0
    for read in items:
        try:
            makers[read.item.digest] = prove(read, authorities).vendor
        except MissingExtraError:
            raise
        except StrongroomError as error:
            count += 1
            if len(refused) < MAX_NAMED:
                refused.append(f"{read.item.kind} `{read.item.name[:120]}`: {error.message}")
    if count:
        more = f"; and {count - len(refused)} more" if count > len(refused) else ""
        raise CollateralUnprovenError(
            f"no pinned root vouches for {count} of the items: {'; '.join(refused)}{more}",
            remedy="hand in the certificates between them and their maker's root, or leave them out; "
            "nothing was imported",
        )
    return makers


def _proof(anchor: TrustAnchor) -> Proof:
    return Proof(anchor.vendor, anchor.simulated)


def _certificate(data: bytes, authorities: Authorities) -> Proof:
    for anchor in authorities.anchors.anchors:
        if anchor.certificate == data:
            return _proof(anchor)
    path = authorities.path(load_certificate(data))
    if path is None:
        raise CollateralUnprovenError("it doesn't lead to a pinned root")
    return _proof(path.anchor)


def _list(data: bytes, authorities: Authorities) -> Proof:
    known = load_list(data)
    for issuer, anchor in authorities.issuers(known.issuer):
        if _lists_for(known, issuer):
            return _proof(anchor)
    raise CollateralUnprovenError("no CA that leads to a pinned root signed it, or it isn't a whole list")


def _lists_for(known: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    # A list counts from the instant at which it was made, for whatever certificate: here, for its issuer's own.
    made = int(known.last_update_utc.timestamp())
    return RevocationLists((known,)).look_up(issuer, issuer, made) is not None


def _intel(data: bytes, authorities: Authorities) -> Proof:
    read = IntelCollateral.parse(data)
    for part in (read.tcb_info, read.qe_identity):
        anchor = _signed_by_intel(part, authorities)
    ca = authorities.walked(_ders(read.pck_crl_issuers), Vendor.INTEL_SGX)
    for path, der, name in ((ca.leaf, read.pck_crl, "PCK"), (ca.certificates[-1], read.root_ca_crl, "root")):
        if not _lists_for(load_list(der), path):
            raise CollateralUnprovenError(f"its {name} CA's revocation list isn't signed by that CA")
    return _proof(anchor)


def _signed_by_intel(part: SignedPart, authorities: Authorities) -> TrustAnchor:
    path = authorities.walked(_ders(part.issuers), Vendor.INTEL_SGX)
    key = path.leaf.public_key()
    # Intel's root also leads to every platform's own certificate: those may sign quotes, never what is said of them.
    if not is_tcb_signer(path.leaf) or not isinstance(key, ec.EllipticCurvePublicKey):
        raise CollateralUnprovenError("it isn't signed by Intel's TCB signing certificate")
    if len(part.signature) != 2 * _RAW_HALF:
        raise CollateralUnprovenError("its signature hasn't the length that Intel's have")
    r, s = (int.from_bytes(half, "big") for half in (part.signature[:_RAW_HALF], part.signature[_RAW_HALF:]))
    try:
        key.verify(encode_dss_signature(r, s), part.text.encode(), ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise CollateralUnprovenError("Intel's signature isn't over this text") from None
    return path.anchor


def _ders(pem: str) -> tuple[bytes, ...]:
    blocks = _PEM.findall(pem)
    if not 1 <= len(blocks) <= MAX_DEPTH:
        raise MalformedError(f"an issuer chain has 1 to {MAX_DEPTH} certificates in PEM")
    try:
        loaded = [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise MalformedError("an issuer chain isn't certificates in PEM") from None
    return tuple(one.public_bytes(Encoding.DER) for one in loaded)


def _manifest(data: bytes, authorities: Authorities) -> Proof:
    anchors = authorities.anchors.of(Vendor.NVIDIA_RIM)
    manifest = read_manifest(data, anchors, authorities.at, lists=NO_LISTS, answers=OcspAnswers(()))
    return Proof(Vendor.NVIDIA_RIM, manifest.isolation is IsolationClass.VM_SIMULATED)


def _answer(data: bytes, authorities: Authorities) -> Proof:
    answer = load_answer(data)
    for issuer, anchor in authorities.everyone():
        if vouched_for(answer, issuer):
            return _proof(anchor)
    raise CollateralUnprovenError("no CA that leads to a pinned root signed it or delegated the responder")


_PROVERS: Final[Mapping[CollateralKind, Callable[[bytes, Authorities], Proof]]] = MappingProxyType(
    {
        CollateralKind.CERTIFICATE: _certificate,
        CollateralKind.REVOCATION_LIST: _list,
        CollateralKind.INTEL_TCB: _intel,
        CollateralKind.NVIDIA_RIM: _manifest,
        CollateralKind.OCSP_ANSWER: _answer,
    }
)
