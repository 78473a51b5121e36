"""Where sessions are put together: whom the broker believes, who is out, and the application of logins."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.broker.adapters.oidc import open_id_tokens
from strongroom.broker.adapters.tls import server_context
from strongroom.broker.adapters.trust_files import TrustFiles, read_toml
from strongroom.broker.gate import App
from strongroom.broker.identity import Identity, Party, own_domain
from strongroom.broker.identity_listener import LoginApp, make_identity_app
from strongroom.broker.login import Challenges, LoginDesk
from strongroom.broker.login_settings import OIDC, read_settings
from strongroom.broker.ports import KeeperPort, StorePort
from strongroom.broker.standing import Standing
from strongroom.core.clock import Clock, Instant
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId

TRUST_SECONDS: Final = 1.0
_log = structlog.get_logger("strongroom.broker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Everything that says who may call."""

    genesis: Genesis
    folder: Path
    authority: DevCa
    trust: TrustFiles
    standing: Standing
    clock: Clock

    @classmethod
    def open(
        cls, home: Path, genesis: Genesis, authority: DevCa, keeper: KeeperPort, store: StorePort, clock: Clock
    ) -> Sessions:
        """Read the files of the deployment at ``home``.

        :raises StrongroomError: one of them is wrong; the broker mustn't start.
        """
        folder = home / "broker"
        return cls(
            genesis=genesis,
            folder=folder,
            authority=authority,
            trust=TrustFiles(folder, own_domain(genesis.deployment, authority.der)),
            standing=Standing(genesis=genesis, keeper=keeper, store=store),
            clock=clock,
        )

    def context(self) -> ssl.SSLContext:
        """Return the context of the main listener; authorities that are trusted later are let through it too."""
        context = server_context(self.trust.authorities())
        self.trust.follow(context)
        return context

    async def watch(self) -> None:
        """Follow suspensions and bundles until cancelled."""
        await asyncio.gather(self.standing.watch(), self._follow())

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(TRUST_SECONDS)
            try:
                await asyncio.to_thread(self.trust.refresh)
            except Exception as error:  # noqa: BLE001 - were it to end, an authority that is taken away would stay
                _log.error("trust in other domains wasn't read again", error=type(error).__name__)

    async def identity_app(self, mounts: Mapping[str, App]) -> App:
        """Return the application of the identity listener: logins as ``oidc.toml`` has them, and ``mounts``.

        :raises StrongroomError: ``oidc.toml`` is wrong, or the provider's keys can't be had.
        """
        value = read_toml(self.folder / OIDC)
        desk = None if value is None else await self._desk(value)
        return make_identity_app(LoginApp(desk), mounts)

    async def _desk(self, value: Mapping[str, object]) -> LoginDesk:
        settings = read_settings(dict(value))  # type: ignore[arg-type]  # whatever TOML holds is checked there
        verify = None
        if settings.provider is not None:
            verify = (await asyncio.to_thread(open_id_tokens, settings.provider, self.folder)).verify
        return LoginDesk(
            genesis=self.genesis,
            settings=settings,
            person=self.standing.person,
            suspended=lambda person: self.standing.barred(Identity(Party.PERSON, person)),
            verify_token=verify,
            certify=self._certify,
            challenges=Challenges(os.urandom(32)),
            random_bytes=os.urandom,
            clock=self.clock,
        )

    def _certify(self, person: PersonId, key: ec.EllipticCurvePublicKey, at: Instant, life: timedelta) -> bytes:
        return self.authority.certify_person(person, key, at=at, life=life)
