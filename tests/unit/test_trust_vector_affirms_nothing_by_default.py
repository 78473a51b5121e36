"""AR4SI's vector: an aspect is affirmed by a claim that held, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation.claims import Aspect, Claim
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.results import Status, SubmoduleResult
from strongroom.attestation.trust_vector import TrustTier, TrustVector, tier, trust_vector
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from support.attestation_results import claim, statement

CLAIMS = st.lists(
    st.builds(Claim, st.just("x"), st.sampled_from(Aspect), st.just("a"), st.just("b"), ok=st.booleans()), max_size=12
)
RESULTS = st.builds(
    lambda claims, status, isolation: replace(statement(), claims=tuple(claims), status=status, isolation=isolation),
    CLAIMS,
    st.sampled_from(Status),
    st.sampled_from(IsolationClass),
)


def test_what_was_never_appraised_says_nothing() -> None:
    result = SubmoduleResult(name="cpu0", kind=EvidenceKind.TDX, evidence=Digest.of(b""))
    vector = trust_vector(result)
    assert set(vector.values.values()) == {0}
    assert tier(result, vector) is TrustTier.NONE


@given(RESULTS)
def test_an_aspect_is_affirmed_only_by_a_claim_that_held(result: SubmoduleResult) -> None:
    vector = trust_vector(result)
    for aspect, value in vector.values.items():
        spoken = [one.ok for one in result.claims if one.aspect is aspect]
        if TrustTier.of(value) is TrustTier.AFFIRMING:
            assert spoken
            assert all(spoken)
            assert result.status is not Status.ERROR
        if result.status is not Status.ERROR and not all(spoken):
            assert TrustTier.of(value) is TrustTier.CONTRAINDICATED


@given(RESULTS)
def test_nothing_unwanted_or_simulated_is_affirmed(result: SubmoduleResult) -> None:
    found = tier(result, trust_vector(result))
    if result.status is not Status.WANTED or not result.isolation.at_least(IsolationClass.CVM):
        assert found is not TrustTier.AFFIRMING
    assert found is TrustTier.worst((found, trust_vector(result).tier))


@pytest.mark.parametrize(
    ("isolation", "hardware", "opaque"),
    [
        (IsolationClass.NONE, 97, 96),
        (IsolationClass.PROCESS, 97, 96),
        (IsolationClass.VM_SIMULATED, 97, 96),
        (IsolationClass.MEASURED_HOST, 2, 32),
        (IsolationClass.CVM_WEAK, 32, 32),
        (IsolationClass.CVM, 2, 2),
        (IsolationClass.CVM_GPU, 2, 2),
        (IsolationClass.CVM_GPU_CUSTODY, 2, 2),
    ],
)
def test_the_class_can_only_make_it_worse(isolation: IsolationClass, hardware: int, opaque: int) -> None:
    values = trust_vector(replace(statement(), isolation=isolation)).values
    assert (values[Aspect.HARDWARE], values[Aspect.RUNTIME_OPAQUE]) == (hardware, opaque)


@pytest.mark.parametrize(
    ("reason", "value"),
    [("certificate-revoked", 96), ("chain-refused", 97), ("evidence-bad-signature", 99), ("malformed", 99)],
)
def test_what_isnt_genuine_is_contraindicated_by_its_identity(reason: str, value: int) -> None:
    failed = claim(Aspect.INSTANCE_IDENTITY, ok=False, name="genuine")
    result = replace(statement(), status=Status.ERROR, reason=reason, claims=(failed,))
    vector = trust_vector(result)
    assert vector.values == dict.fromkeys(Aspect, 0) | {Aspect.INSTANCE_IDENTITY: value}
    assert tier(result, vector) is TrustTier.CONTRAINDICATED


def test_claims_about_the_platform_count_with_its_own_statement() -> None:
    more = [claim(Aspect.EXECUTABLES), claim(Aspect.CONFIGURATION, ok=False)]
    values = trust_vector(statement(), more).values
    assert (values[Aspect.EXECUTABLES], values[Aspect.CONFIGURATION]) == (3, 96)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 1, -1), TrustTier.NONE),
        ((2, 31, -2, -32), TrustTier.AFFIRMING),
        ((32, 95, -33, -96), TrustTier.WARNING),
        ((96, 127, -97, -128), TrustTier.CONTRAINDICATED),
    ],
)
def test_tiers_are_ar4sis(values: tuple[int, ...], expected: TrustTier) -> None:
    assert {TrustTier.of(value) for value in values} == {expected}
    for value in (-129, 128):
        with pytest.raises(MalformedError):
            TrustTier.of(value)


@given(st.dictionaries(st.sampled_from([aspect.value for aspect in Aspect]), st.integers(-128, 127)))
def test_a_vector_is_read_back_as_written(told: dict[str, int]) -> None:
    with Fields(dict(told), "vector") as fields:
        vector = TrustVector.read(fields)
    assert vector.to_json() == dict.fromkeys([aspect.value for aspect in Aspect], 0) | told


def test_a_vector_has_all_aspects() -> None:
    with pytest.raises(MalformedError):
        TrustVector({Aspect.HARDWARE: 2})
