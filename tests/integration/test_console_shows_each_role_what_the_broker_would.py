"""Every address of the console with every role: nobody sees there what the deployment itself wouldn't tell them.

Handlers are run as the application runs them, each person before a real broker with their own certificate. What the
console was given beside the broker is a wire that trips: whoever may not see it must not get so far as to ask.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.client.api import BrokerApi
from strongroom.client.problems import problem_error
from strongroom.client.service import Session
from strongroom.client.wallet import Seen
from strongroom.console.beside import Beside
from strongroom.console.log_reader import LogReader
from strongroom.console.rendering import Renderer, twin
from strongroom.console.routes import ACTS, FILES, PAGES
from strongroom.console.visits import Page, Visit
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PersonId
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import AUDITOR, Person
from strongroom.personnel.vetting import OFFICER
from strongroom.response.wiring import shipped_playbooks
from support.brokers import Caller
from support.consoles import next_roster
from support.deployment import MODEL, person, signer
from support.occupied import Occupied, occupied

pytestmark = pytest.mark.integration

REQUESTER, APPROVER, AUDITS, VETS = "dana", "sam", "audra", "vera"
SUSPENDED, LEAVER, MACHINE = "susi", "lena", "host"
EVERYBODY = frozenset({REQUESTER, APPROVER, AUDITS, VETS})
OUTSIDE = frozenset({SUSPENDED, LEAVER, MACHINE})
RESPOND = frozenset({REQUESTER, APPROVER, AUDITS})
"""Responders, who agrees to a resume, and auditors."""
ASSESS = frozenset({REQUESTER, AUDITS})
"""Responders and auditors."""


@dataclass(frozen=True)
class Row:
    """Who is shown an address, and what of the console's it rests on: the broker, unless something beside it."""

    who: frozenset[str] = EVERYBODY
    beside: str = ""
    open: bool = False
    """It rests on the state and the log alone, which the broker shows to machines as well. None can sign in here."""


ROWS: dict[str, Row] = {
    "/today": Row(),
    "/models": Row(open=True),
    "/models/{model}": Row(),
    "/requests": Row(),
    "/requests/new": Row(open=True),
    "/requests/{digest}": Row(),
    "/drafts/{digest}": Row(frozenset()),
    "/people": Row(),
    "/attestation": Row(),
    "/audit": Row(open=True),
    "/audit/exposure": Row(open=True),
    "/audit/{index}": Row(open=True),
    "/incidents": Row(RESPOND, "incidents"),
    "/incidents/{incident}": Row(RESPOND, "incidents"),
    "/incidents/{incident}/words/{digest}": Row(RESPOND, "incidents"),
    "/incidents/{incident}/do/{kind}": Row(RESPOND, "incidents"),
    "/incidents/{incident}/acts/{digest}": Row(RESPOND, "incidents"),
    "/incidents/{incident}/export/{form}": Row(RESPOND, "incidents"),
    "/incidents/{incident}/kept/{name}": Row(RESPOND, "incidents"),
    "/drills": Row(RESPOND, "incidents"),
    "/drills/drafts/{digest}": Row(frozenset()),
    "/drills/tabletop/{playbook}": Row(RESPOND),
    "/assurance": Row(open=True),
    "/assurance/gaps": Row(ASSESS, "assessments"),
    "/assurance/measures/{category}": Row(ASSESS, "assessments"),
    "/assurance/attacks": Row(ASSESS, "assessments"),
    "/assurance/attested": Row(ASSESS, "assessments"),
    "/assurance/reports/{form}": Row(ASSESS, "assessments"),
    "/intake": Row(open=True),
    "/intake/{delivery}": Row(frozenset()),
    "/exposure-answers/{digest}": Row(frozenset()),
    "/intake-reviews/{digest}": Row(frozenset()),
}
"""Pages and files. What nobody is shown here is what isn't there: another's draft, an unknown delivery."""
FORMS: dict[str, Mapping[str, str]] = {
    "/requests/new": {
        "action": "freeze", "model": MODEL, "purpose": "incident-response", "ticket": "", "image": "", "platform": "",
        "precaution": "", "hours": "",
    },
    "/requests/{digest}/carry-out": {},
    "/drills/new": {"playbook": "insider"},
    "/drills/tabletop/{playbook}": {"pace": "10"},
}  # fmt: skip
"""Forms that take no signature. The others are signed, and judged by who signed."""

RENDERER = Renderer()


class Tripped(BaseException):
    """Somebody got as far as what stands beside the broker."""


