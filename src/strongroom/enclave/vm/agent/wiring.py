"""The agent's process inside a machine: ``python -I -m strongroom.enclave.vm.agent.wiring``, started by the guest."""

from __future__ import annotations

from strongroom.enclave.agent.wiring import main
from strongroom.enclave.vm.prediction import BOOT_PCRS

if __name__ == "__main__":
    main(BOOT_PCRS)
