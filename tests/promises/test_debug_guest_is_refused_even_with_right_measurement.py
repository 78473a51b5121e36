"""Debugging isn't in a launch measurement: a guest that its host can look into measures the same (SEV-SNP, TDX, Nitro).

Refused whatever the policy says, in a release and in recorded evidence of real machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from simulators.sev_snp_chain import MEASUREMENT, MUST_BE_ONE, STRICT_POLICY
from strongroom.attestation.appraisal import appraise_item
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.nitro import NitroPolicy
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.policies.sev_snp import Floor
from strongroom.attestation.policies.tdx import TdxPolicy
from strongroom.attestation.recorded import read_file
from strongroom.attestation.results import Status
from strongroom.attestation.sev_snp.products import Product, tcb_parts
from strongroom.attestation.sev_snp.report import FirmwareVersion
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifiers.nitro import NitroVerifier
from strongroom.core.clock import parse_instant
from strongroom.release.steps import ReleaseRefusedError
from support.snp import endorsements
from support.snp_room import KIND, RULES, SnpRoom
from support.vectors import vectors_folder

DEBUG = 1 << 19
ANY_FIRMWARE = {one: Floor(dict.fromkeys(tcb_parts(one), 0), FirmwareVersion(0, 0, 0)) for one in Product}
LAXEST = replace(
    RULES,
    floors=ANY_FIRMWARE,
    vmpls=(0, 1, 2, 3),
    allow_smt=True,
    allow_cxl=True,
    guest_rules=(),
    platform_features=(),
)


@pytest.mark.integration
@pytest.mark.parametrize("guest", [STRICT_POLICY | DEBUG, MUST_BE_ONE | DEBUG])
def test_the_right_measurement_doesn_t_help_a_debugged_guest(guest: int) -> None:
    async def run() -> None:
        room = SnpRoom()
        await room.furnish()
        await room.next_values(appraisal=replace(room.values.appraisal, kinds={KIND: LAXEST}))
        await room.release(await room.ask())
        room.machine = replace(room.machine, policy=guest, measurement=MEASUREMENT)
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(await room.ask())
        assert (caught.value.step.number, caught.value.reason) == ("4.8", "unwanted-debug")
        assert caught.value.remedy.startswith("debug: seen")

    asyncio.run(run())


def snp() -> tuple[EvidenceItem, Endorsements, Any]:
    folder = vectors_folder("attestation") / "sev-snp"
    report, key = (folder / f"milan-v2-debug-{name}" for name in ("report.bin", "vcek.der"))
    if not report.exists():
        pytest.skip("no recorded SEV-SNP report of a debugged guest")
    (item,) = read_file(report.read_bytes()).items
    lax = replace(LAXEST, revocation=RevocationRule.WHEN_PRESENT)
    return item, endorsements(vendor_anchors(), certificates=(key.read_bytes(),)), lax


def tdx() -> tuple[EvidenceItem, Endorsements, Any]:
    return recorded("tdx", "tdx-v4-debug.quote", TdxPolicy.strictest())


def nitro() -> tuple[EvidenceItem, Endorsements, Any]:
    return recorded("nitro", "nitro-2025-debug.bin", NitroPolicy.strictest())


def recorded(folder: str, name: str, rules: Any) -> tuple[EvidenceItem, Endorsements, Any]:
    file = vectors_folder("attestation") / folder / name
    if not file.exists():
        pytest.skip(f"no recorded evidence `{name}`")
    (item,) = read_file(file.read_bytes()).items
    return item, Endorsements(anchors=vendor_anchors()), rules


@pytest.mark.parametrize(
    ("made", "at"),
    [(snp, "2024-01-15T00:00:00Z"), (tdx, "2025-07-01T00:00:00Z"), (nitro, "2025-11-18T12:00:00Z")],
    ids=["sev-snp", "tdx", "nitro"],
)
def test_recorded_evidence_of_debugged_guests_of_real_machines_is_refused_as_that(
    made: Callable[[], tuple[EvidenceItem, Endorsements, Any]], at: str
) -> None:
    item, endorsed, rules = made()
    result = appraise_item(
        "cpu0",
        item,
        binding=RecordedBinding(),
        endorsements=endorsed,
        policy=AppraisalPolicy(kinds={item.kind: rules}, devices=None, reattest_seconds=60),
        at=document_time(item) or parse_instant(at),
    )
    assert result.status is not Status.WANTED
    assert any("debug" in f"{claim.name} {claim.seen}" for claim in result.failed), result.failed


def document_time(item: EvidenceItem) -> int | None:
    """A Nitro document is judged at its own instant: its certificates live for hours."""
    if item.kind is not EvidenceKind.NITRO:
        return None
    return NitroVerifier().parse(item.body).document.made
