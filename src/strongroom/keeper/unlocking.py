"""A keeper that waits for its custodians: it has an unlock key and an escrow, and nothing that opens a model.

escrow        {}                          -> {escrow}              the signed escrow
unlock-offer  {}                          -> {escrow, offer}       the offer that is open; a new one when it has ended
unlock-share  {envelope}                  -> {answered, needed, unlocked}

Everything else is answered `keeper-locked`. The root key that the shares give is proved by the keyring: the signing key
that the genesis names has to open under it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.clock import Clock
from strongroom.core.envelope import Envelope
from strongroom.core.errors import LockedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey, Signer
from strongroom.ipc.frames import Call
from strongroom.keeper.route_parts import last_envelope
from strongroom.keeper.vault import Vault
from strongroom.keys.escrow import verify_escrow
from strongroom.keys.unlocking import Unlocking
from strongroom.keys.wrapping import RandomBytes

KEEPER_LOCKED: Final = "keeper-locked"
_ANSWER: Final = "custodians answer its offer: strongroom custodian unlock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A keyring that shares opened, and whose shares they were, sorted."""

    vault: Vault
    custodians: tuple[PersonId, ...]


class LockedKeeper:
    """Serves the three operations until enough shares came; then :attr:`opened` is done, once.

    ``open_vault`` opens the keyring with a root key, or raises. ``providers`` are where the root key goes then.

    :raises SignatureError: the keeper of this genesis didn't sign the escrow. (Of the constructor, as are the others.)
    :raises EscrowError: the escrow is another deployment's.
    :raises OfferError: the unlock key isn't the one that the escrow names.
    """

    def __init__(
        self,
        genesis: Genesis,
        escrow: Envelope,
        unlock_signer: Signer,
        *,
        open_vault: Callable[[SecretBytes], Vault],
        clock: Clock,
        random_bytes: RandomBytes,
        providers: tuple[str, ...] = (),
    ) -> None:
        self._envelope = escrow
        self._escrow = verify_escrow(escrow, genesis)
        self._signer = unlock_signer
        self._open_vault = open_vault
        self._clock = clock
        self._random = random_bytes
        self._providers = providers
        self._unlocking = self._new_offer()
        self.opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()

    @property
    def unlock_key(self) -> PublicKey:
        """The unlock key that custodians know from the escrow."""
        return self._escrow.unlock_key

    async def serve(self, call: Call, _uid: int) -> dict[str, Json]:
        """Serve one call.

        :raises LockedError: it is for an unlocked keeper.
        :raises OfferError: (with the errors of :meth:`Unlocking.take`) the answer isn't counted.
        :raises TamperedError: the shares are right and the keyring doesn't open with them: it isn't theirs.
        """
        match call.operation:
            case "escrow":
                call.fields.end()
                return {"escrow": self._envelope.to_json()}
            case "unlock-offer":
                call.fields.end()
                self._require_waiting()
                return {"escrow": self._envelope.to_json(), "offer": self._current().envelope.to_json()}
            case "unlock-share":
                return self._take(last_envelope(call.fields, "envelope"))
        raise LockedError("the keeper is locked: it waits for shares", remedy=_ANSWER, reason=KEEPER_LOCKED)

    def end(self) -> None:
        """Wipe what came, for a process that stops."""
        self._unlocking.end()

    def _take(self, envelope: Envelope) -> dict[str, Json]:
        self._require_waiting()
        unlocking = self._current()
        unlocking.take(envelope, self._clock.now())
        answered = unlocking.answered
        if unlocking.complete:
            # Whatever comes of it, the offer is over and the shares are wiped. The vault takes the root key over.
            root = unlocking.combine()
            try:
                vault = self._open_vault(root)
            except BaseException:
                root.wipe()
                raise
            self.opened.set_result(Opened(vault=vault, custodians=answered))
        names: list[Json] = [*answered]
        return {"answered": names, "needed": self._escrow.threshold, "unlocked": self.opened.done()}

    def _current(self) -> Unlocking:
        if self._unlocking.over(self._clock.now()):
            # Shares given to an offer that ended are given again: nobody's answer outlives the hour it was meant for.
            self._unlocking.end()
            self._unlocking = self._new_offer()
        return self._unlocking

    def _new_offer(self) -> Unlocking:
        return Unlocking(
            self._escrow,
            self._signer,
            now=self._clock.now(),
            random_bytes=self._random,
            providers=self._providers,
        )

    def _require_waiting(self) -> None:
        if self.opened.done():
            raise LockedError("the keeper has its root key and is starting", remedy="wait", reason="keeper-starting")
