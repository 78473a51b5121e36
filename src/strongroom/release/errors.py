"""What is wrong with a log, as everything that folds one says it, and how a statement that it has is refused."""

from __future__ import annotations

from typing import Final

from strongroom.core.errors import TamperedError

STATEMENT_KNOWN: Final = "statement-known"
"""Why a statement that the log has is refused: whoever sent it twice has what they wanted."""


class LedgerError(TamperedError):
    """The log holds an entry that can't follow the ones before it."""

    code = "ledger-inconsistent"
