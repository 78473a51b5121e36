"""That people moved the end of a model's life: a fact for governor and mirror. Who may sign is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import MAX_INTEGER
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, UsageError
from strongroom.core.ids import ModelId, PersonId

LEAST_PEOPLE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRaised:
    """A signed statement that was verified. A day's budget can't be raised so: that takes a new policy, and its bound.

    :raises DeniedError: (construction) fewer than two different people.
    :raises UsageError: (construction) it doesn't raise anything.
    """

    model: ModelId
    before: int
    """The limit that it replaces, in bits: the same statement can't be used for another."""
    after: int
    statement: Digest
    people: tuple[PersonId, ...]
    """Those whose signatures were verified."""

    def __post_init__(self) -> None:
        if len(set(self.people)) < LEAST_PEOPLE:
            raise DeniedError("raising a limit takes two different people", reason="egress-two-people")
        if not self.before < self.after <= MAX_INTEGER:
            raise UsageError("a raised limit is higher than the one before it")
