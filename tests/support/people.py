"""The directory of people in the test's own process: real applications, database and keys, a keeper that counts.

The keeper's side is two functions: which people there are, and what was suspended, in order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from strongroom.broker.gate import App
from strongroom.broker.people.adapters.files import TokenFile
from strongroom.broker.people.wiring import PeopleApps, open_apps
from strongroom.core.errors import NotFoundError, UnavailableError
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import SuspensionCause
from support.clocks import FixedClock

NOW: Final = 1_790_000_000
USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
PERSON: Final = "urn:ietf:params:scim:schemas:extension:strongroom:2.0:Person"
PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ISSUER: Final = "https://idp.example"
AUDIENCE: Final = "https://strongroom.example/ssf"
CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
SET_TYPE: Final = "application/secevent+jwt"
EC: Final = ECKey.generate_key("P-256", {"kid": "ec"})
RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa"})


@dataclass
class Answer:
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Lab:
    """A home with a SCIM token and one pinned sender of events, and who is in the roster."""

    home: Path
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    people: set[str] = field(default_factory=lambda: {"dana", "sam", "rina"})
    remembered: set[str] = field(default_factory=set)
    """People whom only the keeper's log knows."""
    suspended: list[tuple[str, str]] = field(default_factory=list)
    keeper_up: bool = True
    roster_shown: bool = True
    """False: the store hides the roster in force."""
    before_suspend: Callable[[], None] = lambda: None
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    token: str = ""
    apps: PeopleApps = field(default_factory=lambda: PeopleApps(mounts={}, close=lambda: None))

    @property
    def folder(self) -> Path:
        return self.home / "broker"

    @property
    def database(self) -> Path:
        return self.folder / "directory.db"

    def set_up(self, *, members_group: str | None = None, transmitter: str = "") -> None:
        """Write the files that an operator writes, and open the applications."""
        self.folder.mkdir(parents=True)
        tokens = TokenFile(self.folder)

        def add(known: Any) -> Any:
            changed, self.token = known.adding("provider", b"t" * 32, at=NOW, expires=None)
            return changed

        tokens.change(add)
        if members_group:
            (self.folder / "scim.toml").write_text(f"members_group = {json.dumps(members_group)}\n")
        keys = {"keys": [key.as_dict(private=False) for key in (EC, RSA)]}
        (self.folder / "idp.jwks.json").write_text(json.dumps(keys))
        (self.folder / "ssf.toml").write_text(
            f'audience = "{AUDIENCE}"\n[[transmitter]]\nissuer = "{ISSUER}"\njwks = "idp.jwks.json"\n{transmitter}'
        )
        self.open()

    def open(self) -> None:
        """Open the applications, as a broker that starts does."""
        self.apps.close()
        self.apps = open_apps(self.home, knows=self.knows, suspend=self.suspend, clock=self.clock)

    async def knows(self, person: PersonId) -> bool:
        self._require_keeper()
        if not self.roster_shown:
            raise UnavailableError("the roster in force isn't stored")
        return person in self.people

    async def suspend(self, person: PersonId, cause: SuspensionCause) -> None:
        self.before_suspend()
        self._require_keeper()
        if person not in self.people | self.remembered:
            raise NotFoundError("nobody")
        self.suspended.append((person, cause.value))

    def _require_keeper(self) -> None:
        if not self.keeper_up:
            raise UnavailableError("the keeper doesn't answer")

    # --- calling ------------------------------------------------------------------------------------------------------

    def scim(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Call the SCIM server."""
        return self.runner.run(self.scim_async(method, path, body, **headers))

    async def scim_async(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        told = {"authorization": f"Bearer {self.token}", "content-type": "application/scim+json"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return await call(self.apps.mounts["/scim/v2"], method, f"/scim/v2{path}", data, told)

    def event(self, token: bytes, *, kind: str = SET_TYPE) -> Answer:
        """Push a security event token."""
        return self.runner.run(call(self.apps.mounts["/ssf"], "POST", "/ssf/events", token, {"content-type": kind}))

    # --- what providers send ------------------------------------------------------------------------------------------

    def user(self, name: str, **more: Any) -> str:
        """Create a user; returns its id."""
        answer = self.scim("POST", "/Users", {"schemas": [USER], "userName": name, **more})
        assert answer.status == 201, answer.body
        found = answer.json["id"]
        assert isinstance(found, str)
        return found

    def patch(self, path: str, *operations: Mapping[str, Any], **headers: str) -> Answer:
        """Send a PATCH."""
        return self.scim("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)}, **headers)

    def deactivate(self, user: str) -> Answer:
        """Set a user inactive."""
        return self.patch(f"/Users/{user}", {"op": "replace", "path": "active", "value": False})


def claims(event: str, body: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a token's claims."""
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": NOW,
        "jti": "one",
        "sub_id": {"format": "email", "email": "dana@example.org"},
        "events": {event: dict(body or {})},
        **more,
    }


def signed(body: Mapping[str, Any], *, key: ECKey | RSAKey = EC, alg: str = "ES256", **header: Any) -> bytes:
    """Sign claims as a transmitter does."""
    told = {"alg": alg, "kid": key.kid, "typ": "secevent+jwt", **header}
    data = json.dumps(body).encode()
    return jws.serialize_compact(told, data, key, registry=jws.JWSRegistry(algorithms=[alg])).encode()


async def call(app: App, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Call an application as a server does."""
    url, _, query = path.partition("?")
    told = {"host": "127.0.0.1:8444", **headers}
    scope = {
        "type": "http",
        "method": method,
        "scheme": "https",
        "path": url,
        "root_path": "/".join(url.split("/")[: 3 if url.startswith("/scim") else 2]),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in told.items()],
        "client": ("127.0.0.1", 1),
        "state": {},
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    heads = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], heads, b"".join(message.get("body", b"") for message in sent[1:]))


@contextmanager
def lab(home: Path, **settings: Any) -> Iterator[Lab]:
    """Open a lab, and close it."""
    made = Lab(home)
    try:
        made.set_up(**settings)
        yield made
    finally:
        made.apps.close()
        made.runner.close()
