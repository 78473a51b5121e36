"""A real console before a real deployment, people with security keys, and what a browser says without a browser."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.oidc_provider import OidcProvider
from simulators.security_key import Maker, SoftwareSecurityKey
from strongroom.access.policy import ModelTerms
from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.wallet import SecurityKeys
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, pae, sign
from strongroom.core.ids import PersonId
from strongroom.core.webauthn import Assertion
from strongroom.personnel.enrolment import ENROLMENT_TYPE
from strongroom.personnel.roster import ROSTER_TYPE, Person
from strongroom.personnel.vetting import OFFICER
from support.deployment import ROOTS, signer
from support.forked import Forked, Process, first_said, reap
from support.occupied import Occupied, occupied
from support.security_keys import Parts, Ports, allowed

RP_ID = "localhost"
NAMES = ("dana", "sam", "rina")
"""Who has security keys. All but dana, and `both`, are vetting officers."""
OFFICERS = ("sam", "rina", "both")


@dataclass
class Holder:
    """Somebody's two security keys, of which the first one is at hand."""

    keys: SecurityKeys
    private: ec.EllipticCurvePrivateKey
    counter: int = 10

    @property
    def credential(self) -> bytes:
        """The name of the credential that is at hand."""
        return self.keys.keys[0].credential_id

    def sign(self, message: bytes, origin: str) -> Assertion:
        """Sign as the key does in a browser that shows ``origin``."""
        self.counter += 1
        made = Parts(self.private, rp_id=RP_ID, origin=origin, counter=self.counter).sign(message)
        return Assertion.parse(made)


def enrol(lab: Occupied) -> dict[str, Holder]:
    """Have everybody's keys enrolled before two officers, and listed by the root quorum."""
    holders: dict[str, Holder] = {}
    enrolled: list[Envelope] = []
    genesis = lab.deployment.genesis.digest
    for name in NAMES:
        with pytest.MonkeyPatch.context() as patch:
            devices = {number: SoftwareSecurityKey(algorithms=(-7,)) for number in ("first", "second")}
            ports = Ports(patch, devices)
            made, keys = ports.enrol(person=PersonId(name), genesis=genesis, rp_id=RP_ID)
        private = devices["first"].credentials[keys.keys[0].credential_id][1]
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        holders[name] = Holder(keys, private)
        signers = [signer(one) for one in OFFICERS if one != name][:2]
        payload = replace(made, at=int(time.time())).to_bytes()
        enrolled.append(sign(ENROLMENT_TYPE, payload, *signers))
    officers = {name: frozenset({OFFICER}) for name in OFFICERS}
    next_roster(lab, lambda one: replace(one, roles=one.roles | officers.get(one.id, frozenset())))
    for envelope in enrolled:
        lab.post("statements/enrolment", {"envelope": envelope.to_json()}, by="root-1")
    listed = {name: tuple(one.key for one in holder.keys.keys) for name, holder in holders.items()}
    next_roster(lab, lambda one: replace(one, keys=(*one.keys, *listed.get(one.id, ()))))
    return holders


def next_roster(lab: Occupied, change: Callable[[Person], Person], *more: Person) -> None:
    """Have the next roster adopted through the broker: everybody changed, and the security keys' maker allowed.

    ``more`` are people whom it lists first.
    """
    before = lab.deployment.roster
    roster = replace(
        before,
        epoch=before.epoch + 1,
        predecessor=Digest.of(before.to_bytes()),
        people=(*(change(one) for one in before.people), *more),
        authenticators=allowed(Maker()),
    )
    lab.post("documents/roster", {"envelope": sign(ROSTER_TYPE, roster.to_bytes(), *ROOTS[:2]).to_json()}, by="root-0")
    lab.deployment.roster = roster


