"""NVIDIA's reference integrity manifests (RIM): SWID tags (ISO/IEC 19770-2, TCG RIM) with the measurements that a
driver, a VBIOS or a switch's BIOS should have, signed with XML-DSig.

A manifest doesn't state its own id. It is found by the id that the report's fields make, and then must state the
version that the report states; what ties it to the device in the end is that the measurements match.

Signature wrapping (McIntosh and Austel, 2005) is kept out by shape: one signature, a child of the root, one reference
to the whole document, the two transforms that NVIDIA uses; and measurements are read from the canonical bytes that were
verified, never from the document.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509

from strongroom.attestation.chain import MAX_DEPTH, Path, is_ca, walk
from strongroom.attestation.errors import ChainRefusedError, ManifestRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.nvidia.chains import with_lists
from strongroom.attestation.ocsp import OcspAnswers
from strongroom.attestation.revocation import NO_LISTS, RevocationLists
from strongroom.attestation.trust_anchors import TrustAnchor, load_certificate
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError
from strongroom.core.extras import need

MAX_MANIFEST: Final = 1024 * 1024
MAX_RESOURCES: Final = 512
MAX_ALTERNATIVES: Final = 64
MAX_NODES: Final = 2048
"""Elements, comments and instructions of a document: a record is one."""
MAX_ATTRIBUTES: Final = 2 * MAX_ALTERNATIVES
"""Of one element."""
MAX_NAMESPACES: Final = 64
"""Declarations in a whole document."""
MAX_PREFIX: Final = 64
VIDEO_DECODER_INDEX: Final = 35
EXTRA: Final = "nvidia"
FAR_AWAY: Final[Instant] = 253402300799
"""The end of the year 9999, up to which NVIDIA's device certificates run."""
_STANDARD_INDEXES: Final = 64
_SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_HASH: Final = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_DSIG: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_C14N11: Final = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_DIGITS: Final = re.compile(r"[0-9]{1,4}")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2}){1,128}")


class Component(StrEnum):
    """What a manifest speaks of."""

    DRIVER = "driver"
    VBIOS = "vbios"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A genuine manifest. ``golden`` holds what each active measurement may be, by its index from 0."""

    version: str
    golden: Mapping[int, tuple[bytes, ...]]
    unread: int
    """Active records of a kind that isn't read: a floor for a security version, say."""
    signer_current: bool
    """The signer's chain is valid at the instant. If not, it was when the last of it ended."""
    isolation: IsolationClass
    endorsed_until: Instant
    """When the first of the signer's chain, or of what it was looked up in, ends. A chain whose time is over counts as
    far away: no later instant of it is relied on."""
    revocation_checked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestMatch:
    """How a report's measurements compare with one manifest."""

    component: Component
    name: str
    """The manifest's id."""
    found: bool
    """False when the collateral has no manifest of this name; then nothing else is known."""
    signer_current: bool = False
    compared: int = 0
    mismatches: tuple[int, ...] = ()
    """Indexes, from 0, whose measurement is missing or has none of the allowed values."""
    unread: int = 0

    @property
    def matches(self) -> bool:
        """True when there was something to compare and all of it agreed; a manifest without values proves nothing."""
        return self.found and self.compared > 0 and not self.mismatches and not self.unread

    def __str__(self) -> str:
        if not self.found:
            return f"{self.name}: not in collateral"
        told = f"{self.name}: {self.compared - len(self.mismatches)} of {self.compared}"
        if self.mismatches:
            told += f", not {', '.join(map(str, self.mismatches[:16]))}"
        return f"{told}, {self.unread} not read" if self.unread else told


