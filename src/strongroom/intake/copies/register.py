"""The register of copies: where each copy of a model is, who holds it, why, until when, and when that was last proved.

Statements, each signed by the registrar and naming the one before it by digest, in the order in which they were made.
What stands is folded from them and from nothing else. (RAND SL2-WMO-02; EU code of practice, appendix 4.2(1).)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol, Self, TypeVar

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, sign, verify
from strongroom.core.errors import ConflictError, MalformedError, NotFoundError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.core.signature import PublicKey, Signer
from strongroom.intake.copies.possession import Challenge, copy_id

T = TypeVar("T")
COPY_TYPE: Final = payload_type("copy-statement.v1")
MAX_STATEMENT: Final = 16 * 1024
MAX_STATEMENTS: Final = 1_000_000
MAX_PLACE: Final = 4096
MAX_WORDS: Final = 256
MOST_SECONDS: Final = 10 * 366 * 86_400
LEAST_SECONDS: Final = 60
_CHALLENGE: Final = "make one: strongroom copies challenge"
REGISTRAR: Final = "registrar"
"""The role whose holders' statements the log takes."""


class RegisterError(TamperedError):
    """The register isn't a whole chain of the registrar's statements about this deployment."""

    code = "register-broken"


class CopyKind(StrEnum):
    """What a copy is."""

    SEALED = "sealed"
    EXPORTED = "exported"
    """In the clear, under a grant to export."""
    CACHED = "cached"
    BACKED_UP = "backed-up"


class Step(StrEnum):
    """What a statement says."""

    ADDED = "added"
    CHALLENGED = "challenged"
    PROVED = "proved"
    RETIRED = "retired"


class Ending(StrEnum):
    """What became of a retired copy."""

    DESTROYED = "destroyed"
    """The bytes are overwritten, or the medium is."""
    KEY_DESTROYED = "key-destroyed"
    """The bytes may be there, and nobody can open them. Not of a copy in the clear."""
    RETURNED = "returned"
    LOST = "lost"
    """Nobody knows. It is told at every check."""


OUT_OF_HANDS: Final = frozenset({Ending.DESTROYED, Ending.KEY_DESTROYED, Ending.RETURNED})
"""After these nobody here can read the copy again, by somebody's own act. A loss is nobody's act."""


class Trouble(StrEnum):
    """Why a copy is told."""

    UNPROVED = "unproved"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is said of a copy when it is added."""

    model: ModelId
    version: int
    kind: CopyKind
    host: str
    place: str
    """A path on the host, or an address."""
    holder: str
    """Who answers for it: a person, a team, a customer."""
    reason: str
    expires: Instant
    prove_seconds: int
    """How long a proof is good for."""
    files: Digest
    """Of the list of its files, :func:`strongroom.intake.copies.possession.files_digest`."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or an empty text.
        """
        made = cls(
            model=fields.parsed("model", model_id),
            version=fields.integer("version", least=1),
            kind=fields.parsed("kind", CopyKind),
            host=fields.text("host", max_length=MAX_WORDS),
            place=fields.text("place", max_length=MAX_PLACE),
            holder=fields.text("holder", max_length=MAX_WORDS),
            reason=fields.text("reason", max_length=MAX_WORDS),
            expires=fields.instant("expires"),
            prove_seconds=fields.integer("prove_seconds", least=LEAST_SECONDS, most=MOST_SECONDS),
            files=fields.digest("files"),
        )
        if not (made.host and made.place and made.holder and made.reason):
            raise MalformedError("a copy has a host, a place, a holder and a reason")
        return made

    def to_json(self) -> Json:
        """Return what :meth:`read` reads."""
        return {
            "model": self.model,
            "version": self.version,
            "kind": self.kind.value,
            "host": self.host,
            "place": self.place,
            "holder": self.holder,
            "reason": self.reason,
            "expires": format_instant(self.expires),
            "prove_seconds": self.prove_seconds,
            "files": str(self.files),
        }

    def place_of(self, copy: str) -> Digest:
        """Return a digest of host and place for the log, which holds no free text.

        The copy's id is in it: one table of digests doesn't look up everybody's places. Who guesses one can try it.
        """
        return Digest.of(encode({"copy": copy, "host": self.host, "place": self.place}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement about one copy."""

    genesis: Digest
    previous: Digest | None
    """Of the statement before it; none for the first."""
    at: Instant
    copy: str
    step: Step
    terms: Terms | None = None
    challenge: Challenge | None = None
    ending: Ending | None = None
    evidence: Digest | None = None
    """Of what shows the ending: a certificate of destruction, a signed receipt."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read canonical bytes.

        :raises MalformedError: another form, or members that don't fit the step.
        """
        with Fields(decode(data, max_bytes=MAX_STATEMENT), "statement") as fields:
            fields.constant("v", 1)
            step = fields.parsed("step", Step)
            made = cls(
                genesis=fields.digest("genesis"),
                previous=fields.digest("previous") if fields.optional("previous") else None,
                at=fields.instant("at"),
                copy=fields.parsed("copy", copy_id),
                step=step,
                terms=_child(fields, "terms", Terms.read) if step is Step.ADDED else None,
                challenge=_child(fields, "challenge", Challenge.read) if step is Step.CHALLENGED else None,
                ending=fields.parsed("ending", Ending) if step is Step.RETIRED else None,
                evidence=fields.digest("evidence") if step is Step.RETIRED and fields.optional("evidence") else None,
            )
        if made.ending not in {None, Ending.LOST} and made.evidence is None:
            raise MalformedError("what is said to be gone, or given back, is shown by something")
        return made

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        members: dict[str, Json] = {
            "v": 1,
            "genesis": str(self.genesis),
            "previous": None if self.previous is None else str(self.previous),
            "at": format_instant(self.at),
            "copy": self.copy,
            "step": self.step.value,
        }
        if self.terms is not None:
            members["terms"] = self.terms.to_json()
        if self.challenge is not None:
            members["challenge"] = self.challenge.members()
        if self.ending is not None:
            members["ending"] = self.ending.value
            members["evidence"] = None if self.evidence is None else str(self.evidence)
        return encode(members)

    def signed_by(self, signer: Signer) -> Envelope:
        """Sign it."""
        return sign(COPY_TYPE, self.to_bytes(), signer)


