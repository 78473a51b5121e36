"""Puts the directory together: files, database, keys, applications."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from strongroom.broker.gate import App
from strongroom.broker.people.adapters.files import (
    EVENT_SETTINGS,
    SCIM_SETTINGS,
    TokenFile,
    read_pinned,
    read_settings,
)
from strongroom.broker.people.adapters.keys import KeyFolder
from strongroom.broker.people.adapters.store import PeopleStore
from strongroom.broker.people.directory import Directory
from strongroom.broker.people.lowering import Lowering
from strongroom.broker.people.ports import Knows, Suspend
from strongroom.broker.people.scim_settings import ScimSettings
from strongroom.broker.people.ssf_app import make_ssf_app
from strongroom.broker.people.transmitters import EventSettings
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock
from strongroom.core.extras import need
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.personnel.roster import Person

DATABASE: Final = "directory.db"
KEYS: Final = "people-keys"
SCIM: Final = "/scim/v2"
EVENTS: Final = "/ssf"


class SuspendingBroker(Protocol):
    """What is needed of :class:`strongroom.broker.service.Broker`."""

    async def suspend(self, person: PersonId, cause: str) -> dict[str, Json]:
        """End everything that a person has."""
        ...


class KnownPeople(Protocol):
    """What is needed of :class:`strongroom.broker.standing.Standing`."""

    async def person(self, wanted: PersonId) -> Person | None:
        """Return a person of the roster in force."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleApps:
    """Applications by mount point, and what closes what they use."""

    mounts: Mapping[str, App]
    close: Callable[[], None]


def open_directory(home: Path) -> tuple[Directory, PeopleStore, KeyFolder]:
    """Open the directory of the deployment at ``home``, or make it.

    :raises StrongroomError: its files can't be used.
    """
    keys = KeyFolder.open(home / "broker" / KEYS, os.urandom)
    store = PeopleStore.open(home / "broker" / DATABASE)
    return Directory(store, keys, os.urandom), store, keys


def people_apps(home: Path, broker: SuspendingBroker, people: KnownPeople, *, clock: Clock) -> PeopleApps:
    """Return what the identity listener mounts for a broker; the arguments of :func:`open_apps` from its parts."""

    async def knows(person: PersonId) -> bool:
        return await people.person(person) is not None

    async def suspend(person: PersonId, cause: SuspensionCause) -> None:
        await broker.suspend(person, cause.value)

    return open_apps(home, knows=knows, suspend=suspend, clock=clock)


def open_apps(home: Path, *, knows: Knows, suspend: Suspend, clock: Clock) -> PeopleApps:
    """Return the applications that are set up: SCIM once a token was made, events once `ssf.toml` is there.

    :raises MissingExtraError: one is set up whose library isn't installed.
    :raises UsageError: settings can't be used.
    """
    folder = home / "broker"
    tokens, events = TokenFile(folder), read_settings(folder / EVENT_SETTINGS)
    if not tokens.exists() and events is None:
        return PeopleApps(mounts={}, close=lambda: None)
    directory, store, keys = open_directory(home)
    lowering = Lowering(knows=knows, suspend=suspend)
    mounts: dict[str, App] = {}
    if tokens.exists():
        settings = ScimSettings.parse(read_settings(folder / SCIM_SETTINGS) or b"")
        mounts[SCIM] = need("strongroom.broker.people.scim_app", extra="scim").make_scim_app(
            directory,
            lowering,
            tokens=tokens.load,
            clock=clock,
            new_id=lambda: os.urandom(16).hex(),
            members_group=settings.members_group,
        )
    if events is not None:
        receiver = _receiver(folder, EventSettings.parse(events), directory, lowering, store, keys, clock)
        mounts[EVENTS] = make_ssf_app(receiver)
    return PeopleApps(mounts=mounts, close=store.close)


def _receiver(
    folder: Path,
    settings: EventSettings,
    directory: Directory,
    lowering: Lowering,
    store: PeopleStore,
    keys: KeyFolder,
    clock: Clock,
) -> Callable[[bytes], Awaitable[None]]:
    signed = need("strongroom.broker.people.signed_events", extra="oidc")
    receiving = need("strongroom.broker.people.receiver", extra="oidc")
    names = {issuer: sender.jwks for issuer, sender in settings.transmitters.items()}
    pinned = {
        issuer: signed.read_keys(data, where=names[issuer]) for issuer, data in read_pinned(folder, names).items()
    }
    verifier = signed.EventVerifier(settings, pinned)
    receiver = receiving.EventReceiver(verifier, directory, lowering, store=store, keys=keys, clock=clock)
    take: Callable[[bytes], Awaitable[None]] = receiver.take
    return take
