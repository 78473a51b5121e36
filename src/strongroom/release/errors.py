"""What is wrong with a log, as everything that folds one says it."""

from __future__ import annotations

from strongroom.core.errors import TamperedError


class LedgerError(TamperedError):
    """The log holds an entry that can't follow the ones before it."""

    code = "ledger-inconsistent"
