"""Errors of the log. Each way of tampering has its own code, so that a reader of the message knows what happened."""

from __future__ import annotations

from strongroom.core.errors import ConflictError, MalformedError, TamperedError, UnavailableError


class ProofError(TamperedError):
    """A Merkle proof doesn't lead to the root that it was checked against."""

    code = "bad-proof"


class NoteError(TamperedError):
    """A signed note carries no good signature by the expected key."""

    code = "bad-note"


class EntryError(MalformedError):
    """An entry isn't one that the closed schema of its event allows."""

    code = "bad-log-entry"


class LogError(TamperedError):
    """The log, or a copy of it, isn't what its writer signed. ``index`` is the first entry that diverges, if known."""

    code = "log-tampered"
    index: int | None = None

    def __init__(self, message: str, *, index: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.index = index


class EditedEntryError(LogError):
    """An entry's bytes aren't the ones that were logged."""

    code = "log-entry-edited"


class MissingRowsError(LogError):
    """The newest entries are gone: there are fewer than a signed checkpoint says."""

    code = "log-rows-missing"


class ForgedCheckpointError(LogError):
    """A checkpoint names the log's key, but that key didn't sign it."""

    code = "log-checkpoint-forged"


class WrongKeyError(LogError):
    """A checkpoint isn't signed by the key that was given, or is another log's."""

    code = "log-key-wrong"


class ForkError(LogError):
    """Two signed checkpoints can't both be true of one append-only log."""

    code = "log-forked"


class TileError(LogError):
    """A hash tile is missing, or isn't what the entries hash to."""

    code = "log-tile-damaged"


class PartialTileMissingError(TileError):
    """The partial hash tile that the checkpoint's size requires is missing."""

    code = "log-partial-tile-missing"


class SequenceError(LogError):
    """A producer's counter has a gap or repeats: entries were left out, moved or doubled before they were logged."""

    code = "log-sequence-gap"


class EntryForgedError(LogError):
    """An entry says that the keeper wrote it, but the keeper's key didn't sign it."""

    code = "log-entry-forged"


class GenesisMismatchError(LogError):
    """The log belongs to another deployment than the genesis file that was given."""

    code = "log-genesis-mismatch"


class StoreDamagedError(LogError):
    """The writer's own store disagrees with itself or with what was already signed. It is never repaired in place."""

    code = "log-store-damaged"


class StoreReplacedError(LogError):
    """The file under the log writer was replaced while it was open."""

    code = "log-store-replaced"


class LogHaltedError(UnavailableError):
    """A write to the log failed once; this process appends nothing more, whatever the disk says later."""

    code = "log-halted"


class LogBusyError(UnavailableError):
    """The queue of the log writer is full. Nothing was queued; the same entry may be sent again."""

    code = "log-busy"


class LogOutcomeUnknownError(UnavailableError):
    """The entry was sent but not acknowledged in time. It may be in the log; treat the act as not done."""

    code = "log-outcome-unknown"


class OutOfSequenceError(ConflictError):
    """An append isn't the next one of its producer. Nothing was queued."""

    code = "log-out-of-sequence"
