"""What the log says of models' odometers: what may have left each, over all runs, key epochs and ways out.

Part of :class:`strongroom.release.ledger.Ledger`, which folds the entries in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.core.ids import ModelId
from strongroom.egress.errors import OdometerRegressedError
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import OdometerEntry
from strongroom.release.errors import LedgerError
from strongroom.release.metering import Metered


@dataclass(slots=True)
class OdometerLedger:
    """Each model's odometer. Only the ledger changes it."""

    mirrors: dict[ModelId, Mirror] = field(default_factory=dict)
    """The odometers that were ever moved."""
    meters: dict[ModelId, Metered] = field(default_factory=dict)
    """The release whose governor opened the model's newest run: no other may go on with it."""
    newest: dict[ModelId, int] = field(default_factory=dict)
    """Where the newest entry of a model's odometer stands."""

    def of(self, model: ModelId) -> Mirror:
        """Return a model's odometer; one that nothing left stands at zero."""
        return self.mirrors.get(model) or Mirror(model)

    def advance(self, index: int, metered: Metered, reading: OdometerEntry) -> None:
        """Fold in the reading of the entry at ``index``.

        :raises LedgerError: it goes back, or goes on with another release's run.
        """
        model, before = metered.model, self.of(metered.model)
        if reading.run == before.run and self.meters.get(model) != metered:
            raise LedgerError(f"entry {index} goes on with a run that another release opened")
        try:
            self.mirrors[model] = before.after(reading)
        except OdometerRegressedError as error:
            raise LedgerError(f"entry {index}: {error.message}") from None
        self.meters[model], self.newest[model] = metered, index

    def charge(self, model: ModelId, bits: int, total: int) -> None:
        """Fold in what a workspace let go: it is gone from the model's life as well.

        :raises OdometerRegressedError: ``total`` isn't what the odometer says then.
        """
        self.mirrors[model] = self.of(model).after_drop(bits, total)
