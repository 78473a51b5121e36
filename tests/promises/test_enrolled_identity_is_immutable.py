from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from simulators.attester import attester
from strongroom.attestation.enrolment import admit
from strongroom.attestation.errors import EnrolmentConflictError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError

RECORD = attester().record()
OTHER = replace(attester("b").record(), ek_certificate=Digest.of(b"other ek"))


def test_a_platform_is_enrolled_once() -> None:
    admit(RECORD, [])
    admit(RECORD, [OTHER])
    for again in (
        RECORD,
        replace(RECORD, enrolled=RECORD.enrolled + 1),
        replace(RECORD, isolation=IsolationClass.MEASURED_HOST),
        replace(RECORD, ek_certificate=Digest.of(b"another")),
    ):
        with pytest.raises(EnrolmentConflictError, match="enrolled already"):
            admit(again, [OTHER, RECORD])


def test_one_tpm_is_one_platform() -> None:
    second_key = replace(OTHER, ek_certificate=RECORD.ek_certificate)
    with pytest.raises(EnrolmentConflictError, match="the TPM is enrolled already"):
        admit(second_key, [RECORD])


def test_an_id_can_not_be_taken_over_by_another_key() -> None:
    with pytest.raises(MalformedError, match="name of its attestation key"):
        replace(RECORD, attestation_key=OTHER.attestation_key)
    with pytest.raises(MalformedError, match="name of its attestation key"):
        replace(RECORD, platform=OTHER.platform)
    stolen = decode(RECORD.to_bytes())
    assert isinstance(stolen, dict)
    stolen["ak_public"] = to_base64(OTHER.attestation_key.raw)
    with pytest.raises(MalformedError, match="name of its attestation key"):
        PlatformRecord.parse(encode(stolen))


def test_a_record_has_one_form_and_no_setter() -> None:
    assert PlatformRecord.parse(RECORD.to_bytes()) == RECORD
    with pytest.raises(FrozenInstanceError):
        RECORD.isolation = IsolationClass.MEASURED_HOST  # type: ignore[misc]
