from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from simulators.attester import GENESIS, NOW, attest_bytes, attester, binding
from strongroom.attestation.appraisal import Status, appraise
from strongroom.attestation.errors import EvidenceReplayedError
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.attestation.transcript import Binding
from strongroom.attestation.verifiers.tpm2 import genuine
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError

EMPTY_VALUES = ReferenceValues(genesis=GENESIS, epoch=1, images=(), ek_roots=(), not_after=NOW + 10)


def made(**changes: Any) -> Binding:
    whole = binding()
    return Binding(**{f.name: getattr(whole, f.name) for f in fields(whole)} | changes)


@pytest.mark.parametrize("missing", [f.name for f in fields(Binding)])
def test_no_part_of_a_binding_has_a_default(missing: str) -> None:
    whole = binding()
    with pytest.raises(TypeError):
        Binding(**{f.name: getattr(whole, f.name) for f in fields(whole) if f.name != missing})


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": b""},
        {"nonce": bytes(31)},
        {"nonce": bytes(33)},
        {"challenge": ""},
        {"challenge": "c" * 65},
        {"challenge": "c\n"},
        {"version": 0},
        {"model": "../atlas"},
    ],
)
def test_a_malformed_binding_can_not_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        made(**changes)


@pytest.mark.parametrize("nothing", [None, {}, b"", True])
def test_no_binding_is_not_any_binding(nothing: Any) -> None:
    evidence, record = attester().evidence(binding()), attester().record()
    with pytest.raises(UsageError):
        genuine(evidence, binding=nothing, platform_record=record, at=NOW)
    with pytest.raises(UsageError):
        appraise(evidence, binding=nothing, record=record, reference_values=EMPTY_VALUES, at=NOW)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_evidence_with_malformed_qualifying_data_is_refused(size: int) -> None:
    bound = binding()
    data = (bound.tpm2_qualifying_data * 2)[:size]
    evidence = attester().evidence(bound, quote=attest_bytes(qualifying_data=data, pcr_digest=bytes(32)))
    with pytest.raises(EvidenceReplayedError):
        genuine(evidence, binding=bound, platform_record=attester().record(), at=NOW)
    result = appraise(evidence, binding=bound, record=attester().record(), reference_values=EMPTY_VALUES, at=NOW)
    assert (result.status, result.reason) == (Status.ERROR, "evidence-replayed")


def test_every_part_of_the_binding_changes_what_is_signed() -> None:
    whole = binding()
    changed = [
        made(nonce=b"\x01" * 32),
        made(challenge="c-2"),
        made(version=2),
        made(model="borea"),
        *(made(**{name: Digest.of(b"other")}) for name in ("genesis", "request", "manifest", "recipient_key")),
    ]
    assert len({one.tpm2_qualifying_data for one in (whole, *changed)}) == len(changed) + 1
