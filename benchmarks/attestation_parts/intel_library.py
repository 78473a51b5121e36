"""``dcap_qvl`` alone, on the same quotes: what of our figures for Intel is its, and what it says of debug."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

from benchmarks.attestation_parts.ours import Work

from simulators.intel_chain import intel_chain
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.tdx.collateral import SGX, TDX, IntelCollateral
from strongroom.attestation.trust_anchors import Vendor
from strongroom.core.extras import need
from support import simulated_evidence

VERSION: Final = version("dcap-qvl")
dcap_qvl = need("dcap_qvl", extra="intel")


def verifying(work: Work) -> Callable[[bytes], object]:
    """Return its own ``verify``, by its own default policy, with our collateral and root."""
    tee = SGX if work.kind is EvidenceKind.SGX else TDX
    read = map(IntelCollateral.parse, work.endorsements.collateral.data(CollateralKind.INTEL_TCB))
    collateral = _collateral(next(one for one in read if one.tee == tee))
    # Simulators' roots stand behind the real one.
    root = work.endorsements.anchors.of(Vendor.INTEL_SGX)[-1].certificate
    return lambda quote: dcap_qvl.verify_with_root_ca(quote, collateral, root, work.at)


def says_of_debug() -> str:
    """Tell what it says of a domain under debug, signed and of an up-to-date platform."""
    quote = intel_chain().td_quote(td_attributes=(1 << 28 | 1).to_bytes(8, "little"))
    collateral = _collateral(IntelCollateral.parse(intel_chain().collateral()))
    try:
        dcap_qvl.verify_with_root_ca(quote, collateral, intel_chain().root.der, simulated_evidence.AT)
    except ValueError as error:
        return f"refused: {error}"
    return "accepted"


def _collateral(read: IntelCollateral) -> Any:
    return dcap_qvl.QuoteCollateralV3(
        read.pck_crl_issuers,
        read.root_ca_crl,
        read.pck_crl,
        read.tcb_info.issuers,
        read.tcb_info.text,
        read.tcb_info.signature,
        read.qe_identity.issuers,
        read.qe_identity.text,
        read.qe_identity.signature,
    )
