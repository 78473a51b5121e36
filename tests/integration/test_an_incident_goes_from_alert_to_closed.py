"""Broker, keeper, log writer, responder and receiver as they are: an alert becomes an incident that people close.

What is real is done for real: releases are refused, evidence is kept, the log holds the record's digest, people are
told, and what lets go waits until people did it themselves.
"""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from simulators.receiver import Received, Receiver, answering, signature, silent
from strongroom.cli.main import main
from strongroom.core.digest import Digest
from strongroom.responder.adapters.record_file import read_record
from support.deployment import MODEL, Deployment
from support.responders import ResponderLab, need_fanotify, opens, plant, responder_lab

pytestmark = pytest.mark.integration
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
SAYS = {"exposed": "no", "quiet": "no", "cleared": "yes"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponderLab]:
    folder = tmp_path_factory.mktemp("incidents")
    need_fanotify(folder)
    with responder_lab(folder, Deployment.found(folder / "home")) as made:
        for person in ("dana", "sam", "rina"):
            made.make_wallet(person)
        yield made


class People:
    """People at their terminals."""

    def __init__(self, lab: ResponderLab) -> None:
        self.lab = lab

    def run(self, *arguments: str, by: str = "dana") -> str:
        """Run a verb of incidents."""
        given = [*arguments, "--desk", str(self.lab.state / "desk.sock")]
        if arguments[1] not in {"ls", "show", "timeline", "export", "kept"}:
            given += ["--as", str(self.lab.wallet_of(by))]
        done = CliRunner().invoke(main, given)
        assert done.exit_code == 0, (arguments, done.output, self.lab.errors())
        return done.output

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run a verb and return what it says."""
        told: dict[str, Any] = json.loads(self.run(*arguments, "--json"))
        return told

    def incidents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("incident", "ls")["incidents"]
        return found

    def about_the_decoy(self, *, seconds: float = 20.0) -> str:
        """Wait for the incident that an opened decoy brings about."""
        ends = time.monotonic() + seconds
        while True:
            open_ = [one for one in self.incidents() if one["certainty"] == "sure" and one["phase"] != "closed"]
            if open_:
                return str(open_[0]["incident"])
            assert time.monotonic() < ends, self.lab.errors()
            time.sleep(0.1)

    def until(self, name: str, what: str, *, seconds: float = 12.0) -> dict[str, Any]:
        """Wait until `show` has some words."""
        ends = time.monotonic() + seconds
        while what not in (text := self.run("incident", "show", name)):
            assert time.monotonic() < ends, f"{what}\n{text}\n{self.lab.errors()}"
            time.sleep(0.2)
        return self.json("incident", "show", name)


def answered(people: People, name: str, *, but: str = "") -> None:
    """Answer everything that people are asked, once; what begins with `but` isn't."""
    for one in people.json("incident", "show", name)["waiting"]:
        if one["waits"] != "answer" or (but and one["what"].startswith(but)):
            continue
        people.run("incident", "resolve-step", name, one["key"], *sets_of(one["what"]))


def sets_of(text: str) -> list[str]:
    """Return what the step sets, by its words."""
    words = {"could have had": "exposed", "meters still": "quiet", "cause found": "cleared"}
    return [f"--set={name}={SAYS[name]}" for part, name in words.items() if part in text]


def audited(lab: ResponderLab, *arguments: str) -> str:
    """Return what a reader of the log prints, JSON."""
    done = CliRunner().invoke(main, ["audit", *arguments, "--as", str(lab.wallet_of("dana")), "--json"])
    assert done.exit_code == 0, done.output
    return str(done.output)


def logged(lab: ResponderLab, event: str) -> list[dict[str, Any]]:
    """Return the log's entries of an event."""
    return [json.loads(line) for line in audited(lab, "ls", "--event", event).splitlines()]


