"""Each isolation class supports a RAND level at most: none SL5, and a simulated one no weights worth keeping."""

from __future__ import annotations

import pytest

from strongroom.attestation.isolation import IsolationClass, caps
from strongroom.framework.levels import SecurityLevel


@pytest.mark.parametrize(
    ("isolation", "level"),
    [
        (IsolationClass.NONE, SecurityLevel.SL2),
        (IsolationClass.PROCESS, SecurityLevel.SL2),
        (IsolationClass.VM_SIMULATED, SecurityLevel.SL1),
        (IsolationClass.MEASURED_HOST, SecurityLevel.SL3),
        (IsolationClass.CVM_WEAK, SecurityLevel.SL2),
        (IsolationClass.CVM, SecurityLevel.SL3),
        (IsolationClass.CVM_GPU, SecurityLevel.SL3),
        (IsolationClass.CVM_GPU_CUSTODY, SecurityLevel.SL4),
    ],
)
def test_each_class_has_its_cap(isolation: IsolationClass, level: SecurityLevel) -> None:
    assert caps(isolation) is level


def test_every_class_is_capped_below_sl5_and_only_custody_reaches_sl4() -> None:
    assert all(caps(isolation).rank < SecurityLevel.SL5.rank for isolation in IsolationClass)
    assert [one for one in IsolationClass if caps(one) is SecurityLevel.SL4] == [IsolationClass.CVM_GPU_CUSTODY]


def test_only_simulated_evidence_is_simulated() -> None:
    assert [one for one in IsolationClass if one.simulated] == [IsolationClass.VM_SIMULATED]