def _child(fields: Fields, name: str, read: Callable[[Fields], T]) -> T:
    with fields.child(name) as inner:
        return read(inner)


class Standing(Protocol):
    """What of a copy says which statement about it may follow: the register's own, or the log's."""

    @property
    def kind(self) -> CopyKind:
        """What it is."""
        ...

    @property
    def challenged(self) -> bool:
        """Whether a challenge waits for its answer."""
        ...

    @property
    def ending(self) -> Ending | None:
        """What became of it."""
        ...


def check_step(name: str, before: Standing | None, step: Step, ending: Ending | None) -> None:
    """Check that a statement may follow what stands of a copy.

    :raises ConflictError: a copy that is there already or retired, or a proof that nobody asked for.
    :raises NotFoundError: no such copy.
    """
    if step is Step.ADDED:
        if before is not None:
            raise ConflictError(f"the register has a copy `{name}` already")
        return
    if before is None:
        raise NotFoundError(f"the register has no copy `{name}`", remedy="see `strongroom copies ls`")
    if before.ending is not None:
        raise ConflictError(f"the copy `{name}` is retired: {before.ending.value}")
    if step is Step.PROVED and not before.challenged:
        raise ConflictError(f"no challenge to the copy `{name}` is open", remedy=_CHALLENGE)
    if ending is Ending.KEY_DESTROYED and before.kind is CopyKind.EXPORTED:
        raise ConflictError(
            f"the copy `{name}` lies in the clear: no key's end takes it away", remedy="destroy it, or say `lost`"
        )


def trouble_of(ending: Ending | None, *, expires: Instant, due: Instant, now: Instant) -> Trouble | None:
    """Return why somebody should be told of a copy, or None."""
    if ending is not None:
        return Trouble.LOST if ending is Ending.LOST else None
    if now > expires:
        return Trouble.EXPIRED
    return Trouble.UNPROVED if now > due else None


