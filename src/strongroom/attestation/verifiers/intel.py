"""Is a quote by an Intel quoting enclave genuine? What TDX and SGX share; ten steps, and the first that fails says so.

 1. the attestation key in the quote signed it         6. not under debug
 2. the quoting enclave's report commits to that key   7. no attributes that no policy accepts
 3. the PCK certificate's key signed that report       8. Intel's collateral is current, and names its signer
 4. the PCK certificate leads to a pinned Intel root   9. dcap-qvl verifies it all again, with TCB, identity and CRLs
    and isn't revoked                                 10. dcap-qvl read the same report and the same platform
 5. report data = our binding

Steps 1 to 7 need no collateral. Where there is none they make a quote genuine, of a platform whose TCB isn't known: it
has no isolation class, and no policy can take it. Collateral that is there and has ended is refused.
dcap-qvl is never asked to fetch anything. It passes platforms of every status but `Revoked`; the policy decides those.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from strongroom.attestation.bindings import Bound, ItemBinding, Slot
from strongroom.attestation.chain import Path, signed_by, walk
from strongroom.attestation.claims import Aspect, Claim
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    ChainRefusedError,
    DebugModeError,
    EvidenceAmbiguousError,
    TcbRefusedError,
    UnsafeAttributesError,
    WrongStructureError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.intel import within
from strongroom.attestation.revocation import RevocationLists, load_list
from strongroom.attestation.tdx.bodies import EnclaveReport, TdReport
from strongroom.attestation.tdx.collateral import SGX, TDX, IntelCollateral, choose
from strongroom.attestation.tdx.pck import Pck
from strongroom.attestation.tdx.quote import Quote
from strongroom.attestation.tdx.tcb import TcbStatus, TcbVerdict, without_collateral
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor, load_certificate
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.extras import need

_MAX_SAID: Final = 160
_HASH_BYTES: Final = 32
_FLAGS: Final = {"True": True, "False": False, "Undefined": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a genuine quote rests on."""

    bound: Bound
    tcb: TcbVerdict
    isolation: IsolationClass
    endorsed_until: Instant
    revocation_checked: bool


def prove(quote: Quote[Any], binding: ItemBinding, endorsements: Endorsements, at: Instant) -> Proof:
    """Take the ten steps.

    :raises NotGenuineError: a step fails; each has its own subclass.
    :raises MalformedError: a certificate or the collateral can't be read.
    :raises MissingExtraError: dcap-qvl isn't installed.
    """
    # 1.
    _signed(_attestation_key(quote), quote.signature, quote.signed, "the attestation key in the quote")
    # 2.
    _commits(quote)
    # 3.
    certificate = load_certificate(quote.pck_chain[0])
    pck = Pck.of(certificate)
    _signed(pck.key, quote.qe_report_signature, quote.qe_report_raw, "the platform's PCK certificate")
    # 4.
    tee = TDX if isinstance(quote.body, TdReport) else SGX
    named = endorsements.collateral.named(CollateralKind.INTEL_TCB, pck.collateral_name)
    collateral = choose(named, tee=tee, at=at)
    path = _walked(quote, endorsements, collateral, at)
    # 5.
    bound = binding.bound({Slot.REPORT_DATA: quote.body.report_data})
    # 6. and 7.
    _closed(quote.body)
    # 8.
    if collateral is None:
        return Proof(
            bound=bound,
            tcb=without_collateral(pck, tee),
            isolation=IsolationClass.NONE,
            endorsed_until=path.endorsed_until,
            revocation_checked=False,
        )
    collateral.require_current(at)
    collateral.require_tcb_signer()
    # 9.
    claims = _verified_again(quote, collateral, path, at)
    # 10.
    _agree(quote, pck, claims)
    tcb = _verdict(claims, pck)
    supported = IsolationClass.CVM if tcb.status is TcbStatus.UP_TO_DATE else IsolationClass.CVM_WEAK
    return Proof(
        bound=bound,
        tcb=tcb,
        isolation=path.anchor.isolation.weaker(supported),
        endorsed_until=min(path.endorsed_until, int(claims["earliest_expiration_date"])),
        # dcap-qvl refuses certificates that no current list speaks of; this is our own look-up besides.
        revocation_checked=all(path.looked_up),
    )


