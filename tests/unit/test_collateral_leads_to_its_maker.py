"""An item counts for the maker whose pinned root vouches for it; one wrong step anywhere, and nobody vouches."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from simulators import nvidia_chain, sev_snp_chain
from simulators.intel_chain import NOW, IntelChain, intel_chain
from strongroom.attestation.bundle.format import EMPTY, Bundle
from strongroom.attestation.bundle.merge import admit
from strongroom.attestation.bundle.proof import (
    MAX_NAMED,
    MAX_OF_ONE_NAME,
    Authorities,
    CollateralUnprovenError,
    prove,
)
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.errors import NotGenuineError
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.trust_anchors import Vendor, vendor_anchors
from strongroom.core.errors import MalformedError
from support.collateral import RIM_ID, certificate, device, items, rim, simulated_anchors, whole


def refused(bundle: Bundle, match: str | None = None) -> None:
    with pytest.raises(CollateralUnprovenError, match=match):
        admit(EMPTY, bundle, simulated_anchors(), NOW)


def test_each_item_names_its_maker() -> None:
    authorities = Authorities.of(whole().collateral.certificates, simulated_anchors(), NOW)
    proofs = {(read.item.kind, read.item.name): prove(read, authorities) for read in whole().items}
    makers = {kind: {proof.vendor for (one, _name), proof in proofs.items() if one is kind} for kind in CollateralKind}
    assert makers == {
        CollateralKind.CERTIFICATE: {Vendor.AMD_SEV, Vendor.NVIDIA_DEVICE},
        CollateralKind.REVOCATION_LIST: {Vendor.AMD_SEV},
        CollateralKind.INTEL_TCB: {Vendor.INTEL_SGX},
        CollateralKind.NVIDIA_RIM: {Vendor.NVIDIA_RIM},
        CollateralKind.OCSP_ANSWER: {Vendor.NVIDIA_DEVICE},
    }
    assert all(proof.simulated for proof in proofs.values())


def test_no_simulated_item_leads_to_a_real_root() -> None:
    authorities = Authorities.of(whole().collateral.certificates, vendor_anchors(), NOW)
    for read in whole().items:
        with pytest.raises(NotGenuineError):
            prove(read, authorities)


def test_what_has_expired_is_still_its_makers() -> None:
    merged, _makers = admit(EMPTY, whole(), simulated_anchors(), NOW + 40 * 365 * 86400)
    assert merged.added == len(whole().items)


def test_a_certificate_of_another_family_is_refused() -> None:
    milan = sev_snp_chain.Machine(product=Product.MILAN)
    refused(items(certificate(sev_snp_chain.authorities().ask.der), certificate(milan.certificate())), "milan/vcek")


def test_a_list_counts_only_from_the_ca_that_signed_it() -> None:
    theirs = ec.generate_private_key(ec.SECP384R1())
    since = datetime.fromtimestamp(NOW, UTC)
    forged = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(sev_snp_chain.authorities().ark.certificate.subject)
        .last_update(since)
        .next_update(since + timedelta(days=30))
        .sign(theirs, hashes.SHA384())
        .public_bytes(Encoding.DER)
    )
    refused(items((CollateralKind.REVOCATION_LIST, forged)), "no CA that leads to a pinned root signed it")


def intel_with(**members: Any) -> Bundle:
    told = json.loads(intel_chain().collateral())
    return items((CollateralKind.INTEL_TCB, json.dumps({**told, **members}).encode()))


def test_intels_texts_are_signed_each_by_itself() -> None:
    told = json.loads(intel_chain().collateral())
    swapped = {"tcb_info_signature": told["qe_identity_signature"]}
    refused(intel_with(**swapped), "Intel's signature isn't over this text")
    for name in ("tcb_info", "qe_identity"):
        refused(intel_with(**{name: told[name].replace('"version": ', '"version":  ')}), "isn't over this text")
    refused(intel_with(tcb_info_signature=told["tcb_info_signature"][:-2]), "length")


def test_a_platforms_key_says_nothing_of_platforms() -> None:
    chain = intel_chain()
    told = json.loads(chain.collateral(signer=chain.pck))
    own = chain.pck.pem + chain.pck_ca.pem + chain.root.pem
    told |= {"tcb_info_issuer_chain": own, "qe_identity_issuer_chain": own}
    refused(items((CollateralKind.INTEL_TCB, json.dumps(told).encode())), "TCB signing certificate")


def test_intels_lists_are_their_cas() -> None:
    told = json.loads(intel_chain().collateral())
    other = IntelChain.make()
    refused(intel_with(pck_crl=other.pck_ca.revokes().hex()), "PCK CA's revocation list")
    refused(intel_with(root_ca_crl=other.root.revokes().hex()), "root CA's revocation list")
    refused(intel_with(pck_crl_issuer_chain=other.pck_ca.pem + other.root.pem), "pinned root")
    refused(intel_with(tcb_info_issuer_chain=other.tcb_signer.pem + other.root.pem), "pinned root")
    with pytest.raises(MalformedError, match="PEM"):
        intel_with(tcb_info_issuer_chain="nothing")
    assert told["pck_crl"] != other.pck_ca.revokes().hex()


def test_authorities_are_sought_once_for_any_number_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # A file of two thousand made-up CAs and as many made-up answers would take minutes.
    asked = []
    path = Authorities.path

    def counted(self: Authorities, certificate: x509.Certificate, depth: int = 0) -> object:
        asked.append(certificate)
        return path(self, certificate, depth)

    monkeypatch.setattr(Authorities, "path", counted)
    answer = next(read for read in whole().items if read.item.kind is CollateralKind.OCSP_ANSWER)
    authorities = Authorities.of(whole().collateral.certificates, vendor_anchors(), NOW)
    counts = []
    for _ in range(3):
        with pytest.raises(CollateralUnprovenError):
            prove(answer, authorities)
        counts.append(len(asked))
    assert counts[0] == counts[-1] > 0


def test_a_manifest_that_was_changed_is_refused() -> None:
    changed = rim().replace(b"00" * 48, b"11" * 48)
    refused(items((CollateralKind.NVIDIA_RIM, changed, RIM_ID)), RIM_ID)


@pytest.mark.parametrize("by", ["another CA", "its own subject", "a responder for nothing"])
def test_an_answer_counts_only_from_the_issuer_or_its_responder(by: str) -> None:
    made = nvidia_chain.maker()
    signer = {
        "another CA": made.rim_authority,
        "its own subject": device().factory,
        "a responder for nothing": nvidia_chain.responder(made.provisioner, purposes=False),
    }[by]
    answer = nvidia_chain.answer(device().factory, made.provisioner, signer=signer)
    chain = (certificate(made.family.der), certificate(made.provisioner.der))
    refused(items(*chain, (CollateralKind.OCSP_ANSWER, answer)), "no CA that leads to a pinned root signed it")
    good = nvidia_chain.responder(made.provisioner)
    answer = nvidia_chain.answer(device().factory, made.provisioner, signer=good)
    assert admit(EMPTY, items(*chain, (CollateralKind.OCSP_ANSWER, answer)), simulated_anchors(), NOW)


def test_an_answer_without_its_cas_is_refused() -> None:
    answer = nvidia_chain.answer(device().factory, nvidia_chain.maker().provisioner)
    refused(items((CollateralKind.OCSP_ANSWER, answer)))


def test_an_answer_that_is_none_is_no_item() -> None:
    busy = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    with pytest.raises(MalformedError, match="can't answer"):
        items((CollateralKind.OCSP_ANSWER, busy.public_bytes(Encoding.DER)))


def test_refusals_name_some_and_count_all() -> None:
    strangers = [sev_snp_chain._authority(f"SEV-{number}", None) for number in range(MAX_NAMED + 2)]
    with pytest.raises(CollateralUnprovenError) as caught:
        admit(EMPTY, items(*(certificate(one.der) for one in strangers)), simulated_anchors(), NOW)
    assert caught.value.message.startswith(f"no pinned root vouches for {MAX_NAMED + 2} of the items")
    assert caught.value.message.endswith("; and 2 more")


def test_a_flood_of_cas_of_one_name_is_refused_before_any_is_tried() -> None:
    flood = items(*(certificate(sev_snp_chain._authority("SEV-Genoa", None).der) for _ in range(MAX_OF_ONE_NAME + 1)))
    with pytest.raises(MalformedError, match="of one name"):
        admit(EMPTY, flood, simulated_anchors(), NOW)
