"""How strongly what is attested is kept apart from its host, ordered. The class caps what a policy may grant."""

from __future__ import annotations

from enum import StrEnum


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