def judged_tcb(tcb: TcbVerdict | None) -> TcbVerdict:
    """Return the verdict that genuine statements have.

    :raises UsageError: there is none.
    """
    if tcb is None:
        raise UsageError("a quote is judged after it was found genuine, not before")
    return tcb


def closed_claims(body: TdReport | EnclaveReport) -> tuple[Claim, Claim]:
    """Claim again what steps 6 and 7 refuse, so that results and explanations show it; no policy is asked."""
    return (
        within("debug", Aspect.CONFIGURATION, body.under_debug, ()),
        within("unsafe-attributes", Aspect.CONFIGURATION, body.unsafe, ()),
    )


def details(tcb: TcbVerdict) -> dict[str, str]:
    """Say what a person wants to read of a platform."""
    return {
        "fmspc": tcb.pck.fmspc.hex(),
        "ca": tcb.pck.ca.value,
        "tcb-status": tcb.said,
        "tcb-date": tcb.tcb_date,
        "tcb-evaluation-number": str(tcb.evaluation_number),
        "advisories": ", ".join(tcb.advisories),
    }


def _attestation_key(quote: Quote[Any]) -> ec.EllipticCurvePublicKey:
    x, y = (int.from_bytes(quote.attestation_key[at : at + 32], "big") for at in (0, 32))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        raise BadSignatureError("the quote's attestation key isn't a point on P-256") from None


def _signed(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes, who: str) -> None:
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise BadSignatureError(f"{who} didn't sign these bytes") from None


def _commits(quote: Quote[Any]) -> None:
    wanted = sha256(quote.attestation_key + quote.qe_authentication).digest() + bytes(_HASH_BYTES)
    if not hmac.compare_digest(quote.qe_report.report_data, wanted):
        raise WrongStructureError(
            "the quoting enclave's report commits to another attestation key",
            seen=quote.qe_report.report_data.hex(),
            wanted=wanted.hex(),
        )


def _walked(quote: Quote[Any], endorsements: Endorsements, collateral: IntelCollateral | None, at: Instant) -> Path:
    lists = endorsements.lists
    if collateral is not None:
        lists = RevocationLists((*lists.lists, load_list(collateral.root_ca_crl), load_list(collateral.pck_crl)))
    anchors = endorsements.anchors.of(Vendor.INTEL_SGX)
    return walk(_without_root(quote.pck_chain, anchors), anchors, at, lists=lists)


def _without_root(chain: tuple[bytes, ...], anchors: tuple[TrustAnchor, ...]) -> tuple[bytes, ...]:
    """Leave a root at the end out: Intel's exists in two certificates of one key, and the pinned one counts."""
    if len(chain) == 1 or Digest.of(chain[-1]) in {anchor.digest for anchor in anchors}:
        return chain
    last = load_certificate(chain[-1])
    if last.issuer != last.subject:
        return chain
    # It vouches for nothing here. It must be whole all the same, its signature's last byte included and without unused
    # bits, so that no byte of a quote can be changed unseen.
    if not signed_by(last, last) or not chain[-1].endswith(b"\0" + last.signature):
        raise ChainRefusedError("the root certificate that came with the quote isn't signed by its own key")
    return chain[:-1]


def _closed(body: TdReport | EnclaveReport) -> None:
    if body.under_debug:
        raise DebugModeError(
            "the domain or enclave runs under debug: its host reads its memory",
            seen=", ".join(body.under_debug),
            wanted="no debug attribute",
            remedy="launch it without debug attributes",
        )
    if body.unsafe:
        raise UnsafeAttributesError(
            "the domain or enclave has attributes that no policy accepts",
            seen=", ".join(body.unsafe),
            wanted="none of these",
            remedy="launch it without migration and service domains, and with SEPT_VE_DISABLE",
        )


