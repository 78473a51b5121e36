"""What the observations and statements say of one measure, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields
from strongroom.framework.ids import MeasureId, measure_id
from strongroom.framework.levels import SecurityLevel

MAX_WHY: Final = 1024
MAX_OBSERVATIONS: Final = 1024


class State(StrEnum):
    """The five states. Missing evidence is never ``met``."""

    MET = "met"
    PARTLY = "partly"
    NOT_MET = "not-met"
    NOT_APPLICABLE = "not-applicable"
    NOT_ASSESSED = "not-assessed"

    @property
    def holds(self) -> bool:
        """Whether a level can be held with it."""
        return self in {State.MET, State.NOT_APPLICABLE}


class Basis(StrEnum):
    """What the state rests on; automatic and attested are shown apart."""

    AUTOMATIC = "automatic"
    ATTESTED = "attested"
    BOTH = "automatic+attested"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """The cheapest thing that would change the state.

    :ivar command: the command that does it, or nothing where none does.
    :ivar unlocks: the level that would be held if this were the last thing missing there.
    :ivar effort: 1 (a command) to 5 (a project of months); our own estimate.
    """

    text: str
    command: str
    unlocks: SecurityLevel
    effort: int

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"command": self.command, "effort": self.effort, "text": self.text, "unlocks": self.unlocks.value}

    @classmethod
    def read(cls, f: Fields) -> NextStep:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            text=f.text("text", max_length=MAX_WHY),
            command=f.text("command"),
            unlocks=f.parsed("unlocks", SecurityLevel),
            effort=f.integer("effort", least=1, most=5),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measure's state.

    :ivar why: in one sentence; for ``not-applicable`` the reason, which a statement must give.
    :ivar observations: digests of the observations that were looked at.
    :ivar statement: digest of the signed statement that it rests on, if any.
    :ivar alternative: another measure that reaches the same goal, as the statement describes it.
    :ivar step: None where nothing is to be done.
    """

    measure: MeasureId
    state: State
    basis: Basis
    why: str
    observations: tuple[Digest, ...] = ()
    statement: Digest | None = None
    alternative: str = ""
    step: NextStep | None = None

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "alternative": self.alternative,
            "basis": self.basis.value,
            "measure": self.measure,
            "observations": [str(digest) for digest in self.observations],
            "state": self.state.value,
            "statement": None if self.statement is None else str(self.statement),
            "step": None if self.step is None else self.step.to_json(),
            "why": self.why,
        }

    @classmethod
    def read(cls, f: Fields) -> Finding:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        step = None
        if f.optional("step"):
            with f.child("step") as child:
                step = NextStep.read(child)
        return cls(
            measure=f.parsed("measure", measure_id),
            state=f.parsed("state", State),
            basis=f.parsed("basis", Basis),
            why=f.text("why", max_length=MAX_WHY),
            observations=tuple(map(Digest.parse, f.texts("observations", most=MAX_OBSERVATIONS))),
            statement=f.digest("statement") if f.optional("statement") else None,
            alternative=f.text("alternative", max_length=MAX_WHY),
            step=step,
        )
