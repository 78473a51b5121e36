"""What is missing, has expired or soon will: of what the policy needs, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.intel_chain import NEXT_UPDATE, NOW
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bundle.age import concerns, held_items, makers_of
from strongroom.attestation.bundle.held import Held, State
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.trust_anchors import Vendor, vendor_anchors
from strongroom.core.canonical import encode, parse
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from support.collateral import simulated_anchors, whole

DAY = 86400
HELD = held_items(whole(), makers_of(whole(), simulated_anchors(), NOW))


def of(kind: CollateralKind) -> Held:
    return next(one for one in HELD if one.kind is kind)


def test_states_follow_the_dates() -> None:
    intel = of(CollateralKind.INTEL_TCB)
    assert intel.maker is Vendor.INTEL_SGX
    states = [intel.state(at) for at in (intel.issued - 1, intel.issued, intel.ends, intel.ends + 1)]
    assert states == [State.NOT_YET, State.CURRENT, State.CURRENT, State.EXPIRED]


def test_what_nobody_vouches_for_is_unproven() -> None:
    strangers = held_items(whole(), makers_of(whole(), vendor_anchors(), NOW))
    assert {one.state(NOW) for one in strangers} == {State.UNPROVEN}


def test_without_a_policy_everything_counts() -> None:
    late = max(one.ends for one in HELD) + 1
    assert len(concerns(HELD, None, late)) == len(HELD)
    assert concerns((), None, late) == ()


def test_days_count_before_the_end() -> None:
    intel = of(CollateralKind.INTEL_TCB)
    assert not concerns([intel], None, NEXT_UPDATE - 3 * DAY, days=2)
    assert not concerns([intel], None, NEXT_UPDATE)
    (ending,) = concerns([intel], None, NEXT_UPDATE - 3 * DAY + 1, days=3)
    assert (ending.what, ending.ends) == (f"intel-tcb {intel.name}", NEXT_UPDATE)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        (EvidenceKind.TPM2, []),
        (EvidenceKind.NITRO, []),
        (EvidenceKind.SEV_SNP, ["AMD's revocation list"]),
        (EvidenceKind.TDX, ["Intel's collateral"]),
        (EvidenceKind.SGX, ["Intel's collateral"]),
        (EvidenceKind.NVIDIA_GPU, ["NVIDIA's reference manifests"]),
    ],
)
def test_what_a_policy_needs_and_is_not_there(kind: EvidenceKind, missing: list[str]) -> None:
    found = concerns((), AppraisalPolicy.strictest(kind), NOW)
    assert [(one.what, one.ends) for one in found] == [(what, None) for what in missing]
    assert not concerns(HELD, AppraisalPolicy.strictest(kind), NOW - 3 * DAY)


def test_another_makers_end_is_no_concern() -> None:
    late = max(one.ends for one in HELD) + 1
    intel = concerns(HELD, AppraisalPolicy.strictest(EvidenceKind.TDX), late)
    assert {one.what.partition(" ")[0] for one in intel} == {"intel-tcb"}
    assert concerns(HELD, AppraisalPolicy.strictest(EvidenceKind.NITRO), late) == ()


def test_a_signer_that_need_not_be_current_never_ends() -> None:
    strict = AppraisalPolicy.strictest(EvidenceKind.NVIDIA_GPU)
    rules = strict.kinds[EvidenceKind.NVIDIA_GPU]
    lax = replace(
        strict,
        kinds={
            EvidenceKind.NVIDIA_GPU: replace(
                rules, manifests=replace(rules.manifests, rim_signer_must_be_current=False)
            )
        },
    )
    manifest = of(CollateralKind.NVIDIA_RIM)
    assert len(concerns([manifest], strict, manifest.ends + 1)) == 1
    assert concerns([manifest], lax, manifest.ends + 1) == ()


def test_what_is_shown_reads_back() -> None:
    for one in (*HELD, replace(HELD[0], maker=None)):
        with Fields(parse(encode(one.to_json())), "held") as fields:
            assert Held.read(fields) == one
    for member, wrong in (("kind", "pem"), ("maker", "somebody"), ("ends", "soon"), ("size", -1), ("more", 1)):
        with pytest.raises(MalformedError), Fields({**HELD[0].to_json(), member: wrong}, "held") as fields:
            Held.read(fields)
