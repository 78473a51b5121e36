"""Who may hold a session: the roster in force and who is suspended, as the keeper tells it, looked at all the time.

A cache for the gate, and no judgement: the keeper judges everybody again whenever something is released. What it does
is close the door on certificates that still hold, within a second of a suspension.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from strongroom.broker.identity import Identity, Party
from strongroom.broker.ports import KeeperPort, StorePort
from strongroom.broker.rows import stored_envelope
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, TamperedError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import KeyId, PersonId, person_id
from strongroom.core.signature import PublicKey
from strongroom.personnel.lifecycle import MAX_SUSPENDED
from strongroom.personnel.roster import ROSTER_TYPE, Person, Roster
from strongroom.release.documents import DocumentKind

LOOK_SECONDS: Final = 0.5
_log = structlog.get_logger("strongroom.broker")


class Standing:
    """The people of the roster in force. Bound to one event loop."""

    def __init__(self, *, genesis: Genesis, keeper: KeeperPort, store: StorePort) -> None:
        self._genesis = genesis
        self._keeper = keeper
        self._store = store
        self._digest: Digest | None = None
        self._people: Mapping[PersonId, Person] = {}
        self._keys: Mapping[KeyId, PublicKey] = {}
        self._out: frozenset[PersonId] = frozenset()
        self._asking = asyncio.Lock()
        self._silent = False

    def barred(self, identity: Identity) -> bool:
        """Tell whether somebody is suspended, or left, or is an agent of somebody who is.

        Who isn't in the roster isn't barred: root holders have sessions, and aren't people of it.
        """
        return identity.party is Party.PERSON and identity.name in self._out

    def keys_of(self, person: PersonId) -> tuple[PublicKey, ...]:
        """Return a person's keys by the roster that was last heard of; none of a stranger."""
        known = self._people.get(person)
        return () if known is None else known.keys

    def keys_named(self, names: Iterable[KeyId]) -> tuple[PublicKey, ...]:
        """Return those of the named keys that anybody of that roster has."""
        return tuple(self._keys[name] for name in names if name in self._keys)

    async def refresh(self) -> None:
        """Ask the keeper.

        :raises StrongroomError: it, or the store, doesn't answer; what was known before stays.
        :raises TamperedError: the store's roster isn't the one in force.
        """
        # One at a time: an answer from before a suspension must not come in after one from behind it.
        async with self._asking:
            await self._refresh()

    async def _refresh(self) -> None:
        status = await self._keeper.call("status")
        told = status.texts("suspended", most=MAX_SUSPENDED)
        suspended = frozenset(person_id(text) for text in told)
        # First with the roster that is known: a store that hides the newest one must not keep the suspended in.
        self._out = _all_out(self._people, suspended)
        digest = _roster_digest(status.child("documents"))
        if digest is not None and digest != self._digest:
            people = (await self._roster(digest)).people
            self._people = {person.id: person for person in people}
            # Once a roster, not once an approval: a key's name is a hash of it.
            self._keys = {key.key_id: key for person in people for key in person.keys}
            self._digest = digest
            self._out = _all_out(self._people, suspended)

    async def person(self, wanted: PersonId) -> Person | None:
        """Return a person of the roster in force, asked for anew, or None for a stranger.

        :raises StrongroomError: as :meth:`refresh`.
        """
        await self.refresh()
        return self._people.get(wanted)

    async def look(self) -> None:
        """Refresh if that can be had. A part that doesn't answer changes nothing; it is logged once."""
        try:
            await self.refresh()
            self._silent = False
        except Exception as error:  # noqa: BLE001 - a watch that ended would let in for ever who is suspended from now on
            if not self._silent:
                code = error.reason if isinstance(error, StrongroomError) else type(error).__name__
                _log.warning("who is suspended can't be learnt; the last answer stands", code=code)
            self._silent = True

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _roster(self, digest: Digest) -> Roster:
        text = await self._store.document(DocumentKind.ROSTER.value, str(digest))
        if text is None:
            raise UnavailableError(
                "the roster in force isn't stored", remedy="hand it in again: strongroom adopt roster"
            )
        envelope = stored_envelope(text, "roster document")
        if envelope.digest != digest:
            raise TamperedError("the stored roster isn't the one in force")
        self._genesis.verify_root(envelope, ROSTER_TYPE)
        return Roster.parse(envelope.payload)


def _roster_digest(documents: Fields) -> Digest | None:
    if not documents.optional(DocumentKind.ROSTER.value):
        return None
    with documents.child(DocumentKind.ROSTER.value) as adopted:
        adopted.integer("epoch")
        return adopted.digest("digest")


def _all_out(people: Mapping[PersonId, Person], suspended: frozenset[PersonId]) -> frozenset[PersonId]:
    out = suspended | {person.id for person in people.values() if not person.active}
    return out | {person.id for person in people.values() if person.sponsor in out}
