"""The header of a backup: what is in it, for whom, and which position of the log it stands for. Not secret.

Parsed is not believed: :mod:`strongroom.backup.sections` binds it to the content, and the log names the whole file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.backup.contents import MAX_PARTS, PartName, Section, part_name
from strongroom.backup.errors import BackupDamagedError
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAGIC: Final = b"\x89SRB\r\n\x1a\n"
"""As in PNG: a byte that isn't ASCII, and line ends that a text-mode copy would damage."""
VERSION: Final = 1
MAX_HEADER: Final = 16 << 20
MAX_RECIPIENTS: Final = 64
MAX_CHECKPOINT: Final = 65536
MAX_STANZA: Final = 2048
MAX_PART: Final = 1 << 46
"""Bytes of one part: 64 TiB."""
PREFIX: Final = struct.Struct(">8sHI")
"""Magic, version, and the header's length."""


class StanzaKind(StrEnum):
    """How a section's key can be encrypted to a recipient. A closed list."""

    HPKE_MLKEM768_X25519 = "hpke-mlkem768-x25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Up to where the log is in the backup: ``root`` is over its first ``size`` entries, ``checkpoint`` signs it."""

    origin: str
    size: int
    root: Digest
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: its name, its size in bytes, and the SHA-256 of its bytes."""

    name: PartName
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """A section's key for one recipient: SHA-256 of the recipient's public key, and the HPKE ciphertext."""

    recipient: Digest
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionHeader:
    """A section: its parts in the order of their bytes, and who can open it. Any one of the recipients can."""

    section: Section
    parts: tuple[Part, ...]
    stanzas: tuple[Stanza, ...]

    @property
    def plaintext_size(self) -> int:
        """Bytes of all parts together."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupHeader:
    """What a backup says of itself."""

    genesis: Digest
    deployment: str
    made: Instant
    log: Position
    epoch: int
    """The newest key epoch when it was made."""
    generation: int
    """The root key's generation when it was made."""
    sections: tuple[SectionHeader, ...]

    @classmethod
    def parse(cls, data: bytes) -> BackupHeader:
        """Read canonical bytes.

        :raises MalformedError: another form, a part twice, or a section twice.
        """
        with Fields(decode(data, max_bytes=MAX_HEADER), "backup") as fields:
            fields.constant("v", VERSION)
            header = cls(
                genesis=fields.digest("genesis"),
                deployment=fields.text("deployment", max_length=64),
                made=fields.instant("made"),
                log=_read_position(fields.child("log")),
                epoch=fields.integer("epoch", least=1),
                generation=fields.integer("generation", least=1),
                sections=fields.objects("sections", _read_section, most=len(Section)),
            )
        kinds = [section.section for section in header.sections]
        names = [part.name for section in header.sections for part in section.parts]
        if kinds != sorted(set(kinds), key=list(Section).index) or Section.RECORDS not in kinds:
            raise MalformedError("a backup has one section of records, then at most one of the machine's own")
        if len(set(names)) != len(names):
            raise MalformedError("a part of a backup is listed twice")
        if header.to_bytes() != data:
            raise MalformedError("the backup's header isn't in its one canonical form")
        return header

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(self._members(bare=False))

    def section(self, kind: Section) -> SectionHeader | None:
        """Return a section's header, if the backup has it."""
        return next((one for one in self.sections if one.section is kind), None)

    def binding(self, kind: Section) -> bytes:
        """Return what a section's encryption is bound to: all of this header but the stanzas, and which section."""
        return encode({"purpose": "strongroom backup v1", "section": kind.value, "header": self._members(bare=True)})

    def to_json(self) -> Json:
        """Return what ``backup show`` prints."""
        return self._members(bare=False)

    def _members(self, *, bare: bool) -> Json:
        return {
            "v": VERSION,
            "genesis": str(self.genesis),
            "deployment": self.deployment,
            "made": format_instant(self.made),
            "log": {
                "origin": self.log.origin,
                "size": self.log.size,
                "root": str(self.log.root),
                "checkpoint": to_base64(self.log.checkpoint),
            },
            "epoch": self.epoch,
            "generation": self.generation,
            "sections": [_section_json(section, bare=bare) for section in self.sections],
        }


def _section_json(section: SectionHeader, *, bare: bool) -> Json:
    members: dict[str, Json] = {
        "section": section.section.value,
        "parts": [{"name": part.name, "size": part.size, "digest": str(part.digest)} for part in section.parts],
    }
    if not bare:
        members["stanzas"] = [
            {
                "kind": StanzaKind.HPKE_MLKEM768_X25519.value,
                "recipient": str(stanza.recipient),
                "ciphertext": to_base64(stanza.ciphertext),
            }
            for stanza in section.stanzas
        ]
    return members


def _read_position(fields: Fields) -> Position:
    with fields:
        position = Position(
            origin=fields.text("origin", max_length=256),
            size=fields.integer("size", least=1),
            root=fields.digest("root"),
            checkpoint=fields.binary("checkpoint", max_length=MAX_CHECKPOINT),
        )
    if position.root.algorithm is not DigestAlgorithm.SHA256:
        raise MalformedError("`backup.log.root` must be a SHA-256 digest")
    return position


def _read_part(fields: Fields) -> Part:
    return Part(
        name=fields.parsed("name", part_name),
        size=fields.integer("size", most=MAX_PART),
        digest=fields.digest("digest"),
    )


def _read_stanza(fields: Fields) -> Stanza:
    fields.constant("kind", StanzaKind.HPKE_MLKEM768_X25519.value)
    return Stanza(recipient=fields.digest("recipient"), ciphertext=fields.binary("ciphertext", max_length=MAX_STANZA))


def _read_section(fields: Fields) -> SectionHeader:
    section = SectionHeader(
        section=fields.parsed("section", Section),
        parts=fields.objects("parts", _read_part, most=MAX_PARTS),
        stanzas=fields.objects("stanzas", _read_stanza, most=MAX_RECIPIENTS),
    )
    recipients = [str(stanza.recipient) for stanza in section.stanzas]
    if not recipients or len(set(recipients)) != len(recipients):
        raise MalformedError("a section is encrypted to one recipient or more, each listed once")
    if any(not part.name.belongs_to(section.section) for part in section.parts):
        raise MalformedError("a part stands in a section that it doesn't belong to")
    return section


def write_prefix(header: BackupHeader) -> bytes:
    """Return the first bytes of a backup: magic, version, length, header.

    :raises BackupDamagedError: more parts than a header can name.
    """
    data = header.to_bytes()
    if len(data) > MAX_HEADER:
        raise BackupDamagedError(f"the header would have {len(data)} bytes; at most {MAX_HEADER} are read")
    return PREFIX.pack(MAGIC, VERSION, len(data)) + data


def header_length(prefix: bytes) -> int:
    """Return the header's length, from the file's first 14 bytes.

    :raises BackupDamagedError: it isn't a backup, or is one of another version.
    """
    if len(prefix) != PREFIX.size or prefix[: len(MAGIC)] != MAGIC:
        raise BackupDamagedError("this isn't a backup of a Strongroom deployment")
    _magic, version, length = PREFIX.unpack(prefix)
    if version != VERSION or not 0 < length <= MAX_HEADER:
        raise BackupDamagedError("the backup has a version or a header that this program doesn't know")
    return int(length)