class _Reading(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "form":
            self.forms.append({"told": told, "fields": {}})
        elif self.forms and told.get("name") and tag in {"input", "select"}:
            self.forms[-1]["fields"][told["name"]] = told.get("value") or ""


@dataclass
class Seen:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    cookies: list[str]
    text: str
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def forms(self) -> dict[str, dict[str, Any]]:
        """Return the page's forms by where they post to."""
        reading = _Reading()
        reading.feed(self.text)
        return {str(one["told"]["action"]): one for one in reading.forms}


@dataclass
class Visitor:
    """Somebody's browser, as far as a server can tell."""

    console: RunningConsole
    name: str = "dana"
    cookies: dict[str, str] = field(default_factory=dict)
    agent: str = "a browser"

    def call(
        self, method: str, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Seen:
        """Call, again as long as this is too often; cookies are kept."""
        answer = self.once(method, path, form, headers)
        while answer.status == 429:
            time.sleep(0.5)
            answer = self.once(method, path, form, headers)
        return answer

    def once(
        self, method: str, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Seen:
        """Call once; cookies are kept."""
        connection = http.client.HTTPSConnection(
            "localhost", self.console.port, context=self.console.context, timeout=30
        )
        told = {"User-Agent": self.agent}
        if self.cookies:
            told["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if form is not None:
            told |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.console.origin}
            told["Sec-Fetch-Site"] = "same-origin"
        body = None if form is None else urlencode(form)
        try:
            connection.request(method, path, body=body, headers=told | dict(headers or {}))
            got = connection.getresponse()
            data = got.read()
            text = data.decode(errors="replace")
        finally:
            connection.close()
        sent = got.headers.get_all("set-cookie") or []
        for line in sent:
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return Seen(got.status, {name.lower(): value for name, value in got.getheaders()}, sent, text, data)

    def get(self, path: str) -> Seen:
        """Load a page."""
        return self.call("GET", path)

    def follow(self, answer: Seen) -> Seen:
        """Go where an act sends the browser."""
        assert answer.status == 303, answer.text
        return self.get(answer.headers["location"])

    def signed(self, form: dict[str, Any], *, by: str | None = None, origin: str = "") -> dict[str, str]:
        """Return a form's fields with the signature in them that its page asks for, or a page of ``origin``."""
        told, name = form["told"], by or self.name
        message = pae(told["data-type"], from_base64(told["data-payload"]))
        holder = self.console.holders[name]
        made = holder.sign(message, origin or self.console.origin)
        fields: dict[str, str] = form["fields"]
        return fields | {
            "credential": to_base64(holder.credential),
            "authenticator_data": to_base64(made.authenticator_data),
            "client_data": to_base64(made.client_data),
            "signature": to_base64(made.signature),
        }

    def post(self, page: Seen, address: str, **fields: str) -> Seen:
        """Send a form of a page, signed where it asks for that."""
        form = page.forms()[address]
        whole = self.signed(form) if "data-sign" in form["told"] else form["fields"]
        return self.call("POST", address, whole | fields)

    def sign_in(self, *, wanted: str = "/today") -> Seen:
        """Come in; returns the page."""
        begun = self.call("POST", "/sign-in", {"person": self.name, "next": wanted})
        return self.follow(self.post(self.follow(begun), "/sign-in/key"))


@dataclass
class RunningConsole:
    """A deployment, and the console's process before it."""

    occupied: Occupied
    folder: Path
    port: int
    context: ssl.SSLContext
    process: Process
    holders: dict[str, Holder]

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}"

    def visitor(self, name: str = "dana") -> Visitor:
        """Return somebody who isn't signed in."""
        return Visitor(self, name)

    def inside(self, name: str = "dana") -> Visitor:
        """Return somebody who is signed in."""
        visitor = self.visitor(name)
        visitor.sign_in()
        return visitor


def free_port() -> int:
    """Return a port that nothing listened on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def run(*arguments: str) -> None:
    """Run a command in this process."""
    main([*arguments], standalone_mode=False)


@contextmanager
def console(
    folder: Path,
    provider: OidcProvider | None = None,
    *,
    models: Sequence[ModelTerms] = (),
    keeper_module: str = "strongroom.keeper.wiring",
    desk: Path | None = None,
) -> Iterator[RunningConsole]:
    """Run a deployment of which three people have security keys, perhaps with an identity provider, and a console."""
    port = free_port()
    with occupied(folder / "home", keeper_module=keeper_module, also=models) as lab:
        holders = enrol(lab)
        lab.running.stop()
        settings = "required = false\n"
        if provider is not None:
            settings = f'issuer = "{provider.issuer}"\nclient_id = "strongroom"\n'
            settings += f'authority_file = "{provider.authority_file}"\n'
        (lab.deployment.home / "broker" / "oidc.toml").write_text(settings)
        lab.running.start(identity=True)
        lab._callers.clear()
        place = folder / "console"
        run("console", "prepare", "--folder", str(place), "--home", str(lab.deployment.home))
        for name, holder in holders.items():
            WalletFolder.create_of_security_keys(folder / f"{name}-wallet", PersonId(name), holder.keys)
        run("console", "admit", "--folder", str(place), *(str(folder / f"{name}-wallet") for name in NAMES))
        more = [] if desk is None else ["--responder", str(desk)]
        if provider is not None:
            more += ["--issuer", provider.issuer, "--issuer-ca", str(provider.authority_file)]
        with served(lab, place, holders, port, *more) as live:
            yield live


@contextmanager
def served(lab: Occupied, place: Path, holders: dict[str, Holder], port: int, *more: str) -> Iterator[RunningConsole]:
    """Run the console whose folder ``place`` is before a deployment that runs; ``more``: options of its command."""
    command = ["console", "serve", "--folder", str(place), *more]
    command += ["--origin", f"https://localhost:{port}"]
    for option in ("assessments", "quarantine"):
        (place / option).mkdir(exist_ok=True)
        command += [f"--{option}", str(place / option)]
    for option, number in {"--url": lab.running.port, "--identity-url": lab.running.identity_port}.items():
        command += [option, f"https://127.0.0.1:{number}"]
    errors = place.parent / "console.err"
    with errors.open("ab") as to:
        process = Forked("strongroom.cli.main", command, stderr=to.fileno())
    try:
        first_said(process, errors)
        context = ssl.create_default_context(cadata=(place / "broker-ca.crt").read_text())
        yield RunningConsole(lab, place, port, context, process, holders)
    finally:
        process.terminate()
        reap(process)


def random_token() -> str:
    """Return something of a session token's form."""
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
