"""The states of a delivery, folded from its records: received, hashed, signature-verified, formats-checked, scanned,
reviewed, sealed; or quarantined, from anywhere before the end.

A record names the one before it by digest, so none can be left out, changed or moved. What a state was reached by
stands in it: tools with their versions, documents by digest, the rule of a refusal. A step that a policy doesn't ask
for is recorded as waived; nothing is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.intake.rules import Rule

MAX_RECORD: Final = 64 * 1024
MAX_TOOLS: Final = 32
MAX_DOCUMENTS: Final = 64
DELIVERY_ID_CHARACTERS: Final = 32


class State(StrEnum):
    """Where a delivery stands."""

    RECEIVED = "received"
    HASHED = "hashed"
    SIGNATURE_VERIFIED = "signature-verified"
    FORMATS_CHECKED = "formats-checked"
    SCANNED = "scanned"
    REVIEWED = "reviewed"
    SEALED = "sealed"
    QUARANTINED = "quarantined"


ORDER: Final = tuple(state for state in State if state is not State.QUARANTINED)
WAIVABLE: Final = frozenset({State.SIGNATURE_VERIFIED, State.SCANNED, State.REVIEWED})
FINAL: Final = frozenset({State.SEALED, State.QUARANTINED})


class WrongStateError(ConflictError):
    """A step that doesn't follow from where the delivery stands."""

    code = "intake-wrong-state"


class RecordsError(TamperedError):
    """Records that don't follow from each other: one was changed, moved or left out."""

    code = "intake-records"


@dataclass(frozen=True, slots=True, order=True)
class Tool:
    """A program that looked at the delivery, and its version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One transition."""

    delivery: str
    model: ModelId
    state: State
    at: Instant
    previous: Digest | None
    artifact: Digest | None
    """Digest of the list of files; there from `hashed` on."""
    waived: bool = False
    rule: Rule | None = None
    """Why it is quarantined; None in every other state."""
    tools: tuple[Tool, ...] = ()
    documents: tuple[Digest, ...] = ()
    """What the step produced or was shown: a bundle, a report, reviews, attachments."""

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, which name this record by their digest."""
        body: dict[str, Json] = {
            "v": 1,
            "delivery": self.delivery,
            "model": self.model,
            "state": self.state.value,
            "at": format_instant(self.at),
            "previous": None if self.previous is None else str(self.previous),
            "artifact": None if self.artifact is None else str(self.artifact),
            "waived": self.waived,
            "rule": None if self.rule is None else self.rule.value,
            "tools": [{"name": tool.name, "version": tool.version} for tool in self.tools],
            "documents": [str(digest) for digest in self.documents],
        }
        return encode(body)

    @property
    def digest(self) -> Digest:
        """Digest of :meth:`to_bytes`."""
        return Digest.of(self.to_bytes())

    @property
    def position(self) -> Position:
        """What the next record is compared with."""
        return Position(
            delivery=self.delivery,
            model=self.model,
            state=self.state,
            at=self.at,
            artifact=self.artifact,
            record=self.digest,
        )

    @classmethod
    def parse(cls, data: bytes) -> Record:
        """Read a record.

        :raises MalformedError: not one, or not in its one form.
        """
        with Fields(decode(data, max_bytes=MAX_RECORD), "record") as f:
            f.constant("v", 1)
            found = cls(
                delivery=f.parsed("delivery", delivery_id),
                model=f.parsed("model", model_id),
                state=f.parsed("state", State),
                at=f.instant("at"),
                previous=f.digest("previous") if f.optional("previous") else None,
                artifact=f.digest("artifact") if f.optional("artifact") else None,
                waived=f.boolean("waived"),
                rule=f.parsed("rule", Rule) if f.optional("rule") else None,
                tools=f.objects("tools", _tool, most=MAX_TOOLS),
                documents=tuple(Digest.parse(text) for text in f.texts("documents", most=MAX_DOCUMENTS)),
            )
        if found.to_bytes() != data:
            # A member that is left out and one that is null would be two spellings, and two digests, of one record.
            raise MalformedError("a record leaves nothing out")
        return found


def _tool(fields: Fields) -> Tool:
    return Tool(fields.text("name", max_length=64), fields.text("version", max_length=64))


def delivery_id(text: str) -> str:
    """Check and return a delivery's id: 32 hex characters.

    :raises MalformedError: any other text.
    """
    if len(text) != DELIVERY_ID_CHARACTERS or set(text) - set("0123456789abcdef"):
        raise MalformedError(f"a delivery's id is {DELIVERY_ID_CHARACTERS} hex characters")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Of a delivery's newest record: what the next one is compared with. The keeper has it from the log."""

    delivery: str
    model: ModelId
    state: State
    at: Instant
    artifact: Digest | None
    record: Digest
    """Digest of the newest record."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a delivery stands: its records, each checked against the one before."""

    records: tuple[Record, ...]

    @property
    def last(self) -> Record:
        """The newest record."""
        return self.records[-1]

    def step(
        self,
        state: State,
        at: Instant,
        *,
        artifact: Digest | None = None,
        tools: tuple[Tool, ...] = (),
        documents: tuple[Digest, ...] = (),
    ) -> Standing:
        """Return the standing after a step that passed. ``artifact`` is given with `hashed`, and carried on from there.

        :raises WrongStateError: another state comes next.
        :raises RecordsError: the step breaks a rule of the records, say a clock that went back.
        """
        return self._with(self._record(state, at, artifact=artifact, tools=tools, documents=documents))

    def waive(self, state: State, at: Instant) -> Standing:
        """Return the standing after a step that the terms don't ask for.

        :raises WrongStateError: another state comes next, or this one can't be waived.
        """
        return self._with(replace(self._record(state, at), waived=True))

    def refuse(self, rule: Rule, at: Instant, *, tools: tuple[Tool, ...] = ()) -> Standing:
        """Return the standing after a refusal, which is final.

        :raises WrongStateError: the delivery is sealed or refused already.
        """
        if self.last.state in FINAL:
            raise WrongStateError(f"the delivery is `{self.last.state.value}`, and stays so")
        record = replace(self._record(State.QUARANTINED, at, tools=tools), rule=rule)
        return self._with(record)

    def _record(
        self,
        state: State,
        at: Instant,
        *,
        artifact: Digest | None = None,
        tools: tuple[Tool, ...] = (),
        documents: tuple[Digest, ...] = (),
    ) -> Record:
        return Record(
            delivery=self.last.delivery,
            model=self.last.model,
            state=state,
            at=at,
            previous=self.last.digest,
            artifact=artifact or self.last.artifact,
            tools=tools,
            documents=documents,
        )

    def _with(self, record: Record) -> Standing:
        check_follows(self.last.position, record)
        return Standing((*self.records, record))


