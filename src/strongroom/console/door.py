"""Who is signed in. A session is a random token in a cookie; here only its digest is kept, and what it opens.

A new token is made when somebody signs in, so one that was planted before opens nothing. It ends with the broker's
certificate, after a time without a visit, with a sign-out, or when another client shows it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from strongroom.client.login import ProviderTold
from strongroom.client.service import Session
from strongroom.client.wallet import SecurityKeys
from strongroom.console.errors import NoPageError, SignInFailedError
from strongroom.core.buckets import share_of
from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.personnel.login import Login

SESSION_COOKIE: Final = "__Host-strongroom"
PENDING_COOKIE: Final = "__Host-strongroom-sign-in"
TOKEN_BYTES: Final = 32
IDLE_SECONDS: Final = 15 * 60
PENDING_SECONDS: Final = 5 * 60
MAX_SESSIONS: Final = 512
MAX_PENDING: Final = 512
MAX_PENDING_OF_ADDRESS: Final = 64
"""So many open sign-ins from one address: a flood from there ends its own, and nobody else's."""
MAX_SESSIONS_OF_PERSON: Final = 8
"""Whoever signs in once more ends the oldest of their own, and nobody else's."""
MAX_DRAFTS: Final = 8
RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Which browser it is, as far as a server can tell: what of it a thief's differs in ends the session."""

    address: str
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A way to the identity provider and back: what the answer must fit."""

    provider: ProviderTold
    address: str
    verifier: str
    """RFC 7636."""
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A sign-in that waits for the provider or the person's key. ``keys`` is None for somebody whom nobody knows."""

    genesis: Digest
    person: PersonId
    challenge: bytes
    keys: SecurityKeys | None
    session_key: bytes
    """The private half of the broker's session, PEM; made here, good for hours, in memory only."""
    request: bytes
    """PKCS#10, DER."""
    client: Client
    until: Instant
    errand: Errand | None
    id_token: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the person's key is all that is missing."""
        return self.errand is None or self.id_token is not None

    @property
    def login(self) -> Login:
        """What the person's key signs."""
        return Login(
            genesis=self.genesis,
            person=self.person,
            challenge=self.challenge,
            certificate_request=Digest.of(self.request),
            id_token=None if self.id_token is None else Digest.of(self.id_token.encode()),
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody is about to sign: its type, and its bytes, whatever they are."""

    payload_type: str
    payload: bytes


@dataclass(slots=True, kw_only=True)
class SignedIn:
    """A session: whose, what it calls the broker with, and what the person is about to sign."""

    person: PersonId
    keys: SecurityKeys
    session: Session
    close: Callable[[], None]
    client: Client
    until: Instant
    form_secret: bytes
    seen: Instant
    drafts: OrderedDict[str, Draft] = field(default_factory=OrderedDict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One visit at a time moves what the session knows of the log. Others wait outside of any thread: a person whose
    visits the broker answers slowly takes one thread and no more from everybody else. All of
    their sessions have the same turn."""

    def put_draft(self, draft: Draft) -> str:
        """Keep what is about to be signed, and return its name, its digest in hex; the oldest gives way."""
        name = Digest.of(draft.payload).value.hex()
        self.drafts[name] = draft
        self.drafts.move_to_end(name)
        while len(self.drafts) > MAX_DRAFTS:
            self.drafts.popitem(last=False)
        return name

    def draft(self, name: str, payload_type: str) -> bytes:
        """Return the bytes of a draft of this type that waits here for its signature.

        :raises NoPageError: none does.
        """
        found = self.drafts.get(name)
        if found is None or found.payload_type != payload_type:
            raise NoPageError("nothing waits here for your signature", remedy="make it anew")
        return found.payload


class Door:
    """The sessions and the open sign-ins, in memory: a restart signs everybody out."""

    def __init__(self, clock: Clock, random_bytes: RandomBytes) -> None:
        self._clock = clock
        self._random = random_bytes
        self._pending: OrderedDict[bytes, Pending] = OrderedDict()
        self._inside: OrderedDict[bytes, SignedIn] = OrderedDict()

    def begin(self, pending: Pending) -> str:
        """Keep an open sign-in; returns its token."""
        now, share = self._clock.now(), share_of(pending.client.address)
        for name in [name for name, one in self._pending.items() if now >= one.until]:
            del self._pending[name]
        same = [name for name, one in self._pending.items() if share_of(one.client.address) == share]
        for name in same[: max(0, len(same) + 1 - MAX_PENDING_OF_ADDRESS)]:
            del self._pending[name]
        token = self._token()
        self._pending[_name(token)] = pending
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
        return token

    def pending(self, token: str, client: Client) -> Pending:
        """Return an open sign-in.

        :raises SignInFailedError: there is none, it is too old, or another client began it.
        """
        found = self._pending.get(_name(token))
        if found is None or found.client != client or self._clock.now() >= found.until:
            raise SignInFailedError("no sign-in is open here", remedy="begin again")
        return found

    def go_on(self, token: str, pending: Pending) -> None:
        """Put a sign-in that got further in its own place.

        :raises SignInFailedError: it was answered, or gave way, meanwhile.
        """
        if _name(token) not in self._pending:
            raise SignInFailedError("no sign-in is open here", remedy="begin again")
        self._pending[_name(token)] = pending

    def take(self, token: str, client: Client) -> Pending:
        """Return an open sign-in and end it: it is answered once."""
        found = self.pending(token, client)
        del self._pending[_name(token)]
        return found

    def enter(self, signed_in: SignedIn) -> str:
        """Let somebody in; returns the token of the new session."""
        for name in [name for name, one in self._inside.items() if self._over(one)]:
            self._inside.pop(name).close()
        same = [name for name, one in self._inside.items() if one.person == signed_in.person]
        for name in same[: max(0, len(same) + 1 - MAX_SESSIONS_OF_PERSON)]:
            self._inside.pop(name).close()
        if same and same[-1] in self._inside:
            signed_in.turn = self._inside[same[-1]].turn
        token = self._token()
        self._inside[_name(token)] = signed_in
        while len(self._inside) > MAX_SESSIONS:
            self._inside.popitem(last=False)[1].close()
        return token

    def find(self, token: str, client: Client) -> SignedIn | None:
        """Return whose session it is, or None: there is none, it is over, or another client shows its token."""
        found = self._inside.get(_name(token))
        if found is None:
            return None
        if self._over(found) or found.client != client:
            self.leave(token)
            return None
        # A clock that was set back gives nobody more time without a visit.
        found.seen = min(found.seen, self._clock.now())
        return found

    def visited(self, signed_in: SignedIn) -> None:
        """Let the time without a visit begin anew."""
        signed_in.seen = self._clock.now()

    def leave(self, token: str) -> None:
        """End a session."""
        found = self._inside.pop(_name(token), None)
        if found is not None:
            found.close()

    def close(self) -> None:
        """End all of them."""
        while self._inside:
            self._inside.popitem()[1].close()

    def _over(self, one: SignedIn) -> bool:
        now = self._clock.now()
        return now >= one.until or now >= one.seen + IDLE_SECONDS

    def _token(self) -> str:
        return base64.urlsafe_b64encode(self._random(TOKEN_BYTES)).rstrip(b"=").decode()


def _name(token: str) -> bytes:
    # A digest: looking it up takes no time that depends on how much of a guess is right.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
