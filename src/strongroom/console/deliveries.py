"""Deliveries as the console shows them: what the log says of each, and what its gate wrote down in a folder.

The folder is believed in nothing. Its records count only where the log names every one of them, in that order; what
they name by digest is what was found. No byte of what was delivered is in it, and none is shown: names, sizes, digests,
formats and facts of the gate's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.audit.entries import Entry
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.signature import SignatureAlgorithm, SignatureError
from strongroom.intake.formats.identify import Format
from strongroom.intake.reviews import REVIEWER, Decision
from strongroom.intake.states import FINAL, Standing, State
from strongroom.intake.verdict import DeliveredFile, Verdict
from strongroom.personnel.roster import AUDITOR, Person
from strongroom.quarantine.terms import Terms
from strongroom.release.heartbeat import RESPONDER
from strongroom.release.intake_statements import OPERATOR

READERS: Final = frozenset({AUDITOR, RESPONDER, REVIEWER, OPERATOR})
"""Whom what the gate found is shown: names of files, and what is in them by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One recorded state of a delivery. ``record`` and ``artifact`` are digests as text."""

    index: int
    state: str
    at: Instant
    record: str
    artifact: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One recorded review."""

    index: int
    reviewer: str
    decision: str
    at: Instant


@dataclass(slots=True, kw_only=True)
class Logged:
    """One delivery, as the log tells of it."""

    delivery: str
    model: str
    operator: str
    steps: list[Step] = field(default_factory=list)
    reviews: list[Said] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Where it stands."""
        return self.steps[-1].state

    @property
    def newest(self) -> int:
        """The index of the newest entry about it."""
        return max(one[-1].index for one in (self.steps, self.reviews) if one)

    @property
    def denied(self) -> bool:
        """Whether somebody denied it."""
        return any(one.decision == Decision.DENY for one in self.reviews)

    @property
    def open(self) -> bool:
        """Whether anything is still to be done."""
        return self.state not in FINAL


def fold(hits: Iterable[tuple[int, Entry]]) -> dict[str, Logged]:
    """Return the deliveries that entries tell of from their beginning on, by id.

    :param hits: entries of ``intake:delivery``, oldest first, each proven before. Those of a delivery whose beginning
        isn't among them tell of nothing.
    """
    found: dict[str, Logged] = {}
    for index, entry in hits:
        name = entry.text("delivery")
        if entry.event is EventName.INTAKE_RECORDED:
            artifact = entry.facts["artifact"]
            step = Step(
                index=index,
                state=entry.text("state"),
                at=entry.at,
                record=str(entry.digest("record")),
                artifact=None if artifact is None else str(artifact),
            )
            if step.state == State.RECEIVED:
                found[name] = Logged(delivery=name, model=entry.text("model"), operator=entry.text("person"))
            if name in found:
                found[name].steps.append(step)
        elif entry.event is EventName.INTAKE_REVIEWED and name in found:
            said = Said(index=index, reviewer=entry.text("reviewer"), decision=entry.text("outcome"), at=entry.at)
            found[name].reviews.append(said)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies in a delivery's folder."""

    name: str
    """The folder's name: somebody else's text."""
    terms: Terms
    standing: Standing
    files: tuple[DeliveredFile, ...]
    checks: Mapping[str, tuple[Format, Json]]
    verdict: Envelope | None


class DeliveryShelf(Protocol):
    """Where deliveries' folders are."""

    def find(self, delivery: str) -> tuple[Found | StrongroomError, ...]:
        """Return what folders say that they are this delivery's, or what is wrong with one that does."""
        ...


def fits(found: Found, logged: Logged) -> bool:
    """Tell whether a folder's records are the log's, all of them."""
    return [str(one.digest) for one in found.standing.records] == [one.record for one in logged.steps]


def judged_by(found: Found, operator: Person) -> Verdict | None:
    """Return the verdict, if there is one, that the operator's publishing key signed, on these very records.

    :raises TamperedError: another one lies there. :raises MalformedError: it isn't judged yet, and one lies there.
    """
    if found.verdict is None:
        return None
    for key in operator.keys:
        if key.algorithm is not SignatureAlgorithm.ED25519_ML_DSA_65:
            continue
        with suppress(SignatureError):
            # All of it follows from the records: one on other records, however genuine, isn't this delivery's.
            if Verdict.verified(found.verdict, key) == Verdict.of(found.standing):
                return Verdict.of(found.standing)
    raise TamperedError("the verdict isn't its operator's, on these records", reason="intake-verdict")
