"""A wallet whose keys are in a browser: it remembers what was seen, and signs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NoReturn, Protocol

from strongroom.client.wallet import Identity, SecurityKeys, Seen, WalletError
from strongroom.console.errors import FormError, SignInFailedError
from strongroom.core.canonical import parse
from strongroom.core.encoding import from_base64
from strongroom.core.errors import MalformedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey, Signer
from strongroom.core.webauthn import MAX_CLIENT_DATA, Assertion

ASSERTION_FIELDS = ("credential", "authenticator_data", "client_data", "signature")
"""What the console's script puts into a form that is signed, each in base64."""


@dataclass(frozen=True, slots=True)
class BrowserSignature:
    """A signer that made its one signature already, in the browser: it hands it out for that very message alone."""

    public_key: PublicKey
    value: bytes

    def sign(self, message: bytes) -> bytes:
        """Return the signature.

        :raises SignatureError: it isn't one of this message; what was signed isn't what is about to be sent.
        """
        self.public_key.verify(self.value, message)
        return self.value


def read_assertion(form: Mapping[str, str], keys: SecurityKeys | None, origin: str) -> BrowserSignature:
    """Return the signature that a form carries, by whichever of a person's keys it says.

    :param origin: this console's. A key signs for each name below its relying party's; what a page of another one got
        signed is nothing that this console showed.
    :raises FormError: a field is missing or too long, or a page of another origin asked for the signature.
    :raises SignInFailedError: the key isn't one of theirs.
    """
    try:
        credential, *parts = (from_base64(form[name]) for name in ASSERTION_FIELDS)
        value = Assertion(*parts).to_bytes()
        told = parse(Assertion.parse(value).client_data, max_bytes=MAX_CLIENT_DATA)
    except KeyError:
        raise FormError("the form isn't signed", remedy="allow this page's script, or use the command beside") from None
    except MalformedError as error:
        raise FormError(f"the signature can't be read: {error.message}") from None
    if not isinstance(told, dict) or told.get("origin") != origin:
        raise FormError("a page of another origin had it signed", remedy=f"open the console at {origin}")
    for known in keys.keys if keys is not None else ():
        if known.credential_id == credential:
            return BrowserSignature(known.key, value)
    raise SignInFailedError("that isn't one of this person's security keys")


class Memory(Protocol):
    """What this console saw of the deployment last, for everybody who uses it: it only moves forward."""

    def seen(self) -> Seen:
        """Return what was seen last."""
        ...

    def remember(self, seen: Seen) -> None:
        """Make what was seen durable."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep others from moving it meanwhile."""
        ...


class BrowserWallet:
    """A :class:`strongroom.client.wallet.Wallet` of somebody who sits before a browser."""

    def __init__(self, person: PersonId, keys: SecurityKeys, genesis: Genesis, memory: Memory) -> None:
        self.identity = Identity(person=person, key=keys.keys[0].key, publishing_key=None, genesis=genesis.digest)
        self._genesis = genesis
        self._memory = memory

    def genesis(self) -> Genesis:
        """Return the genesis that the console was started with."""
        return self._genesis

    def signer(self) -> Signer:
        """Refuse: the key is in the person's hand."""
        _elsewhere()

    def publishing_signer(self) -> Signer:
        """Refuse: a browser publishes nothing."""
        _elsewhere()

    def seen(self) -> Seen:
        """Return what the console saw last."""
        return self._memory.seen()

    def remember(self, seen: Seen) -> None:
        """Make what was seen durable."""
        self._memory.remember(seen)

    def keep(self, _name: str, _secret: SecretBytes, _about: bytes) -> None:
        """Refuse: the console keeps no secret."""
        _elsewhere()

    def kept(self, _name: str) -> tuple[bytes, SecretBytes] | None:
        """Refuse: the console keeps no secret."""
        _elsewhere()

    def forget(self, _name: str) -> None:
        """Refuse: the console keeps no secret."""
        _elsewhere()

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep the console's other visitors from moving what was seen."""
        return self._memory.exclusive()


def _elsewhere() -> NoReturn:
    raise WalletError("the console holds no keys", remedy="use the command line with a wallet")
