"""How much containment may begin by itself, so that whoever can trigger it can't stop everything unseen.

Who can make a sure signal (open a decoy, say) can have a model frozen: containment is a lever to deny service. Two
things must hold at once. A sure signal about a model always stops that model, however often it comes: the thief who
first wears out a budget must not find the door open. And nobody stops *everything* by many small signals unseen.

So what is limited is width and harm, not the stopping of the one model:

- Freezing a model's releases and closing its egress are never limited for a sure signal about that model. Both are
  undone by a quorum without loss, and doing them again to what is stopped already does nothing.
- Whatever else would begin by itself (ended leases, revoked grants and sessions, quarantines) costs work that no
  quorum brings back. Of these one source may cause :data:`PER_SUBJECT` a day for one subject, and may reach
  :data:`SUBJECTS_PER_SOURCE` subjects a day; beyond that they wait for one person.
- What is aimed at the whole deployment never begins by itself, whatever the source.
- From the second model on that one source stops within a day, and whenever something waits, a person is told: the
  source itself may be what is attacked.

What remains: a source that lies can keep models stopped until a quorum takes the source out of trust. That is the
price of failing closed, and it is paid in the open.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.response.action_list import ACTIONS, in_order
from strongroom.response.actions import ActionName, Authority
from strongroom.response.grading import Certainty
from strongroom.response.subjects import Subject, SubjectKind

DAY: Final = 86400
PER_SUBJECT: Final = 8
SUBJECTS_PER_SOURCE: Final = 4
MOST_ROWS: Final = 10_000
MAX_BUDGET: Final = 4 << 20
ALWAYS: Final = frozenset({ActionName.FREEZE_RELEASES, ActionName.ZERO_EGRESS})
"""What a sure signal about a model always does to that model."""
FREE: Final = frozenset({ActionName.NOTIFY, ActionName.SNAPSHOT_EVIDENCE})
"""What stops nothing: never limited here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What would begin something: which source says it, how sure it is, and about what."""

    source: str
    certainty: Certainty
    subject: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What begins by itself, what waits for a person, and why a person is told."""

    acts: tuple[ActionName, ...]
    waits: tuple[ActionName, ...]
    tell: str
    """Empty if nobody needs to be told beyond the incident itself."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What began by itself on one day (UTC): (source, subject) -> how many limited actions; 0: it was only stopped."""

    day: int = -1
    spent: dict[tuple[str, str], int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return canonical bytes: a restart must not give a budget back."""
        rows: list[Json] = [
            {"source": source, "subject": subject, "count": count}
            for (source, subject), count in sorted(self.spent.items())
        ]
        return encode({"v": 1, "day": self.day + 1, "spent": rows})

    @classmethod
    def parse(cls, data: bytes) -> Budget:
        """Read canonical bytes.

        :raises MalformedError: another form, or a row twice.
        """
        with Fields(decode(data, max_bytes=MAX_BUDGET), "budget") as fields:
            fields.constant("v", 1)
            day = fields.integer("day") - 1
            rows = fields.objects("spent", _row, most=MOST_ROWS)
        spent = dict(rows)
        if len(spent) != len(rows):
            raise MalformedError("the budget has a row twice")
        return cls(day=day, spent=spent)


def _row(fields: Fields) -> tuple[tuple[str, str], int]:
    source = fields.text("source", max_length=128)
    subject = str(fields.parsed("subject", Subject.parse))
    return (source, subject), fields.integer("count")


def judge(budget: Budget, signal: Signal, wanted: tuple[ActionName, ...], now: Instant) -> tuple[Verdict, Budget]:
    """Return what of ``wanted`` begins by itself, and the budget after it.

    :param now: the process's own time, in seconds. A clock that goes back doesn't give anything back.
    """
    budget = budget if now // DAY <= budget.day else Budget(day=now // DAY)
    acts: list[ActionName] = []
    waits: list[ActionName] = []
    for name in in_order(wanted):
        begins = _begins(budget, signal, name)
        (acts if begins else waits).append(name)
        if begins and name not in FREE:
            budget = _charged(budget, signal, limited=name not in ALWAYS)
    return Verdict(acts=tuple(acts), waits=tuple(waits), tell=_told(budget, signal, waits)), budget


def _begins(budget: Budget, signal: Signal, name: ActionName) -> bool:
    if ACTIONS[name].authority is not Authority.AUTOMATIC:
        return False
    if name in FREE:
        return True
    if signal.certainty is not Certainty.SURE or signal.subject.kind is SubjectKind.DEPLOYMENT:
        return False
    if name in ALWAYS and signal.subject.kind is SubjectKind.MODEL:
        return True
    spent = budget.spent.get((signal.source, str(signal.subject)), 0)
    room = _reach(budget, signal.source) < SUBJECTS_PER_SOURCE and len(budget.spent) < MOST_ROWS
    return 0 < spent < PER_SUBJECT or (spent == 0 and room)


def _charged(budget: Budget, signal: Signal, *, limited: bool) -> Budget:
    key = (signal.source, str(signal.subject))
    if key not in budget.spent and len(budget.spent) >= MOST_ROWS:
        # Only what always begins gets here. With so many rows a person was told long ago; nothing more is learnt.
        return budget
    return replace(budget, spent={**budget.spent, key: budget.spent.get(key, 0) + limited})


def _reach(budget: Budget, source: str) -> int:
    """Return to how many subjects a source's signals did more than stop them."""
    return sum(1 for (known, _subject), count in budget.spent.items() if known == source and count)


def _told(budget: Budget, signal: Signal, waits: list[ActionName]) -> str:
    if signal.certainty is Certainty.SURE and any(ACTIONS[name].authority is Authority.AUTOMATIC for name in waits):
        return "containment-waits"
    models = {one for source, one in budget.spent if source == signal.source and one.startswith("model:")}
    return "source-stops-many" if len(models) > 1 else ""
