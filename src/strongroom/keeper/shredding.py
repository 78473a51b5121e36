"""Crypto-shredding: a model's keys are destroyed, with everything that an older copy of the keyring opens them by.

1 the log says that the model is destroyed: from here on it is, nothing is opened, and its leases end
2 its key-encryption keys are taken out of the keyring
3 a new epoch, under which all other keys are wrapped; the old epoch's key is taken out of the keyring
4 a new version of each key service's key, and a new generation of the root key under it
5 the older versions of the key services' keys are destroyed, where that is possible and hurts nobody else
6 the keeper signs what was destroyed and what wasn't reached, and the log names that certificate

What the log says tells which step comes next. So a crash, or a key service that isn't there, only puts off the rest:
it goes on at the next start, and is tried again from time to time. Bound to the keeper's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from strongroom.access.request import Action, Request
from strongroom.audit.facts import Fact
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, NotFoundError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.keeper.journal import Recorded
from strongroom.keeper.pins import DocumentStore
from strongroom.keeper.rotation import Rotation
from strongroom.keeper.service import Keeper
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import MAX_REFERENCE, Capability, HeldKey, KeyServiceRefusedError, WrappingProvider
from strongroom.keys.split_root import read_root
from strongroom.keys.states import KeyState
from strongroom.keys.uri import MAX_URI
from strongroom.release.destruction import (
    CERTIFICATE_TYPE,
    Certificate,
    Services,
    draw,
)
from strongroom.release.destruction_parts import (
    Because,
    Destroyed,
)
from strongroom.release.key_ledger import DestroyedModel

CERTIFICATES: Final = "destruction"
NOTES: Final = "shredding"
AGAIN_SECONDS: Final = 60.0
"""How long the keeper waits before it goes on with a destruction that couldn't be finished."""
_MOST_CLOSED: Final = 256


class Shredded(StrEnum):
    """The places between the steps, for tests that end a keeper there."""

    RECORDED = "recorded"
    REMOVED = "removed"
    EPOCH_GONE = "epoch-gone"
    RENEWED = "renewed"
    ROOT_GONE = "root-gone"
    SERVICES_ASKED = "services-asked"
    SIGNED = "signed"
    CERTIFIED = "certified"


