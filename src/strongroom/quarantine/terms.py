"""The terms under which a delivery is taken in: fixed before its first byte is read, and named by its first record.

So nobody can ask for less afterwards: fewer reviews, another supplier's key, a scanner left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from strongroom.core.canonical import Json, decode, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.intake.folder import MAX_NAME
from strongroom.intake.formats.identify import Format
from strongroom.intake.states import delivery_id

MAX_TERMS: Final = 1 << 20
MAX_REVIEWS: Final = 16
MAX_SCANNERS: Final = 16
MAX_ATTACHMENTS: Final = 32
MAX_SECONDS: Final = 86_400
MAX_MEMORY: Final = 1 << 40
_WORD: Final = re.compile(r"[A-Za-z0-9._+-]{1,64}")
_MAX_KEYS: Final = 16
_MAX_LEFT_OUT: Final = 256
_MAX_TEXT: Final = 1024
_MAX_PATH: Final = 4096
_MAX_ARGUMENTS: Final = 64
_MAX_ROOTS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """A program that looks at single files behind walls, and says by exit code 0 that one is clean."""

    name: str
    version: str
    program: str
    """Absolute path."""
    digest: Digest
    """Of the program's file, which is compared each time that it is started."""
    arguments: tuple[str, ...]
    """What it is called with. The file to look at is its standard input, and `/proc/self/fd/0`."""
    roots: tuple[str, ...]
    """Folders that it may read and run from; its program lies in one."""
    formats: frozenset[Format]
    """Which files it is shown."""
    seconds: int
    """How long it may take for one file."""
    memory: int
    """Bytes of address space that it may take. A larger file is refused."""

    @classmethod
    def read(cls, fields: Fields) -> Scanner:
        """Read the JSON form.

        :raises MalformedError: another form, or a program outside its roots.
        """
        found = cls(
            name=fields.parsed("name", _word),
            version=fields.parsed("version", _word),
            program=fields.parsed("program", _path, max_length=_MAX_PATH),
            digest=fields.digest("digest"),
            arguments=fields.texts("arguments", most=_MAX_ARGUMENTS, max_length=_MAX_TEXT),
            roots=tuple(_path(one) for one in fields.texts("roots", most=_MAX_ROOTS, max_length=_MAX_PATH)),
            formats=frozenset(_format(one) for one in fields.texts("formats", most=len(Format), max_length=32)),
            seconds=fields.integer("seconds", least=1, most=MAX_SECONDS),
            memory=fields.integer("memory", least=1 << 20, most=MAX_MEMORY),
        )
        if not any(PurePosixPath(found.program).is_relative_to(root) for root in found.roots):
            raise MalformedError(f"the program of scanner `{found.name[:64]}` lies in none of its roots")
        if not found.formats:
            raise MalformedError(f"the scanner `{found.name[:64]}` is shown no format")
        return found

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "name": self.name,
            "version": self.version,
            "program": self.program,
            "digest": str(self.digest),
            "arguments": [*self.arguments],
            "roots": [*self.roots],
            "formats": [*sorted(one.value for one in self.formats)],
            "seconds": self.seconds,
            "memory": self.memory,
        }


def _word(text: str) -> str:
    # Reviewers see it on a terminal: no control characters, nothing that looks like something else.
    if not _WORD.fullmatch(text):
        raise MalformedError("a scanner's name and version are 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `+` and `-`")
    return text


