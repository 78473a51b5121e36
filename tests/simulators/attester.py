"""A TPM played by keys in memory: signs whatever quote a test asks for, honest or not, under a made-up vendor's CA."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.enrolment import EnrolmentRequest
from strongroom.attestation.evidence import Evidence, EvidenceItem, devices_digest
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import MEASURED_PCR, Measurement, expected_pcr, launch_measurements
from strongroom.attestation.platform_record import EnrolledTpm, PlatformRecord, platform_of
from strongroom.attestation.policies.tpm2 import Tpm2Policy
from strongroom.attestation.tpm.public_area import AK_ATTRIBUTES, EK_ATTRIBUTES, EK_POLICY, PublicArea
from strongroom.attestation.tpm.statement import LoggedEvent, TpmStatement
from strongroom.attestation.transcript import Binding
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.tpm import wire
from strongroom.tpm.wire import tpm2b, u16, u32

NOW: Instant = 1_795_000_000
GENESIS = Digest.of(b"genesis")
RECIPIENT_KEY = bytes(range(256)) * 4 + bytes(192)
MEASUREMENTS = launch_measurements(
    interpreter=Digest.of(b"interpreter"),
    files=Digest.of(b"files"),
    command=Digest.of(b"command"),
    sandbox=Digest.of(b"sandbox"),
    genesis=GENESIS,
)
# A TPM played by a program never shut down in order: its clock isn't safe.
TPM_RULES = replace(Tpm2Policy.strictest(), clock_must_be_safe=False)
APPRAISAL = AppraisalPolicy(kinds={EvidenceKind.TPM2: TPM_RULES}, devices=None, reattest_seconds=3600)
HARDWARE = ("id:49465800", "SLB9670", "id:000D0000")
SIMULATOR = ("id:00001014", "swtpm", "id:20191023")
_TPM_OIDS = ("2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3")


def binding(*, nonce: bytes = bytes(32), recipient_key: bytes = RECIPIENT_KEY, challenge: str = "c-1") -> Binding:
    """A binding that tests vary."""
    return Binding(
        genesis=GENESIS,
        challenge=challenge,
        nonce=nonce,
        request=Digest.of(b"request"),
        model=ModelId("atlas"),
        version=1,
        manifest=Digest.of(b"manifest"),
        recipient_key=Digest.of(recipient_key),
        devices=devices_digest(()),
    )


def ak_public_area(key: ec.EllipticCurvePublicKey, attributes: int = AK_ATTRIBUTES) -> bytes:
    """Write the TPMT_PUBLIC of a P-256 attestation key."""
    numbers = key.public_numbers()
    head = u16(wire.ALG_ECC) + u16(wire.ALG_SHA256) + u32(attributes) + tpm2b(b"") + u16(wire.ALG_NULL)
    scheme = u16(wire.ALG_ECDSA) + u16(wire.ALG_SHA256) + u16(wire.ECC_NIST_P256) + u16(wire.ALG_NULL)
    return head + scheme + tpm2b(numbers.x.to_bytes(32, "big")) + tpm2b(numbers.y.to_bytes(32, "big"))


def ek_public_area(key: rsa.RSAPublicKey, attributes: int = EK_ATTRIBUTES) -> bytes:
    """Write the TPMT_PUBLIC of an RSA-2048 endorsement key of template L-1."""
    head = u16(wire.ALG_RSA) + u16(wire.ALG_SHA256) + u32(attributes) + tpm2b(EK_POLICY)
    symmetric = u16(wire.ALG_AES) + u16(128) + u16(wire.ALG_CFB) + u16(wire.ALG_NULL)
    return head + symmetric + u16(2048) + u32(0) + tpm2b(key.public_numbers().n.to_bytes(256, "big"))


def sign_tpm(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return a TPMT_SIGNATURE."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    sized = tpm2b(r.to_bytes(32, "big")) + tpm2b(s.to_bytes(32, "big"))
    return u16(wire.ALG_ECDSA) + u16(wire.ALG_SHA256) + sized


def attest_bytes(
    *,
    qualifying_data: bytes,
    pcr_digest: bytes,
    selection: bytes = wire.pcr_selection((MEASURED_PCR,)),
    magic: int = 0xFF544347,
    kind: int = 0x8018,
    resets: int = 3,
) -> bytes:
    """Write a TPMS_ATTEST; every field that a verifier judges can be set wrong."""
    head = u32(magic) + u16(kind) + tpm2b(u16(wire.ALG_SHA256) + bytes(32)) + tpm2b(qualifying_data)
    clock = (12_345).to_bytes(8, "big") + u32(resets) + u32(0) + b"\x01" + (7).to_bytes(8, "big")
    return head + clock + selection + tpm2b(pcr_digest)


@dataclass(frozen=True)
class SimulatedAttester:
    """One attestation key in memory."""

    key: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> PublicArea:
        return PublicArea.parse(ak_public_area(self.key.public_key()))

    def record(self, isolation: IsolationClass = IsolationClass.VM_SIMULATED) -> PlatformRecord:
        """The record that an enrolment would have made."""
        return PlatformRecord(
            platform=platform_of(self.public),
            kind=EvidenceKind.TPM2,
            identity=EnrolledTpm(attestation_key=self.public, endorsement_key=Digest.of(b"ek")),
            anchor=Digest.of(vendor_root()),
            isolation=isolation,
            enrolled=NOW - 1000,
        )

    def evidence(
        self,
        bound: Binding,
        measurements: Sequence[Measurement] = MEASUREMENTS,
        *,
        quote: bytes | None = None,
        recipient_key: bytes = RECIPIENT_KEY,
    ) -> Evidence:
        """Sign an honest quote over ``measurements``, or the bytes given as ``quote``."""
        pcr = hashlib.sha256(expected_pcr(measurements)).digest()
        signed = quote or attest_bytes(qualifying_data=bound.tpm2_qualifying_data, pcr_digest=pcr)
        statement = TpmStatement(
            quote=signed,
            signature=sign_tpm(self.key, signed),
            events=tuple(LoggedEvent(MEASURED_PCR, measurement) for measurement in measurements),
        )
        return Evidence(
            platform=platform_of(self.public),
            main=EvidenceItem(EvidenceKind.TPM2, statement.to_bytes()),
            recipient_key=recipient_key,
        )


@cache
def attester(name: str = "a") -> SimulatedAttester:
    """The attester of this name; the same key in one test run."""
    del name
    return SimulatedAttester(ec.generate_private_key(ec.SECP256R1()))


@cache
def _authority_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def endorsement_private() -> rsa.RSAPrivateKey:
    """One RSA-2048 key: slow to make, so made once."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def authority_certificate(
    subject: str,
    issuer: str,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    signer: ec.EllipticCurvePrivateKey | None = None,
    is_ca: bool = True,
    path_length: int | None = None,
    can_sign: bool = True,
    days: int = 365,
) -> bytes:
    """Make a CA certificate (DER), right or wrong."""
    builder = _builder(subject, issuer, (key or _authority_key()).public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(is_ca, path_length if is_ca else None), critical=True)
    builder = builder.add_extension(_usage(sign=can_sign), critical=True)
    return builder.sign(signer or _authority_key(), SHA256()).public_bytes(Encoding.DER)


