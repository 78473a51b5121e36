"""A self-made chain in Intel's shape, quotes of SGX and TDX under it, and the collateral that judges them.

Root, PCK CA, PCK certificate with Intel's extension, quoting enclave, attestation key; TCB signing certificate, TCB
information, quoting enclave identity, revocation lists. Parameters make one thing wrong at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import Collateral, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.tdx.bodies import SERVICE_FIELDS, TD_1_0_FIELDS, TD_1_5_FIELDS, BodyType
from strongroom.attestation.tdx.pck import SGX_EXTENSION, PckCa
from strongroom.attestation.tdx.quote import INTEL_QE_VENDOR, TEE_SGX, TEE_TDX
from strongroom.attestation.trust_anchors import TrustAnchor, TrustAnchors, Vendor
from strongroom.core.clock import format_instant
from support.certificates import usage

NOW = 1_790_000_000
DAY = 86400
REPORT_DATA = bytes(range(64))
PPID = bytes(range(16))
FMSPC = bytes.fromhex("00a0b0c0d0e0")
CPU_SVN = bytes((4, 4, 2, 2, 4, 1, 0, 5)) + bytes(8)
TEE_TCB_SVN = bytes((6, 1, 4)) + bytes(13)
PCE_SVN = 11
EVALUATION = 20
ISSUED = NOW - DAY
NEXT_UPDATE = NOW + 29 * DAY
TD_FIELDS: Mapping[str, bytes] = {
    "tee_tcb_svn": TEE_TCB_SVN,
    "mr_seam": b"\x51" * 48,
    "td_attributes": (1 << 28).to_bytes(8, "little"),
    "xfam": (0x602E7).to_bytes(8, "little"),
    "mr_td": b"\xd0" * 48,
    "rtmr0": b"\xe0" * 48,
    "rtmr1": b"\xe1" * 48,
    "rtmr2": b"\xe2" * 48,
    "rtmr3": b"\xe3" * 48,
    "report_data": REPORT_DATA,
    "tee_tcb_svn2": TEE_TCB_SVN,
}
QE_SIGNER = b"\x9e" * 32
QE_ISV_SVN = 8
_HEADER_RESERVED = bytes(4)
_ENCLAVE_FIELDS = (
    ("cpu_svn", 16),
    ("misc_select", 4),
    ("reserved1", 12),
    ("isv_ext_prod_id", 16),
    ("attributes", 16),
    ("mr_enclave", 32),
    ("reserved2", 32),
    ("mr_signer", 32),
    ("reserved3", 32),
    ("config_id", 64),
    ("isv_prod_id", 2),
    ("isv_svn", 2),
    ("config_svn", 2),
    ("reserved4", 42),
    ("isv_family_id", 16),
    ("report_data", 64),
)
SGX_FIELDS: Mapping[str, bytes] = {
    "cpu_svn": CPU_SVN,
    "attributes": (0x5).to_bytes(8, "little") + (0xE7).to_bytes(8, "little"),
    "mr_enclave": b"\xec" * 32,
    "mr_signer": b"\x51" * 32,
    "isv_prod_id": (7).to_bytes(2, "little"),
    "isv_svn": (3).to_bytes(2, "little"),
    "report_data": REPORT_DATA,
}


def tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    length = (
        bytes([size]) if size < 0x80 else bytes([0x81, size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")
    )
    return bytes([tag]) + length + value


def pair(arcs: Sequence[int], value: bytes) -> bytes:
    return tlv(0x30, tlv(0x06, bytes.fromhex("2a864886f84d010d01") + bytes(arcs)) + value)


def number(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def flag(value: bool) -> bytes:  # noqa: FBT001 - a value, not a choice
    return tlv(0x01, b"\xff" if value else b"\x00")


def sgx_extension(
    *,
    ppid: bytes = PPID,
    fmspc: bytes = FMSPC,
    cpu_svn: bytes = CPU_SVN,
    flags: tuple[bool, bool, bool] | None = (False, False, False),
) -> bytes:
    """Return Intel's extension; ``flags`` are dynamic platform, cached keys and SMT."""
    tcb = b"".join(pair((2, place + 1), number(svn)) for place, svn in enumerate(cpu_svn))
    tcb += pair((2, 17), number(PCE_SVN)) + pair((2, 18), tlv(0x04, cpu_svn))
    parts = [
        pair((1,), tlv(0x04, ppid)),
        pair((2,), tlv(0x30, tcb)),
        pair((3,), tlv(0x04, bytes(2))),
        pair((4,), tlv(0x04, fmspc)),
        pair((5,), tlv(0x0A, b"\x01" if flags else b"\x00")),
    ]
    if flags is not None:
        parts.append(pair((6,), tlv(0x04, b"\x1d" * 16)))
        parts.append(pair((7,), tlv(0x30, b"".join(pair((7, i + 1), flag(on)) for i, on in enumerate(flags)))))
    return tlv(0x30, b"".join(parts))


