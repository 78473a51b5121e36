"""Gates of enclaves on this machine, held ready to be shut."""

from __future__ import annotations

import asyncio

from strongroom.core.errors import StrongroomError
from strongroom.enclave.gate.adapters import tools
from strongroom.enclave.gate.rules import read_shut
from strongroom.enclave.gate.wiring import Gate, Switch


class HeldGate:
    """One gate. A switch that fails is followed by the gate's own way, which starts programs and takes longer.

    :raises GateUnavailableError: the gate isn't open.
    """

    def __init__(self, gate: Gate) -> None:
        self.name = gate.settings.name
        self._gate = gate
        self._switch = Switch(gate)

    def begin(self) -> asyncio.Future[None]:
        """Begin to drop everything."""
        return asyncio.ensure_future(self._shut(asyncio.wrap_future(self._switch.begin())))

    async def mark(self, cause: str) -> None:
        """Remember that it is shut."""
        await asyncio.to_thread(self._gate.mark, cause)

    async def is_shut(self) -> bool:
        """Tell whether the kernel drops everything there now, by the rules that it lists."""
        return await asyncio.to_thread(self._is_shut)

    def _is_shut(self) -> bool:
        try:
            read_shut(tools.listing(self._gate.settings.namespace))
        except StrongroomError:
            return False
        return True

    def close(self) -> None:
        """Let go of it, as it is."""
        self._switch.close()

    async def _shut(self, shutting: asyncio.Future[None]) -> None:
        try:
            await shutting
        except StrongroomError:
            await asyncio.to_thread(self._gate.freeze, "responder")
