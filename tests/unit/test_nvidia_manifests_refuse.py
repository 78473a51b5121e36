"""A reference manifest is believed only as NVIDIA signs it: whole, once, by its own chain, without tricks of XML."""

from __future__ import annotations

import base64

import pytest
from cryptography.x509 import ReasonFlags, ocsp

from simulators.nvidia_chain import (
    BEGIN,
    DAY,
    NOW,
    VBIOS_GOLDEN,
    Shape,
    answer,
    etree,
    issued,
    maker,
    manifest,
    manifest_document,
    revocation_list,
    rim_signer,
    sign_manifest,
)
from strongroom.attestation.errors import CertificateRevokedError, ChainRefusedError, ManifestRefusedError
from strongroom.attestation.nvidia.manifest import FAR_AWAY, Manifest, compare, read_manifest
from strongroom.attestation.ocsp import OcspAnswers
from strongroom.attestation.revocation import NO_LISTS, RevocationLists
from strongroom.attestation.trust_anchors import Vendor, vendor_anchors
from strongroom.core.errors import MalformedError
from strongroom.core.extras import MissingExtraError

VERSION = "96.00.A5.00.01"
DSIG = "{http://www.w3.org/2000/09/xmldsig#}"
GOOD = manifest(VERSION, VBIOS_GOLDEN)


def read(data: bytes, *, at: int = NOW, answers: tuple[bytes, ...] = ()) -> Manifest:
    anchors = maker().anchors.of(Vendor.NVIDIA_RIM)
    return read_manifest(data, anchors, at, lists=NO_LISTS, answers=OcspAnswers.load(answers))


def changed(data: bytes, old: str, new: str) -> bytes:
    assert old.encode() in data
    return data.replace(old.encode(), new.encode())


def test_a_whole_manifest_is_read() -> None:
    found = read(GOOD)
    assert found.version == VERSION
    assert found.signer_current
    assert dict(found.golden) == {index: tuple(values) for index, values in VBIOS_GOLDEN.items()}
    assert (found.unread, found.revocation_checked) == (0, False)
    measured = {index + 1: values[1] for index, values in VBIOS_GOLDEN.items()}
    assert compare(found, measured, skipped=frozenset()) == ()
    assert compare(found, {}, skipped=frozenset({0, 1})) == (2, 9)


def test_the_makers_own_root_refuses_simulated_manifests() -> None:
    with pytest.raises(ChainRefusedError):
        read_manifest(GOOD, vendor_anchors().of(Vendor.NVIDIA_RIM), NOW, lists=NO_LISTS, answers=OcspAnswers.load(()))


def test_changed_text_is_refused() -> None:
    value = VBIOS_GOLDEN[9][1].hex()
    for data in (
        changed(GOOD, value, bytes(48).hex()),
        changed(GOOD, 'index="9"', 'index="8"'),
        changed(GOOD, VERSION, "96.00.A5.00.02"),
        changed(GOOD, 'active="False"', 'active="True"'),
        changed(GOOD, "<Payload>", "<Payload> "),
    ):
        with pytest.raises(ManifestRefusedError):
            read(data)


def test_comments_do_not_change_what_is_read() -> None:
    # Canonical XML leaves comments out, so they aren't signed; what is read is the canonical text.
    commented = changed(GOOD, "<Payload>", "<Payload><!-- x -->")
    assert read(commented) == read(GOOD)


def test_a_document_type_or_an_entity_is_refused_in_any_encoding() -> None:
    text = GOOD.decode()
    for hidden in (
        '<!DOCTYPE x [<!ENTITY y "z">]>' + text,
        '<?xml version="1.0"?><!DOCTYPE SoftwareIdentity>' + text,
    ):
        with pytest.raises(MalformedError):
            read(hidden.encode())
        for encoding in ("utf-16", "utf-7", "cp037"):
            with pytest.raises(MalformedError):
                read(hidden.encode(encoding))