def settings_of(lab: ResponderLab, receiver: Receiver) -> dict[str, object]:
    """Return settings by which a receiver is told."""
    secret = lab.folder / "receiver.secret"
    secret.write_text(SECRET)
    told = {
        "name": "team",
        "form": "webhook",
        "url": f"http://127.0.0.1:{receiver.port}/incidents",
        "secret": str(secret),
    }
    return {"v": 1, "receivers": [told], "platforms": {}, "users": []}


@pytest.mark.heavy
def test_an_alert_becomes_an_incident_that_people_close(lab: ResponderLab) -> None:
    (decoy,) = plant(lab, "whole.floe")
    people = People(lab)
    with Receiver() as receiver:
        lab.start(response=settings_of(lab, receiver))
        try:
            opens(decoy)
            name = people.about_the_decoy()
            shown = people.until(name, "could have had")
            assert lab.frozen()
            done = {(one["action"], one["verified"]) for one in shown["data"]["actions"].values()}
            assert ("freeze-releases", True) in done
            assert ("notify", True) in done
            # What this deployment has no means for is refused, and says so.
            failed = {one["action"]: one["failed"] for one in shown["data"]["actions"].values() if one["failed"]}
            assert failed == {"zero-egress": "no-gate", "raise-sampling": "no-second-engine"}
            assert shown["data"]["evidence"]
            told = receiver.wait(1)[0]
            assert told.headers["webhook-signature"] == signature(SECRET, told.headers, told.body)
            assert told.json["data"]["incident"] == name
            people.run("incident", "take", name, "commander")
            people.run("incident", "take", name, "legal", by="sam")
            people.run("incident", "clock", name, "eu-cop-initial")
            exposure = lab.folder / "exposure.json"
            exposure.write_text(audited(lab, "exposure", MODEL))
            people.run("incident", "exposure", name, str(exposure), "--bound", "1000000")
            draft = lab.folder / "draft.md"
            # The responder keeps it from then on: a report finds it there.
            people.run("incident", "report", name, "eu-cop-initial", "--out", str(draft))
            assert "Draft report: EU GPAI Code of Practice" in draft.read_text()
            assert "freeze-releases of model:minilm: done" in draft.read_text()
            answered(people, name, but="Write down what was learned")
            people.until(name, "Explain every byte")
            answered(people, name)
            people.until(name, "meters still")
            answered(people, name)
            people.until(name, "cause found")
            answered(people, name)
            # No egress was closed here, so there is none to restore: the playbook says so, and goes on.
            agreed(people, name, "restore-egress")
            agreed(people, name, "resume-releases")
            # Two people agreed; and still nothing resumes the model but people's own request.
            time.sleep(2.5)
            assert lab.frozen()
            assert "under way" in people.run("incident", "show", name)
            lab.resume()
            people.until(name, "verified   resume-releases of model:minilm")
            assert "undone     freeze-releases of model:minilm" in people.run("incident", "show", name)
            words = lab.folder / "words.md"
            words.write_text("The decoy lay where a backup ran.\nBackups leave decoys out now.\n")
            answered(people, name)
            people.run("incident", "report", name, "eu-cop-initial", "--sent", str(draft))
            for phase in ("analysed", "reviewed"):
                people.run("incident", "move", name, phase)
            people.run("incident", "close", name, str(words))
            stix = json.loads(people.run("incident", "export", name, "--format", "stix"))
            assert stix["type"] == "bundle"
            closed = people.json("incident", "timeline", name)["entries"]
            assert closed[-1]["happened"] == "closed"
            noted = in_the_log(lab, name, closed)
            assert (noted["entries"], noted["phase"], noted["person"]) == (len(closed), "closed", "warden")
            # Whoever was told that it began is told that it is over.
            assert any(one.json["type"] == "incident.closed" for one in wait_for_news(receiver, "incident.closed"))
        finally:
            assert lab.stop() == 0, lab.errors()