def _next(copy: Copy | None, said: Statement) -> Copy:
    """Return a copy after a statement about it."""
    check_step(said.copy, copy, said.step, said.ending)
    if copy is None:
        assert said.terms is not None  # noqa: S101 - only what adds a copy passes the check without one
        return Copy(id=said.copy, terms=said.terms, added=said.at)
    if said.challenge is not None:
        if said.challenge.copy != said.copy:
            raise MalformedError("a challenge to one copy is of another")
        return replace(copy, challenge=said.challenge)
    if said.step is Step.PROVED:
        if copy.challenge is None or said.at > copy.challenge.until:
            raise ConflictError(f"the challenge to the copy `{said.copy}` is over", remedy=_CHALLENGE)
        return replace(copy, proved=said.at, challenge=None)
    return replace(copy, ending=said.ending, ended=said.at, evidence=said.evidence, challenge=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy as it stands."""

    id: str
    terms: Terms
    added: Instant
    proved: Instant | None = None
    challenge: Challenge | None = None
    """The last one, until it is answered."""
    ending: Ending | None = None
    ended: Instant | None = None
    evidence: Digest | None = None

    @property
    def kind(self) -> CopyKind:
        """What it is."""
        return self.terms.kind

    @property
    def challenged(self) -> bool:
        """Whether a challenge waits for its answer."""
        return self.challenge is not None

    @property
    def due(self) -> Instant:
        """When it must be proved again at the latest."""
        return (self.proved or self.added) + self.terms.prove_seconds

    def trouble(self, now: Instant) -> Trouble | None:
        """Return why somebody should be told of it, or None."""
        return trouble_of(self.ending, expires=self.terms.expires, due=self.due, now=now)

    def event(self, trouble: Trouble, *, at: Instant) -> dict[str, Json]:
        """Return an event of the detection vocabulary."""
        return {
            "event": "register:copy:troubled",
            "at": format_instant(at),
            "source": "register",
            "host": self.terms.host,
            "copy": self.id,
            "model": self.terms.model,
            "place": self.terms.place,
            "holder": self.terms.holder,
            "cause": trouble.value,
        }

    def covers(self, host: str, path: str) -> bool:
        """Tell whether a path is this copy's, or lies within it."""
        terms = self.terms
        # An address is the same one from every host.
        return (terms.host == host or "://" in terms.place) and (
            path == terms.place or path.startswith(terms.place.rstrip("/") + "/")
        )


@dataclass(slots=True, kw_only=True)
class Register:
    """The register as its statements leave it."""

    genesis: Digest
    copies: dict[str, Copy] = field(default_factory=dict)
    head: Digest | None = None
    """Of the last statement."""
    passed: list[Digest] = field(default_factory=list)
    """Of all statements, in their order."""
    at: Instant = 0

    @property
    def statements(self) -> int:
        """How many there are."""
        return len(self.passed)

    def take(self, statement: Statement) -> None:
        """Take the next statement.

        :raises RegisterError: another deployment's, not the next, or earlier than the one before.
        :raises ConflictError: a copy that is there already or retired, or a proof without a challenge that is open.
        :raises NotFoundError: no such copy.
        """
        if statement.genesis != self.genesis:
            raise RegisterError("a statement is about another deployment's copies")
        if statement.previous != self.head or statement.at < self.at or self.statements >= MAX_STATEMENTS:
            raise RegisterError("a statement doesn't follow the one before it: one is missing, or from elsewhere")
        self.copies[statement.copy] = _next(self.copies.get(statement.copy), statement)
        self.head, self.at = Digest.of(statement.to_bytes()), statement.at
        self.passed.append(self.head)

    def next(
        self, copy: str, step: Step, now: Instant, **said: Terms | Challenge | Ending | Digest | None
    ) -> Statement:
        """Return the statement that would follow."""
        made = Statement(genesis=self.genesis, previous=self.head, at=max(now, self.at), copy=copy_id(copy), step=step)
        return replace(made, **said)  # type: ignore[arg-type]

    def one(self, copy: str) -> Copy:
        """Return a copy by its id.

        :raises NotFoundError: no such copy.
        """
        found = self.copies.get(copy)
        if found is None:
            raise NotFoundError(f"the register has no copy `{copy[:32]}`", remedy="see `strongroom copies ls`")
        return found

    def covering(self, host: str, path: str, model: ModelId | None, *kinds: CopyKind) -> Copy | None:
        """Return the copy of one of ``kinds`` that a path belongs to, if it isn't retired and of that model."""
        for copy in self.copies.values():
            fits = copy.ending is None and copy.terms.kind in kinds and copy.terms.model == model
            if fits and copy.covers(host, path):
                return copy
        return None

    def troubles(self, now: Instant) -> Iterator[tuple[Copy, Trouble]]:
        """Yield the copies that somebody should be told of."""
        for copy in self.copies.values():
            found = copy.trouble(now)
            if found is not None:
                yield copy, found


def read_register(lines: Iterable[bytes], key: PublicKey, genesis: Digest) -> Register:
    """Read a register's statements, one signed envelope a line.

    :param key: the registrar's.
    :raises SignatureError: a statement that the registrar didn't sign.
    :raises RegisterError: not a whole chain, or another deployment's.
    :raises MalformedError: another form. :raises StrongroomError: a statement that can't follow.
    """
    made = Register(genesis=genesis)
    for line in lines:
        envelope = Envelope.parse(line)
        verify(envelope, COPY_TYPE, [key], threshold=1)
        made.take(Statement.parse(envelope.payload))
    return made
