"""A maker that is shaped like NVIDIA: device chains with DICE extensions, reports, reference manifests, OCSP answers.

Everything here is self-made, and its roots are ``vm-simulated``: what it signs must never pass for hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha384
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.statement import to_body
from strongroom.attestation.trust_anchors import TrustAnchor, TrustAnchors, Vendor
from strongroom.core.clock import parse_instant
from strongroom.core.extras import need

etree = need("lxml.etree", extra="nvidia")
signxml = need("signxml", extra="nvidia")
NOW = parse_instant("2026-11-01T00:00:00Z")
DAY = 86400
NONCE = bytes(range(32))
FWID = sha384(b"firmware").digest()
PDI = bytes.fromhex("2921ce551e4eeda3")
BEGIN = parse_instant("2020-10-17T00:00:00Z")
END = parse_instant("9999-12-31T23:59:59Z")
DRIVER_ID = "NV_GPU_DRIVER_GH100_590.12"
VBIOS_ID = "NV_GPU_VBIOS_G520_0200_885_9600A50001"
SWITCH_ID = "NV_SWITCH_BIOS_5612_0002_890_9610730001"
GPU_FIELDS: Mapping[int, bytes] = {
    6: bytes.fromhex("00a5009601000000"),
    15: b"885\0\0\0\0\0\0",
    17: b"G520\0",
    18: b"0200\0",
    3: b"590.12\0",
    11: b"\xaa",
    20: FWID,
    34: b"\x01\0",
    36: b"\x01\0",
}
SWITCH_FIELDS: Mapping[int, bytes] = {6: b"96.10.73.00.01", 22: PDI, 26: bytes(128), 25: b"\x01\0"}
MEASUREMENTS: Mapping[int, bytes] = {index: sha384(b"%d" % index).digest() for index in range(1, 65)}
"""By the block's index, from 1."""
DRIVER_GOLDEN: Mapping[int, Sequence[bytes]] = {index: (MEASUREMENTS[index + 1],) for index in (16, 35)}
"""By the record's index, from 0."""
VBIOS_GOLDEN: Mapping[int, Sequence[bytes]] = {index: (bytes(48), MEASUREMENTS[index + 1]) for index in (0, 1, 2, 9)}


@dataclass(frozen=True)
class Authority:
    """A key and its certificate."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a certificate says."""

    name: str
    serial: int = 0
    ca: bool | None = True
    signs_certificates: bool = True
    signs: bool = False
    begin: int = BEGIN
    end: int = END
    curve: ec.EllipticCurve = field(default_factory=ec.SECP384R1)
    extensions: Sequence[x509.ExtensionType] = ()


def issued(
    shape: Shape, issuer: Authority | None = None, *, key: ec.EllipticCurvePrivateKey | None = None
) -> Authority:
    """Issue a certificate, for a new key if none is given; without an issuer it is a root."""
    key = key or ec.generate_private_key(shape.curve)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, shape.name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "NVIDIA")]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(shape.serial or x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(shape.begin, UTC))
        .not_valid_after(datetime.fromtimestamp(shape.end, UTC))
        .add_extension(
            x509.KeyUsage(
                digital_signature=shape.signs,
                content_commitment=not shape.signs,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=shape.signs_certificates,
                crl_sign=shape.signs_certificates,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if shape.ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=shape.ca, path_length=None), critical=True)
    for extension in shape.extensions:
        builder = builder.add_extension(extension, critical=False)
    return Authority(builder.sign(issuer.key if issuer else key, hashes.SHA384()), key)


@dataclass(frozen=True)
class Maker:
    """The maker's authorities for devices and for manifests."""

    root: Authority
    family: Authority
    provisioner: Authority
    rim_root: Authority
    rim_authority: Authority

    @property
    def anchors(self) -> TrustAnchors:
        return TrustAnchors(
            (
                TrustAnchor(Vendor.NVIDIA_DEVICE, self.root.der, IsolationClass.VM_SIMULATED),
                TrustAnchor(Vendor.NVIDIA_RIM, self.rim_root.der, IsolationClass.VM_SIMULATED),
            )
        )


@cache
def maker() -> Maker:
    root = issued(Shape(name="NVIDIA Device Identity CA"))
    family = issued(Shape(name="NVIDIA GH100 Identity"), root)
    rim_root = issued(Shape(name="NVIDIA CoRIM signing Root CA"))
    return Maker(
        root=root,
        family=family,
        provisioner=issued(Shape(name="NVIDIA GH100 Provisioner ICA 1"), family),
        rim_root=rim_root,
        rim_authority=issued(Shape(name="NVIDIA Reference Value GH100 CA"), rim_root),
    )


def der(tag: int, *parts: bytes) -> bytes:
    """Write one element of DER."""
    value = b"".join(parts)
    if len(value) < 0x80:
        return bytes([tag, len(value)]) + value
    if len(value) < 0x100:
        return bytes([tag, 0x81, len(value)]) + value
    return bytes([tag, 0x82]) + len(value).to_bytes(2, "big") + value