@cache
def vendor_root() -> bytes:
    """A made-up TPM vendor's root (DER)."""
    return authority_certificate("vendor root", "vendor root")


def tpm_root(certificate: bytes, isolation: IsolationClass = IsolationClass.VM_SIMULATED) -> TrustAnchor:
    """A TPM maker's root as reference values list it."""
    return TrustAnchor(Vendor.TPM, certificate, isolation)


def ek_certificate(
    *,
    tpm: tuple[str, str, str] | None = HARDWARE,
    usage: str | None = "2.23.133.8.1",
    issuer: str = "vendor root",
    signer: ec.EllipticCurvePrivateKey | None = None,
    days: int = 365,
    critical: bool = False,
) -> bytes:
    """Make an endorsement certificate (DER) for :func:`endorsement_private`."""
    builder = _builder("", issuer, endorsement_private().public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage)]), critical=False)
    if tpm:
        pairs = zip(_TPM_OIDS, tpm, strict=True)
        name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in pairs])
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DirectoryName(name)]), critical=True)
    if critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    return builder.sign(signer or _authority_key(), SHA256()).public_bytes(Encoding.DER)


def enrolment_request(
    *chain: bytes, ek_public: bytes | None = None, ak_public: bytes | None = None
) -> EnrolmentRequest:
    """A request as a TPM with these keys would make it."""
    return EnrolmentRequest(
        ek_chain=chain or (ek_certificate(),),
        ek_public=ek_public or ek_public_area(endorsement_private().public_key()),
        ak_public=ak_public or attester().public.raw,
    )


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, days: int
) -> x509.CertificateBuilder:
    begun = datetime.fromtimestamp(NOW, UTC) - timedelta(days=100)
    name = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(name))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + timedelta(days=days))
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )
