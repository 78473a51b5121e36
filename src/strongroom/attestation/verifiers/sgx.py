"""Quotes of Intel SGX enclaves; the ten steps that make one genuine are those of :mod:`.intel`.

The body is the raw quote, version 3, with or without zeros after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attestation.bindings import ItemBinding, Slot
from strongroom.attestation.claims import Aspect, Claim, at_least
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.intel import masked, within
from strongroom.attestation.policies.sgx import SgxPolicy
from strongroom.attestation.tdx.bodies import EnclaveReport, SgxAttribute
from strongroom.attestation.tdx.quote import MAX_QUOTE, Quote, parse_sgx_quote
from strongroom.attestation.tdx.tcb import TcbVerdict
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.intel import closed_claims, details, judged_tcb, prove
from strongroom.core.clock import Instant

_XFRM_BYTES: Final = 8
_MISC_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class SgxStatement:
    """A quote, and, once it is genuine, what Intel says of its platform."""

    quote: Quote[EnclaveReport]
    tcb: TcbVerdict | None = None


class SgxVerifier:
    """Fills :class:`~strongroom.attestation.verifier.Verifier` for enclaves."""

    kind = EvidenceKind.SGX
    max_bytes = MAX_QUOTE
    slots = frozenset({Slot.REPORT_DATA})
    reference_names = frozenset({"mrenclave"})
    optional_names = frozenset({"mrsigner", "isv_prod_id", "config_id"})
    policy = SgxPolicy

    def parse(self, body: bytes) -> SgxStatement:
        """Read a quote; see :func:`~strongroom.attestation.tdx.quote.parse_sgx_quote`."""
        return SgxStatement(parse_sgx_quote(body))

    def genuine(
        self, statement: SgxStatement, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[SgxStatement]:
        """Take the ten steps; see :func:`~strongroom.attestation.verifiers.intel.prove`."""
        proof = prove(statement.quote, binding, endorsements, at)
        report = statement.quote.body
        return Genuine(
            kind=self.kind,
            bound=proof.bound,
            statement=replace(statement, tcb=proof.tcb),
            measurements={
                "mrenclave": report.mr_enclave.hex(),
                "mrsigner": report.mr_signer.hex(),
                "isv_prod_id": str(report.isv_prod_id),
                "config_id": report.config_id.hex(),
            },
            hardware_id=proof.tcb.pck.identity,
            isolation=proof.isolation,
            endorsed_until=proof.endorsed_until,
            revocation_checked=proof.revocation_checked,
            details={
                "product": "Intel SGX, quote version 3",
                "isv-svn": str(report.isv_svn),
                "attributes": ", ".join(report.attribute_names),
                **details(proof.tcb),
            },
        )

    def judge(self, proven: Genuine[SgxStatement], policy: SgxPolicy) -> tuple[Claim, ...]:
        """Compare with the policy, one claim for each rule.

        :raises UsageError: the statement wasn't made genuine.
        """
        report = proven.statement.quote.body
        return (
            *closed_claims(report),
            *policy.platform.claims(judged_tcb(proven.statement.tcb)),
            *_claims(report, policy),
        )


def _claims(report: EnclaveReport, policy: SgxPolicy) -> Iterable[Claim]:
    configuration, executables = Aspect.CONFIGURATION, Aspect.EXECUTABLES
    yield within("attributes", configuration, report.attribute_names, (SgxAttribute.INIT, *policy.attributes))
    yield masked("xfrm", report.xfrm, policy.xfrm, _XFRM_BYTES)
    yield masked("misc-select", report.misc_select, policy.misc_select, _MISC_BYTES)
    yield policy.mr_signers.claim("mr-signer", executables, report.mr_signer.hex())
    yield policy.isv_prod_ids.claim("isv-prod-id", executables, str(report.isv_prod_id))
    yield at_least("isv-svn", executables, report.isv_svn, policy.isv_svn)
    yield policy.config_ids.claim("config-id", configuration, report.config_id.hex())
