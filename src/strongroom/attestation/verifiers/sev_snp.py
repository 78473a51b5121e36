"""Is an AMD SEV-SNP report genuine, and is the guest wanted? Seven steps, in this order.

1. the report says that a VCEK or a VLEK signed it
2. ECDSA P-384 signature over its first 672 bytes, by the key of such a certificate at hand
3. the certificate's chain leads over AMD's intermediate of that kind to the pinned root, holds at the instant, and no
   list revokes the intermediate
4. the certificate's product is the root's, and so is the processor's that the report names (version 3 and later)
5. the certificate's TCB version is the report's REPORTED_TCB
6. a VCEK's chip is the report's, unless the host masks it
7. report data is the binding's

Certificates come from the table beside the report, from the collateral and, for AMD's intermediates, with the package.
Where they come from makes no difference: what they sign does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from cryptography import x509

from strongroom.attestation import chain
from strongroom.attestation.bindings import ItemBinding, Slot
from strongroom.attestation.chain import Path
from strongroom.attestation.claims import Aspect, Claim, at_least, equal, one_of
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    ChainRefusedError,
    CollateralMissingError,
    EndorsementMismatchError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.sev_snp import SevSnpPolicy
from strongroom.attestation.sev_snp import certificate_table as table
from strongroom.attestation.sev_snp.body import MAX_SNP_BODY, read_body
from strongroom.attestation.sev_snp.certificate_table import CertificateTable
from strongroom.attestation.sev_snp.endorsement_key import EndorsementKey, common_name
from strongroom.attestation.sev_snp.intermediates import shipped_intermediates
from strongroom.attestation.sev_snp.products import Product, product_named
from strongroom.attestation.sev_snp.report import Report, SigningKey
from strongroom.attestation.trust_anchors import Vendor, load_certificate
from strongroom.attestation.verifier import Genuine
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError, UsageError

_MOST_TRIED: Final = 64
_SUBJECTS: Final = {SigningKey.VCEK: b"SEV-VCEK", SigningKey.VLEK: b"SEV-VLEK"}
_GUIDS: Final = {SigningKey.VCEK: table.VCEK, SigningKey.VLEK: table.VLEK}
_ISSUERS: Final = {SigningKey.VCEK: "SEV-", SigningKey.VLEK: "SEV-VLEK-"}
_ROOTS: Final = "ARK-"


@dataclass(frozen=True, slots=True)
class SevSnpStatement:
    """A report, the certificate table beside it, and, once it is genuine, whose key signed it."""

    report: Report
    certificates: CertificateTable
    signer: EndorsementKey | None = None


@dataclass(frozen=True, slots=True)
class Endorsed:
    """A report that AMD's root vouches for: steps 1 to 6."""

    signer: EndorsementKey
    path: Path

    @property
    def revocation_checked(self) -> bool:
        """True when a current list of the root says nothing of the intermediate.

        AMD doesn't list chips' keys: each is derived for one TCB version, and a policy's floor ends it.
        """
        return all(self.path.looked_up[1:])