def _verified_again(quote: Quote[Any], collateral: IntelCollateral, path: Path, at: Instant) -> dict[str, Any]:
    library = need("dcap_qvl", extra="intel")
    try:
        verified = library.QuoteVerifier(path.anchor.certificate).verify_with_policy(
            quote.raw,
            library.QuoteCollateralV3(
                collateral.pck_crl_issuers,
                collateral.root_ca_crl,
                collateral.pck_crl,
                collateral.tcb_info.issuers,
                collateral.tcb_info.text,
                collateral.tcb_info.signature,
                collateral.qe_identity.issuers,
                collateral.qe_identity.text,
                collateral.qe_identity.signature,
            ),
            at,
            # Only the time: every status, advisory and flag goes to our own policy.
            library.QuotePolicy.claims_only(at),
        )
        claims: dict[str, Any] = json.loads(verified.to_json())
    except ValueError as error:
        said = "".join(c if c.isprintable() else " " for c in str(error).removeprefix("Verification failed: "))
        raise TcbRefusedError(
            "Intel's collateral doesn't vouch for this quote",
            seen=said[:_MAX_SAID],
            wanted="collateral that Intel signed, for a platform at a known TCB level",
            remedy="import newer collateral for this platform, or update its firmware",
        ) from None
    return claims


def _agree(quote: Quote[Any], pck: Pck, claims: dict[str, Any]) -> None:
    """Compare what two parsers saw: what is judged must be what was verified."""
    platform = claims["platform"]["pck"]
    flags = (platform["dynamic_platform"], platform["cached_keys"], platform["smt_enabled"])
    pairs = (
        ("report", library_form(quote.body), _flat(claims["report"])),
        ("version", quote.header.version, claims["header"]["version"]),
        ("tee-type", quote.header.tee_type, claims["tee_type"]),
        ("ppid", list(pck.ppid), platform["ppid"]),
        ("fmspc", list(pck.fmspc), platform["fmspc"]),
        ("cpu-svn", list(pck.cpu_svn), platform["cpu_svn"]),
        ("pce-svn", pck.pce_svn, platform["pce_svn"]),
        ("pce-id", list(pck.pce_id), platform["pce_id"]),
        ("flags", (pck.dynamic_platform, pck.cached_keys, pck.smt), tuple(_FLAGS.get(flag, flag) for flag in flags)),
    )
    for name, ours, theirs in pairs:
        if ours != theirs:
            raise EvidenceAmbiguousError(
                f"two parsers read the quote's `{name}` differently",
                remedy="report this quote: one of the parsers is wrong",
            )


def _verdict(claims: dict[str, Any], pck: Pck) -> TcbVerdict:
    # The level that runs now has advisories of its own, which the verdict on the launch leaves out.
    current = claims["platform"]["current_tcb_level"] or {"advisoryIDs": []}
    status = next((known for known in TcbStatus if known == claims["tcb"]["status"]), None)
    if status is None:
        raise TcbRefusedError("the platform's TCB status isn't one that is known", wanted=", ".join(TcbStatus))
    return TcbVerdict(
        status=status,
        advisories=tuple(sorted({*claims["tcb"]["advisory_ids"], *current["advisoryIDs"]})),
        evaluation_number=int(claims["tcb"]["eval_data_number"]),
        tcb_date=str(claims["platform"]["tcb_level"]["tcbDate"]),
        pck=pck,
    )


def library_form(body: TdReport | EnclaveReport) -> dict[str, object]:
    """Return a report's fields as dcap-qvl names and writes them, in one level."""
    if isinstance(body, EnclaveReport):
        return {
            "cpu_svn": body.cpu_svn.hex(),
            "misc_select": body.misc_select,
            "reserved1": (bytes(12) + body.isv_ext_prod_id).hex(),
            "attributes": body.attributes.hex(),
            "mr_enclave": body.mr_enclave.hex(),
            "reserved2": bytes(32).hex(),
            "mr_signer": body.mr_signer.hex(),
            "reserved3": (bytes(32) + body.config_id).hex(),
            "isv_prod_id": body.isv_prod_id,
            "isv_svn": body.isv_svn,
            "reserved4": (body.config_svn.to_bytes(2, "little") + bytes(42) + body.isv_family_id).hex(),
            "report_data": body.report_data.hex(),
        }
    found: dict[str, object] = {name.replace("rtmr", "rt_mr"): value.hex() for name, value in body.fields().items()}
    if "vmid" in found:
        found["vmid"] = body.service.vmid[0] if body.service else None
    return found


def _flat(value: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, inner in value.items():
        found |= _flat(inner) if isinstance(inner, dict) else {name: inner}
    return found
