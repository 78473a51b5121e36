"""A console with a real responder beside it, whose incidents it shows."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from strongroom.cli.main import main
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import NotFoundError
from strongroom.ipc.adapters.server import UnixServer
from strongroom.ipc.frames import Call
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.responder.desk import PAGE, PART, row
from strongroom.response.entries import IncidentEntry
from strongroom.response.exposure import answer_name
from strongroom.response.run import Run
from support.consoles import RunningConsole, Seen, Visitor, console
from support.deployment import ROOTS
from support.responders import WARDEN, ResponderLab, warden
from support.responses import Record


@dataclass
class Watched:
    """A console, and the responder beside it."""

    live: RunningConsole
    responder: ResponderLab

    @property
    def desk(self) -> Path:
        return self.responder.state / "desk.sock"

    def start(self) -> None:
        """Start the responder; its own user may speak to it."""
        self.responder.start(response={"v": 1, "receivers": [], "platforms": {}, "users": [os.geteuid()]})

    @contextmanager
    def in_other_hands(self) -> Iterator[FakeDesk]:
        """Stop the responder where it runs, and answer at its desk."""
        if self.responder.process is not None:
            self.responder.stop()
        with FakeDesk(self.desk).listening() as made:
            yield made

    def drill(self, playbook: str, *, by: str = "dana") -> str:
        """Hold a drill on the command line; returns the incident's id."""
        told = self.run("drill", playbook, "--wait", "20", "--json", "--as", str(self.responder.wallet_of(by)))
        return str(json.loads(told)["incident"])

    def run(self, *arguments: str) -> str:
        """Run a verb on the responder's desk."""
        done = CliRunner().invoke(main, [*arguments, "--desk", str(self.desk)])
        assert done.exit_code == 0, (arguments, done.output, self.responder.errors())
        return done.output

    def until(self, visitor: Visitor, path: str, words: str, *, seconds: float = 20.0) -> Seen:
        """Load a page until it has some words."""
        ends = time.monotonic() + seconds
        while words not in (page := visitor.get(path)).text:
            assert time.monotonic() < ends, (words, page.text, self.responder.errors())
            time.sleep(0.3)
        return page

    def waiting(self, visitor: Visitor, incident: str, *how: str, seconds: float = 20.0) -> list[dict[str, Any]]:
        """Return what waits in an incident, once something does."""
        ends = time.monotonic() + seconds
        while True:
            told = visitor.get(f"/incidents/{incident}.json").json
            found = [one for one in told["waits"] if one["how"] in how]
            if found:
                return found
            assert time.monotonic() < ends, (told, self.responder.errors())
            time.sleep(0.3)


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Run a deployment, a console, and what a responder needs: the warden in the roster, and wallets."""
    place = folder / "responder"
    place.mkdir()
    with console(folder, desk=place / "state" / "desk.sock") as live:
        lab = live.occupied
        before = lab.deployment.roster
        roster = replace(
            before,
            epoch=before.epoch + 1,
            predecessor=Digest.of(before.to_bytes()),
            people=(*before.people, warden()),
        )
        signed = sign(ROSTER_TYPE, roster.to_bytes(), *ROOTS[:2])
        lab.post("documents/roster", {"envelope": signed.to_json()}, by="root-0")
        lab.deployment.roster = roster
        lab.vet(WARDEN)
        responder = ResponderLab(place, lab.deployment, lab.running)
        for person in (WARDEN, "dana", "sam", "rina"):
            responder.make_wallet(person)
        try:
            yield Watched(live, responder)
        finally:
            if responder.process is not None:
                responder.stop()


@dataclass
class FakeDesk:
    """A responder in other hands: it answers whatever it is made to, on the desk's own socket."""

    path: Path
    listed: list[Json] = field(default_factory=list)
    broken: dict[str, Json] = field(default_factory=dict)
    shown: dict[str, list[IncidentEntry]] = field(default_factory=dict)
    runs: dict[str, Json] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    acts: list[Envelope] = field(default_factory=list)
    silent: bool = False

    def show(self, record: Record, *, name: str = "", runs: Mapping[str, Run] | None = None) -> str:
        """Show a record, perhaps under another incident's name; returns the name."""
        incident = record.incident
        name = name or incident.id
        self.shown[name] = record.entries
        self.runs = {key: to_base64(run.to_bytes()) for key, run in (runs or {}).items()}
        self.listed.append(row(incident, running=False) | {"incident": name})
        return name

    async def serve(self, call: Call, _uid: int) -> dict[str, Json]:
        """Answer a call."""
        if self.silent:
            await asyncio.sleep(3600)
        fields = call.fields
        match call.operation:
            case "incidents":
                return {"incidents": list(self.listed), "broken": dict(self.broken)}
            case "incident":
                name, after = fields.text("incident"), fields.integer("after")
                if name not in self.shown:
                    raise NotFoundError("there is no such incident")
                entries = [to_base64(one.to_bytes()) for one in self.shown[name][after : after + PAGE]]
                return {"entries": list[Json](entries), "runs": self.runs, "further": [], "drill": None, "held": False}
            case "kept":
                name, after = fields.text("name"), fields.integer("after")
                if name not in self.kept:
                    raise NotFoundError("nothing is kept under that name")
                data = self.kept[name]
                return {"data": to_base64(data[after : after + PART]), "size": len(data)}
            case "answer":
                name = answer_name(fields.digest("answer"))
                part = fields.binary("part", max_length=PART)
                self.kept[name] = self.kept.get(name, b"")[: fields.integer("after")] + part
                return {}
            case operation:
                with fields.child("envelope") as child:
                    self.acts.append(Envelope.read(child))
                return {} if operation == "drill" else {"entries": 1}

    @contextmanager
    def listening(self) -> Iterator[FakeDesk]:
        """Serve from a thread."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        loop = asyncio.new_event_loop()
        server = UnixServer(self.serve, admits={os.geteuid()})
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        asyncio.run_coroutine_threadsafe(server.start(self.path), loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()
            self.path.unlink(missing_ok=True)