class SevSnpVerifier:
    """See the module; fills :class:`~strongroom.attestation.verifier.Verifier`."""

    kind = EvidenceKind.SEV_SNP
    max_bytes = MAX_SNP_BODY
    slots = frozenset({Slot.REPORT_DATA})
    reference_names = frozenset({"measurement"})
    optional_names = frozenset({"host_data", "id_key_digest"})
    policy = SevSnpPolicy

    def parse(self, body: bytes) -> SevSnpStatement:
        """Read ``{v, report, certificates}`` and what is in it.

        :raises MalformedError: see :func:`read_body`, :class:`Report` and :class:`CertificateTable`.
        """
        report, certificates = read_body(body)
        return SevSnpStatement(Report.parse(report), CertificateTable.parse(certificates))

    def genuine(
        self, statement: SevSnpStatement, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[SevSnpStatement]:
        """Check the seven steps as of ``at``.

        :raises NotGenuineError: a step fails.
        :raises MalformedError: a certificate in the table can't be read.
        """
        report = statement.report
        # 1. to 6.
        endorsed = endorse(report, statement.certificates, endorsements, at)
        # 7.
        bound = binding.bound({Slot.REPORT_DATA: report.report_data})
        return Genuine(
            kind=self.kind,
            bound=bound,
            statement=replace(statement, signer=endorsed.signer),
            measurements={
                "measurement": report.measurement.hex(),
                "host_data": report.host_data.hex(),
                "id_key_digest": report.id_key_digest.hex(),
            },
            hardware_id=b"" if report.chip_is_masked else report.chip_id,
            isolation=isolation(report, endorsed),
            endorsed_until=endorsed.path.endorsed_until,
            revocation_checked=endorsed.revocation_checked,
            details=_details(report, endorsed),
        )

    def judge(self, proven: Genuine[SevSnpStatement], policy: SevSnpPolicy) -> tuple[Claim, ...]:
        """Compare with the policy; debug mode, migration agents and unknown bits are refused whatever it says."""
        signer = proven.statement.signer
        if signer is None:
            raise UsageError("a report is judged once it is genuine")
        report = proven.statement.report
        return (
            *_never(report),
            one_of("product", Aspect.HARDWARE, signer.product.value, [one.value for one in policy.floors]),
            *_floors(report, signer.product, policy),
            *_configuration(report, policy),
            *_identities(report, signer, policy),
            policy.revocation.claim(proven.revocation_checked),
        )


def endorse(report: Report, certificates: CertificateTable, endorsements: Endorsements, at: Instant) -> Endorsed:
    """Check steps 1 to 6: everything but the binding. For evidence that carries a report inside.

    :raises NotGenuineError: a step fails.
    :raises MalformedError: a certificate in the table can't be read.
    """
    # 1.
    report.require_signed()
    # 2. Before the chain: who a key belongs to matters only if it signed.
    der, signer = _signer(report, certificates, endorsements)
    # 3.
    path = _walk(der, signer, certificates, endorsements, at)
    # 4.
    _same_product(report, signer, path)
    # 5. The key is derived for this version; firmware that could choose another would hide that it is old.
    if report.reported_tcb != signer.tcb.raw:
        raise EndorsementMismatchError(
            "the report's TCB version isn't the one that its signing key was made for",
            seen=report.reported_tcb.hex(),
            wanted=signer.tcb.raw.hex(),
        )
    # 6.
    if signer.chip and not report.chip_is_masked and report.chip_id != signer.chip:
        raise EndorsementMismatchError(
            "the report names another chip than its signing key's certificate",
            seen=report.chip_id.hex(),
            wanted=signer.chip.hex(),
        )
    return Endorsed(signer, path)


def isolation(report: Report, endorsed: Endorsed) -> IsolationClass:
    """Return the class that a genuine report supports: none where the host may read the guest."""
    if report.policy.debug or report.policy.migration_agent:
        return IsolationClass.NONE
    return endorsed.path.anchor.isolation.weaker(IsolationClass.CVM)


def _signer(report: Report, certificates: CertificateTable, endorsements: Endorsements) -> tuple[bytes, EndorsementKey]:
    """Find the certificate whose key signed the report."""
    wanted = f"the {report.signing_key.upper()} of chip {report.chip_id.hex()}, TCB version {report.reported_tcb.hex()}"
    tried = 0
    for der, signer in islice(_candidates(report, certificates, endorsements), _MOST_TRIED):
        tried += 1
        if signer.kind is report.signing_key and report.signed_by(signer.key):
            return der, signer
    if tried:
        raise BadSignatureError(
            "no certificate at hand signed the report",
            seen=f"{tried} tried",
            wanted=wanted,
            remedy="the report was changed, or the certificate is another chip's or another TCB version's",
        )
    raise CollateralMissingError(
        "the certificate of the key that signed the report isn't at hand",
        seen="no certificate",
        wanted=wanted,
        remedy="import it as collateral, or hand in the report with its certificate table",
    )


def _candidates(
    report: Report, certificates: CertificateTable, endorsements: Endorsements
) -> Iterator[tuple[bytes, EndorsementKey]]:
    for der in certificates.certificates(_GUIDS[report.signing_key]):
        yield der, EndorsementKey.read(load_certificate(der))
    # A bundle holds every chip's certificates. What names no such key and not this chip isn't worth parsing.
    subject = _SUBJECTS[report.signing_key]
    chip = b"" if report.signing_key is SigningKey.VLEK else report.chip_id.rstrip(b"\0")
    for der in endorsements.collateral.certificates:
        if subject in der and chip in der:
            # One broken certificate in a bundle must not hide the others.
            with suppress(MalformedError):
                yield der, EndorsementKey.read(load_certificate(der))


def _walk(
    der: bytes, signer: EndorsementKey, certificates: CertificateTable, endorsements: Endorsements, at: Instant
) -> Path:
    leaf = load_certificate(der)
    if chain.is_ca(leaf):
        raise ChainRefusedError("the report is signed by a CA's certificate, not by a chip's")
    for candidate in (
        *shipped_intermediates(),
        *endorsements.collateral.certificates,
        *certificates.certificates(table.ASK),
    ):
        # A bundle has thousands of chips' certificates: they issue nothing, and aren't worth parsing here.
        if _ISSUERS[signer.kind].encode() not in candidate or _SUBJECTS[SigningKey.VCEK] in candidate:
            continue
        try:
            issuer = load_certificate(candidate)
        except MalformedError:
            continue
        if issuer.subject == leaf.issuer and chain.signed_by(leaf, issuer):
            return chain.walk([der, candidate], endorsements.anchors.of(Vendor.AMD_SEV), at, lists=endorsements.lists)
    raise ChainRefusedError(
        "no intermediate certificate at hand signed the chip's",
        seen=common_name(leaf.issuer)[:64],
        remedy="import AMD's ASK or ASVK of the product as collateral",
    )


def _same_product(report: Report, signer: EndorsementKey, path: Path) -> None:
    """Compare the names on the way from the root with what the report and its key's certificate say."""
    intermediate, root = path.certificates[1], path.certificates[-1]
    names = {
        "root": (_product_after(_ROOTS, root), signer.product),
        # ASVK certifies providers' keys and ASK chips': neither may stand in for the other.
        "intermediate": (_product_after(_ISSUERS[signer.kind], intermediate), signer.product),
    }
    if report.cpu is not None:
        names["processor"] = (report.cpu_product, signer.product)
    for what, (seen, wanted) in names.items():
        if seen is not wanted:
            raise EndorsementMismatchError(
                f"the {what} is another product's than the chip's certificate",
                seen=seen or "a product that isn't known",
                wanted=wanted,
            )


def _product_after(prefix: str, certificate: x509.Certificate) -> Product | None:
    name = common_name(certificate.subject)
    return product_named(name.removeprefix(prefix)) if name.startswith(prefix) else None


def _never(report: Report) -> tuple[Claim, ...]:
    return (
        # Neither bit is part of the launch measurement: the right image can be started with either.
        equal("debug", Aspect.HARDWARE, report.policy.debug, wanted=False),
        equal("migration-agent", Aspect.HARDWARE, report.policy.migration_agent, wanted=False),
        equal("guest.reserved", Aspect.CONFIGURATION, f"0x{report.policy.reserved:x}", "0x0"),
        equal("platform.reserved", Aspect.CONFIGURATION, f"0x{report.platform.reserved:x}", "0x0"),
    )


def _floors(report: Report, product: Product, policy: SevSnpPolicy) -> Iterator[Claim]:
    floor = policy.floors.get(product)
    if floor is None:
        return
    tcbs = [tcb.parts for tcb in report.tcbs(product).values()]
    for part, least in floor.tcb.items():
        yield at_least(f"tcb.{part}", Aspect.HARDWARE, min(parts[part] for parts in tcbs), least)
    # Committed: the host can't go back below it. The current version alone could be gone after the next start.
    seen = min(report.current_firmware, report.committed_firmware)
    yield Claim("firmware", Aspect.HARDWARE, str(seen), f"at least {floor.firmware}", ok=seen >= floor.firmware)


def _configuration(report: Report, policy: SevSnpPolicy) -> Iterator[Claim]:
    yield one_of("vmpl", Aspect.CONFIGURATION, report.vmpl, policy.vmpls)
    yield _allowed("smt", report.policy.smt or report.platform.smt, allowed=policy.allow_smt)
    yield _allowed("cxl", report.policy.cxl, allowed=policy.allow_cxl)
    for rule in policy.guest_rules:
        yield equal(f"guest.{rule}", Aspect.CONFIGURATION, report.policy.asks(rule), wanted=True)
    for feature in policy.platform_features:
        yield equal(f"platform.{feature}", Aspect.HARDWARE, report.platform.has(feature), wanted=True)
    yield at_least("guest-svn", Aspect.EXECUTABLES, report.guest_svn, policy.guest_svn)
    vectors = (report.launch_mitigations or 0) & (report.current_mitigations or 0)
    for bit in policy.mitigations:
        yield equal(f"mitigation.{bit}", Aspect.HARDWARE, bool(vectors >> bit & 1), wanted=True)


def _allowed(name: str, seen: bool, *, allowed: bool) -> Claim:  # noqa: FBT001 - a fact, not a choice
    return one_of(name, Aspect.CONFIGURATION, seen, (False, True) if allowed else (False,))


def _identities(report: Report, signer: EndorsementKey, policy: SevSnpPolicy) -> Iterator[Claim]:
    instance = Aspect.INSTANCE_IDENTITY
    yield one_of("signing-key", instance, signer.kind.value, [key.value for key in policy.signing_keys])
    yield policy.host_data.claim("host-data", Aspect.CONFIGURATION, report.host_data.hex())
    yield policy.family_ids.claim("family-id", Aspect.EXECUTABLES, report.family_id.hex())
    yield policy.image_ids.claim("image-id", Aspect.EXECUTABLES, report.image_id.hex())
    yield policy.id_keys.claim("id-key", Aspect.EXECUTABLES, report.id_key_digest.hex())
    author = report.author_key_digest.hex() if report.author_key_enabled else ""
    yield policy.author_keys.claim("author-key", Aspect.EXECUTABLES, author)
    # All zeros stand for every masked chip: on a list they would let in any.
    yield policy.chips.claim("chip", instance, "" if report.chip_is_masked else report.chip_id.hex())
    if signer.kind is SigningKey.VLEK:
        yield policy.providers.claim("provider", instance, signer.provider)


def _details(report: Report, endorsed: Endorsed) -> dict[str, str]:
    signer = endorsed.signer
    told = {
        "product": signer.product.value,
        "report version": str(report.version),
        "signing key": signer.kind.value,
        "firmware": f"{report.current_firmware}, committed {report.committed_firmware}",
        "guest policy": f"0x{report.policy.raw:x}",
        "platform": f"0x{report.platform.raw:x}",
        "vmpl": str(report.vmpl),
    }
    told |= {f"{which} tcb": str(tcb) for which, tcb in report.tcbs(signer.product).items()}
    if signer.provider:
        told["provider"] = signer.provider
    if report.cpu is not None:
        told["cpu"] = "family 0x{:x}, model 0x{:x}, stepping {}".format(*report.cpu)
    return told
