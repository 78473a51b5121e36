"""What is wrong with a log, as everything that folds one says it, and how a statement that it has is refused."""

from __future__ import annotations

from typing import Final

from strongroom.core.errors import TamperedError

STATEMENT_KNOWN: Final = "statement-known"
"""Why a statement that the log has is refused: whoever sent it twice has what they wanted."""


class LedgerError(TamperedError):
    """The log holds an entry that can't follow the ones before it."""

    code = "ledger-inconsistent"


class ExhibitError(TamperedError):
    """An object that the log names isn't that object, or contradicts the entry that names it."""

    code = "exhibit-refused"


def agree(*, what: str, **pairs: tuple[object, object]) -> None:
    """Check that an object says what the log says: for each name what is said, and what is logged.

    :raises ExhibitError: it says something else.
    """
    for name, (said, logged) in pairs.items():
        if said != logged:
            raise ExhibitError(f"the {what} differs from the log in `{name}`", reason="exhibit-contradicts-log")
