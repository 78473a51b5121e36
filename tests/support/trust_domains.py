"""A trust domain's quote by a chain of the tests' own, judged by the strictest policy that takes its platform."""

from __future__ import annotations

from dataclasses import replace

from simulators.intel_chain import NOW, PPID, REPORT_DATA, IntelChain, intel_chain
from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, Slot
from strongroom.attestation.policies.allowed import Allowed
from strongroom.attestation.policies.tdx import TdxPolicy
from strongroom.attestation.tdx.bodies import BodyType
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.tdx import TdxStatement, TdxVerifier

BINDING = ExpectedBinding({Slot.REPORT_DATA: REPORT_DATA})
VERIFIER = TdxVerifier()
STRICT = TdxPolicy.strictest()
POLICY = replace(STRICT, platform=replace(STRICT.platform, platforms=Allowed((PPID.hex(),))))
BODIES = (BodyType.TD_1_0, BodyType.TD_1_5, BodyType.TD_1_5_EXTENDED)


def proven(
    quote: bytes | None = None,
    *,
    chain: IntelChain | None = None,
    collateral: tuple[bytes, ...] | None = None,
    binding: ItemBinding = BINDING,
    at: int = NOW,
) -> Genuine[TdxStatement]:
    """Return what is proven of a quote, of the chain's own if none is given."""
    made_by = chain or intel_chain()
    statement = VERIFIER.parse(made_by.td_quote() if quote is None else quote)
    about = made_by.endorsements(*((made_by.collateral(),) if collateral is None else collateral))
    return VERIFIER.genuine(statement, binding, about, at)


def refused(found: Genuine[TdxStatement], policy: TdxPolicy = POLICY) -> list[str]:
    """Return the rules that refuse it."""
    return [claim.name for claim in VERIFIER.judge(found, policy) if not claim.ok]


def attributes(*bits: int) -> bytes:
    """Return a domain's attributes with these bits."""
    return sum(1 << bit for bit in bits).to_bytes(8, "little")
