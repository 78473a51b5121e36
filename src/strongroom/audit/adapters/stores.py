"""Opens the store that a deployment chose: PostgreSQL where ``store.toml`` names one, else SQLite."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from strongroom.audit.adapters.postgres_store import PostgresStore
from strongroom.audit.adapters.sqlite_store import SqliteStore
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.note import VerifierKey
from strongroom.audit.sequencer import EntryStore
from strongroom.audit.store_settings import MAX_SETTINGS, PostgresSettings
from strongroom.audit.stored import Visitor
from strongroom.audit.succession import folder_of
from strongroom.core.errors import UsageError

SETTINGS: Final = "store.toml"
PASSWORD: Final = "pgpass"  # noqa: S105 - a file's name
DATABASE: Final = "log.db"


def open_store(
    folder: Path, key: VerifierKey, *, shard: int, visit: Visitor | None, expected: Checkpoint | None
) -> EntryStore:
    """Open the store of a shard of the log whose things lie in ``folder``, and check all of it against what was signed.

    Each shard has a store of its own: another file, or another schema of the same database.

    :raises StoreDamagedError: it disagrees with itself, with a signature or with ``expected``.
    :raises LogBusyError: another log writer has it.
    :raises UsageError: settings that others can write, or a database that isn't set up to be safe.
    :raises MalformedError: settings of another form.
    """
    settings = _settings(folder / SETTINGS)
    if settings is None:
        path = folder / folder_of(shard) / DATABASE
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SqliteStore.open(path, key, visit=visit, expected=expected)
    password = folder / PASSWORD
    return PostgresStore.open(settings, key, password_file=password, shard=shard, visit=visit, expected=expected)


def _settings(path: Path) -> PostgresSettings | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        raise UsageError(f"`{path.name}` can't be read") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o022 or found.st_uid not in {0, os.geteuid()}:
            # Who may write here may move the log to a database of their own.
            raise UsageError(
                f"`{path.name}` must be writable by the log writer's user alone", remedy=f"chmod go-w {path.name}"
            )
        return PostgresSettings.parse(file.read(MAX_SETTINGS + 1))