@dataclass(frozen=True)
class Signer:
    """A key and its certificate."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @classmethod
    def make(
        cls,
        name: str,
        parent: Signer | None = None,
        *,
        room: int | None = None,
        authority: bool = False,
        extension: bytes | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        days: int = 365,
    ) -> Self:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signer = (parent.certificate.subject, parent.key) if parent else (subject, key)
        begins = datetime.fromtimestamp(NOW - 2 * DAY, UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=room), critical=True)
            .add_extension(usage(sign=not authority, certificates=authority, lists=authority), critical=True)
        )
        if extension is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(SGX_EXTENSION, extension), critical=False)
        return cls(builder.sign(signer, hashes.SHA256()), key)

    def revokes(self, *revoked: Signer, begins: int = ISSUED, ends: int = NEXT_UPDATE) -> bytes:
        """Return this authority's list."""
        since = datetime.fromtimestamp(begins, UTC)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(since)
            .next_update(datetime.fromtimestamp(ends, UTC))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(identifier, critical=False)
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(since).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def sign(self, data: bytes) -> bytes:
        """Sign as quotes and collateral are signed: r, then s."""
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a public key as quotes hold it: x, then y."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def enclave_report(fields: Mapping[str, bytes]) -> bytes:
    return b"".join(fields.get(name, b"").ljust(size, b"\0") for name, size in _ENCLAVE_FIELDS)


def td_report(body: BodyType, fields: Mapping[str, bytes]) -> bytes:
    table = list(TD_1_0_FIELDS)
    if body is not BodyType.TD_1_0:
        table += TD_1_5_FIELDS
    if body is BodyType.TD_1_5_EXTENDED:
        table += SERVICE_FIELDS
    return b"".join(fields.get(name, b"").ljust(size, b"\0") for name, size in table)


def header(version: int, tee_type: int, *, key_type: int = 2, vendor: bytes = INTEL_QE_VENDOR) -> bytes:
    numbers = version.to_bytes(2, "little") + key_type.to_bytes(2, "little") + tee_type.to_bytes(4, "little")
    return numbers + _HEADER_RESERVED + vendor + bytes(20)


def sized(data: bytes, width: int = 4) -> bytes:
    return len(data).to_bytes(width, "little") + data