def read_manifest(
    data: bytes, anchors: tuple[TrustAnchor, ...], at: Instant, *, lists: RevocationLists, answers: OcspAnswers
) -> Manifest:
    """Verify a manifest's signature and chain, and read what was signed.

    :raises MalformedError: not a manifest's form.
    :raises ManifestRefusedError: the signature or its shape is refused.
    :raises ChainRefusedError: the signer doesn't lead to a pinned root, or isn't valid yet.
    :raises CertificateRevokedError: the signer, or a CA above it, is revoked or on hold.
    :raises MissingExtraError: the XML libraries aren't installed.
    """
    document = _document(data)
    chain = _certificates(_shaped_signature(document))
    path, when = _walked(chain, anchors, at, lists)
    path = answers.of_path(path, at, lists=lists)
    signed = _verified(document, path, when)
    golden, unread = _golden(signed)
    return Manifest(
        version=_version(signed),
        golden=golden,
        unread=unread,
        signer_current=when == at,
        isolation=path.anchor.isolation,
        endorsed_until=path.endorsed_until,
        revocation_checked=all(path.looked_up),
    )


def compare(manifest: Manifest, measurements: Mapping[int, bytes], *, skipped: frozenset[int]) -> tuple[int, ...]:
    """Return the indexes that disagree. A report counts its blocks from 1 and a manifest from 0."""
    return tuple(
        index
        for index, allowed in sorted(manifest.golden.items())
        if index not in skipped and measurements.get(index + 1) not in allowed
    )


def _document(data: bytes) -> Any:
    if len(data) > MAX_MANIFEST:
        raise MalformedError(f"a reference manifest has {len(data)} bytes; at most {MAX_MANIFEST} are read")
    if b"\0" in data or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise MalformedError("a reference manifest has no document type and no entities")
    etree = need("lxml.etree", extra=EXTRA)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise MalformedError("a reference manifest isn't well-formed XML") from None
    # Entities only serve to make a reader see other text than was signed. None was resolved, and none may be declared.
    if root.getroottree().docinfo.internalDTD is not None:
        raise MalformedError("a reference manifest has no document type and no entities")
    if root.tag != f"{_SWID}SoftwareIdentity":
        raise MalformedError("a reference manifest is a SWID tag (ISO/IEC 19770-2)")
    # Canonical XML is written before a signature can be checked, in a time that grows with nodes times the square of
    # namespaces and their prefixes' length, and with the square of attributes: a document of 1 MB would take days.
    nodes = list(islice(root.iter(), MAX_NODES + 1))
    declared = list(islice(etree.iterwalk(root, events=("start-ns",)), MAX_NAMESPACES + 1))
    if (
        len(nodes) > MAX_NODES
        or len(declared) > MAX_NAMESPACES
        or any(len(prefix or "") > MAX_PREFIX for _event, (prefix, _name) in declared)
        or any(len(one.attrib) > MAX_ATTRIBUTES for one in nodes)
    ):
        raise MalformedError("a reference manifest has more elements, attributes or namespaces than are read")
    return root


