"""Quotes of Intel trust domains; the ten steps that make one genuine are those of :mod:`.intel`.

The body is the raw quote, version 4 or 5, with or without the zeros that Linux leaves after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attestation.bindings import ItemBinding, Slot
from strongroom.attestation.claims import Aspect, Claim
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.intel import masked, within
from strongroom.attestation.policies.tdx import TdxPolicy
from strongroom.attestation.tdx.bodies import TdAttribute, TdReport
from strongroom.attestation.tdx.quote import MAX_QUOTE, Quote, parse_td_quote
from strongroom.attestation.tdx.tcb import TcbVerdict
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.intel import closed_claims, details, judged_tcb, prove
from strongroom.core.clock import Instant

_XFAM_BYTES: Final = 8
_REQUIRED: Final = {"mrtd": "mr_td", "rtmr0": "rtmr0", "rtmr1": "rtmr1", "rtmr2": "rtmr2"}
_OPTIONAL: Final = {
    name: name for name in ("rtmr3", "mr_config_id", "mr_owner", "mr_owner_config", "mr_seam", "mr_signer_seam")
}


@dataclass(frozen=True, slots=True)
class TdxStatement:
    """A quote, and, once it is genuine, what Intel says of its platform."""

    quote: Quote[TdReport]
    tcb: TcbVerdict | None = None


class TdxVerifier:
    """Fills :class:`~strongroom.attestation.verifier.Verifier` for trust domains."""

    kind = EvidenceKind.TDX
    max_bytes = MAX_QUOTE
    slots = frozenset({Slot.REPORT_DATA})
    reference_names = frozenset(_REQUIRED)
    optional_names = frozenset(_OPTIONAL)
    policy = TdxPolicy

    def parse(self, body: bytes) -> TdxStatement:
        """Read a quote; see :func:`~strongroom.attestation.tdx.quote.parse_td_quote`."""
        return TdxStatement(parse_td_quote(body))

    def genuine(
        self, statement: TdxStatement, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[TdxStatement]:
        """Take the ten steps; see :func:`~strongroom.attestation.verifiers.intel.prove`."""
        proof = prove(statement.quote, binding, endorsements, at)
        report = statement.quote.body
        names = _REQUIRED | _OPTIONAL
        return Genuine(
            kind=self.kind,
            bound=proof.bound,
            statement=replace(statement, tcb=proof.tcb),
            measurements={name: report.fields()[field].hex() for name, field in names.items()},
            hardware_id=proof.tcb.pck.identity,
            isolation=proof.isolation,
            endorsed_until=proof.endorsed_until,
            revocation_checked=proof.revocation_checked,
            details={
                "product": f"Intel TDX, quote version {statement.quote.header.version}",
                "tdx-module": f"version {report.tee_tcb_svn[1]}, security version {report.tee_tcb_svn[0]}",
                "attributes": ", ".join(report.attribute_names),
                **details(proof.tcb),
            },
        )

    def judge(self, proven: Genuine[TdxStatement], policy: TdxPolicy) -> tuple[Claim, ...]:
        """Compare with the policy, one claim for each rule.

        :raises UsageError: the statement wasn't made genuine.
        """
        report = proven.statement.quote.body
        return (
            *closed_claims(report),
            *policy.platform.claims(judged_tcb(proven.statement.tcb)),
            *_claims(report, policy),
        )


def _claims(report: TdReport, policy: TdxPolicy) -> Iterable[Claim]:
    configuration, executables = Aspect.CONFIGURATION, Aspect.EXECUTABLES
    svns = [report.tee_tcb_svn, *filter(None, [report.tee_tcb_svn2])]
    # The lowest of the TCB at launch and the one that runs now, each version by itself.
    lowest = bytes(map(min, zip(*svns, strict=True)))
    yield Claim(
        "tee-tcb-svn",
        Aspect.HARDWARE,
        lowest.hex(),
        f"each byte at least {policy.tee_tcb_svn.hex()}",
        ok=all(seen >= floor for seen, floor in zip(lowest, policy.tee_tcb_svn, strict=True)),
    )
    yield within("attributes", configuration, report.attribute_names, (TdAttribute.SEPT_VE_DISABLE, *policy.attributes))
    yield masked("xfam", report.xfam_bits, policy.xfam, _XFAM_BYTES)
    yield policy.mr_signer_seam.claim("mr-signer-seam", executables, report.mr_signer_seam.hex())
    yield policy.mr_seam.claim("mr-seam", executables, report.mr_seam.hex())
    yield policy.mr_config_id.claim("mr-config-id", configuration, report.mr_config_id.hex())
    yield policy.mr_owner.claim("mr-owner", configuration, report.mr_owner.hex())
    yield policy.mr_owner_config.claim("mr-owner-config", configuration, report.mr_owner_config.hex())