@dataclass(frozen=True)
class IntelChain:
    """Who signs what."""

    root: Signer
    pck_ca: Signer
    pck: Signer
    tcb_signer: Signer
    quoting_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def make(cls, *, ca: PckCa = PckCa.PLATFORM, extension: bytes | None = None, days: int = 365) -> Self:
        root = Signer.make("Simulated SGX Root CA", authority=True, room=1)
        pck_ca = Signer.make(f"Simulated SGX PCK {ca.capitalize()} CA", root, authority=True, room=0)
        pck = Signer.make("Simulated SGX PCK Certificate", pck_ca, extension=extension or sgx_extension(), days=days)
        return cls(root, pck_ca, pck, Signer.make("Simulated SGX TCB Signing", root))

    def with_extension(self, extension: bytes) -> IntelChain:
        """Return the same chain with another PCK certificate."""
        name = "Simulated SGX PCK Certificate"
        return replace(self, pck=Signer.make(name, self.pck_ca, extension=extension, key=self.pck.key))

    @property
    def anchor(self) -> TrustAnchor:
        return TrustAnchor(Vendor.INTEL_SGX, self.root.der, IsolationClass.VM_SIMULATED)

    @property
    def pck_chain(self) -> bytes:
        return (self.pck.pem + self.pck_ca.pem + self.root.pem).encode()

    def td_quote(
        self,
        report_data: bytes = REPORT_DATA,
        *,
        body: BodyType = BodyType.TD_1_0,
        version: int | None = None,
        quoting: Mapping[str, Any] | None = None,
        **fields: bytes,
    ) -> bytes:
        """Return a TDX quote: version 4 for TD 1.0, else 5; ``quoting`` goes to :meth:`signature_block`."""
        version = version or (4 if body is BodyType.TD_1_0 else 5)
        descriptor = b"" if version == 4 else body.number.to_bytes(2, "little") + body.size.to_bytes(4, "little")
        report = td_report(body, {**TD_FIELDS, "report_data": report_data, **fields})
        signed = header(version, TEE_TDX) + descriptor + report
        return signed + sized(self.signature_block(signed, TEE_TDX, **(quoting or {})))

    def sgx_quote(
        self, report_data: bytes = REPORT_DATA, *, quoting: Mapping[str, Any] | None = None, **fields: bytes
    ) -> bytes:
        """Return an SGX quote, version 3."""
        signed = header(3, TEE_SGX) + enclave_report({**SGX_FIELDS, "report_data": report_data, **fields})
        return signed + sized(self.signature_block(signed, TEE_SGX, **(quoting or {})))

    def signature_block(
        self,
        signed: bytes,
        tee_type: int,
        *,
        committed: bytes | None = None,
        qe_signer: Signer | None = None,
        chain: bytes | None = None,
        chain_type: int = 5,
        nested_type: int = 6,
        authentication: bytes = bytes(32),
        qe_fields: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """Return everything after the body's signature length: ``committed`` is what the QE's report commits to."""
        own = point(self.quoting_key)
        fields = {
            "cpu_svn": CPU_SVN,
            "attributes": (0x15).to_bytes(8, "little") + (0xE7).to_bytes(8, "little"),
            "mr_signer": QE_SIGNER,
            "isv_prod_id": (2 if tee_type == TEE_TDX else 1).to_bytes(2, "little"),
            "isv_svn": QE_ISV_SVN.to_bytes(2, "little"),
            "report_data": sha256((committed or own) + authentication).digest(),
            **(qe_fields or {}),
        }
        report = enclave_report(fields)
        inner = report + (qe_signer or self.pck).sign(report) + sized(authentication, 2)
        inner += chain_type.to_bytes(2, "little") + sized(self.pck_chain if chain is None else chain)
        if tee_type == TEE_TDX:
            inner = nested_type.to_bytes(2, "little") + sized(inner)
        return Signer(self.pck.certificate, self.quoting_key).sign(signed) + own + inner

    def collateral(
        self,
        *,
        tee: str = "TDX",
        status: str = "UpToDate",
        advisories: Sequence[str] = (),
        evaluation: int = EVALUATION,
        issued: int = ISSUED,
        next_update: int = NEXT_UPDATE,
        revoked: Sequence[Signer] = (),
        lists_end: int = NEXT_UPDATE,
        signer: Signer | None = None,
        tcb_info: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return collateral in JSON; ``tcb_info`` and ``identity`` overlay members before they are signed."""
        dates = {"issueDate": format_instant(issued), "nextUpdate": format_instant(next_update)}
        level = {
            "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in CPU_SVN], "pcesvn": PCE_SVN},
            "tcbDate": "2025-08-13T00:00:00Z",
            "tcbStatus": status,
            "advisoryIDs": list(advisories),
        }
        info: dict[str, Any] = {
            "id": tee,
            "version": 3,
            **dates,
            "fmspc": FMSPC.hex().upper(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": evaluation,
        }
        if tee == "TDX":
            level["tcb"]["tdxtcbcomponents"] = [{"svn": svn} for svn in (5, 0, 4, *bytes(13))]  # type: ignore[index]  # a literal
            module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
            up = {"tcb": {"isvsvn": 5}, "tcbDate": "2025-08-13T00:00:00Z", "tcbStatus": "UpToDate"}
            info |= {"tdxModule": module, "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": [up]}]}
        info |= {"tcbLevels": [level], **(tcb_info or {})}
        qe = {
            "id": "TD_QE" if tee == "TDX" else "QE",
            "version": 2,
            **dates,
            "tcbEvaluationDataNumber": evaluation,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15,
            "attributesMask": "FBFFFFFFFFFFFFFF" + "00" * 8,
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": 2 if tee == "TDX" else 1,
            "tcbLevels": [
                {"tcb": {"isvsvn": QE_ISV_SVN}, "tcbDate": "2025-08-13T00:00:00Z", "tcbStatus": "UpToDate"},
            ],
            **(identity or {}),
        }
        texts = {"tcb_info": json.dumps(info), "qe_identity": json.dumps(qe)}
        by = signer or self.tcb_signer
        whole: dict[str, str] = {
            "pck_crl_issuer_chain": self.pck_ca.pem + self.root.pem,
            "root_ca_crl": self.root.revokes(*revoked, ends=lists_end).hex(),
            "pck_crl": self.pck_ca.revokes(*revoked, ends=lists_end).hex(),
        }
        for name, text in texts.items():
            whole |= {
                name: text,
                f"{name}_signature": by.sign(text.encode()).hex(),
                f"{name}_issuer_chain": self.tcb_signer.pem + self.root.pem,
            }
        return json.dumps(whole).encode()

    def endorsements(self, *collateral: bytes) -> Endorsements:
        """Return this root and these pieces of collateral."""
        items = tuple(read_item(CollateralKind.INTEL_TCB, one).item for one in collateral)
        return Endorsements(anchors=TrustAnchors((self.anchor,)), collateral=Collateral(items))


@cache
def intel_chain() -> IntelChain:
    """Return one chain for every test that changes nothing in it."""
    return IntelChain.make()