def _shaped_signature(root: Any) -> Any:
    signatures = list(root.iter(f"{_DSIG}Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not root:
        raise ManifestRefusedError("a reference manifest has one signature, as a child of its root")
    signature = signatures[0]
    parts = [child.tag for child in signature]
    if parts != [f"{_DSIG}{name}" for name in ("SignedInfo", "SignatureValue", "KeyInfo")]:
        raise ManifestRefusedError("a reference manifest's signature has other parts than NVIDIA's")
    references = signature[0].findall(f"{_DSIG}Reference")
    if len(references) != 1 or references[0].get("URI") != "":
        raise ManifestRefusedError("a reference manifest's signature covers the whole document, and only that")
    transforms = [step.get("Algorithm") for step in references[0].iter(f"{_DSIG}Transform")]
    method = signature[0].find(f"{_DSIG}CanonicalizationMethod")
    if transforms != [_ENVELOPED, _C14N11] or method is None or method.get("Algorithm") != _C14N11:
        raise ManifestRefusedError("a reference manifest's signature uses other transforms than NVIDIA's")
    return signature


def _certificates(signature: Any) -> tuple[bytes, ...]:
    texts = [one.text or "" for one in signature[2].iterfind(f"{_DSIG}X509Data/{_DSIG}X509Certificate")]
    if not 1 <= len(texts) <= MAX_DEPTH:
        raise ManifestRefusedError(f"a reference manifest brings 1 to {MAX_DEPTH} certificates")
    try:
        return tuple(base64.b64decode("".join(text.split()), validate=True) for text in texts)
    except (binascii.Error, ValueError):
        raise MalformedError("a certificate in a reference manifest isn't base64") from None


def _walked(
    chain: tuple[bytes, ...], anchors: tuple[TrustAnchor, ...], at: Instant, lists: RevocationLists
) -> tuple[Path, Instant]:
    """Walk the signer's chain as of ``at``, or as of the last instant at which all of it was valid.

    Signers live for two years and their manifests for longer, without a time stamp. So an ended chain is walked at its
    end; whether that is enough is a policy's choice.
    """
    when = min(at, *(int(load_certificate(der).not_valid_after_utc.timestamp()) for der in chain))
    path = walk(chain, anchors, when, lists=NO_LISTS)
    if when != at:
        path = replace(path, endorsed_until=FAR_AWAY)  # its end is behind us; what is looked up now has an end still
    # What is known of the signer today counts, also where the chain is walked as of an earlier instant.
    path = with_lists(path, lists, at)
    try:
        may_sign = path.leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        may_sign = False
    if not may_sign or is_ca(path.leaf):
        raise ChainRefusedError("the signer of a reference manifest may not sign")
    return path, when


def _verified(root: Any, path: Path, when: Instant) -> Any:
    signxml, etree = need("signxml", extra=EXTRA), need("lxml.etree", extra=EXTRA)
    config = signxml.SignatureConfiguration(
        location="./",
        signature_methods=frozenset({signxml.SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({signxml.DigestAlgorithm.SHA384}),
        verification_time=datetime.fromtimestamp(when, UTC),
    )
    try:
        # The certificate was walked to a pinned root before; the library compares bytes and believes nothing.
        result = signxml.XMLVerifier().verify(root, x509_cert=path.leaf, expect_config=config)
    except (signxml.exceptions.SignXMLException, etree.LxmlError, ValueError, TypeError):
        raise ManifestRefusedError(
            "a reference manifest's signature isn't its signer's, or covers other text"
        ) from None
    if result.signed_xml is None or result.signed_xml.tag != f"{_SWID}SoftwareIdentity":
        raise ManifestRefusedError("a reference manifest's signature covers something else than the manifest")
    return result.signed_xml


def _version(signed: Any) -> str:
    metas = signed.findall(f"{_SWID}Meta")
    version = metas[0].get("colloquialVersion", "") if len(metas) == 1 else ""
    if not 1 <= len(version) <= 64:
        raise MalformedError("a reference manifest states one version")
    return str(version)


def _golden(signed: Any) -> tuple[Mapping[int, tuple[bytes, ...]], int]:
    payloads = signed.findall(f"{_SWID}Payload")
    if len(payloads) != 1 or len(payloads[0]) > MAX_RESOURCES:
        raise MalformedError(f"a reference manifest has one payload of at most {MAX_RESOURCES} records")
    golden: dict[int, tuple[bytes, ...]] = {}
    unread = 0
    for record in payloads[0]:
        if not isinstance(record.tag, str) or record.get("active") == "False":
            continue
        index = _number(record, "index")
        if (
            record.tag != f"{_SWID}Resource"
            or record.get("type") != "Measurement"
            or record.get("active") != "True"
            or index >= _STANDARD_INDEXES
        ):
            unread += 1
            continue
        if index in golden:
            raise MalformedError("a measurement stands twice in a reference manifest")
        golden[index] = _alternatives(record)
    return MappingProxyType(golden), unread


def _alternatives(record: Any) -> tuple[bytes, ...]:
    count, size = _number(record, "alternatives"), _number(record, "size")
    texts = [record.get(f"{_HASH}{number}", "") for number in range(min(count, MAX_ALTERNATIVES + 1))]
    if not 1 <= count <= MAX_ALTERNATIVES or not all(_HEX.fullmatch(text) for text in texts):
        raise MalformedError("a measurement in a reference manifest isn't written in hex")
    values = tuple(bytes.fromhex(text) for text in texts)
    if any(len(value) != size for value in values):
        raise MalformedError("a measurement in a reference manifest has another size than it says")
    return values


def _number(record: Any, name: str) -> int:
    text = record.get(name, "")
    if not _DIGITS.fullmatch(text):
        raise MalformedError(f"`{name}` of a record in a reference manifest isn't a number")
    return int(text)