def begin(delivery: str, model: ModelId, at: Instant, *, documents: tuple[Digest, ...] = ()) -> Standing:
    """Return the standing of a delivery that is taken in; ``documents`` say under which terms."""
    first = Record(
        delivery=delivery_id(delivery),
        model=model,
        state=State.RECEIVED,
        at=at,
        previous=None,
        artifact=None,
        documents=documents,
    )
    return Standing((first,))


def fold(records: Iterable[Record]) -> Standing:
    """Return the standing that records lead to.

    :raises RecordsError: no records, another beginning, or records that don't follow from each other.
    :raises WrongStateError: a state that doesn't follow.
    """
    found = tuple(records)
    if not found:
        raise RecordsError("a delivery has at least the record that it was received")
    check_first(found[0])
    standing = Standing(found[:1])
    for record in found[1:]:
        standing = standing._with(record)  # noqa: SLF001 - this module's own
    return standing


def check_first(record: Record) -> None:
    """Check that a record is what a delivery begins with.

    :raises RecordsError: it isn't.
    """
    if replace(record, documents=()) != begin(record.delivery, record.model, record.at).last:
        raise RecordsError("the records don't begin with a delivery that was received")


def check_follows(before: Position, record: Record) -> None:
    """Check that a record follows from the one that is the newest so far.

    :raises RecordsError: it names another one, or is of another delivery, artifact or earlier time.
    :raises WrongStateError: its state doesn't follow.
    """
    if record.previous is None or not record.previous.matches(before.record):
        raise RecordsError("a record doesn't name the one before it")
    if (record.delivery, record.model) != (before.delivery, before.model) or record.at < before.at:
        raise RecordsError("a record is of another delivery, or of an earlier time")
    quarantined = record.state is State.QUARANTINED
    if quarantined != (record.rule is not None):
        raise RecordsError("a refusal names its rule, and nothing else does")
    if before.state in FINAL:
        raise WrongStateError(f"the delivery is `{before.state.value}`, and stays so")
    if record.waived and record.state not in WAIVABLE:
        raise WrongStateError(f"`{record.state.value}` can't be waived")
    if not quarantined and ORDER.index(record.state) != ORDER.index(before.state) + 1:
        raise WrongStateError(f"`{record.state.value}` doesn't follow `{before.state.value}`")
    hashed = before.artifact is None and record.state is State.HASHED
    if hashed and record.artifact is None:
        raise RecordsError("what is hashed has a digest")
    if not hashed and record.artifact != before.artifact:
        raise RecordsError("a record is of another artifact")