class Wire:
    """Trips whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise Tripped(name)


@dataclass
class Calls:
    """A broker, as one person calls it."""

    caller: Caller

    def call(self, method: str, path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None) -> Json:
        got = self.caller.call(method, f"{path}?{urlencode(query)}" if query else path, body)
        while got.status == 429:
            time.sleep(0.5)
            got = self.caller.call(method, f"{path}?{urlencode(query)}" if query else path, body)
        if got.status != 200:
            raise problem_error(got.status, got.text.encode())
        return got.json


class Memory:
    """What the console saw: one for everybody."""

    def __init__(self) -> None:
        self.known = Seen()

    def seen(self) -> Seen:
        return self.known

    def remember(self, seen: Seen) -> None:
        self.known = seen


@dataclass
class House:
    """The deployment with people of every role, and the console's parts that all of them share."""

    lab: Occupied
    reader: LogReader
    memory: Memory
    params: dict[str, str]

    def visit(self, name: str, path: str, beside: Beside, form: Mapping[str, str]) -> Visit:
        genesis, memory = self.lab.deployment.genesis, self.memory
        wallet = SimpleNamespace(
            identity=SimpleNamespace(person=PersonId(name), key=signer(name).public_key, genesis=genesis.digest),
            genesis=lambda: genesis, seen=memory.seen, remember=memory.remember, exclusive=nullcontext,
        )  # fmt: skip
        api = BrokerApi(Calls(self.lab.caller(name, enclave=name == MACHINE)))
        keys = SimpleNamespace(
            keys=[
                SimpleNamespace(key=SimpleNamespace(credential=SimpleNamespace(rp_id="localhost")), credential_id=b"")
            ]
        )
        me = SimpleNamespace(
            person=PersonId(name), session=Session(api, cast("Any", wallet), SystemClock()), keys=keys, drafts={},
            until=int(time.time()) + 99, put_draft=lambda _made: "00" * 32, draft=_no_draft,
        )  # fmt: skip
        told = {one: value for one, value in self.params.items() if f"{{{one}}}" in path}
        return Visit(
            me=cast("Any", me), origin="https://console.example", path=told, form=form, now=int(time.time()),
            query={"model": MODEL} if path.startswith("/audit") else {}, random_bytes=bytes, beside=beside,
            reader=self.reader,
        )  # fmt: skip

    def outcome(self, name: str, path: str, handler: Any, beside: Beside, form: Mapping[str, str] | None = None) -> str:
        """Return what comes of a visit: ``shown``, ``refused``, or ``asked beside``."""
        visit = self.visit(name, path, beside, form or {})
        try:
            page = handler(visit)
            # As the application does: nothing is answered without what stands around it.
            chrome = visit.chrome()
            if isinstance(page, Page):
                _check_twin(page, chrome, visit.now)
        except StrongroomError:
            return "refused"
        except Tripped:
            return "asked beside"
        return "shown"


def _check_twin(page: Page, chrome: dict[str, Json], now: int) -> None:
    """Check that a page can be made of its twin alone: links to what comes next included, nothing of it is missing."""
    told = json.loads(twin(page, chrome))
    around = told.pop("around")
    again = RENDERER.page(Page(page.template, page.title, told), chrome=around, secret=b"s", now=now)
    assert again == RENDERER.page(page, chrome=chrome, secret=b"s", now=now), page.template


def _no_draft(*_names: str) -> Any:
    from strongroom.console.errors import NoPageError  # noqa: PLC0415 - beside what it stands for

    raise NoPageError("nothing waits here")


def _listed(name: str, *roles: str, active: bool = True) -> Person:
    return replace(
        person("sam"), id=PersonId(name), roles=frozenset(roles), keys=(signer(name).public_key,), active=active
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("roles")
    with occupied(folder / "home") as lab, closing(SqliteIndex(folder / "index")) as index:
        more = (
            _listed(AUDITS, AUDITOR), _listed(VETS, OFFICER), _listed(SUSPENDED, AUDITOR, "requester", "responder"),
            _listed(LEAVER, AUDITOR, "requester", "responder", active=False),
        )  # fmt: skip
        next_roster(lab, lambda one: one, *more)
        lab.deployment.call("suspend", person=SUSPENDED, cause="deactivated")
        lab.barred(SUSPENDED)
        asked = lab.ask_export(RecipientKey())
        params = {
            "model": str(MODEL), "digest": asked.digest.value.hex(), "index": "3", "incident": "inc-" + "0" * 32,
            "kind": "note", "category": "weight-security", "form": "csv", "delivery": "d1", "name": "0" * 64,
            "playbook": "insider",
        }  # fmt: skip
        made = House(lab, LogReader(index), Memory(), params)
        # Everything that is kept for everybody is there before anybody without a right comes.
        for path, handler in PAGES:
            made.outcome(REQUESTER, path, handler, Beside())
        yield made


def test_every_address_has_a_row() -> None:
    assert sorted(ROWS) == sorted(path for path, _handler in (*PAGES, *FILES))


@pytest.mark.parametrize("path", sorted(ROWS))
def test_a_page_is_shown_to_those_who_may_see_it_and_to_nobody_else(path: str, house: House) -> None:
    handler, row = dict((*PAGES, *FILES))[path], ROWS[path]
    wires: dict[str, Any] = {name: Wire() for name in ("incidents", "assessments", "deliveries")}
    books = shipped_playbooks()
    tripping, without = Beside(**wires, playbooks=books), Beside(playbooks=books)
    for name in sorted(EVERYBODY | OUTSIDE):
        if row.beside:
            reached = house.outcome(name, path, handler, tripping) == "asked beside"
            assert reached is (name in row.who), (name, path)
        elif name == VETS:
            # No role of theirs is shown anything from beside, on whichever page.
            assert house.outcome(name, path, handler, tripping) != "asked beside", path
        if name in OUTSIDE and not (row.open and name == MACHINE):
            for beside in (tripping, without):
                assert house.outcome(name, path, handler, beside) == "refused", (name, path)
        elif name in EVERYBODY and not row.beside:
            shown = house.outcome(name, path, handler, without) == "shown"
            assert shown is (name in row.who), (name, path)


@pytest.mark.parametrize("name", [LEAVER, SUSPENDED])
def test_who_left_or_is_suspended_does_nothing(name: str, house: House) -> None:
    before = house.lab.head().size
    for path, handler in ACTS:
        assert house.outcome(name, path, handler, Beside(), FORMS.get(path)) == "refused", path
    assert house.lab.head().size == before