def _path(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or str(path) != text or "\0" in text:
        raise MalformedError("a scanner's paths are absolute and plain")
    return text


def _format(text: str) -> Format:
    try:
        return Format(text)
    except ValueError:
        raise MalformedError("a scanner is shown a format that the gate doesn't know") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """What an organisation asks of every delivery: the settings file that people write."""

    reviews: int = 1
    """How many people must accept; 0 waives reviews, and the verdict says so."""
    scanners: tuple[Scanner, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> GateRules:
        """Read the JSON form.

        :raises MalformedError: another form, or two scanners of one name.
        """
        fields.constant("v", 1)
        found = cls(
            reviews=fields.integer("reviews", most=MAX_REVIEWS),
            scanners=fields.objects("scanners", Scanner.read, most=MAX_SCANNERS),
        )
        if len({one.name for one in found.scanners}) != len(found.scanners):
            raise MalformedError("two scanners have one name")
        return found

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {"v": 1, "reviews": self.reviews, "scanners": [one.to_json() for one in self.scanners]}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureTerms:
    """Whose signature is asked for; each file by the digest under which the delivery's folder keeps it."""

    bundle: Digest
    keys: tuple[Digest, ...]
    anchors: tuple[Digest, ...]
    signers: tuple[str, ...]
    trusted_root: Digest | None
    identity: str | None
    issuer: str | None

    @classmethod
    def read(cls, fields: Fields) -> SignatureTerms:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            bundle=fields.digest("bundle"),
            keys=_digests(fields, "keys", _MAX_KEYS),
            anchors=_digests(fields, "anchors", _MAX_KEYS),
            signers=fields.texts("signers", most=_MAX_KEYS, max_length=_MAX_TEXT),
            trusted_root=fields.digest("trusted_root") if fields.optional("trusted_root") else None,
            identity=fields.text("identity", max_length=_MAX_TEXT) if fields.optional("identity") else None,
            issuer=fields.text("issuer", max_length=_MAX_TEXT) if fields.optional("issuer") else None,
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "bundle": str(self.bundle),
            "keys": [str(one) for one in self.keys],
            "anchors": [str(one) for one in self.anchors],
            "signers": [*self.signers],
            "trusted_root": None if self.trusted_root is None else str(self.trusted_root),
            "identity": self.identity,
            "issuer": self.issuer,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Everything that is fixed about a delivery when it is taken in."""

    genesis: Digest
    """The deployment."""
    delivery: str
    model: ModelId
    leave_out: frozenset[str]
    """Files and folders that aren't taken in."""
    signature: SignatureTerms | None
    """None: nobody's is asked for, and the verdict says so."""
    attachments: tuple[Digest, ...]
    rules: GateRules
    converted_from: Digest | None
    """The newest record of the delivery that this one was converted from; None where it came in a folder."""

    @classmethod
    def parse(cls, data: bytes) -> Terms:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_TERMS), "terms") as fields:
            fields.constant("v", 1)
            signature = None
            if fields.optional("signature"):
                with fields.child("signature") as child:
                    signature = SignatureTerms.read(child)
            with fields.child("rules") as child:
                rules = GateRules.read(child)
            found = cls(
                genesis=fields.digest("genesis"),
                delivery=fields.parsed("delivery", delivery_id),
                model=fields.parsed("model", model_id),
                leave_out=frozenset(fields.texts("leave_out", most=_MAX_LEFT_OUT, max_length=MAX_NAME)),
                signature=signature,
                attachments=_digests(fields, "attachments", MAX_ATTACHMENTS),
                rules=rules,
                converted_from=fields.digest("converted_from") if fields.optional("converted_from") else None,
            )
        if found.to_bytes() != data:
            raise MalformedError("terms have one form")
        return found

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "delivery": self.delivery,
                "model": self.model,
                "leave_out": [*sorted(self.leave_out)],
                "signature": None if self.signature is None else self.signature.to_json(),
                "attachments": [str(one) for one in self.attachments],
                "rules": self.rules.to_json(),
                "converted_from": None if self.converted_from is None else str(self.converted_from),
            }
        )

    @property
    def digest(self) -> Digest:
        """Digest of :meth:`to_bytes`."""
        return Digest.of(self.to_bytes())


def read_rules(data: bytes) -> GateRules:
    """Read the settings file: JSON with `v`, `reviews` and `scanners`.

    :raises MalformedError: another form.
    """
    with Fields(parse(data, max_bytes=MAX_TERMS), "gate") as fields:
        return GateRules.read(fields)


def _digests(fields: Fields, name: str, most: int) -> tuple[Digest, ...]:
    return tuple(Digest.parse(one) for one in fields.texts(name, most=most, max_length=80))
