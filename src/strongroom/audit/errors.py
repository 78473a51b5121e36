"""Errors of the log. Each way of tampering has its own code, so that a reader of the message knows what happened."""

from __future__ import annotations

from strongroom.core.errors import (
    ConflictError,
    ExitCode,
    MalformedError,
    StrongroomError,
    TamperedError,
    UnavailableError,
    UsageError,
)


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


class SuccessionError(LogError):
    """A shard wasn't closed for the next one as the entries at their seam say."""

    code = "log-succession-broken"


class ShardMissingError(LogError):
    """A shard was closed, and the one that its last entry names isn't there: everything after it was left out."""

    code = "log-shard-missing"


class StoreDamagedError(LogError):
    """The writer's own store disagrees with itself or with what was already signed. It is never repaired in place."""

    code = "log-store-damaged"


class StoreReplacedError(LogError):
    """The file under the log writer was replaced while it was open."""

    code = "log-store-replaced"


class LogHaltedError(UnavailableError):
    """A write to the log failed once; this process appends nothing more, whatever the disk says later."""

    code = "log-halted"


class LogFencedError(UnavailableError):
    """Another log writer took the lease: this one may write nothing more."""

    code = "log-fenced"


class StoreUnsafeError(UsageError):
    """The database is set up so that it would call something durable that isn't, or isn't where it should be."""

    code = "log-store-unsafe"


class LogFullError(UnavailableError):
    """The log's disk is nearly full. Nothing was queued; what takes access away is still taken."""

    code = "log-full"


class LogBusyError(UnavailableError):
    """The queue of the log writer is full. Nothing was queued; the same entry may be sent again."""

    code = "log-busy"


class LogOutcomeUnknownError(UnavailableError):
    """The entry was sent but not acknowledged in time. It may be in the log; treat the act as not done."""

    code = "log-outcome-unknown"


class OutOfSequenceError(ConflictError):
    """An append isn't the next one of its producer. Nothing was queued."""

    code = "log-out-of-sequence"


class CosignatureForgedError(LogError):
    """A line names a known cosigner's key, but that key didn't sign this checkpoint."""

    code = "cosignature-forged"


class CosignatureOtherLogError(LogError):
    """The cosigned checkpoint is of another log than the one that was asked about."""

    code = "cosignature-other-log"


class CosignatureFromFutureError(LogError):
    """A cosignature says a time that hasn't come: a witness's clock, or this machine's, is wrong."""

    code = "cosignature-from-future"


class QuorumMissingError(LogError):
    """Too few of the witnesses that the policy names cosigned the checkpoint."""

    code = "witness-quorum-missing"


class LogRolledBackError(LogError):
    """The log's own key signed a tree that this log doesn't hold: it was rolled back, or forked."""

    code = "log-rolled-back"


class TimestampError(LogError):
    """A timestamp isn't one of the pinned authority over these bytes."""

    code = "timestamp-bad"


class TimestampFromFutureError(TimestampError):
    """A timestamp says a time that hasn't come."""

    code = "timestamp-from-future"


class WitnessStoreError(TamperedError):
    """What a witness keeps of a log is missing or damaged. It never begins anew by itself: that could cosign a fork."""

    code = "witness-store-damaged"


class WitnessRefusedError(StrongroomError):
    """A witness didn't cosign. ``http_status`` is what tlog-witness gives for it."""

    code = "witness-refused"
    exit_code = ExitCode.CONFLICT
    http_status = 400


class SubmissionMalformedError(WitnessRefusedError):
    """The request isn't one of add-checkpoint, or its old size exceeds its checkpoint's."""

    code = "witness-submission-malformed"


class SubmissionForgedError(WitnessRefusedError):
    """No trusted key of the log signed the checkpoint, or a line that names one doesn't verify."""

    code = "witness-submission-forged"
    http_status = 403


class LogUnknownError(WitnessRefusedError):
    """The witness doesn't follow a log with this origin."""

    code = "witness-log-unknown"
    http_status = 404


class OldSizeError(WitnessRefusedError):
    """The old size isn't the size that the witness cosigned last, which is ``size``."""

    code = "witness-old-size"
    http_status = 409

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size


class InconsistentError(WitnessRefusedError):
    """The checkpoint isn't shown to continue what the witness cosigned: a fork, or a wrong proof."""

    code = "witness-inconsistent"
    http_status = 422
