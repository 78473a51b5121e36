"""`strongroom assess --watch`: what held before and doesn't any more is told once, to people and to the responder."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from simulators import deployment_in_memory
from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.assurance.assessment import Assessment
from strongroom.cli import assess as command
from strongroom.cli import assess_looking
from strongroom.cli.copies_parts import tell
from strongroom.client import wiring
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.errors import UnavailableError
from strongroom.detection.sensors.own import read_own
from strongroom.detection.sensors.reading import Event
from strongroom.framework.ids import MeasureId
from strongroom.responder.adapters.line_socket import LineSocket
from support.clocks import FixedClock
from support.place import Place

pytestmark = pytest.mark.integration
DAY = 86400
WATCHED = MeasureId("SL2-NCM-02")
"""Met while an assessment was recorded within a week: time alone takes it away."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment in which olga assesses."""
    people = deployment_in_memory.PEOPLE
    monkeypatch.setitem(people, "olga", ("security", ("auditor", "assessor", "attestor")))
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    monkeypatch.setattr(wiring, "SystemClock", lambda: deployment.clock)
    deployment.adopt_first()
    made = Place(tmp_path, deployment)
    made.json("assess", "--record", "--to", str(tmp_path), by="olga")
    yield made
    deployment.close()


class Between:
    """Stands for the pauses between looks: does something in each, and stops after the last."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self._acts = list(acts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None

    def pause(self, _seconds: float) -> bool:
        if not self._acts:
            return True
        self._acts.pop(0)()
        return False


def later(place: Place, seconds: int) -> Callable[[], object]:
    """Let time pass."""

    def act() -> None:
        assert isinstance(place.deployment.clock, FixedClock)
        place.deployment.clock.at += seconds

    return act


def watched(place: Place, monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object], to: Path | None = None) -> str:
    """Watch, with something happening in each pause; returns all that was printed."""
    monkeypatch.setattr(command, "Stopping", lambda: Between(*acts))
    tell = () if to is None else ("--tell", str(to))
    result = place.run("assess", "--watch", str(place.folder / "newest.json"), *tell, by="olga")
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def newest(place: Place) -> Assessment:
    """Return the assessment that is kept."""
    return Assessment.parse((place.folder / "newest.json").read_bytes())


class Responder:
    """The responder's socket for a sensor of kind `strongroom`, in a thread of its own."""

    def __init__(self, path: Path, user: int | None = None) -> None:
        self.path, self.heard, self._stop = path, list[Event](), threading.Event()
        self._user = os.geteuid() if user is None else user
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _serve(self) -> None:
        listening = LineSocket("assessor", self._user, read_own, self.heard.append, lambda: None)
        await listening.start(self.path)
        self._ready.set()
        await asyncio.to_thread(self._stop.wait)
        assert listening.missed == 0
        await listening.stop()


def test_what_is_lost_is_told_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with Responder(place.folder / "own.sock") as responder:
        told = watched(place, monkeypatch, later(place, 60), later(place, 9 * DAY), later(place, 60), to=responder.path)
    assert told.count(f"CHANGED  {WATCHED}: met before, not met now") == 1
    lost = [event for event in responder.heard if event["measure"] == WATCHED]
    assert [(event["event"], event["was"], event["state"]) for event in lost] == [
        ("assessor:measure:lost", "met", "not-met")
    ]
    assert not newest(place).findings[WATCHED].state.holds


def test_alerts_that_a_responder_lets_nobody_hand_in_are_not_called_told(tmp_path: Path) -> None:
    event: dict[str, Json] = {"event": "assessor:measure:lost", "measure": WATCHED}
    with Responder(tmp_path / "own.sock", user=os.geteuid() + 1) as responder:
        for count in (1, 500):
            with pytest.raises(UnavailableError, match=f"didn't take {count} alerts"):
                tell([event] * count, responder.path)
    assert responder.heard == []


def test_a_watch_that_was_ended_goes_on_from_what_it_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(place, monkeypatch)
    later(place, 9 * DAY)()
    assert f"CHANGED  {WATCHED}: met before, not met now" in watched(place, monkeypatch)
    assert "CHANGED" not in watched(place, monkeypatch)


def test_what_the_responder_didnt_take_is_told_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = place.folder / "nobody.sock"
    watched(place, monkeypatch)
    told = watched(place, monkeypatch, later(place, 9 * DAY), later(place, 60), to=nobody)
    assert told.count("NOT TOLD") == 2
    assert newest(place).findings[WATCHED].state.holds, "what wasn't told isn't settled"
    with Responder(place.folder / "own.sock") as responder:
        watched(place, monkeypatch, to=responder.path)
    assert any(event["measure"] == WATCHED for event in responder.heard)


def test_what_cant_be_seen_any_more_is_lost_once_it_expires(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        def down(*_given: object) -> None:
            raise UnavailableError("nobody answers")

        monkeypatch.setattr(assess_looking, "know", down)

    told = watched(place, monkeypatch, away, later(place, 600), later(place, 2 * DAY))
    assert told.count("NOT SEEN") == 3
    assert told.count(f"CHANGED  {WATCHED}: met before, not assessed now") == 1
    assert not any(finding.state.holds for finding in newest(place).findings.values())


def test_another_deployments_assessment_is_no_beginning(place: Place) -> None:
    path = place.folder / "assessment.json"
    value = json.loads(path.read_bytes())
    value["genesis"] = "sha256:" + "0" * 64
    path.write_text(json.dumps(value))
    for option in ("--watch", "--against"):
        refused = place.run("assess", option, str(path), by="olga")
        assert refused.exit_code == 2
        assert "another deployment" in refused.stderr
