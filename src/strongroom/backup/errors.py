"""What can be wrong with a backup, or with restoring it."""

from __future__ import annotations

from strongroom.core.errors import ConflictError, DeniedError, TamperedError, UnavailableError


class BackupDamagedError(TamperedError):
    """A backup that isn't whole: cut short, changed, or not what its header says."""

    code = "backup-damaged"


class BackupExistsError(ConflictError):
    """There is a file of that name: a backup never overwrites anything."""

    code = "backup-exists"


class BackupFailedError(UnavailableError):
    """The backup couldn't be made; nothing of it is left behind."""

    code = "backup-failed"


class RestoreRefusedError(DeniedError):
    """A backup may not be restored so. ``reason`` says why."""

    code = "restore-refused"
