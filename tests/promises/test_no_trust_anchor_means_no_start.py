"""No root, no belief: nothing falls back to trusting what came along; a changed root is refused when it is loaded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from simulators.attester import NOW, enrolment_request
from simulators.sev_snp_chain import Machine
from strongroom.attestation import trust_anchors
from strongroom.attestation.appraisal import appraise_item
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.chip_enrolment import begin_chip, finish_chip
from strongroom.attestation.collateral import NO_COLLATERAL
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.enrolment import begin
from strongroom.attestation.errors import ChainRefusedError, EnrolmentRefusedError
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.results import Status
from strongroom.attestation.trust_anchors import TrustAnchors, vendor_anchors
from strongroom.core.errors import DeniedError, TamperedError
from strongroom.keeper.registry import PlatformRegistry
from strongroom.release.steps import ReleaseRefusedError
from support.room import Room, counted_bytes
from support.snp_room import APPRAISAL, KIND, SnpRoom


def test_without_a_root_no_evidence_is_genuine() -> None:
    machine = Machine(report_data=b"\1" * 64)
    result = appraise_item(
        "cpu0",
        EvidenceItem(KIND, machine.body()),
        binding=ExpectedBinding({Slot.REPORT_DATA: machine.report_data}),
        endorsements=Endorsements(anchors=TrustAnchors(())),
        policy=APPRAISAL,
        at=NOW,
    )
    assert (result.status, result.reason) == (Status.ERROR, "chain-refused")


def test_without_a_root_no_platform_is_enrolled() -> None:
    with pytest.raises(ChainRefusedError):
        begin(enrolment_request(), roots=(), at=NOW, random_bytes=counted_bytes)
    values = replace(SnpRoom().first_values(), anchors=())
    pending = begin_chip(KIND, genesis=values.genesis, session="s", nonce=bytes(32), at=NOW)
    body = Machine(report_data=pending.binding.report_data).body()
    with pytest.raises(EnrolmentRefusedError) as caught:
        finish_chip(pending, body, reference_values=values, collateral=NO_COLLATERAL, at=NOW)
    assert caught.value.reason == "chain-refused"


@pytest.mark.integration
def test_without_reference_values_nothing_is_enrolled_or_released() -> None:
    async def run() -> None:
        room = Room()
        await room.keeper.start()
        registry = PlatformRegistry(room.keeper, room.clock, counted_bytes)
        for begun in (lambda: registry.begin(enrolment_request()), lambda: registry.begin_chip(KIND)):
            with pytest.raises(DeniedError) as caught:
                begun()
            assert caught.value.reason == "no-reference-values"
        furnished = await Room().furnish()
        furnished.keeper.documents.reference_values = None
        with pytest.raises(ReleaseRefusedError) as refused:
            await furnished.release(await furnished.ask())
        assert refused.value.reason == "no-reference-values"

    asyncio.run(run())


def test_a_shipped_root_that_was_changed_or_is_gone_keeps_everything_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(trust_anchors.__file__).parent
    folder = tmp_path / "anchors"
    folder.mkdir()
    for file in (shipped / "anchors").glob("*.pem"):
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(trust_anchors, "files", lambda _package: tmp_path)
    vendor_anchors.cache_clear()
    try:
        assert vendor_anchors().anchors
        names = [pinned.file for pinned in trust_anchors._PINNED]
        for first, second in pairwise(names):
            vendor_anchors.cache_clear()
            kept = (folder / first).read_bytes()
            (folder / first).write_bytes((folder / second).read_bytes())
            with pytest.raises(TamperedError, match="isn't the pinned one"):
                vendor_anchors()
            (folder / first).write_bytes(kept)
        (folder / names[0]).unlink()
        with pytest.raises(FileNotFoundError):
            vendor_anchors()
    finally:
        monkeypatch.undo()
        vendor_anchors.cache_clear()


def test_no_simulated_root_ships() -> None:
    assert not any(anchor.simulated for anchor in vendor_anchors().anchors)
    assert AppraisalPolicy.strictest(KIND).kinds
