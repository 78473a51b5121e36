"""AMD's roots ship pinned, each with the class that its chips deserve, and its intermediates lead to them."""

from __future__ import annotations

from strongroom.attestation import chain
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.sev_snp.endorsement_key import common_name
from strongroom.attestation.sev_snp.intermediates import shipped_intermediates
from strongroom.attestation.trust_anchors import Vendor, load_certificate, vendor_anchors

AT = 1_795_000_000
ROOTS = {
    "ARK-Milan": IsolationClass.CVM_WEAK,
    "ARK-Genoa": IsolationClass.CVM,
    "ARK-Turin": IsolationClass.CVM,
}


def test_each_root_signs_itself_and_milan_vouches_for_less() -> None:
    found = {}
    for anchor in vendor_anchors().of(Vendor.AMD_SEV):
        root = load_certificate(anchor.certificate)
        assert chain.signed_by(root, root)
        found[common_name(root.subject)] = anchor.isolation
    assert found == ROOTS


def test_each_intermediate_leads_to_its_products_root() -> None:
    anchors = vendor_anchors().of(Vendor.AMD_SEV)
    seen = []
    for der in shipped_intermediates():
        path = chain.walk([der], anchors, AT)
        name, root = common_name(path.leaf.subject), common_name(path.certificates[-1].subject)
        seen.append(name)
        assert name.removeprefix("SEV-").removeprefix("VLEK-") == root.removeprefix("ARK-")
    assert sorted(seen) == sorted(f"SEV-{kind}{line}" for kind in ("", "VLEK-") for line in ("Milan", "Genoa", "Turin"))
