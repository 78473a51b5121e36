"""What the response needs of the world: a port that does commands, and what is known of the deployment. Pure.

A port keeps three promises. The same command again has no second effect. What can't be done here is refused, with a
code that says why, and never called done. A probe looks at the world, and not at what the port believes it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.core.signature import PublicKey
from strongroom.responder.cases import Case
from strongroom.response.actions import Command
from strongroom.response.grading import Certainty
from strongroom.response.run import Outcome, Terms
from strongroom.response.situation import Situation
from strongroom.response.subjects import Subject


@dataclass(frozen=True, slots=True)
class Told:
    """How a command went. ``outcome`` None: it is under way, or waits for what people do elsewhere; ask again."""

    outcome: Outcome | None
    reason: str = ""
    """A code: why it was refused, failed, or what it waits for."""


DONE = Told(Outcome.DONE)


def refused(reason: str) -> Told:
    """Return that a command can't be done on this deployment."""
    return Told(Outcome.REFUSED, reason)


def awaits(reason: str) -> Told:
    """Return that a command is under way."""
    return Told(None, reason)


class Port(Protocol):
    """Does commands: on the deployment, or on a drill's stand-ins."""

    async def situation(self, case: Case) -> Situation:
        """Return what is so now.

        :raises StrongroomError: it can't be known.
        """
        ...

    async def do(self, case: Case, command: Command) -> Told:
        """Do a command, or say that it was done, or why not.

        :raises StrongroomError: it isn't known to be done.
        """
        ...

    async def probe(self, case: Case, command: Command) -> str:
        """Look at the world.

        :raises StrongroomError: it can't be looked at.
        """
        ...


class Deployment(Protocol):
    """What is known of the deployment, as its documents in force say."""

    genesis: Digest

    def level(self, subject: Subject) -> int:
        """Return the security level of a model that the policy names, 1 to 5; else the highest of all guarded models.

        0 where the policy in force names none of them.
        """
        ...

    def terms(self, certainty: Certainty, subject: Subject) -> Terms:
        """Return who may agree to what in a run about a subject."""
        ...

    def keys(self, person: PersonId) -> tuple[PublicKey, ...]:
        """Return the keys of somebody who may act in incidents; none for anybody else, or somebody suspended."""
        ...


class Notes(Protocol):
    """The deployment's log, as far as incidents go into it."""

    async def note(self, case: Case) -> None:
        """Have the log hold how far the record has come.

        :raises StrongroomError: it doesn't yet.
        """
        ...


class Telling(Protocol):
    """Those who are told of incidents."""

    def tell(self, case: Case) -> None:
        """Begin to tell everybody how an incident stands; it goes on until they were told, or gave up."""
        ...

    def told(self, case: Case) -> bool | None:
        """Tell whether anybody took it; None where there is nobody to tell."""
        ...
