"""A person's login against a desk in this process: everything is real but the network."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.broker.login import Attempt, Challenges, LoginDesk, VerifyToken
from strongroom.broker.login_settings import LoginSettings, Provider
from strongroom.client.adapters.session_files import new_session
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.signature import Ed25519Signer, Signer
from strongroom.personnel.login import LOGIN_TYPE, Login
from strongroom.personnel.roster import Person
from support.clocks import FixedClock

T = TypeVar("T")
AT = 1_795_471_717
DANA = Ed25519Signer.from_seed(b"d" * 32)
SAM = Ed25519Signer.from_seed(b"s" * 32)
PROVIDER = Provider(issuer="https://login.example", client_id="strongroom")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run what never has to wait, without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # a generator's value has no type
    raise AssertionError("it waited for something")


def listed(name: str, signer: Signer, *, active: bool = True) -> Person:
    """Return a person of a roster."""
    return Person(
        id=PersonId(name), org="research", active=active, roles=frozenset({"requester"}), keys=(signer.public_key,)
    )


def claims_of(person: str) -> VerifyToken:
    """Return what finds every ID token good, and a person's."""

    async def verify(_token: str, _nonce: str, _now: Instant) -> Mapping[str, Json]:
        return {"preferred_username": person}

    return verify


@dataclass
class Desk:
    """A desk, the people whom it knows, and a client."""

    folder: Path
    genesis: Genesis
    provider: Provider | None = None
    verify_token: VerifyToken | None = None
    session: int = 3600
    clock: FixedClock = field(default_factory=lambda: FixedClock(AT))
    suspended: set[str] = field(default_factory=set)
    random: int = 0

    def __post_init__(self) -> None:
        self.people = {"dana": listed("dana", DANA), "sam": listed("sam", SAM)}
        self.authority = DevCa.create(self.folder, self.genesis.deployment, at=AT)
        self.desk = LoginDesk(
            genesis=self.genesis,
            settings=LoginSettings(provider=self.provider, session=self.session),
            person=self._person,
            suspended=lambda person: person in self.suspended,
            verify_token=self.verify_token,
            certify=self._certify,
            challenges=Challenges(b"k" * 32),
            random_bytes=self._random,
            clock=self.clock,
        )

    async def _person(self, wanted: PersonId) -> Person | None:
        return self.people.get(wanted)

    def _certify(self, person: PersonId, key: ec.EllipticCurvePublicKey, at: Instant, life: timedelta) -> bytes:
        return self.authority.certify_person(person, key, at=at, life=life)

    def _random(self, count: int) -> bytes:
        self.random += 1
        return self.random.to_bytes(count, "big")

    def challenge(self) -> bytes:
        return from_base64(str(self.desk.challenge()["challenge"]))

    def statement(self, request: bytes, token: str | None = None, *, person: str = "dana") -> Login:
        return Login(
            genesis=self.genesis.digest,
            person=PersonId(person),
            challenge=self.challenge(),
            certificate_request=Digest.of(request),
            id_token=None if token is None else Digest.of(token.encode()),
        )

    def admit(self, login: Envelope, request: bytes, token: str | None = None) -> bytes:
        attempt = Attempt(login=login, certificate_request=request, id_token=token)
        return from_base64(str(finish(self.desk.admit(attempt))["certificate"]))

    def open(self, token: str | None = None, *, person: str = "dana", signer: Signer = DANA) -> bytes:
        """Log in as a client does; returns the certificate (PEM)."""
        request = new_session(person).request
        login = sign(LOGIN_TYPE, self.statement(request, token, person=person).to_bytes(), signer)
        return self.admit(login, request, token)
