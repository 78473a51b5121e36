"""The one effect of everything that an identity provider says: people are suspended."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from strongroom.broker.people.ports import Knows, Suspend
from strongroom.core.errors import NotFoundError
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import SuspensionCause

_log = structlog.get_logger("strongroom.broker.people")


class Lowering:
    """Finds people in the roster and has the keeper suspend them."""

    def __init__(self, *, knows: Knows, suspend: Suspend) -> None:
        self._knows = knows
        self._suspend = suspend

    async def person(self, names: Sequence[PersonId]) -> PersonId | None:
        """Return the first of some ids that the roster lists.

        :raises StrongroomError: the roster can't be asked now.
        """
        for name in names:
            if await self._knows(name):
                return name
        return None

    async def lower(
        self, persons: Sequence[PersonId], cause: SuspensionCause, *, source: str, names: Sequence[PersonId] = ()
    ) -> None:
        """Have people suspended; returns when the keeper has all of it on record.

        Where nobody is known, the first of ``names`` that the keeper knows is meant: it remembers people who aren't in
        the roster now, and may be again. ``source`` says in the program log what led to it: a record's id or an event's
        kind, never a person's data.

        :raises StrongroomError: one of them couldn't be suspended: the whole call is to be made again.
        """
        if persons:
            done = [await self._try(person, cause, source) for person in persons]
        else:
            done = [False]
            for name in names:
                if await self._try(name, cause, source):
                    done = [True]
                    break
        if not any(done):
            _log.warning("no person", source=source, cause=cause.value)

    async def _try(self, person: PersonId, cause: SuspensionCause, source: str) -> bool:
        try:
            await self._suspend(person, cause)
        except NotFoundError:
            return False
        _log.info("suspended", source=source, cause=cause.value, person=person)
        return True
