"""A self-made chain and attestation documents in AWS Nitro's shape: root, region, zone, instance, enclave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor
from support.certificates import usage

INSTANCE = "i-0123456789abcdef0"
MODULE = f"{INSTANCE}-enc0123456789abcdef"
MADE = 1_790_000_000
NONCE = bytes(range(32))
USER_DATA = b"the recipient key's digest"
PCRS: Mapping[int, bytes] = {
    number: bytes([number + 1]) * 48 if number in {0, 1, 2, 3, 4, 8} else bytes(48) for number in range(16)
}
DEBUG_PCRS: Mapping[int, bytes] = {**PCRS, 0: bytes(48), 1: bytes(48), 2: bytes(48)}


@dataclass(frozen=True)
class Signer:
    """A key and its certificate."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @classmethod
    def make(
        cls,
        name: str,
        parent: Signer | None = None,
        *,
        seconds: int = 86400,
        room: int | None = None,
        authority: bool = True,
        listed: bool = False,
        curve: ec.EllipticCurve | None = None,
        key_usage: x509.KeyUsage | None = None,
    ) -> Self:
        key = ec.generate_private_key(curve or ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signer = (parent.certificate.subject, parent.key) if parent else (subject, key)
        begins = datetime.fromtimestamp(MADE, UTC) - timedelta(seconds=3)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(seconds=seconds))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=room), critical=True)
        )
        wanted = key_usage or usage(sign=not authority, certificates=authority, lists=authority)
        builder = builder.add_extension(wanted, critical=authority)
        if listed:
            place = x509.DistributionPoint([x509.UniformResourceIdentifier("http://lists.invalid/1")], None, None, None)
            builder = builder.add_extension(x509.CRLDistributionPoints([place]), critical=False)
        return cls(builder.sign(signer, hashes.SHA384()), key)

    def revokes(self, *revoked: Signer) -> bytes:
        """Return this authority's list, current for a day."""
        begins = datetime.fromtimestamp(MADE, UTC) - timedelta(hours=1)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(begins).next_update(begins + timedelta(days=1))
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(begins).build())
        return builder.sign(self.key, hashes.SHA384()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class NitroChain:
    """Root first; the enclave's own certificate last."""

    root: Signer
    between: tuple[Signer, ...]
    enclave: Signer

    @classmethod
    def make(cls, **enclave: Any) -> Self:
        """Make all five; ``enclave`` changes the last one (see :meth:`Signer.make`)."""
        root = Signer.make("simulated.nitro-enclaves", seconds=30 * 365 * 86400)
        region = Signer.make("region.simulated.nitro-enclaves", root, room=2, listed=True)
        zone = Signer.make("zone.simulated.nitro-enclaves", region, room=1, listed=True)
        instance = Signer.make(f"{INSTANCE}.simulated.nitro-enclaves", zone, room=0)
        shape = {"seconds": 3 * 3600 + 3, "authority": False, **enclave}
        return cls(root, (region, zone, instance), Signer.make(f"{MODULE}.simulated", instance, **shape))

    @property
    def anchor(self) -> TrustAnchor:
        """The root, fit for simulated evidence only."""
        return TrustAnchor(Vendor.AWS_NITRO, self.root.der, IsolationClass.VM_SIMULATED)

    def fields(self) -> dict[str, Any]:
        """Return an honest document's fields."""
        return {
            "module_id": MODULE,
            "digest": "SHA384",
            "timestamp": MADE * 1000 + 250,
            "pcrs": dict(PCRS),
            "certificate": self.enclave.der,
            "cabundle": [self.root.der, *(one.der for one in self.between)],
            "public_key": None,
            "user_data": USER_DATA,
            "nonce": NONCE,
        }

    def document(self, **changed: Any) -> bytes:
        """Return a signed document; ``changed`` replaces fields."""
        return self.sign(cbor2.dumps(self.fields() | changed))

    def sign(self, payload: bytes, *, headers: bytes = cbor2.dumps({1: -35})) -> bytes:
        """Sign any payload as a COSE_Sign1."""
        signed = cbor2.dumps(["Signature1", headers, b"", payload])
        size = (self.enclave.key.curve.key_size + 7) // 8
        r, s = decode_dss_signature(self.enclave.key.sign(signed, ec.ECDSA(hashes.SHA384())))
        return cbor2.dumps([headers, {}, payload, r.to_bytes(size, "big") + s.to_bytes(size, "big")])


@cache
def nitro_chain() -> NitroChain:
    """Return one honest chain, made once."""
    return NitroChain.make()
