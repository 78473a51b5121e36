"""The register of copies and the log: which statements the log lacks, and whether both tell the same story."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strongroom.audit.entries import Entry
from strongroom.client.api import BrokerApi
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.intake.copies.register import Register, RegisterError
from strongroom.release.copies_ledger import OUT_OF_ORDER, CopiesLedger
from strongroom.release.errors import STATEMENT_KNOWN
from strongroom.release.statements import StatementKind


class RecordedCopies:
    """The copies as the log has them, and each registrar's statements in their order."""

    def __init__(self) -> None:
        self.ledger = CopiesLedger()

    def take(self, index: int, entry: Entry) -> None:
        """Take the next entry of a verified log; only what is said of copies counts.

        :raises LedgerError: it can't follow what was said before.
        """
        if entry.event is EventName.COPY_RECORDED:
            self.ledger.apply(index, entry)

    def lacking(self, register: Register, registrar: PersonId) -> int:
        """Return how many of a register's newest statements the log lacks.

        :raises RegisterError: the register lacks some that the log has, or has others.
        """
        logged = [*self.ledger.chains.get(registrar, {})]
        if register.passed[: len(logged)] != logged:
            raise RegisterError(
                f"the log has {len(logged)} statements of `{registrar}`, and the register doesn't begin with them",
                remedy="find the folder as it was; then see who could write to it",
            )
        return len(register.passed) - len(logged)


def record_missing(api: BrokerApi, lines: Sequence[bytes]) -> int:
    """Hand in those of a register's signed statements that the log lacks, oldest first; returns how many.

    Nothing here remembers which they are: the keeper takes the next one and no other, and tells those that it has
    from those that come too early. The newest is tried first, as it is mostly the only one.

    :raises RegisterError: the log has other statements of this registrar.
    :raises StrongroomError: as the keeper judges them, or it isn't there.
    """
    first, end = 0, len(lines)
    at = end - 1
    while first < end:
        try:
            api.hand_in(StatementKind.COPY, Envelope.parse(lines[at]))
        except ConflictError as error:
            if error.reason == STATEMENT_KNOWN:
                first = at + 1
            elif error.reason == OUT_OF_ORDER:
                end = at
            else:
                raise
        else:
            _rest(api, lines[at + 1 :])
            return len(lines) - at
        at = (first + end) // 2
    if first < len(lines):
        raise RegisterError(
            f"the log has other statements of this registrar after the first {first}",
            remedy="find the register's folder as it was: strongroom copies check",
        )
    return 0


def _rest(api: BrokerApi, lines: Iterable[bytes]) -> None:
    for line in lines:
        try:
            api.hand_in(StatementKind.COPY, Envelope.parse(line))
        except ConflictError as error:
            # Handed in before, and the answer was lost.
            if error.reason != STATEMENT_KNOWN:
                raise
