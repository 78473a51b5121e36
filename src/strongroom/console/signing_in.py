"""How somebody comes in: their own security key signs the deployment's login, as it does on the command line.

What comes back is a certificate for a key that was made here and lives in memory for some hours: it opens the door of
the broker as that person, and grants nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from strongroom.client.api import BrokerApi, Transport
from strongroom.client.login import LoginApi, ProviderTold, check_certificate
from strongroom.client.service import Session
from strongroom.client.trust import StateMismatchError
from strongroom.client.wallet import MAX_SECURITY_KEYS, SecurityKeys
from strongroom.console.browser_wallet import BrowserWallet, Memory, read_assertion
from strongroom.console.door import PENDING_SECONDS, TOKEN_BYTES, Client, Errand, Pending, RandomBytes, SignedIn
from strongroom.console.errors import FormError, SignInFailedError
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.personnel.login import LOGIN_TYPE, nonce_of


class Broker(Protocol):
    """The deployment, as the console reaches it."""

    def login(self) -> AbstractContextManager[LoginApi]:
        """Open the routes of a login."""
        ...

    def new_session(self, person: PersonId) -> tuple[bytes, bytes]:
        """Make a session key (PEM) and the certificate request by it (DER)."""
        ...

    def connect(self, key: bytes, certificate: bytes) -> tuple[Transport, Callable[[], None]]:
        """Connect with a session's key and certificate; returns what calls, and what ends it."""
        ...


class Provider(Protocol):
    """The identity provider, if this console knows one. All raise LoginFailedError when it refuses."""

    def address(self, told: ProviderTold, nonce: str, *, verifier: str, state: str) -> str:
        """Return where the person logs in."""
        ...

    def redeem(self, told: ProviderTold, query: str, *, verifier: str, state: str) -> str:
        """Return the ID token for the query that the person's browser came back with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """Everything that a sign-in takes."""

    genesis: Genesis
    authority: bytes
    """The certificate authority of the broker (PEM)."""
    origin: str
    """This console's."""
    rp_id: str
    """Whose relying party the security keys of this console's people are."""
    keys: Mapping[PersonId, SecurityKeys]
    broker: Broker
    provider: Provider
    memory: Memory
    clock: Clock
    random_bytes: RandomBytes
    secret: bytes
    """Makes names of credentials that don't exist, the same ones each time, after a restart too: what stays would be
    somebody's."""

    def begin(self, person: PersonId, client: Client) -> Pending:
        """Ask the deployment for a challenge, and lay out what the person's key is to sign.

        Somebody unknown is asked too, for a key that nobody has: a stranger doesn't learn here who is who.

        :raises StateMismatchError: the broker is another deployment's.
        :raises LoginFailedError: the identity provider that it names isn't the one that this console knows.
        """
        with self.broker.login() as api:
            terms = api.terms()
            if terms.genesis != self.genesis.digest:
                raise StateMismatchError("the broker opens sessions of another deployment")
            challenge = api.challenge()
        key, request = self.broker.new_session(person)
        return Pending(
            genesis=self.genesis.digest,
            person=person,
            challenge=challenge,
            keys=self.keys.get(person),
            session_key=key,
            request=request,
            client=client,
            until=self.clock.now() + PENDING_SECONDS,
            errand=None if terms.provider is None else self._errand(terms.provider, challenge),
        )

    def _errand(self, told: ProviderTold, challenge: bytes) -> Errand:
        verifier, state = (urlsafe_b64encode(self.random_bytes(48)).decode() for _ in range(2))
        address = self.provider.address(told, nonce_of(challenge), verifier=verifier, state=state)
        return Errand(provider=told, address=address, verifier=verifier, state=state)

    def came_back(self, pending: Pending, query: str) -> Pending:
        """Take what the person's browser brings from the provider.

        :raises LoginFailedError: it is the answer to another sign-in, or a refusal.
        """
        errand = pending.errand
        if errand is None or pending.id_token is not None:
            raise SignInFailedError("no answer of a provider is awaited", remedy="begin again")
        token = self.provider.redeem(errand.provider, query, verifier=errand.verifier, state=errand.state)
        return replace(pending, id_token=token)

    def to_sign(self, pending: Pending) -> dict[str, Json]:
        """Return what the browser signs, in the form that the console's script reads."""
        known = [] if pending.keys is None else [one.credential_id for one in pending.keys.keys]
        credentials = [*known, *self._nobodys(pending.person)][:MAX_SECURITY_KEYS]
        return to_sign(LOGIN_TYPE, pending.login.to_bytes(), self.rp_id, sorted(credentials))

    def _nobodys(self, person: PersonId) -> list[bytes]:
        """Return names of credentials that nobody has, in the length that is most common here, the same each time."""
        lengths = Counter(len(one.credential_id) for known in self.keys.values() for one in known.keys)
        (length, _count), *_rest = lengths.most_common(1)
        label = b"%s %d"
        made = (
            hmac.new(self.secret, label % (person.encode(), number), hashlib.sha512)
            for number in range(MAX_SECURITY_KEYS)
        )
        return [(one.digest() * (1 + length // 64))[:length] for one in made]

    def enter(self, pending: Pending, form: Mapping[str, str]) -> SignedIn:
        """Let the person in whose key signed.

        :raises SignInFailedError: it isn't one of theirs, or signed something else.
        :raises StrongroomError: what the deployment refused with.
        """
        now = self.clock.now()
        envelope = self._signed(pending, form)
        if pending.keys is None or not pending.ready:
            raise SignInFailedError("no sign-in is open here", remedy="begin again")
        with self.broker.login() as api:
            certificate = api.certificate(envelope, pending.request, pending.id_token)
        until = check_certificate(
            certificate, request=pending.request, authority=self.authority, person=pending.person, now=now
        )
        transport, close = self.broker.connect(pending.session_key, certificate)
        wallet = BrowserWallet(pending.person, pending.keys, self.genesis, self.memory)
        return SignedIn(
            person=pending.person,
            keys=pending.keys,
            session=Session(BrokerApi(transport), wallet, self.clock),
            close=close,
            client=pending.client,
            until=until,
            form_secret=self.random_bytes(TOKEN_BYTES),
            seen=now,
        )

    def _signed(self, pending: Pending, form: Mapping[str, str]) -> Envelope:
        try:
            return sign(LOGIN_TYPE, pending.login.to_bytes(), read_assertion(form, pending.keys, self.origin))
        except FormError:
            raise
        except StrongroomError:
            # One answer to a made-up signature, whether the credential exists or not: else a stranger tries each that
            # the page named, and learns which are somebody's.
            raise SignInFailedError("that isn't a signature by one of this person's security keys") from None


def to_sign(payload_type: str, payload: bytes, rp_id: str, credentials: list[bytes]) -> dict[str, Json]:
    """Return what a form says of the signature that it needs: the bytes, never their digest (HK-20)."""
    return {
        "type": payload_type,
        "payload": to_base64(payload),
        "text": payload.decode(),
        "rp_id": rp_id,
        "credentials": [to_base64(one) for one in credentials],
    }
