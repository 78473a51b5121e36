"""What a governor's process must not forget: the newest entry that it saw, and that its model was frozen.

A kill at any moment leaves either the old or the new state, whole. The log is the truth; this folder is what remains
should the log come back in an older state, or should nobody have been there to be told of a breach.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.audit.entries import MAX_ENTRY, read_entry
from strongroom.core import canonical
from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.egress.odometer import LocalRecord
from strongroom.enclave.gateway.errors import FrozenBeforeError, OdometerFileError
from strongroom.enclave.gateway.odometer import OdometerLog
from strongroom.release.metering import LoggedReading, odometer_of

_MAX_FILE: Final = 4096


class GovernorFolder:
    """One model's files (steps 1 and 4 of docs/spec/egress-budget.md)."""

    def __init__(self, folder: Path, model: ModelId) -> None:
        self._record, self._frozen = folder / f"{model}.odometer.json", folder / f"{model}.frozen.json"
        self._folder, self._model = folder, model

    def check_resumed(self, resumption: Callable[[], int | None]) -> None:
        """Return if no earlier run was frozen, or if people resumed the model since; then the mark goes.

        :param resumption: returns the keeper's number of the entry that resumed the model last; asked only if needed.
        :raises FrozenBeforeError: nobody resumed it since.
        :raises StrongroomError: a file can't be read, or nobody answers.
        """
        marked = self._marked()
        if marked is None:
            return
        resumed = resumption()
        # Numbers are the keeper's own, and signed: a resumption of last year doesn't lift this year's freeze.
        if resumed is None or resumed <= marked:
            raise self._frozen_before()
        try:
            self._frozen.unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise _unusable(self._frozen, error) from None

    def open(self, log: OdometerLog) -> LoggedReading:
        """Begin a run and keep its entry.

        :raises FrozenBeforeError: an earlier run was frozen; see :meth:`check_resumed`.
        :raises StrongroomError: the log refuses, or a file can't be read or written.
        """
        if self._marked() is not None:
            raise self._frozen_before()
        opened = log.open(self.stored())
        self.keep(opened)
        return opened

    def stored(self) -> bytes | None:
        """Return the entry that was kept, if there is one. Whether the keeper signed it, the keeper finds out."""
        return self._read(self._record)

    def keep(self, reading: LoggedReading) -> None:
        """Store a signed entry durably (step 4), unless one that says more lies there."""
        known = reading.entry.record
        if known.over(self._known()) == known:
            self._write(self._record, reading.data)

    def _known(self) -> LocalRecord | None:
        data = self.stored()
        if data is None:
            return None
        entry = read_entry(data)
        if entry.event is not EventName.ODOMETER_ADVANCED or entry.text("model") != self._model:
            raise OdometerFileError(
                f"`{self._record.name}` isn't an entry of the odometer", remedy="look at its folder and owner"
            )
        return odometer_of(entry).record

    def freeze(self, cause: str, now: Instant, *, seq: int) -> None:
        """Remember that the model was frozen; ``seq`` is the keeper's number of the newest entry that was seen."""
        mark: Json = {"v": 1, "model": self._model, "cause": cause, "at": format_instant(now), "seq": seq}
        self._write(self._frozen, canonical.encode(mark))

    def _frozen_before(self) -> FrozenBeforeError:
        return FrozenBeforeError(
            f"`{self._model}` was frozen by an earlier run and isn't served",
            remedy="find out why, with a second person; freeze the model if the log doesn't show that it is frozen, "
            "and have its quorum resume it: strongroom resume",
        )

    def _marked(self) -> int | None:
        data = self._read(self._frozen)
        if data is None:
            return None
        with Fields(canonical.decode(data, max_bytes=_MAX_FILE), "frozen-mark") as fields:
            fields.constant("v", 1)
            fields.parsed("model", model_id)
            fields.text("cause", max_length=96)
            fields.instant("at")
            return fields.integer("seq")

    def _read(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(MAX_ENTRY + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from None

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(path, data)
        except OSError as error:
            raise _unusable(path, error) from None


def _unusable(path: Path, error: OSError) -> OdometerFileError:
    return OdometerFileError(f"`{path.name}` can't be used: {error.strerror}", remedy="look at its folder and owner")
