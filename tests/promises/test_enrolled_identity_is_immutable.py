"""An enrolled identity never changes: no second key, certificate or chip comes under its id, and none twice."""

from __future__ import annotations

import asyncio
import os
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.attester import NOW, SimulatedAttester, attester, ek_certificate, enrolment_request
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import EnrolledChip, EnrolledTpm, PlatformRecord, platform_of_chip
from strongroom.audit.facts import Fact
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.keeper.registry import PlatformEnrolledError, PlatformRegistry
from strongroom.release.errors import LedgerError
from support.room import Room

RECORD = attester().record()
OTHER = attester("b").record()
CHIP = PlatformRecord(
    platform=platform_of_chip(EvidenceKind.SEV_SNP, b"\x01" * 64),
    kind=EvidenceKind.SEV_SNP,
    identity=EnrolledChip(hardware_id=b"\x01" * 64),
    anchor=Digest.of(b"root"),
    isolation=IsolationClass.CVM,
    enrolled=NOW,
)


async def enrolled(registry: PlatformRegistry, made: SimulatedAttester) -> Envelope:
    """Enrol an attestation key; every one of them is in the one TPM, whose maker certifies it anew each time."""
    opened = registry.begin(enrolment_request(ek_certificate(), ak_public=made.public.raw))
    return await registry.finish(opened.session, bytes(opened.pending.secret.reveal(TOKEN)))


@pytest.mark.integration
def test_one_tpm_is_one_platform_and_gets_the_same_record_again() -> None:
    async def run() -> None:
        room = Room()
        room._enrol = nothing  # type: ignore[method-assign]
        await room.furnish()
        registry = PlatformRegistry(room.keeper, room.clock, os.urandom)
        first = await enrolled(registry, attester())
        room.clock.at += 60
        assert await enrolled(registry, attester()) == first
        second = SimulatedAttester(ec.generate_private_key(ec.SECP256R1()))
        with pytest.raises(PlatformEnrolledError):
            await enrolled(registry, second)
        assert len(room.keeper.journal.ledger.platforms) == 1
        await room.restart()
        again = PlatformRegistry(room.keeper, room.clock, os.urandom)
        assert await enrolled(again, attester()) == first
        with pytest.raises(PlatformEnrolledError):
            await enrolled(again, second)

    async def nothing() -> None:
        return None

    asyncio.run(run())


@pytest.mark.integration
def test_a_log_that_enrols_a_platform_twice_otherwise_isn_t_followed() -> None:
    async def run() -> None:
        room = await Room().furnish()
        facts: dict[str, Fact] = {
            "platform": room.platform_id,
            "record": Digest.of(b"another record"),
            "hardware": Digest.of(b"another chip"),
            "isolation": "measured-host",
        }
        with pytest.raises(LedgerError, match="a second time"):
            await room.keeper.record_pinned(EventName.PLATFORM_ENROLLED, facts)

    asyncio.run(run())


def test_an_id_can_not_be_taken_over_by_another_key_or_chip() -> None:
    assert isinstance(OTHER.identity, EnrolledTpm)
    stolen_tpms: tuple[dict[str, Any], ...] = (
        {"identity": OTHER.identity},
        {"platform": OTHER.platform},
        {"platform": CHIP.platform},
        {"kind": EvidenceKind.SEV_SNP},
        {"identity": CHIP.identity},
    )
    for change in stolen_tpms:
        with pytest.raises(MalformedError):
            replace(RECORD, **change)
    stolen_chips: tuple[dict[str, Any], ...] = (
        {"identity": EnrolledChip(hardware_id=b"\x02" * 64)},
        {"kind": EvidenceKind.TDX},
        {"kind": EvidenceKind.NVIDIA_GPU},
        {"isolation": IsolationClass.CVM_GPU},
        {"isolation": IsolationClass.MEASURED_HOST},
    )
    for change in stolen_chips:
        with pytest.raises(MalformedError):
            replace(CHIP, **change)
    stolen = decode(RECORD.to_bytes())
    assert isinstance(stolen, dict)
    assert isinstance(stolen["identity"], dict)
    stolen["identity"]["ak_public"] = to_base64(OTHER.identity.attestation_key.raw)
    with pytest.raises(MalformedError):
        PlatformRecord.parse(encode(stolen))


def test_a_masked_chip_is_nobody() -> None:
    with pytest.raises(MalformedError, match="1 to 128 bytes"):
        EnrolledChip(hardware_id=b"")


def test_a_record_has_one_form_and_no_setter() -> None:
    for record in (RECORD, CHIP):
        assert PlatformRecord.parse(record.to_bytes()) == record
        with pytest.raises(FrozenInstanceError):
            record.isolation = IsolationClass.CVM  # type: ignore[misc]
