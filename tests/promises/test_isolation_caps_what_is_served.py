"""Whatever a policy asks for: evidence serves production weights up to its class's level, simulated evidence none."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from simulators.attester import tpm_root, vendor_root
from strongroom.access.decision import decide
from strongroom.access.engine import DEFAULT_CEDAR, CedarEngine
from strongroom.access.facts import Facts
from strongroom.access.invariants import Reason
from strongroom.access.policy import Policy, Weights
from strongroom.access.self_test import PolicyUnsafeError, safe_engine
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.audit.entries import read_entry
from strongroom.core.errors import MalformedError
from strongroom.framework.levels import SecurityLevel
from strongroom.release.decided import Decided
from strongroom.release.documents import level_cap
from strongroom.release.steps import ReleaseRefusedError
from support.facts import good, policy
from support.policies import policy as whole
from support.room import Room

ENGINE = CedarEngine(policy())
CAPS = {
    IsolationClass.NONE: 2,
    IsolationClass.PROCESS: 2,
    IsolationClass.VM_SIMULATED: 0,
    IsolationClass.MEASURED_HOST: 3,
    IsolationClass.CVM_WEAK: 2,
    IsolationClass.CVM: 3,
    IsolationClass.CVM_GPU: 3,
    IsolationClass.CVM_GPU_CUSTODY: 4,
}


def facts(isolation: IsolationClass, level: SecurityLevel, weights: Weights) -> Facts:
    """Everything is in order, and the policy's own demand asks for nothing."""
    plain = good()
    assert plain.enclave is not None
    enclave = replace(plain.enclave, isolation=isolation.rank, least_isolation=0, level_cap=level_cap(isolation))
    return replace(plain, terms=replace(plain.terms, level=level, weights=weights), enclave=enclave)


@pytest.mark.parametrize("isolation", IsolationClass)
@pytest.mark.parametrize("level", SecurityLevel)
def test_production_weights_are_served_up_to_the_cap_by_both_judges(
    isolation: IsolationClass, level: SecurityLevel
) -> None:
    asked = facts(isolation, level, Weights.PRODUCTION)
    decision = decide(asked, ENGINE)
    within = level.rank <= CAPS[isolation]
    assert decision.allowed is within
    assert (ENGINE.allows(asked) is not None) is within
    if not within:
        wanted = Reason.ISOLATION_BELOW_LEVEL if CAPS[isolation] else Reason.ISOLATION_FOR_TESTS
        assert [reason for reason, _remedy in decision.refusals] == [wanted]


@pytest.mark.parametrize("isolation", IsolationClass)
@pytest.mark.parametrize("level", SecurityLevel)
def test_test_weights_are_served_to_any_class_that_the_policy_asks_for(
    isolation: IsolationClass, level: SecurityLevel
) -> None:
    assert decide(facts(isolation, level, Weights.TEST), ENGINE).allowed


def test_nothing_reaches_sl5_and_a_misspelt_class_reaches_nothing() -> None:
    assert max(level_cap(one) for one in IsolationClass) == 4
    assert {one: level_cap(one) for one in IsolationClass} == CAPS
    with pytest.raises(MalformedError):
        level_cap("vm")


def test_a_policy_that_forgets_the_cap_never_comes_into_force() -> None:
    lax = DEFAULT_CEDAR.replace(" &&\n  (resource.testWeights || context.enclave.levelCap >= resource.level)", "")
    assert lax != DEFAULT_CEDAR
    safe_engine(whole())
    with pytest.raises(PolicyUnsafeError, match="doesn't support the level of production weights"):
        safe_engine(whole(lax))


def test_what_weights_are_worth_stands_in_every_signed_policy() -> None:
    signed = replace(policy(), models=(good().terms,)).to_bytes()
    assert b'"weights":"production"' in signed
    for other in (b"", b'"weights":"demo",', b'"weights":null,'):
        with pytest.raises(MalformedError):
            Policy.parse(signed.replace(b',"weights":"production"', b"," + other[:-1] if other else b""))


class MeasuredHost(Room):
    """A room whose TPM's root is a hardware maker's."""

    def first_values(self) -> ReferenceValues:
        """Believe the root as hardware."""
        return replace(super().first_values(), anchors=(tpm_root(vendor_root(), IsolationClass.MEASURED_HOST),))

    def platform_record(self) -> PlatformRecord:
        """As enrolment would have made it."""
        return self.platform.record(IsolationClass.MEASURED_HOST)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("level", "weights", "below"),
    [
        (SecurityLevel.SL3, Weights.PRODUCTION, False),
        (SecurityLevel.SL4, Weights.PRODUCTION, True),
        (SecurityLevel.SL4, Weights.TEST, False),
    ],
)
def test_a_measured_host_is_released_production_weights_up_to_sl3(
    level: SecurityLevel,
    weights: Weights,
    below: bool,  # noqa: FBT001 - a case
) -> None:
    async def run() -> None:
        room = await MeasuredHost().furnish()
        room.terms = replace(room.terms, level=level, weights=weights)
        rules = tuple(replace(rule, level=level) for rule in room.policy.rules)
        await room.next_policy(models=(room.terms,), rules=rules)
        if level is SecurityLevel.SL4:
            # Nobody here has the security key that SL4 asks for; what else refuses is in the kept decision.
            with pytest.raises(ReleaseRefusedError):
                await room.release(await room.ask())
            others = {code for code, _remedy in Decided.parse(room.decisions.kept[-1]).others}
            assert ("isolation-below-level" in others) is below
            return
        await room.release(await room.ask())
        entry = read_entry(room.log.entries[-1])
        assert (entry.text("isolation"), entry.text("weights")) == ("measured-host", weights.value)

    asyncio.run(run())