@pytest.mark.parametrize(
    "hidden",
    [
        # What Canonical XML takes seconds for at this size, and days at the size that is read.
        "<x " + " ".join(f"xmlns:a{i}='u:{i}'" for i in range(600)) + ">" + "<y/>" * 600 + "</x>",
        "<x " + " ".join(f"xmlns:{'a' * 7000}{i}='u:{i}'" for i in range(40)) + ">" + "<y/>" * 1500 + "</x>",
        "<x " + " ".join(f"a{i}=''" for i in range(20_000)) + "/>",
        "<y/>" * 200_000,
        "<!-- -->" * 100_000,
    ],
    ids=["namespaces", "prefixes", "attributes", "elements", "comments"],
)
def test_a_document_that_is_slow_to_write_canonically_is_refused_before(hidden: str) -> None:
    with pytest.raises(MalformedError, match="more elements, attributes or namespaces than are read"):
        read(changed(GOOD, "<Payload>", f"{hidden}<Payload>"))


def test_a_second_signature_or_one_elsewhere_is_refused() -> None:
    root = etree.fromstring(GOOD)
    signature = root.find(f"{DSIG}Signature")
    moved = etree.fromstring(GOOD)
    payload = moved[1]
    payload.append(moved.find(f"{DSIG}Signature"))
    twice = etree.fromstring(GOOD)
    twice.append(etree.fromstring(etree.tostring(signature)))
    none = etree.fromstring(GOOD)
    none.remove(none.find(f"{DSIG}Signature"))
    for one in (moved, twice, none):
        with pytest.raises(ManifestRefusedError):
            read(etree.tostring(one))


def test_wrapping_the_signed_manifest_into_another_is_refused() -> None:
    hostile = etree.fromstring(manifest_document(VERSION, {9: (bytes(48),)}))
    signed = etree.fromstring(GOOD)
    signature = signed.find(f"{DSIG}Signature")
    hostile.append(signed)
    hostile.append(signature)
    with pytest.raises(ManifestRefusedError):
        read(etree.tostring(hostile))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('URI=""', 'URI="#x"'),
        ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
        ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha384"),
        ("http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2000/09/xmldsig#sha1"),
        ("http://www.w3.org/2000/09/xmldsig#enveloped-signature", "http://www.w3.org/2000/09/xmldsig#base64"),
        ("http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
    ],
    ids=["reference", "method", "hmac", "digest", "transform", "canonical"],
)
def test_other_algorithms_and_references_are_refused(old: str, new: str) -> None:
    with pytest.raises(ManifestRefusedError):
        read(changed(GOOD, old, new))


def test_what_the_maker_signs_in_another_shape_is_refused() -> None:
    signer = rim_signer()
    document = manifest_document(VERSION, VBIOS_GOLDEN)
    assert read(sign_manifest(document, signer)).version == VERSION
    exclusive = sign_manifest(document, signer, canonical="http://www.w3.org/2001/10/xml-exc-c14n#")
    part = sign_manifest(document.replace("<Payload>", '<Payload Id="part">'), signer, reference="#part")
    for data in (exclusive, part):
        with pytest.raises(ManifestRefusedError):
            read(data)


@pytest.mark.parametrize("ended", [False, True])
def test_a_signer_on_its_issuers_list_is_refused_even_when_its_time_is_over(*, ended: bool) -> None:
    signer = rim_signer(end=NOW - DAY) if ended else rim_signer()
    data, anchors = manifest(VERSION, VBIOS_GOLDEN, signer=signer), maker().anchors.of(Vendor.NVIDIA_RIM)
    issuer = maker().rim_authority
    clean = RevocationLists.load([revocation_list(issuer), revocation_list(maker().rim_root)])
    found = read_manifest(data, anchors, NOW, lists=clean, answers=OcspAnswers(()))
    assert (found.revocation_checked, found.endorsed_until) == (True, NOW + DAY)
    named = RevocationLists.load([revocation_list(issuer, signer)])
    with pytest.raises(CertificateRevokedError):
        read_manifest(data, anchors, NOW, lists=named, answers=OcspAnswers(()))


