"""What the log says of copies: one chain of statements for each registrar, and where each copy stands by them.

Part of :class:`strongroom.release.ledger.Ledger`, which folds the entries in; whoever shows the copies without any
register's folder folds them in themselves. The keeper takes a statement only as the next one of its registrar, so
whoever keeps a register can neither take one back nor go two ways from it. (RAND SL2-WMO-02.)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.audit.facts import Fact
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, StrongroomError
from strongroom.core.ids import ModelId, PersonId
from strongroom.intake.copies.register import CopyKind, Ending, Statement, Step, Trouble, check_step, trouble_of
from strongroom.release.errors import STATEMENT_KNOWN, LedgerError

OUT_OF_ORDER: Final = "copies-out-of-order"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCopy:
    """One copy, as the log has it. Host, place, holder and reason stand in the statement that added it."""

    id: str
    model: ModelId
    version: int
    kind: CopyKind
    place: Digest
    """Of the copy's id, its host and its place."""
    registrar: PersonId
    added: Instant
    due: Instant
    """When it must be proved again at the latest."""
    expires: Instant
    prove_seconds: int
    """How long a proof is good for."""
    statement: Digest
    """Of the statement that added it, which the keeper keeps for auditors."""
    proved: Instant | None = None
    challenged: bool = False
    ending: Ending | None = None
    ended: Instant | None = None

    def trouble(self, now: Instant) -> Trouble | None:
        """Return why somebody should be told of it, or None."""
        return trouble_of(self.ending, expires=self.expires, due=self.due, now=now)

    def after(self, step: Step, at: Instant, ending: Ending | None) -> RecordedCopy:
        """Return it after a statement that may follow."""
        match step:
            case Step.CHALLENGED:
                return replace(self, challenged=True)
            case Step.PROVED:
                return replace(self, proved=at, due=at + self.prove_seconds, challenged=False)
            case _:
                return replace(self, ending=ending, ended=at, challenged=False)


@dataclass(slots=True)
class CopiesLedger:
    """Folded from the log, entry by entry."""

    copies: dict[str, RecordedCopy] = field(default_factory=dict)
    chains: dict[PersonId, dict[Digest, Instant]] = field(default_factory=dict)
    """Each registrar's statements in their order, and when each was made."""

    def facts(self, said: Statement, registrar: PersonId) -> dict[str, Fact]:
        """Return what an entry says of a statement, if it is the next one of its registrar.

        :raises ConflictError: the log has it, it doesn't follow the registrar's newest, or the copy is another's.
        :raises StrongroomError: as :func:`~strongroom.intake.copies.register.check_step`.
        """
        digest, known = Digest.of(said.to_bytes()), self.chains.get(registrar, {})
        if digest in known:
            raise ConflictError("this statement is in the log already", reason=STATEMENT_KNOWN)
        head, at = next(reversed(known.items()), (None, said.at))
        if said.previous != head or said.at < at:
            raise ConflictError(
                "the log's newest statement of this registrar isn't the one that this one follows",
                reason=OUT_OF_ORDER,
                remedy="compare them: strongroom copies check",
            )
        before = self.copies.get(said.copy)
        check_step(said.copy, before, said.step, said.ending)
        if before is not None and before.registrar != registrar:
            raise ConflictError(f"the copy `{said.copy}` is another registrar's", reason=OUT_OF_ORDER)
        after = _begun(said, registrar) if before is None else before.after(said.step, said.at, said.ending)
        return {
            "copy": after.id,
            "model": after.model,
            "version": after.version,
            "kind": after.kind.value,
            "place": after.place,
            "state": said.step.value if said.ending is None else said.ending.value,
            "made": format_instant(said.at),
            "due": format_instant(after.due),
            "expires": format_instant(after.expires),
            "statement": digest,
            "person": registrar,
        }

    def apply(self, index: int, entry: Entry) -> None:
        """Fold in what the log says of a copy.

        :raises LedgerError: what can't follow what it said before, or says otherwise what doesn't change.
        """
        name, registrar, at = entry.text("copy"), PersonId(entry.text("person")), parse_instant(entry.text("made"))
        before = self.copies.get(name)
        try:
            step, ending = _read_state(entry.text("state"))
            check_step(name, before, step, ending)
            now = _read(entry) if before is None else before.after(step, at, ending)
        except (StrongroomError, ValueError):
            raise LedgerError(f"entry {index} says of a copy what can't follow") from None
        same = (now.model, now.version, now.kind.value, now.place, now.due, now.expires, now.registrar)
        told = (
            entry.text("model"),
            entry.integer("version"),
            entry.text("kind"),
            entry.digest("place"),
            parse_instant(entry.text("due")),
            parse_instant(entry.text("expires")),
            registrar,
        )
        known, statement = self.chains.setdefault(registrar, {}), entry.digest("statement")
        if same != told or statement in known or at < next(reversed(known.values()), at):
            raise LedgerError(f"entry {index} says of a copy what can't follow")
        self.copies[name] = now
        known[statement] = at


def _begun(said: Statement, registrar: PersonId) -> RecordedCopy:
    terms = said.terms
    assert terms is not None  # noqa: S101 - only what adds a copy passes the check without one
    return RecordedCopy(
        id=said.copy,
        model=terms.model,
        version=terms.version,
        kind=terms.kind,
        place=terms.place_of(said.copy),
        registrar=registrar,
        added=said.at,
        due=said.at + terms.prove_seconds,
        expires=terms.expires,
        prove_seconds=terms.prove_seconds,
        statement=Digest.of(said.to_bytes()),
    )


def _read(entry: Entry) -> RecordedCopy:
    at, due = parse_instant(entry.text("made")), parse_instant(entry.text("due"))
    return RecordedCopy(
        id=entry.text("copy"),
        model=ModelId(entry.text("model")),
        version=entry.integer("version"),
        kind=CopyKind(entry.text("kind")),
        place=entry.digest("place"),
        registrar=PersonId(entry.text("person")),
        added=at,
        due=due,
        expires=parse_instant(entry.text("expires")),
        prove_seconds=due - at,
        statement=entry.digest("statement"),
    )


def _read_state(text: str) -> tuple[Step, Ending | None]:
    if text in {Step.ADDED.value, Step.CHALLENGED.value, Step.PROVED.value}:
        return Step(text), None
    return Step.RETIRED, Ending(text)
