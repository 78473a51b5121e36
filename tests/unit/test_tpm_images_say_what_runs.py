from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.attester import (
    APPRAISAL,
    GENESIS,
    MEASUREMENTS,
    NOW,
    RECIPIENT_KEY,
    attester,
    binding,
    tpm_root,
    vendor_root,
)
from simulators.tpm_chain import agile_log, boot, registers, virtual_tpm
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.evidence import Evidence, EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import expected_pcr, measured_set, require_enough
from strongroom.attestation.platform_record import platform_of
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.results import AttestationResult, Status
from strongroom.attestation.tpm.statement import LoggedEvent
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ImageId

LAUNCH = measured_set(MEASUREMENTS)
LOG = agile_log(boot())
PCRS = registers(LOG)
BOUND = binding()


def values(*sets: dict[str, str]) -> ReferenceValues:
    image = ReferenceImage(image=ImageId("machine"), measured={EvidenceKind.TPM2: sets})
    return ReferenceValues(
        genesis=GENESIS,
        epoch=1,
        images=(image,),
        anchors=(tpm_root(vendor_root()),),
        appraisal=APPRAISAL,
        not_after=NOW + 10,
    )


def appraised(wanted: ReferenceValues, *, launched: bool = False) -> AttestationResult:
    """Appraise a whole machine, on which a launcher measured or didn't."""
    machine = replace(virtual_tpm(), key=attester().key)
    pcrs = {**PCRS, 14: expected_pcr(MEASUREMENTS)} if launched else PCRS
    events = tuple(LoggedEvent(14, measurement) for measurement in MEASUREMENTS) if launched else ()
    quote = machine.quote(pcrs, nonce=BOUND.tpm2_qualifying_data)
    statement = machine.statement(pcrs, quote=quote, events=events, event_log=LOG, ak_certificates=(), ak_public=b"")
    evidence = Evidence(
        platform=platform_of(attester().public),
        main=EvidenceItem(EvidenceKind.TPM2, statement.to_bytes()),
        recipient_key=RECIPIENT_KEY,
    )
    return appraise(evidence, binding=BOUND, record=attester().record(), reference_values=wanted, at=NOW)


def hexed(*numbers: int) -> dict[str, str]:
    return {f"pcr{number}": PCRS[number].hex() for number in numbers}


@pytest.mark.parametrize(
    "names", [LAUNCH, {*LAUNCH, "pcr0"}, {"pcr4", "pcr14"}, {"pcr0", "pcr7", "pcr9", "pcr14"}, {"pcr11", "pcr14"}]
)
def test_a_launch_or_a_whole_machine_is_enough(names: set[str]) -> None:
    require_enough(names)


@pytest.mark.parametrize(
    "names",
    [
        set(),
        {"pcr0"},
        {"pcr7"},
        {"pcr14"},
        {"pcr4"},
        {"pcr0", "pcr7", "pcr14"},
        set(LAUNCH) - {"command"},
        {"command", "pcr4", "pcr14"},
        {*LAUNCH} - {"genesis"} | {"pcr4", "pcr14"},
    ],
)
def test_less_is_refused_because_other_programs_would_pass_too(names: set[str]) -> None:
    with pytest.raises(MalformedError, match="an image on a TPM lists"):
        require_enough(names)
    with pytest.raises(MalformedError):
        values(dict.fromkeys(names, "00"))


def test_names_that_no_quote_gives_are_refused() -> None:
    for name in ("pcr24", "pcr04", "PCR4", "measurement"):
        with pytest.raises(MalformedError):
            values({**LAUNCH, name: "00"})


def test_a_launch_for_another_deployment_is_refused() -> None:
    with pytest.raises(MalformedError, match="another deployment"):
        values({**LAUNCH, "genesis": str(Digest.of(b"another"))})


def test_a_whole_machine_is_wanted_by_the_values_that_its_image_lists() -> None:
    result = appraised(values(hexed(4, 7, 14)))
    assert (result.require_wanted(), result.status) == ("machine", Status.WANTED)
    for number in (4, 7, 14):
        other = {**hexed(4, 7, 14), f"pcr{number}": "00" * 31 + "01"}
        assert appraised(values(other)).reason == f"unwanted-pcr{number}"


def test_what_was_launched_on_a_machine_is_never_left_open() -> None:
    # The image lists the machine; somebody launched a program on it, and PCR 14 says so.
    assert appraised(values(hexed(4, 14)), launched=True).reason == "unwanted-pcr14"
    both = {**LAUNCH, **hexed(4, 7)}
    assert appraised(values(both), launched=True).require_wanted() == "machine"
    assert appraised(values(both)).reason.startswith("unwanted-")
    assert appraised(values(LAUNCH), launched=True).require_wanted() == "machine"


def test_a_shipped_root_keeps_no_platform_that_the_deployment_let_go() -> None:
    record = replace(attester().record(), anchor=vendor_anchors().anchors[0].digest)
    evidence = attester().evidence(BOUND)
    result = appraise(evidence, binding=BOUND, record=record, reference_values=values(LAUNCH), at=NOW)
    assert result.reason == "unwanted-endorsement-root"