@dataclass(slots=True)
class Shredding:
    """Carries destructions out, and certifies them.

    :param notes: where the keeper keeps what it must know after a crash in the middle.
    """

    keeper: Keeper
    rotation: Rotation
    notes: DocumentStore
    clock: Clock
    reached: Callable[[Shredded], None] = lambda _place: None
    failed: Callable[[StrongroomError], None] = lambda _error: None
    """Told when a destruction couldn't be finished for now."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Take requests to destroy."""
        self.keeper.carries_out[Action.DESTROY] = self.destroy

    # --- the point of no return ---------------------------------------------------------------------------------------

    def destroy(self, request: Request, name: Digest) -> asyncio.Future[Recorded]:
        """Step 1, under a request that was decided just before; ``name`` is its digest. :meth:`run` does the rest.

        :raises DeniedError: no grant is in the log, the model has no key yet, or the keeper couldn't finish: it was
            unlocked by shares.
        """
        keys, vault = self.keeper.journal.ledger.keys, self.keeper.vault
        if name not in self.keeper.journal.ledger.grants:
            # Where the rule has no delay it would be decided all the same, and nobody would have seen it coming.
            raise DeniedError(
                "the destruction wasn't granted", reason="not-granted", remedy="have its grant recorded first"
            )
        kek = keys.active(request.model)
        if kek is None:
            raise DeniedError(f"`{request.model}` has no key that could be destroyed", reason="no-kek")
        # Also where an earlier KEK of it stood: an old copy of the keyring has that one still.
        trees = (Tree.of(escrowed=escrowed) for escrowed in keys.escrowed_of(request.model))
        if vault.providers is None or not all(vault.opens(tree) for tree in trees):
            raise DeniedError(
                "this keeper has no key service at hand, and couldn't replace the root key afterwards",
                reason="no-provider",
                remedy="put the root key under a key service first: strongroom root-key move",
            )
        facts: dict[str, Fact] = {
            "request": name,
            "model": request.model,
            "kek": kek.kek,
            "epoch": kek.epoch,
            "generation": keys.generation,
        }
        self._note(name)
        recording = self.keeper.record(EventName.MODEL_DESTROYED, facts)
        recording.add_done_callback(lambda _done: self._wanted.set())
        return recording

    async def run(self) -> None:
        """Finish what is unfinished, now and whenever something becomes so; for as long as the keeper runs."""
        while True:
            if self.unfinished():
                try:
                    await self.finish()
                except StrongroomError as error:
                    self.failed(error)
                except Exception as error:  # noqa: BLE001 - a key service's library raises what it likes
                    # Ended by it, this would leave every destruction unfinished without a word.
                    self.failed(UnavailableError(f"a key service failed ({type(error).__name__})"))
            self._wanted.clear()
            try:
                await asyncio.wait_for(self._wanted.wait(), AGAIN_SECONDS)
            except TimeoutError:
                continue

    def unfinished(self) -> tuple[ModelId, ...]:
        """Return the destroyed models that aren't certified, the first destroyed first."""
        ledger = self.keeper.journal.ledger
        return tuple(model for model in ledger.keys.destroyed if not ledger.destructions.certificates.get(model))

    # --- the rest -----------------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Steps 2 to 6 for every model that isn't certified. Safe to call again.

        :raises StrongroomError: a key service or the log isn't there, or the keeper is locked: the rest waits.
        """
        async with self._turn:
            for model in self.unfinished():
                self.keeper.require_unlocked()
                gone = self.keeper.journal.ledger.keys.destroyed[model]
                if gone.index >= self.keeper.journal.durable[0]:
                    # Queued just now. Were its keys removed first, a crash would leave a log that misses them.
                    continue
                self.keeper.pin()
                self.reached(Shredded.RECORDED)
                self._remove(model)
                self.reached(Shredded.REMOVED)
                await self._end_epochs(model)
                self.reached(Shredded.EPOCH_GONE)
                await self._end_root(gone)
                self.reached(Shredded.ROOT_GONE)
                services = await self._ask_services(gone)
                self.reached(Shredded.SERVICES_ASKED)
                await self._certify(model, services)

    def _remove(self, model: ModelId) -> None:
        keyring = self.keeper.vault.keyring
        names = {held.kek for held in keyring.keks if held.model == model}
        if names:
            self.keeper.hold(keyring.without_keks(names))

    async def _end_epochs(self, model: ModelId) -> None:
        keys = self.keeper.journal.ledger.keys
        wanted = keys.epochs_of(model)
        if any(keys.epochs[epoch].state is KeyState.ACTIVE for epoch in wanted):
            await self.rotation.rotate_epoch(keys.destroyed[model].request)
        if any(keys.epochs[epoch].state is not KeyState.DESTROYED for epoch in wanted):
            await self.rotation.resume()
        left = [epoch for epoch in wanted if keys.epochs[epoch].state is not KeyState.DESTROYED]
        if left:
            raise UnavailableError(
                f"epoch {min(left)} couldn't be ended: its tree of keys is closed",
                reason="no-provider",
                remedy="unlock the keeper with its key services",
            )

    async def _end_root(self, gone: DestroyedModel) -> None:
        ledger = self.keeper.journal.ledger
        emptied = ledger.destructions.emptied(ledger.keys.epochs_of(gone.model))
        if emptied is not None and ledger.destructions.root_after(emptied):
            return
        if self.keeper.vault.keyring.generation == ledger.keys.generation:
            # Others may have renewed or rotated meanwhile: it is this generation that wrapped the epoch last.
            self._note(gone.request)
        for provider in self._providers():
            if Capability.VERSION_DESTRUCTION in provider.capabilities:
                # One that won't is told of in the certificate: its old version closes the new root key as well.
                with contextlib.suppress(KeyServiceRefusedError):
                    await asyncio.to_thread(provider.renew)
        self.reached(Shredded.RENEWED)
        await self.rotation.rotate_root(gone.request)

    async def _ask_services(self, gone: DestroyedModel) -> Services:
        destroyed, before, providers = [], self._closed_by(gone.request), self._providers()
        # A service that held the old root key, and holds the present one no more.
        asked = {str(provider.uri) for provider in providers}
        not_reached = [(uri, Because.ELSEWHERE) for uri in before if uri not in asked]
        for provider in providers:
            uri = str(provider.uri)
            kept = [held for held in self._held() if held.provider == provider.uri]
            versions = {held.closed.version for held in kept}
            if Capability.VERSION_DESTRUCTION not in provider.capabilities:
                not_reached.append((uri, Because.NO_VERSIONS))
            elif not before:
                not_reached.append((uri, Because.UNKNOWN))
            elif len(versions) != 1 or before.get(uri, frozenset()) & versions:
                # Destroying what is older than one would destroy the other; or the service still closes by the version
                # that closed the old root key.
                not_reached.append((uri, Because.REFUSED))
            else:
                try:
                    finality = await asyncio.to_thread(provider.destroy_before, kept[0])
                except StrongroomError as error:
                    refused = isinstance(error, KeyServiceRefusedError)
                    not_reached.append((uri, Because.REFUSED if refused else Because.UNAVAILABLE))
                else:
                    destroyed.append(Destroyed(provider=uri, kept=kept[0].closed.version, finality=finality))
        return Services(destroyed=tuple(destroyed), not_reached=tuple(not_reached))

    async def _certify(self, model: ModelId, services: Services) -> Recorded:
        self.keeper.require_unlocked()
        ledger = self.keeper.journal.ledger
        certificate = draw(
            ledger,
            model,
            genesis=self.keeper.genesis.digest,
            services=services,
            serial=len(ledger.destructions.certificates.get(model, [])) + 1,
            certified_at=max(self.clock.now(), ledger.latest),
        )
        envelope = sign(CERTIFICATE_TYPE, certificate.to_bytes(), self.keeper.vault.signer)
        self.keeper.keep(CERTIFICATES, envelope)
        self.reached(Shredded.SIGNED)
        facts: dict[str, Fact] = {"model": model, "certificate": envelope.digest}
        recorded = await self.keeper.record_pinned(EventName.DESTRUCTION_CERTIFIED, facts)
        self.reached(Shredded.CERTIFIED)
        return recorded

    # --- certificates -------------------------------------------------------------------------------------------------

    def certificate(self, model: ModelId) -> Envelope:
        """Return a model's newest certificate.

        :raises NotFoundError: the model isn't destroyed, its destruction isn't finished, or the copy here is gone.
        """
        noted = self.keeper.journal.ledger.destructions.certificates.get(model)
        if not noted:
            raise self._uncertified(model)
        envelope = self.keeper.kept(CERTIFICATES, noted[-1].digest)
        if envelope is None:
            raise NotFoundError(
                "the keeper's copy of the certificate is gone",
                remedy="ask for another: strongroom key certificate --again",
            )
        return envelope

    def _uncertified(self, model: ModelId) -> NotFoundError:
        if model not in self.keeper.journal.ledger.keys.destroyed:
            return NotFoundError(f"the keys of model `{model}` aren't destroyed", reason="not-destroyed")
        return NotFoundError(
            f"the destruction of model `{model}` isn't finished",
            reason="destruction-unfinished",
            remedy="the keeper goes on with it by itself: look again in a minute",
        )

    async def certify_again(self, model: ModelId) -> Envelope:
        """Ask the key services again, and sign another certificate if there is something new to say.

        :raises NotFoundError: as :meth:`certificate`, but for a lost copy.
        :raises StrongroomError: the log isn't there, or the keeper is locked.
        """
        self.keeper.require_unlocked()
        ledger = self.keeper.journal.ledger
        noted = ledger.destructions.certificates.get(model)
        if not noted:
            raise self._uncertified(model)
        async with self._turn:
            services = await self._ask_services(ledger.keys.destroyed[model])
            before = self.keeper.kept(CERTIFICATES, noted[-1].digest)
            if before is None or self._tells_more(Certificate.parse(before.payload), services):
                await self._certify(model, services)
        return self.certificate(model)

    def _tells_more(self, before: Certificate, services: Services) -> bool:
        gone = self.keeper.journal.ledger.keys.destroyed[before.model]
        drawn = draw(
            self.keeper.journal.ledger,
            before.model,
            genesis=before.genesis,
            services=services,
            serial=before.serial,
            certified_at=before.certified_at,
        )
        # A newer version that keeps the same ones destroyed says nothing new.
        told = {one.provider: one.finality for one in before.providers}
        tells = {one.provider: one.finality for one in services.destroyed}
        return gone.request == before.request and (
            (drawn.answered, drawn.not_reachable, tells) != (before.answered, before.not_reachable, told)
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _held(self) -> Iterator[HeldKey]:
        for _tree, stored in self.keeper.vault.keyring.roots:
            yield from read_root(stored)

    def _providers(self) -> tuple[WrappingProvider, ...]:
        known = self.keeper.vault.providers
        if known is None:
            raise UnavailableError(
                "no key service is at hand", reason="no-provider", remedy="unlock the keeper with its key services"
            )
        held = {held.provider for held in self._held()}
        return tuple(provider for provider in known.services() if provider.uri in held)

    def _note(self, request: Digest) -> None:
        """Note which versions close the root key that is to go: whether they were destroyed is known by comparing."""
        closed = {(uri, version) for uri, versions in self._closed_by(request).items() for version in versions}
        closed |= {(str(held.provider), held.closed.version) for held in self._held()}
        told: list[Json] = [{"provider": uri, "version": version} for uri, version in sorted(closed)]
        self.notes.save(NOTES, request, encode({"v": 1, "closed": told}))

    def _closed_by(self, request: Digest) -> dict[str, frozenset[str]]:
        note = self.notes.load(NOTES, request)
        if note is None:
            return {}
        with Fields(decode(note), "shredding") as fields:
            fields.constant("v", 1)
            closed = fields.objects("closed", _closed, most=_MOST_CLOSED)
        return {uri: frozenset(version for one, version in closed if one == uri) for uri, _version in closed}


def _closed(fields: Fields) -> tuple[str, str]:
    return fields.text("provider", max_length=MAX_URI), fields.text("version", max_length=MAX_REFERENCE)