def fwid_der(fwid: bytes) -> bytes:
    return der(0x30, der(0x06, bytes.fromhex("608648016503040202")), der(0x04, fwid))


def composite_device(device: Authority, fwid: bytes) -> x509.UnrecognizedExtension:
    key = device.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    value = der(0x30, der(0x02, b"\x01"), key, fwid_der(fwid))
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.23.133.5.4.1"), value)


def tcb_info(fwid: bytes) -> x509.UnrecognizedExtension:
    value = der(
        0x30,
        der(0x80, b"NVIDIA"),
        der(0x81, b"GB100 A01 GSP"),
        der(0x82, b"01"),
        der(0x83, b"\x01"),
        der(0x84, b"\0"),
        der(0x85, b"\0"),
        der(0xA6, fwid_der(fwid), fwid_der(bytes(48))),
        der(0x87, b"\0\x80\0\0\1"),
    )
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.23.133.5.4.1.1"), value)


@dataclass(frozen=True)
class Device:
    """A device: the certificate from the factory, and its attestation key."""

    factory: Authority
    attestation: Authority

    @property
    def bundle(self) -> bytes:
        made = maker()
        chain = (self.attestation, self.factory, made.provisioner, made.family, made.root)
        return b"".join(one.pem for one in chain)

    @property
    def serial(self) -> bytes:
        return self.factory.certificate.serial_number.to_bytes(9, "big")


def device(
    model: str = "GH100",
    *,
    pdi: bytes = PDI,
    fwid: bytes = FWID,
    issuer: Authority | None = None,
    leaf_model: str = "",
    extension_for: Authority | None = None,
    leaf: Mapping[str, Any] | None = None,
) -> Device:
    """Make a device of this model."""
    family = {"GH": b"\x41", "LS": b"\x50"}.get(model[:2], b"\x42")
    shape = Shape(name=f"{model} A01 GSP BROM", serial=int.from_bytes(family + pdi, "big"))
    factory = issued(shape, issuer or maker().provisioner)
    extension = tcb_info(fwid) if model.startswith("GB") else composite_device(extension_for or factory, fwid)
    attestation = Shape(
        name=f"{leaf_model or model} A01 GSP FMC LF",
        ca=None,
        signs_certificates=False,
        signs=True,
        extensions=(extension,),
    )
    return Device(factory, issued(replace(attestation, **(leaf or {})), factory))


def entries(fields: Mapping[int, bytes]) -> bytes:
    """Write opaque data in the old layout."""
    return b"".join(
        kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for kind, value in fields.items()
    )


def versioned_entries(fields: Mapping[int, bytes], *, major: int = 2) -> bytes:
    """Write opaque data in the versioned layout."""
    return bytes([*b"NVDAOD", 0, 0, major, 0, 0, 0]) + b"".join(
        kind.to_bytes(2, "little") + b"\x86\0" + len(value).to_bytes(2, "little") + value
        for kind, value in fields.items()
    )


def record(measurements: Mapping[int, bytes]) -> bytes:
    """Write the measurement blocks."""
    return b"".join(
        bytes([index, 1]) + (len(value) + 3).to_bytes(2, "little") + b"\x01" + len(value).to_bytes(2, "little") + value
        for index, value in measurements.items()
    )


def report(
    made_by: Device,
    *,
    nonce: bytes = NONCE,
    measurements: Mapping[int, bytes] = MEASUREMENTS,
    opaque: bytes = entries(GPU_FIELDS),
    request: bytes = b"\x11\xe0\x01\xff",
) -> bytes:
    """Make a signed report."""
    blocks = record(measurements)
    signed = (
        request
        + nonce
        + b"\0\x11\x60\0\0"
        + bytes([len(measurements)])
        + len(blocks).to_bytes(3, "little")
        + blocks
        + bytes(32)
        + len(opaque).to_bytes(2, "little")
        + opaque
    )
    r, s = decode_dss_signature(made_by.attestation.key.sign(signed, ec.ECDSA(hashes.SHA384())))
    return signed + r.to_bytes(48, "big") + s.to_bytes(48, "big")


def item(made_by: Device, raw: bytes, kind: EvidenceKind = EvidenceKind.NVIDIA_GPU) -> EvidenceItem:
    """Make an evidence item of a report and its device's chain."""
    return EvidenceItem(kind, to_body(raw, made_by.bundle))


SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
SHA384_NAMES = "http://www.w3.org/2001/04/xmlenc#sha384"


def manifest_document(version: str, golden: Mapping[int, Sequence[bytes]], *, extra: str = "") -> str:
    """Write an unsigned manifest. Measurement 63 is there and isn't active."""
    records = "".join(
        f'<Resource type="Measurement" index="{index}" active="True" alternatives="{len(values)}" name="M" size="48" '
        + " ".join(f'n2:Hash{place}="{value.hex()}"' for place, value in enumerate(values))
        + "/>"
        for index, values in golden.items()
    )
    idle = f'<Resource type="Measurement" index="63" active="False" alternatives="1" n2:Hash0="{"00" * 48}" size="48"/>'
    return (
        f'<SoftwareIdentity xmlns="{SWID}" xmlns:n2="{SHA384_NAMES}" name="GH100" tagId="x" version="1.0">'
        f'<Meta colloquialVersion="{version}" product="GH100"/><Payload>{records}{idle}{extra}</Payload>'
        "</SoftwareIdentity>"
    )


