"""How a wheel of Strongroom was built: SLSA provenance v1 in an in-toto statement, signed (DSSE).

Its subjects are the wheel and the bill of materials; the wheel's RECORD comes along as a by-product, whole, so that an
installation can be compared file by file with nothing but this and the signer's key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.core import envelope
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.signature import PublicKey
from strongroom.intake.installation.record import Record
from strongroom.intake.statements import PAYLOAD_TYPE, STATEMENT_TYPE

MAX_PROVENANCE: Final = 2 * MAX_PAYLOAD
PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:strongroom:build:wheel:v1"
BUILDER: Final = "urn:strongroom:builder:make-wheel"
_REVISION: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What was built, from what, and by what."""

    version: str
    revision: str
    """The commit: hex."""
    wheel: Digest
    bill: Digest
    record: bytes
    """The wheel's RECORD."""
    tools: tuple[str, ...]
    """What built it, as package URLs, sorted."""

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version) or not _REVISION.fullmatch(self.revision):
            raise MalformedError("a provenance without a version and a commit")

    @property
    def folder(self) -> str:
        """The `.dist-info` folder of an installation."""
        return f"strongroom-{self.version}.dist-info"

    @property
    def installed(self) -> Record:
        """What the wheel installs.

        :raises MalformedError: the RECORD isn't one.
        """
        return Record.parse(self.record)

    def to_bytes(self) -> bytes:
        """Return the statement's canonical bytes."""
        tools: list[Json] = [{"uri": tool} for tool in self.tools]
        return encode(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    _described(f"strongroom-{self.version}-py3-none-any.whl", self.wheel),
                    _described(f"strongroom-{self.version}.cdx.json", self.bill),
                ],
                "predicateType": PREDICATE,
                "predicate": {
                    "buildDefinition": {
                        "buildType": BUILD_TYPE,
                        "externalParameters": {"version": self.version},
                        "internalParameters": {},
                        "resolvedDependencies": [
                            {"name": "source", "digest": {"gitCommit": self.revision}},
                            *tools,
                        ],
                    },
                    "runDetails": {
                        "builder": {"id": BUILDER},
                        "byproducts": [
                            {
                                "name": f"{self.folder}/RECORD",
                                "digest": {"sha256": Digest.of(self.record).value.hex()},
                                "content": to_base64(self.record),
                            }
                        ],
                    },
                },
            }
        )

    @classmethod
    def verified(cls, data: bytes, key: PublicKey) -> Provenance:
        """Return the provenance that ``key`` signed.

        :raises SignatureError: it didn't, or nobody did.
        :raises MalformedError: not an envelope, or signed, and not a provenance in its one form.
        """
        signed = Envelope.parse(data)
        envelope.verify(signed, PAYLOAD_TYPE, [key], threshold=1)
        return cls.parse(signed.payload)

    @classmethod
    def parse(cls, payload: bytes) -> Provenance:
        """Read a statement, whoever made it; see :meth:`verified`."""
        with Fields(decode(payload, max_bytes=MAX_PAYLOAD), "statement") as fields:
            for known in ("_type", "predicateType"):
                fields.value(known)
            subjects = fields.objects("subject", _digest, most=2)
            with fields.child("predicate") as predicate:
                version, revision, tools = _definition(predicate.child("buildDefinition"))
                record = _details(predicate.child("runDetails"))
        if len(subjects) != 2:
            raise MalformedError("a provenance is of a wheel and a bill of materials")
        wheel, bill = subjects
        found = cls(version=version, revision=revision, wheel=wheel, bill=bill, record=record, tools=tools)
        # All else follows from what was read: whatever differs is another statement.
        if found.to_bytes() != payload:
            raise MalformedError("a provenance that isn't in its one form")
        return found


def _described(name: str, digest: Digest) -> Json:
    return {"name": name, "digest": {"sha256": digest.value.hex()}}


def _digest(fields: Fields) -> Digest:
    fields.text("name")
    with fields.child("digest") as digest:
        return Digest.parse("sha256:" + digest.text("sha256", max_length=64))


def _definition(fields: Fields) -> tuple[str, str, tuple[str, ...]]:
    with fields:
        fields.value("buildType")
        with fields.child("externalParameters") as given:
            version = given.text("version", max_length=64)
        fields.child("internalParameters").end()
        source, *tools = list(fields.items("resolvedDependencies", most=32)) or [("", {})]
        with Fields(source[1], source[0]) as one:
            one.text("name")
            with one.child("digest") as digest:
                revision = digest.text("gitCommit", max_length=64)
        read = []
        for where, item in tools:
            with Fields(item, where) as tool:
                read.append(tool.text("uri"))
        return version, revision, tuple(read)


def _details(fields: Fields) -> bytes:
    with fields:
        with fields.child("builder") as builder:
            builder.text("id")
        contents = fields.objects("byproducts", _content, most=1)
        if not contents:
            raise MalformedError("a provenance without the wheel's RECORD")
        return contents[0]


def _content(fields: Fields) -> bytes:
    content = fields.binary("content", max_length=MAX_PAYLOAD)
    _digest(fields)
    return content
