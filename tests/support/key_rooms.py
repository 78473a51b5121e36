"""A room with several models' data keys in a store that can lose writes, and a keeper that can be ended anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from simulators.attester import NOW
from simulators.memory_log import MemoryLog
from strongroom.access.request import Action, Request
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.keeper.journal import Appended, LogPort
from strongroom.keeper.rotation import Rotation
from strongroom.keeper.service import Keeper
from strongroom.release.dossier import WrappedDataKey
from support.deployment import publisher, signer
from support.lying import gullible
from support.room import MemoryKeyrings, MemoryRecords, Room, counted_bytes

BATCH = 2
MODELS = (ModelId("atlas"), ModelId("borea"))
HOLD = Digest.of(b"a hold")
"""The name of the hold that a room may have."""
_names = itertools.count(1)


class Crash(BaseException):
    """The keeper's process ends here."""


@dataclass
class Fuse:
    """Counts the places at which the keeper may end, and ends it at one of them."""

    left: int | None = None
    passed: int = 0

    def here(self) -> None:
        """Pass a place.

        :raises Crash: it is the one.
        """
        self.passed += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Crash


class FusedKeyrings(MemoryKeyrings):
    """A keyring's file; the keeper may end before and after it is written."""

    fuse: Fuse

    def save(self, keyring: bytes) -> None:
        """Replace."""
        self.fuse.here()
        super().save(keyring)
        self.fuse.here()


class FusedRecords(MemoryRecords):
    """People's records; the keeper may end before each is written."""

    fuse: Fuse

    def save(self, name: str, data: bytes) -> None:
        """Keep."""
        self.fuse.here()
        super().save(name, data)


class FusedLog(MemoryLog):
    """A log; the keeper may end before and after its entries are durable."""

    fuse: Fuse

    async def append(self, entries: tuple[bytes, ...]) -> Appended:
        """Append."""
        # What ends here is what the keeper waits for: it sees its log fail, and locks.
        try:
            self.fuse.here()
            appended = await super().append(entries)
            self.fuse.here()
        except Crash as crash:
            raise ConnectionError from crash
        return appended


@dataclass
class Stored:
    """A data key as the store has it, and what it must open to."""

    model: ModelId
    version: int
    row: WrappedDataKey
    secret: bytes
    history: list[WrappedDataKey] = field(default_factory=list)


class KeyRoom(Room):
    """A room without documents: what is tried are keys, and not who may have them."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = Fuse()
        keyrings, records = FusedKeyrings(self.keyrings.history), FusedRecords()
        log = FusedLog(self.genesis, signer("log"), at=NOW)
        for fused in (keyrings, records, log):
            fused.fuse = self.fuse
        self.keyrings, self.records, self.log = keyrings, records, log
        self.keeper = self.make_keeper()
        self.people = self.make_people()
        self.rows: dict[str, Stored] = {}
        self.rotations: list[Digest] = []
        self.keys: Rotation = self.rotation()

    async def open(self) -> KeyRoom:
        """Start the keeper."""
        await self.keeper.start()
        self.keys = self.fused()
        await self.keys.resume()
        return self

    def fused(self) -> Rotation:
        """Make what rotates, ended at any place between its steps."""
        made = self.rotation()
        made.reached = lambda _place: self.fuse.here()
        return made

    def make_keeper(self, log: LogPort | None = None) -> Keeper:
        """Make a keeper that asks nobody: no person is here who could ask or agree."""
        return gullible(super().make_keeper(log))

    async def reopen(self) -> None:
        """Start another keeper over what a crash left."""
        self.fuse.left = None
        await self.restart()
        self.keys = self.fused()
        await self.keys.resume()

    async def seal(self, model: ModelId, *, register: bool = True) -> str:
        """Make a data key of a model's next version, as the keeper does for a publisher, store it, and register it."""
        request = self._name()
        created: dict[str, Fact] = {"request": request, "action": "seal", "requester": "dana", "model": model}
        await self.keeper.record(EventName.REQUEST_CREATED, created)
        current = self.keeper.journal.ledger.current(model)
        version = current.version + 1 if current else 1
        kek = self.keeper._active_kek(model)
        key, row = self.keeper.vault.create(model, version, kek, counted_bytes)
        facts: dict[str, Fact] = {
            "request": request,
            "use": 1,
            "model": model,
            "version": version,
            "data_key": row.data_key,
            "kek": kek,
            "recipient": request,
        }
        await self.keeper.record(EventName.DATA_KEY_CREATED, facts)
        with key:
            self.rows[row.data_key] = Stored(model, version, row, bytes(key.reveal(TOKEN)))
        if register:
            await self.register(row.data_key, version)
        return row.data_key

    async def register(self, data_key: str, version: int) -> None:
        """Register a version under a data key that was made for it."""
        made = self.keeper.journal.ledger.data_keys[data_key]
        facts: dict[str, Fact] = {
            "request": made.request,
            "model": made.model,
            "version": version,
            "manifest": made.request,
            "predecessor": None,
            "publisher": "dana",
            "publisher_key": publisher("dana").public_key,
            "data_key": data_key,
        }
        await self.keeper.record_pinned(EventName.VERSION_REGISTERED, facts)

    async def rotate(self, model: ModelId) -> Digest:
        """Rotate a model's KEK, under a request that nobody asks about here."""
        name = self._name()
        await self.keeper.pinned(self.keys.rotate_kek(self.asked(model), name))
        self.rotations.append(name)
        return name

    def asked(self, model: ModelId) -> Request:
        """A request to rotate; of it, only the model is looked at."""
        asked = object.__new__(Request)
        object.__setattr__(asked, "model", model)
        object.__setattr__(asked, "action", Action.ROTATE)
        return asked

    async def hold(self, subject: ModelId | None) -> None:
        """Have a hold in the log, which nobody signed."""
        facts: dict[str, Fact] = {
            "kind": "hold",
            "subject": subject,
            "cause": "legal",
            "incident": None,
            "until": None,
            "person": "dana",
            "statement": HOLD,
        }
        await self.keeper.record(EventName.PRECAUTION_TAKEN, facts)

    async def lift(self) -> None:
        """Have it lifted."""
        facts: dict[str, Fact] = {"request": self._name(), "model": MODELS[0], "precaution": HOLD}
        await self.keeper.record(EventName.PRECAUTION_LIFTED, facts)

    async def move(self, model: ModelId, *, stores: Callable[[], bool] = lambda: True) -> bool:
        """Hand the store's rows in, as the broker does; ``stores`` says for each change whether it is stored."""
        for last in (False, True):
            of_model = [stored for stored in self.rows.values() if stored.model == model]
            for start in range(0, max(1, len(of_model)), BATCH):
                page = of_model[start : start + BATCH]
                complete = last and start + BATCH >= len(of_model)
                done = await self.keys.rewrap(model, [stored.row for stored in page], complete=complete)
                for stored, row in zip(page, done.rows, strict=True):
                    if row is not None and row != stored.row and stores():
                        stored.history.append(stored.row)
                        stored.row = row
                if done.retired:
                    return True
        return False

    def check(self) -> None:
        """Every data key that is or may come to be a version's opens from what the store holds now."""
        for name, stored in self.rows.items():
            if name not in self.keeper.journal.ledger.keys.data_keys[stored.model]:
                continue
            with self.keeper.vault.open(stored.model, stored.version, name, stored.row) as key:
                assert bytes(key.reveal(TOKEN)) == stored.secret

    def _name(self) -> Digest:
        return Digest.of(f"request {next(_names)}".encode())
