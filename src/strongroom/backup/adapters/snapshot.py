"""Taking the parts of a running deployment, into a private folder: databases by SQLite's backup, files as they stand.

Order matters: the broker's database first, then the log's head, then the log up to it, then the keeper's files. So the
log is at or beyond whatever the database knows, and every document that the log names by then is among the files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.audit.checkpoint import read_checkpoint
from strongroom.audit.protocol import MAX_READ
from strongroom.audit.succession import SHARDS, Shard, Succession
from strongroom.audit.tiles import CHECKPOINT
from strongroom.backup.contents import (
    BROKER_DATABASE,
    LOG_ENTRIES,
    MAX_PARTS,
    Section,
    final_name,
    part_name,
    section_of,
)
from strongroom.backup.entries import Rebuilt, position_of, rebuilding, write_entry
from strongroom.backup.errors import BackupFailedError
from strongroom.backup.header import Part, Position
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.genesis import Genesis

CHUNK: Final = 1 << 20
_FOLDERS: Final = (".", "log", "broker", "broker/ca", "broker/webhooks", "keeper", "keeper/people")
_APART: Final = frozenset({BROKER_DATABASE, LOG_ENTRIES})
"""Taken in ways of their own, not copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Parts that were taken, and the log's position; the files lie under ``folder`` by their names."""

    folder: Path
    position: Position
    parts: tuple[Part, ...]

    def of(self, section: Section) -> tuple[Part, ...]:
        """Return the parts of one section, in order."""
        return tuple(part for part in self.parts if section_of(part.name) is section)


def take(
    home: Path, genesis: Genesis, folder: Path, sections: tuple[Section, ...], reached: Callable[[str], None]
) -> Staged:
    """Take every part of ``sections`` into ``folder``; ``reached`` is told each step, for crash tests.

    :raises BackupFailedError: the database can't be copied, or the log answers something else than its own entries.
    :raises UnavailableError: the log writer can't be reached.
    """
    if (home / BROKER_DATABASE).exists():
        _copy_database(home / BROKER_DATABASE, _place(folder, BROKER_DATABASE))
    reached("database")
    position, finals = _copy_log(home, genesis, folder)
    reached("log")
    names = [name for name in _names(home) if section_of(name) in sections and _copied(home, folder, name)]
    reached("files")
    taken = sorted({*names, *finals, *(name for name in _APART if (folder / name).exists())})
    if len(taken) > MAX_PARTS:
        raise BackupFailedError(f"the deployment has {len(taken)} files; a backup holds at most {MAX_PARTS}")
    return Staged(folder=folder, position=position, parts=tuple(_measured(folder, name) for name in taken))


def _names(home: Path) -> list[str]:
    found = []
    shards = sorted(place.relative_to(home).as_posix() for place in (home / "log" / SHARDS).glob("*"))
    for folder in (*_FOLDERS, *shards):
        place = home / folder
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            name = path.relative_to(home).as_posix()
            if name not in _APART and section_of(name) is not None and path.is_file() and not path.is_symlink():
                found.append(name)
    return found


def _place(folder: Path, name: str) -> Path:
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


def _copied(home: Path, folder: Path, name: str) -> bool:
    # A file that is replaced meanwhile is read whole, the old one or the new one. One that went away isn't needed, and
    # is no part: an empty one in its place would come back as a document or a record that was changed.
    try:
        handle = os.open(home / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with os.fdopen(handle, "rb") as reading, _place(folder, name).open("xb") as writing:
        shutil.copyfileobj(reading, writing, CHUNK)
    return True


def _copy_database(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            # All pages in one step: one read transaction, so one moment. Writers go on, the database is in WAL mode.
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE").fetchall()
            if writing.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise BackupFailedError("the broker's database isn't sound: it can't be backed up as it is")
    except sqlite3.Error as error:
        raise BackupFailedError(
            f"the broker's database can't be copied ({type(error).__name__})",
            remedy="make room, and see the broker's program log",
        ) from None


def _copy_log(home: Path, genesis: Genesis, folder: Path) -> tuple[Position, list[str]]:
    rebuilt = Rebuilt(genesis)
    with (
        BlockingLogClient(home / "run" / "log.sock") as client,
        _place(folder, LOG_ENTRIES).open("xb") as writing,
    ):
        head = client.head()
        if head.checkpoint is None:
            raise BackupFailedError("the log is empty: there is nothing to back up yet")

        def entries() -> Iterator[bytes]:
            while rebuilt.size < head.size:
                got = client.read(rebuilt.size, min(MAX_READ, head.size - rebuilt.size))
                if not got:
                    raise BackupFailedError(f"the log says it has {head.size} entries and shows {rebuilt.size}")
                yield from got

        # Rebuilt while it is copied: a copy of another log than the signed one would only be found when it is needed.
        for data in rebuilding(entries(), rebuilt, most=head.size):
            writing.write(write_entry(data))
    return position_of(rebuilt, head.checkpoint), [
        _copy_final(home, folder, rebuilt.succession, shard)
        for shard in rebuilt.succession.shards
        if rebuilt.succession.final(shard) is not None
    ]


def _copy_final(home: Path, folder: Path, succession: Succession, shard: Shard) -> str:
    # The key of a closed shard is gone: its last checkpoint can't be made again.
    name = final_name(shard.number)
    try:
        note = (home / "log" / "public" / shard.folder / CHECKPOINT).read_bytes()
    except OSError:
        raise BackupFailedError(f"the last checkpoint of shard {shard.number} of the log isn't published") from None
    if read_checkpoint(note, shard.verifier) != succession.final(shard):
        raise BackupFailedError(f"the published checkpoint of shard {shard.number} of the log isn't its last")
    _place(folder, name).write_bytes(note)
    return name


def _measured(folder: Path, name: str) -> Part:
    digest, size = hashlib.sha256(), 0
    with (folder / name).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Part(name=part_name(name), size=size, digest=Digest(DigestAlgorithm.SHA256, digest.digest()))