def test_a_kill_in_the_middle_does_nothing_twice(lab: ResponderLab) -> None:
    (decoy,) = plant(lab, "killed.floe")
    people, size = People(lab), lab.deployment.head().size
    with Receiver(silent) as receiver:
        lab.start(response=settings_of(lab, receiver))
        opens(decoy)
        name = people.about_the_decoy()
        people.until(name, "under way  ")
        receiver.wait(1)
        lab.kill()
        before = {path: path.read_bytes() for path in (lab.state / "incidents" / name).glob("kept/*")}
        receiver.answer = answering(200)
        lab.start(response=settings_of(lab, receiver))
        try:
            people.until(name, "verified   notify of model:minilm")
            entries = people.json("incident", "timeline", name)["entries"]
            done = [one["facts"]["action"] for one in entries if one["happened"] == "action-done"]
            assert len(done) == len(set(done))
            frozen = logged(lab, "access:model:frozen")
            assert len([one for one in frozen if one["index"] >= size]) == 1
            # Evidence is written once: what was kept before the kill wasn't replaced after it.
            assert {path: path.read_bytes() for path in before} == before
        finally:
            assert lab.stop() == 0, lab.errors()
    lab.resume()


def test_a_kill_between_an_alert_s_line_and_its_incident_loses_neither(lab: ResponderLab) -> None:
    (decoy,) = plant(lab, "unfiled.floe")
    people, before = People(lab), len(lab.facts()) if lab.state.exists() else 0
    lab.start(program="simulators.dying_responder")
    assert lab.process is not None
    opens(decoy)
    assert lab.process.wait(20) == -signal.SIGKILL
    lab.kill()
    assert lab.frozen()
    told = {str(Digest.of(line)) for line in read_record(lab.state)[before:] if b"decoy-shard-opened" in line}
    for _start in range(2):
        # The second start finds it in its incident, and hears nothing again.
        lab.start()
        try:
            name = people.about_the_decoy()
            entries = people.json("incident", "timeline", name)["entries"]
            alerts = [one["facts"]["event"] for one in entries if one["happened"] in {"opened", "alert-added"}]
            assert sum(alert in told for alert in alerts) == 1
            # And who could have had the bytes is read from the log, unasked.
            people.until(name, "exposed    ")
        finally:
            assert lab.stop() == 0, lab.errors()
    lab.resume()


def test_a_drill_is_held_by_the_command_and_measured(lab: ResponderLab) -> None:
    people = People(lab)
    with Receiver() as receiver:
        lab.start(response=settings_of(lab, receiver))
        try:
            told = people.json("drill", "key-compromise", "--wait", "20")
            assert (told["missed"], told["waits_for_people"]) == ([], False)
            assert 0 < told["detect_micros"] < 5_000_000
            assert told["contain_micros"] >= told["detect_micros"]
            assert not lab.frozen()
            text = people.run("incident", "show", str(told["incident"]))
            assert text.startswith("DRILL: ")
            assert "missed     nothing" in text
            # The drill's message says so first, too.
            assert any(one.json["data"]["title"].startswith("DRILL: ") for one in receiver.wait(1))
        finally:
            assert lab.stop() == 0, lab.errors()


def agreed(people: People, name: str, action: str) -> None:
    """Have two people agree to an action."""
    people.until(name, f"{action} of model:minilm (quorum")
    waiting = people.json("incident", "show", name)["waiting"]
    (one,) = [one for one in waiting if one["what"].startswith(action)]
    for by in ("sam", "rina"):
        people.run("incident", "agree", name, one["key"], by=by)


def in_the_log(lab: ResponderLab, name: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Wait until the log holds the whole record, and return what it says."""
    ends = time.monotonic() + 20
    while True:
        told = logged(lab, "response:incident:recorded")
        mine = [one["facts"] for one in told if one["facts"]["incident"] == name]
        if mine and mine[-1]["entries"] == len(entries):
            facts: dict[str, Any] = mine[-1]
            return facts
        assert time.monotonic() < ends, (mine, lab.errors())
        time.sleep(0.3)


def wait_for_news(receiver: Receiver, kind: str) -> list[Received]:
    """Wait until a message of a kind came."""
    ends = time.monotonic() + 20
    while not any(one.json["type"] == kind for one in receiver.got):
        assert time.monotonic() < ends
        time.sleep(0.1)
    return list(receiver.got)
