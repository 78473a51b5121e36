"""How strongly what is attested is kept apart from its host, ordered, and the RAND level that each can support."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.framework.levels import SecurityLevel


class IsolationClass(StrEnum):
    """From nothing to a confidential virtual machine and accelerator in known hands. Compare with :meth:`at_least`."""

    NONE = "none"
    PROCESS = "process"
    VM_SIMULATED = "vm-simulated"
    """Evidence of a software TPM or a self-made root. Never fit for production weights."""
    MEASURED_HOST = "measured-host"
    """An enrolled physical TPM. The host's owner and the bus between chip and processor are trusted."""
    CVM_WEAK = "cvm-weak"
    CVM = "cvm"
    CVM_GPU = "cvm+gpu"
    CVM_GPU_CUSTODY = "cvm+gpu+custody"

    @property
    def rank(self) -> int:
        """The place in the order; 0 is ``none``."""
        return list(IsolationClass).index(self)

    def at_least(self, other: IsolationClass) -> bool:
        """Tell whether this class is ``other`` or stronger. String comparison would order them by spelling."""
        return self.rank >= other.rank

    def weaker(self, other: IsolationClass) -> IsolationClass:
        """Return the weaker of the two."""
        return self if self.rank <= other.rank else other

    @property
    def simulated(self) -> bool:
        """True for evidence that proves the plumbing and nothing about a machine."""
        return self is IsolationClass.VM_SIMULATED


# The class that a policy asks of a model and the level that a class can support are two rules, and both must hold: a
# policy may ask for more than its level needs, and it can't have less. So the levels needn't rise with the order: a
# measured host whose owner is trusted carries more than a confidential machine that its owner can forge.
_CAPS: Final[Mapping[IsolationClass, SecurityLevel]] = MappingProxyType(
    {
        # Nothing is proved about the machine. SL1 and SL2 ask for no attested execution.
        IsolationClass.NONE: SecurityLevel.SL2,
        IsolationClass.PROCESS: SecurityLevel.SL2,
        # Worse than no evidence: it looks like some. Weights that are worth a level above the first are never served
        # on it; weights for tests are exempt, and the signed policy says which those are.
        IsolationClass.VM_SIMULATED: SecurityLevel.SL1,
        # A person at the machine can put a device on the bus between TPM and processor.
        IsolationClass.MEASURED_HOST: SecurityLevel.SL3,
        # Whoever runs the machine can forge its evidence.
        IsolationClass.CVM_WEAK: SecurityLevel.SL2,
        # Interposers on the memory bus (TEE.fail, WireTap) take keys out of current chips, for whoever stands there.
        IsolationClass.CVM: SecurityLevel.SL3,
        IsolationClass.CVM_GPU: SecurityLevel.SL3,
        # Custody keeps strangers from standing there. No part that is sold resists them by itself: hence not SL5.
        IsolationClass.CVM_GPU_CUSTODY: SecurityLevel.SL4,
    }
)


def caps(isolation: IsolationClass) -> SecurityLevel:
    """Return the highest RAND level whose weights evidence of this class may serve, whatever a policy says."""
    return _CAPS[isolation]
