"""Writing a backup: staged beside its place, encrypted, recorded in the log, and only then given its name.

Whatever ends this before the name is given leaves nothing that looks like a backup. It is recorded first: a backup that
the log doesn't name could hold a key's wrapping that a destruction certificate then forgets to list.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from strongroom.backup.adapters.snapshot import CHUNK, Staged, take
from strongroom.backup.contents import Section
from strongroom.backup.errors import BackupExistsError, BackupFailedError
from strongroom.backup.header import BackupHeader, Part, SectionHeader, write_prefix
from strongroom.backup.sections import encrypted, stanza_for
from strongroom.core.adapters.durable import sync_folder
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.genesis import Genesis
from strongroom.core.secret import SecretBytes
from strongroom.keys.wrapping import RandomBytes, new_key

_STAGING: Final = ".{}.making"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a backup is made of and for."""

    home: Path
    genesis: Genesis
    epoch: int
    generation: int
    at: Instant
    recipients: tuple[bytes, ...]
    """Public keys of who can open the records. Any one can."""
    custodians: tuple[bytes, ...]
    """Public keys of who can open the machine's own section; without any it is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that stands: its header, the SHA-256 of the whole file, and its size."""

    header: BackupHeader
    digest: Digest
    size: int


def sections_of(wanted: Wanted) -> tuple[Section, ...]:
    """Return the sections that a backup has."""
    return (Section.RECORDS, *((Section.MACHINE,) if wanted.custodians else ()))


def make_backup(
    target: Path,
    wanted: Wanted,
    *,
    record: Callable[[Digest, int, int], None],
    random_bytes: RandomBytes,
    reached: Callable[[str], None] = lambda _step: None,
) -> Made:
    """Make a backup of a running deployment as the file ``target``.

    :param record: has the keeper record the file's digest, its size, and the log's size in it; raises if it can't.
    :param reached: is told each step; crash tests end the process there.
    :raises BackupExistsError: there is a file of that name.
    :raises BackupFailedError: it couldn't be made, the disk is full for example. Nothing is left behind.
    """
    target = target.absolute()
    if target.is_symlink() or target.exists():
        raise _exists(target)
    staging = target.with_name(_STAGING.format(target.name))
    try:
        # What a killed run left: of no use to anybody, and in the way.
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        reached("begun")
        staged = take(wanted.home, wanted.genesis, staging / "parts", sections_of(wanted), reached)
        made = write_backup(staging / "file", staged, wanted, random_bytes)
        reached("written")
        record(made.digest, made.size, made.header.log.size)
        reached("recorded")
        # A link, not a rename: it never takes the place of a file that came there meanwhile.
        os.link(staging / "file", target)
        sync_folder(target.parent)
        reached("named")
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise BackupFailedError(
            f"the backup can't be written: {os.strerror(error.errno or 0).lower()}",
            remedy="it takes twice the size of its parts while it is made; make room, or choose another disk",
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return made


def write_backup(path: Path, staged: Staged, wanted: Wanted, random_bytes: RandomBytes) -> Made:
    """Encrypt parts that were taken into a new file at ``path``, and sync it.

    :raises FileExistsError: there is one. :raises OSError: the disk refused.
    """
    keys = {section: new_key(random_bytes) for section in sections_of(wanted)}
    try:
        header = _header(staged, wanted, keys)
        digest, size = hashlib.sha256(), 0
        with path.open("xb") as file:
            for data in _content(header, staged, keys, random_bytes):
                file.write(data)
                digest.update(data)
                size += len(data)
            file.flush()
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
    finally:
        for key in keys.values():
            key.wipe()
    return Made(header=header, digest=Digest(DigestAlgorithm.SHA256, digest.digest()), size=size)


def _header(staged: Staged, wanted: Wanted, keys: dict[Section, SecretBytes]) -> BackupHeader:
    bare = BackupHeader(
        genesis=wanted.genesis.digest,
        deployment=wanted.genesis.deployment,
        made=wanted.at,
        log=staged.position,
        epoch=wanted.epoch,
        generation=wanted.generation,
        sections=tuple(SectionHeader(section=section, parts=staged.of(section), stanzas=()) for section in keys),
    )
    to = {Section.RECORDS: wanted.recipients, Section.MACHINE: wanted.custodians}
    return replace(
        bare,
        sections=tuple(
            replace(
                one,
                stanzas=tuple(
                    stanza_for(bare, one.section, public, keys[one.section])
                    for public in dict.fromkeys(to[one.section])
                ),
            )
            for one in bare.sections
        ),
    )


def _content(
    header: BackupHeader, staged: Staged, keys: dict[Section, SecretBytes], random_bytes: RandomBytes
) -> Iterator[bytes]:
    yield write_prefix(header)
    for section in header.sections:
        yield from encrypted(
            _chunks(staged.folder, section.parts),
            size=section.plaintext_size,
            key=keys[section.section],
            binding=header.binding(section.section),
            random_bytes=random_bytes,
        )


def _chunks(folder: Path, parts: Sequence[Part]) -> Iterator[bytes]:
    for part in parts:
        with (folder / part.name).open("rb") as file:
            yield from _read_all(file)


def _read_all(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _exists(target: Path) -> BackupExistsError:
    return BackupExistsError(f"`{target.name}` is there already", remedy="choose a name that isn't taken")
