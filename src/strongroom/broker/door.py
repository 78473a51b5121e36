"""Who signed, looked at before the keeper is called: a second look, from the roster as the store has it.

The keeper judges every signature again; this asks the same of its own copy of the roster, in another process. A fault
in one of them lets nobody speak in another's name (RAND SL3-OOP-01). What it doesn't know, the keeper answers.
"""

from __future__ import annotations

from strongroom.broker.standing import Standing
from strongroom.core.envelope import Envelope, verify
from strongroom.core.ids import PersonId
from strongroom.core.signature import SignatureError


class NotTheirsError(SignatureError):
    """What was handed in isn't signed by the person in whose name it speaks."""

    code = "not-theirs"


class Door:
    """Lets in what its author signed. Bound to one event loop."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    async def require_author(self, envelope: Envelope, kind: str, author: PersonId | None = None) -> None:
        """Return when a key of the author signed; without an author, when every key that it names did.

        :raises NotTheirsError: it didn't, by the roster in force.
        :raises StrongroomError: it didn't by the roster that was known, and no newer one could be asked for.
        """
        if self._fault(envelope, kind, author) is None:
            return
        # Their keys may be newer than what was last heard of the roster.
        await self._standing.refresh()
        fault = self._fault(envelope, kind, author)
        if fault is not None:
            # With what is wrong: a touch without a PIN, say, is mended otherwise than another's key.
            raise NotTheirsError(
                f"it isn't signed by whom it speaks for: {fault.message}",
                remedy="sign with a key that the roster in force has",
            )

    def _fault(self, envelope: Envelope, kind: str, author: PersonId | None) -> SignatureError | None:
        standing, named = self._standing, {signature.key_id for signature in envelope.signatures}
        keys = standing.keys_named(named) if author is None else standing.keys_of(author)
        try:
            if keys:
                verify(envelope, kind, keys, threshold=1)
        except SignatureError as error:
            return error
        return None
