"""A gate's record: bytes that the kernel may have let through, written down before it may. Pure.

The kernel forgets its counters when the machine restarts. What the record says was given counts as used from then on,
so that a restart refunds nothing, and loses what was left of one block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields
from strongroom.enclave.gate.errors import GateSpentError, GateTamperedError
from strongroom.enclave.gate.rules import Quotas, Reading
from strongroom.enclave.gate.settings import GateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """What stands on the disk. A record of other settings goes on counting: new peers are no new bytes."""

    settings: Digest
    through_out: int = 0
    through_in: int = 0

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form.
        """
        fields.constant("v", 1)
        return cls(
            settings=fields.digest("settings"),
            through_out=fields.integer("through_out"),
            through_in=fields.integer("through_in"),
        )

    def to_json(self) -> dict[str, Json]:
        """Return what :meth:`read` reads."""
        return {
            "v": 1,
            "settings": str(self.settings),
            "through_out": self.through_out,
            "through_in": self.through_in,
        }

    def opened(self, settings: GateSettings) -> tuple[Self, Quotas]:
        """Return the record to write before the gate is opened, and what the kernel begins with.

        :raises GateSpentError: nothing is left of its life.
        """
        if self.through_out >= settings.bytes_out or self.through_in >= settings.bytes_in:
            raise GateSpentError(f"the gate `{settings.name}` has let through all that it may")
        return self._ahead(settings, used_out=self.through_out, used_in=self.through_in)

    def ahead(self, settings: GateSettings, reading: Reading) -> tuple[Self, Quotas] | None:
        """Return the record to write before the limits move, and the limits; None while half a block is left.

        :raises GateTamperedError: the kernel counted more than it was given, or has higher limits.
        """
        beyond = reading.limit_out > self.through_out or reading.limit_in > self.through_in
        if beyond or reading.out > reading.limit_out:
            raise GateTamperedError(f"the kernel's quotas of `{settings.name}` aren't the ones in the record")
        if (reading.limit_out, reading.limit_in) != (self.through_out, self.through_in):
            # Whoever moved both was killed in between: the kernel is given what the record counts as given already.
            through_out, through_in = self.through_out, self.through_in
            return self, Quotas(
                through_out=through_out, through_in=through_in, used_out=reading.out, used_in=reading.back
            )
        half = settings.block_bytes // 2
        low = self.through_out - reading.out < half or self.through_in - reading.back < half
        ends = self.through_out >= settings.bytes_out and self.through_in >= settings.bytes_in
        if not low or ends:
            return None
        after, quotas = self._ahead(settings, used_out=reading.out, used_in=reading.back)
        return None if after == self else (after, quotas)

    def _ahead(self, settings: GateSettings, *, used_out: int, used_in: int) -> tuple[Self, Quotas]:
        after = replace(
            self,
            settings=settings.digest,
            through_out=max(self.through_out, min(settings.bytes_out, used_out + settings.block_bytes)),
            through_in=max(self.through_in, min(settings.bytes_in, used_in + settings.block_bytes)),
        )
        return after, Quotas(
            through_out=after.through_out, through_in=after.through_in, used_out=used_out, used_in=used_in
        )


def not_back(before: Reading, now: Reading) -> None:
    """Check that the counters went forwards.

    :raises GateTamperedError: one went back: somebody reset it, or replaced the table by an equal one.
    """
    pairs = ((before.out, now.out), (before.back, now.back), (before.passed, now.passed), (before.refused, now.refused))
    if any(after < had for had, after in pairs):
        raise GateTamperedError("a counter of the gate went back", remedy="find out who reset it; the gate stays shut")