def test_another_maker_s_signer_and_one_that_may_not_sign_are_refused() -> None:
    stranger = issued(Shape(name="HCC RIM L4 Signer", ca=False, signs_certificates=False, signs=True))
    for signer in (stranger, rim_signer(signs=False), rim_signer(ca=True)):
        with pytest.raises(ChainRefusedError):
            read(manifest(VERSION, VBIOS_GOLDEN, signer=signer))
    # The certificate of a signer with the signature of another.
    other, signer = manifest(VERSION, VBIOS_GOLDEN), rim_signer()
    found = etree.fromstring(other).find(f".//{DSIG}X509Certificate").text.encode()
    with pytest.raises(ManifestRefusedError):
        read(other.replace(found, base64.b64encode(signer.der)))


def test_a_signer_whose_time_is_over_is_told_and_one_whose_time_has_not_come_is_refused() -> None:
    ended = manifest(VERSION, VBIOS_GOLDEN, signer=rim_signer(end=NOW - DAY))
    found = read(ended)
    assert not found.signer_current
    assert found.endorsed_until == FAR_AWAY
    early = manifest(VERSION, VBIOS_GOLDEN, signer=rim_signer(begin=NOW + DAY))
    with pytest.raises(ChainRefusedError):
        read(early)
    current = rim_signer(begin=BEGIN, end=NOW + 5 * DAY)
    assert read(manifest(VERSION, VBIOS_GOLDEN, signer=current)).endorsed_until == NOW + 5 * DAY


@pytest.mark.parametrize("reason", [None, ReasonFlags.certificate_hold, ReasonFlags.key_compromise])
@pytest.mark.parametrize("ended", [False, True])
def test_a_revoked_signer_or_one_on_hold_is_refused_even_when_its_time_is_over(
    reason: ReasonFlags | None, *, ended: bool
) -> None:
    signer = rim_signer(end=NOW - DAY) if ended else rim_signer()
    told = answer(signer, maker().rim_authority, status=ocsp.OCSPCertStatus.REVOKED, reason=reason)
    with pytest.raises(CertificateRevokedError):
        read(manifest(VERSION, VBIOS_GOLDEN, signer=signer), answers=(told,))


def test_records_that_are_not_read_keep_a_manifest_from_matching() -> None:
    floor = '<Resource type="MinSvn" index="101" active="True" name="FSP_UCODE_MIN_SVN"/>'
    assert read(manifest(VERSION, VBIOS_GOLDEN, extra=floor)).unread == 1
    idle = floor.replace("True", "False")
    assert read(manifest(VERSION, VBIOS_GOLDEN, extra=idle)).unread == 0


@pytest.mark.parametrize(
    "record",
    [
        '<Resource type="Measurement" index="9" active="True" alternatives="1" n2:Hash0="00" size="1"/>',
        '<Resource type="Measurement" index="x" active="True" alternatives="1" n2:Hash0="00" size="1"/>',
        '<Resource type="Measurement" index="40" active="True" alternatives="0" size="1"/>',
        '<Resource type="Measurement" index="40" active="True" alternatives="2" n2:Hash0="00" size="1"/>',
        '<Resource type="Measurement" index="40" active="True" alternatives="1" n2:Hash0="0g" size="1"/>',
        '<Resource type="Measurement" index="40" active="True" alternatives="1" n2:Hash0="0000" size="1"/>',
        '<Resource type="Measurement" index="40" active="True" alternatives="9999" n2:Hash0="00" size="1"/>',
    ],
    ids=["twice", "index", "none", "missing", "hex", "size", "many"],
)
def test_records_that_make_no_sense_are_refused_though_signed(record: str) -> None:
    with pytest.raises(MalformedError):
        read(manifest(VERSION, VBIOS_GOLDEN, extra=record))


def test_too_large_or_foreign_documents_are_refused() -> None:
    for data in (b"", b"<a/>", b"<SoftwareIdentity/>", b"<" * 100, GOOD + b" " * (1024 * 1024), GOOD[:-10]):
        with pytest.raises(MalformedError):
            read(data)
    many = '<Resource type="Measurement" index="1" active="False"/>' * 600
    with pytest.raises(MalformedError):
        read(manifest(VERSION, VBIOS_GOLDEN, extra=many))


def test_without_the_xml_libraries_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingExtraError) as caught:
        read(GOOD)
    assert "strongroom[nvidia]" in caught.value.remedy
