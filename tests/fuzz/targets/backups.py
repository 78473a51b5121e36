"""Targets of backups: their headers, and the log's part. Whoever hands in a file chose every byte of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.backup.contents import Section, part_name
from strongroom.backup.entries import Rebuilt, read_entries, rebuilding, write_entry
from strongroom.backup.header import (
    PREFIX,
    BackupHeader,
    Part,
    Position,
    SectionHeader,
    Stanza,
    header_length,
    write_prefix,
)
from strongroom.core.digest import Digest
from support.logs import AT, GENESIS, ORIGIN, some_entries


def _header() -> bytes:
    digest = Digest.of(b"x")
    header = BackupHeader(
        genesis=digest,
        deployment="test",
        made=AT,
        log=Position(origin=ORIGIN, size=3, root=digest, checkpoint=b"a note"),
        epoch=1,
        generation=1,
        sections=tuple(
            SectionHeader(
                section=section,
                parts=(Part(name=part_name(name), size=3, digest=digest),),
                stanzas=(Stanza(recipient=digest, ciphertext=b"c"),),
            )
            for section, name in ((Section.RECORDS, "genesis.json"), (Section.MACHINE, "log/log.key"))
        ),
    )
    return write_prefix(header)


def read_header(data: bytes) -> None:
    """Read a file's first bytes, as ``backup show`` does; what was read is written again as it stood."""
    length = header_length(data[: PREFIX.size])
    text = data[PREFIX.size : PREFIX.size + length]
    if BackupHeader.parse(text).to_bytes() != text:
        raise AssertionError


def read_log(data: bytes) -> None:
    """Read the log's part, and rebuild its trees."""
    rebuilt = Rebuilt(GENESIS)
    for _entry in rebuilding(read_entries([data]), rebuilt, most=1000):
        pass


BACKUPS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "backup-header": Target(read=read_header, seeds=lambda: [_header()]),
        "backup-log": Target(
            read=read_log, seeds=lambda: [b"".join(write_entry(entry) for entry in some_entries(6))], changes=100
        ),
    }
)
