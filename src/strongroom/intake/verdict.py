"""What the gate says of a delivery: a list of its files by digest, and a signed verdict that names the list.

The verdict is an in-toto Statement (predicate in docs/spec/intake-verdict.md), so that tools that know attestations can
carry it. It is made from the records alone: who holds them makes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core import envelope
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.core.signature import PublicKey, Signer
from strongroom.intake.folder import MAX_FILE, MAX_FILES, MAX_NAME, check_distinct, check_name
from strongroom.intake.rules import Rule
from strongroom.intake.statements import PAYLOAD_TYPE, STATEMENT_TYPE
from strongroom.intake.states import Record, Standing, State, Tool, delivery_id, fold

PREDICATE: Final = "urn:strongroom:intake-verdict:v1"
MAX_LIST: Final = 32 << 20
MAX_VERDICT: Final = 512 * 1024
_MAX_RECORDS: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class DeliveredFile:
    """One file as it was stored: name, bytes, SHA-256."""

    name: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class FileList:
    """All files of a delivery, sorted by name. Its digest names the artifact."""

    files: tuple[DeliveredFile, ...]

    @classmethod
    def of(cls, files: Iterable[DeliveredFile]) -> FileList:
        """Sort files and check their names.

        :raises IntakeRefusedError: a name that isn't let in, or two that are one.
        """
        found = tuple(sorted(files))
        for one in found:
            check_name(one.name)
        check_distinct(one.name for one in found)
        return cls(found)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        files: list[Json] = [
            {"name": one.name, "size": one.size, "sha256": one.digest.value.hex()} for one in self.files
        ]
        return encode({"v": 1, "files": files})

    @property
    def digest(self) -> Digest:
        """Digest of :meth:`to_bytes`."""
        return Digest.of(self.to_bytes())

    @property
    def digests(self) -> Mapping[str, Digest]:
        """Digest by name."""
        return {one.name: one.digest for one in self.files}

    @classmethod
    def parse(cls, data: bytes) -> FileList:
        """Read a list.

        :raises MalformedError: not one, or not in its one form.
        :raises IntakeRefusedError: a name that isn't let in.
        """
        with Fields(decode(data, max_bytes=MAX_LIST), "files") as fields:
            fields.constant("v", 1)
            found = fields.objects("files", _file, most=MAX_FILES)
        listed = cls.of(found)
        if listed.files != found:
            raise MalformedError("the files aren't sorted by name")
        return listed


def _file(fields: Fields) -> DeliveredFile:
    return DeliveredFile(
        name=fields.text("name", max_length=MAX_NAME),
        size=fields.integer("size", most=MAX_FILE),
        digest=Digest.parse("sha256:" + fields.text("sha256", max_length=64)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A delivery's records, as a statement about its artifact. Accepted means: reviewed, and fit to be sealed."""

    delivery: str
    model: ModelId
    artifact: Digest | None
    accepted: bool
    rule: Rule | None
    records: tuple[Record, ...]

    @classmethod
    def of(cls, standing: Standing) -> Verdict:
        """Make the verdict on a delivery that is reviewed, sealed or refused.

        :raises MalformedError: it isn't judged yet.
        """
        last = standing.last
        judged = tuple(one for one in standing.records if one.state is not State.SEALED)
        if judged[-1].state not in {State.REVIEWED, State.QUARANTINED}:
            raise MalformedError("a delivery that isn't judged yet has no verdict")
        return cls(
            delivery=last.delivery,
            model=last.model,
            artifact=last.artifact,
            accepted=judged[-1].state is State.REVIEWED,
            rule=judged[-1].rule,
            records=judged,
        )

    def to_bytes(self) -> bytes:
        """Return the statement's canonical bytes."""
        tools: list[Tool] = sorted({tool for one in self.records for tool in one.tools})
        subject: list[Json] = []
        if self.artifact is not None:
            subject.append({"name": self.model, "digest": {"sha256": self.artifact.value.hex()}})
        return encode(
            {
                "_type": STATEMENT_TYPE,
                "subject": subject,
                "predicateType": PREDICATE,
                "predicate": {
                    "delivery": self.delivery,
                    "model": self.model,
                    "verdict": "accepted" if self.accepted else "refused",
                    "rule": None if self.rule is None else self.rule.value,
                    "judgedAt": format_instant(self.records[-1].at),
                    "waived": [one.state.value for one in self.records if one.waived],
                    "tools": [{"name": tool.name, "version": tool.version} for tool in tools],
                    "records": [decode(one.to_bytes()) for one in self.records],
                },
            }
        )

    def signed(self, signer: Signer) -> Envelope:
        """Return the verdict, signed."""
        return envelope.sign(PAYLOAD_TYPE, self.to_bytes(), signer)

    @classmethod
    def verified(cls, signed: Envelope, key: PublicKey) -> Verdict:
        """Return a verdict that ``key`` signed.

        :raises SignatureError: it didn't.
        :raises MalformedError: signed, and not a verdict in its one form.
        :raises StrongroomError: its records don't follow from each other.
        """
        envelope.verify(signed, PAYLOAD_TYPE, [key], threshold=1)
        return cls.parse(signed.payload)

    @classmethod
    def parse(cls, payload: bytes) -> Verdict:
        """Read a statement, whoever made it; see :meth:`verified`."""
        with Fields(decode(payload, max_bytes=MAX_VERDICT), "statement") as fields:
            for name in ("_type", "subject", "predicateType"):
                fields.value(name)
            predicate = fields.child("predicate")
            predicate.parsed("delivery", delivery_id)
            predicate.parsed("model", model_id)
            records = [Record.parse(encode(item)) for _where, item in predicate.items("records", most=_MAX_RECORDS)]
            for name in ("verdict", "rule", "judgedAt", "waived", "tools"):
                predicate.value(name)
            predicate.end()
        found = cls.of(fold(records))
        # All else follows from the records: whatever differs is another statement under this one's name.
        if found.to_bytes() != payload:
            raise MalformedError("the verdict isn't what its records say")
        return found