def rim_signer(**said: Any) -> Authority:
    """Make a signer of manifests."""
    shape = Shape(name="HCC RIM L4 Signer", ca=False, signs_certificates=False, signs=True, end=NOW + 300 * DAY)
    return issued(replace(shape, **said), maker().rim_authority)


def manifest(
    version: str, golden: Mapping[int, Sequence[bytes]], *, signer: Authority | None = None, extra: str = ""
) -> bytes:
    """Make a signed manifest."""
    return sign_manifest(manifest_document(version, golden, extra=extra), signer or rim_signer())


def sign_manifest(document: str, signer: Authority, *, reference: str | None = None, canonical: str = C14N11) -> bytes:
    """Sign a document as manifests are signed, or with another reference or canonical form."""
    xml = signxml.XMLSigner(
        method=signxml.methods.enveloped,
        signature_algorithm=signxml.SignatureMethod.ECDSA_SHA384,
        digest_algorithm=signxml.DigestAlgorithm.SHA384,
        c14n_algorithm=signxml.CanonicalizationMethod(canonical),
    )
    made = maker()
    key = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = [one.certificate for one in (signer, made.rim_authority, made.rim_root)]
    return bytes(etree.tostring(xml.sign(etree.fromstring(document), key=key, cert=chain, reference_uri=reference)))


def responder(issuer: Authority, *, purposes: bool = True, **said: Any) -> Authority:
    """Make an OCSP responder that the issuer delegated."""
    usage = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]),) if purposes else ()
    shape = Shape(name="OCSP responder", ca=False, signs_certificates=False, signs=True, extensions=usage)
    return issued(replace(shape, **said), issuer)


def answer(
    certificate: Authority,
    issuer: Authority,
    *,
    signer: Authority | None = None,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    reason: x509.ReasonFlags | None = None,
    at: int = NOW - DAY,
    until: int | None = NOW + DAY,
    hashed: hashes.HashAlgorithm | None = None,
    critical: bool = False,
) -> bytes:
    """Make an OCSP answer."""
    signing = signer or issuer
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate.certificate,
        issuer=issuer.certificate,
        algorithm=hashed or hashes.SHA256(),
        cert_status=status,
        this_update=datetime.fromtimestamp(at, UTC),
        next_update=None if until is None else datetime.fromtimestamp(until, UTC),
        revocation_time=datetime.fromtimestamp(at - DAY, UTC) if revoked else None,
        revocation_reason=reason,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signing.certificate)
    if critical:
        builder = builder.add_extension(x509.OCSPNonce(bytes(16)), critical=True)
    if signer is not None:
        builder = builder.certificates([signer.certificate])
    return builder.sign(signing.key, hashes.SHA384()).public_bytes(Encoding.DER)


def revocation_list(issuer: Authority, *revoked: Authority) -> bytes:
    """Make a list of what its issuer took back."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(datetime.fromtimestamp(NOW - DAY, UTC))
        .next_update(datetime.fromtimestamp(NOW + DAY, UTC))
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
        builder = builder.add_revoked_certificate(
            entry.revocation_date(datetime.fromtimestamp(NOW - 2 * DAY, UTC)).build()
        )
    return builder.sign(issuer.key, hashes.SHA384()).public_bytes(Encoding.DER)


def answers_for(made_by: Device, *signers: Authority) -> tuple[bytes, ...]:
    """Make good answers for every certificate that can be revoked: of a device, and of signers of manifests."""
    made = maker()
    pairs = [
        (made_by.factory, made.provisioner),
        (made.provisioner, made.family),
        (made.family, made.root),
        (made.rim_authority, made.rim_root),
        *((signer, made.rim_authority) for signer in signers),
    ]
    return tuple(answer(certificate, issuer) for certificate, issuer in pairs)


def endorsements(
    *, manifests: Sequence[tuple[str, bytes]] = (), answers: Sequence[bytes] = (), certificates: Sequence[bytes] = ()
) -> Endorsements:
    """Endorse with the simulated roots; earlier manifests count as newer."""
    found = [
        *((CollateralKind.NVIDIA_RIM, name, data) for name, data in manifests),
        *((CollateralKind.OCSP_ANSWER, "answer", data) for data in answers),
        *((CollateralKind.CERTIFICATE, "certificate", data) for data in certificates),
    ]
    items = tuple(
        CollateralItem(kind=kind, name=name, data=data, not_before=NOW - place, not_after=END)
        for place, (kind, name, data) in enumerate(found)
    )
    return Endorsements(anchors=maker().anchors, collateral=Collateral(items))
