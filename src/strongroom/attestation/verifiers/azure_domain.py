"""Is the quote of a trust domain that Azure's paravisor runs in genuine? As :mod:`.intel`, but for one attribute.

Azure launches these domains without SEPT_VE_DISABLE (see :class:`ParavisorTdReport`), and dcap-qvl refuses such quotes
by its last check, whatever the policy, and without a word on the TCB. So all ten steps of :mod:`.intel` are taken, and
only if that last check is the one that fails, these take its place:

1. the TCB information and the quoting enclave's identity are signed by certificates that lead to the same pinned root
   and that no list revokes; every certificate has a current list
2. our own reading of both gives the TCB level

If another version of the library said something else, or said it earlier, the quote would be refused, or step 2 would
refuse what the library didn't come to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from strongroom.attestation import chain
from strongroom.attestation.azure.tcb_levels import verdict
from strongroom.attestation.bindings import ItemBinding, Slot
from strongroom.attestation.chain import Path
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import BadSignatureError, ChainRefusedError, TcbRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.revocation import RevocationLists, load_list
from strongroom.attestation.sev_snp.certificate_table import ders_in
from strongroom.attestation.tdx.bodies import TdAttribute, TdReport
from strongroom.attestation.tdx.collateral import TDX, IntelCollateral, SignedPart, choose
from strongroom.attestation.tdx.pck import Pck
from strongroom.attestation.tdx.quote import Quote
from strongroom.attestation.tdx.tcb import TcbStatus, TcbVerdict
from strongroom.attestation.trust_anchors import Vendor, load_certificate
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.intel import details
from strongroom.attestation.verifiers.tdx import TdxStatement, TdxVerifier
from strongroom.core.clock import Instant

ONLY_OBJECTION: Final = "SEPT_VE_DISABLE is not enabled"
_SIGNATURE_BYTES: Final = 64
_HALF: Final = 32


class AzureDomainVerifier(TdxVerifier):
    """Verifies quotes of domains that Azure's paravisor runs in."""

    def genuine(
        self, statement: TdxStatement, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[TdxStatement]:
        """Take the ten steps of :mod:`.intel`, then the two of this module if they are needed.

        :raises NotGenuineError: a step fails; each has its own subclass.
        :raises MalformedError: a certificate or the collateral can't be read.
        :raises MissingExtraError: dcap-qvl isn't installed.
        """
        report = statement.quote.body
        try:
            return super().genuine(statement, binding, endorsements, at)
        except TcbRefusedError as error:
            if error.seen != ONLY_OBJECTION or TdAttribute.SEPT_VE_DISABLE in report.attribute_names:
                raise
        quote = statement.quote
        pck = Pck.of(load_certificate(quote.pck_chain[0]))
        collateral = _collateral(pck, endorsements, at)
        # 1.
        paths = _paths(quote, collateral, endorsements, at)
        # 2.
        tcb = verdict(
            collateral.tcb_info.text, collateral.qe_identity.text, pck=pck, domain=report, quoting=quote.qe_report
        )
        return self._genuine(statement, binding, tcb, paths, collateral)

    def _genuine(
        self,
        statement: TdxStatement,
        binding: ItemBinding,
        tcb: TcbVerdict,
        paths: tuple[Path, ...],
        collateral: IntelCollateral,
    ) -> Genuine[TdxStatement]:
        report = statement.quote.body
        supported = IsolationClass.CVM if tcb.status is TcbStatus.UP_TO_DATE else IsolationClass.CVM_WEAK
        ends = [path.endorsed_until for path in paths]
        return Genuine(
            kind=self.kind,
            bound=binding.bound({Slot.REPORT_DATA: report.report_data}),
            statement=replace(statement, tcb=tcb),
            measurements={
                name: report.fields()["mr_td" if name == "mrtd" else name].hex()
                for name in self.reference_names | self.optional_names
            },
            hardware_id=tcb.pck.identity,
            isolation=paths[0].anchor.isolation.weaker(supported),
            endorsed_until=min(*ends, collateral.tcb_info.next_update, collateral.qe_identity.next_update),
            revocation_checked=True,
            details={
                "product": f"Intel TDX, quote version {statement.quote.header.version}",
                "attributes": ", ".join(report.attribute_names) or "none",
                **details(tcb),
            },
        )


def _collateral(pck: Pck, endorsements: Endorsements, at: Instant) -> IntelCollateral:
    named = endorsements.collateral.named(CollateralKind.INTEL_TCB, pck.collateral_name)
    collateral = choose(named, tee=TDX, at=at)
    if collateral is None:
        raise TcbRefusedError("Intel's collateral was there before and isn't now")
    collateral.require_current(at)
    return collateral


def _paths(
    quote: Quote[TdReport], collateral: IntelCollateral, endorsements: Endorsements, at: Instant
) -> tuple[Path, ...]:
    """Walk the chains of the platform and of both signed parts, and check those signatures."""
    handed_in = (load_list(collateral.root_ca_crl), load_list(collateral.pck_crl))
    lists = RevocationLists((*endorsements.lists.lists, *handed_in))
    anchors = endorsements.anchors.of(Vendor.INTEL_SGX)
    chains = [quote.pck_chain]
    parts = (collateral.tcb_info, collateral.qe_identity)
    chains += [ders_in(part.issuers.encode()) for part in parts]
    paths = tuple(chain.walk(_below_root(ders), anchors, at, lists=lists) for ders in chains)
    # One root for all: a simulated one must not vouch for what is said of a real platform, nor the other way round.
    if len({path.anchor.digest for path in paths}) != 1:
        raise ChainRefusedError("the platform and Intel's collateral lead to different roots")
    if not all(looked_up for path in paths for looked_up in path.looked_up):
        raise ChainRefusedError("a certificate of the platform or of Intel's collateral has no current revocation list")
    for part, path in zip(parts, paths[1:], strict=True):
        _signed(part, path)
    return paths


def _below_root(ders: tuple[bytes, ...]) -> tuple[bytes, ...]:
    # Intel's root exists in two certificates of one key: the pinned one counts, whichever came along.
    last = load_certificate(ders[-1])
    return ders[:-1] if len(ders) > 1 and last.issuer == last.subject else ders


def _signed(part: SignedPart, path: Path) -> None:
    key = path.leaf.public_key()
    refusal = BadSignatureError("Intel's collateral isn't signed by the certificate beside it")
    if not isinstance(key, ec.EllipticCurvePublicKey) or len(part.signature) != _SIGNATURE_BYTES:
        raise refusal
    r, s = (int.from_bytes(half, "big") for half in (part.signature[:_HALF], part.signature[_HALF:]))
    try:
        key.verify(encode_dss_signature(r, s), part.text.encode(), ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise refusal from None
