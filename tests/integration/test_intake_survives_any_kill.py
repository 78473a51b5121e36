"""A gate that is killed anywhere goes on, ends in the same state, and records each step once.

Killed means: the process's work stops before or after any of the calls that change something outside it, whichever one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.audit.entries import read_entry
from strongroom.client import wiring
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.core.clock import SystemClock
from strongroom.core.events import EventName
from strongroom.intake.states import ORDER, State
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.sealing.adapters.publish import LocalTarget
from strongroom.sealing.adapters.resume import JournalFile
from support.clocks import FixedClock
from support.delivered import checkpoint_file, safetensors_file
from support.gated import judge_here, lay_out, with_reviewers
from support.place import Place

pytestmark = pytest.mark.integration
FILES: Final = {"model.safetensors": safetensors_file(), "pytorch_model.bin": checkpoint_file(), "config.json": b"{}"}
BAD: Final = {"config.json": b"{}", "state.pkl": b"\x80\x04cos\nsystem\nX\x02\x00\x00\x00ls\x85R."}
POINTS: Final[tuple[tuple[type, str], ...]] = (
    *((DeliveryFolder, name) for name in ("fix", "keep", "propose", "accept", "withdraw", "judge", "drop_copy")),
    *((WalletFolder, name) for name in ("keep", "forget")),
    *((BrokerApi, name) for name in ("hand_in", "seal", "register", "submit")),
    *((LocalTarget, name) for name in ("publish", "create")),
    *((JournalFile, name) for name in ("append",)),
)


CLOCK: Final = FixedClock(SystemClock().now())


class Killed(BaseException):
    """The process is gone: nothing catches this."""


class Kills:
    """Counts what changes something outside, and kills before or after the one that is asked for."""

    def __init__(self) -> None:
        self.seen = 0
        self.at: int | None = None

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for owner, name in POINTS:
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name)))

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self._point()
            result = function(*arguments, **named)
            self._point()
            return result

        return call

    def _point(self) -> None:
        self.seen += 1
        if self.seen - 1 == self.at:
            self.at = None
            raise Killed


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patched:
        deployment = InMemoryDeployment(CLOCK)
        patched.setattr(wiring, "connect", lambda _wallet: deployment)
        patched.setattr(wiring, "SystemClock", lambda: deployment.clock)
        judge_here(patched)
        deployment.adopt_first()
        yield with_reviewers(Place(tmp_path_factory.mktemp("place"), deployment))
        deployment.close()


def until_it_ends(place: Place, *arguments: str, by: str = "dana") -> int:
    """Type a command until it isn't killed; returns its exit code."""
    for _attempt in range(3):
        try:
            return place.run("intake", *arguments, by=by).exit_code
        except Killed:
            continue
    raise AssertionError("killed more than once")


def walk(place: Place, source: Path, into: Path) -> int:
    code = until_it_ends(place, "receive", str(source), "--model", "minilm", "--into", str(into))
    if code == 0:
        out = into.with_suffix(".review")
        said = ("review", str(into), "--accept", "--out", str(out), "--yes")
        assert until_it_ends(place, *said, by="otto") == 0
        code = until_it_ends(place, "seal", str(into), "--review", str(out))
    return code


def states(place: Place, begin: int) -> list[str]:
    entries = [read_entry(one) for one in place.deployment.log.entries[begin:]]
    return [one.text("state") for one in entries if one.event is EventName.INTAKE_RECORDED]


@pytest.mark.parametrize("outcome", ["sealed", "refused"])
@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.heavy)])
def test_a_gate_killed_anywhere_comes_to_the_same_end(
    place: Place, monkeypatch: pytest.MonkeyPatch, outcome: str, every: int
) -> None:
    kills = Kills()
    kills.watch(monkeypatch)
    good = outcome == "sealed"
    folder = place.folder / f"{outcome}-{every}"
    folder.mkdir()
    source = lay_out(folder / "delivered", FILES if good else BAD)
    assert walk(place, source, folder / "whole") == (0 if good else 6)
    points = kills.seen
    assert points > (60 if good else 30)
    wanted = [one.value for one in ORDER] if good else ["received", "hashed", "signature-verified", "quarantined"]
    for at in range(0, points, every):
        into, begin = folder / f"killed-{at}", len(place.deployment.log.entries)
        # What one person says of deliveries is counted by time, which stands otherwise.
        CLOCK.at += 60
        kills.seen, kills.at = 0, at
        walk(place, source, into)
        kills.at = None
        assert states(place, begin) == wanted, at
        shown = place.json("intake", "show", str(into))
        # What was encrypted before the kill is hashed from the copy, the rest as it was read: one list in the end.
        wanted_digests = {name: sha256(data).hexdigest() for name, data in (FILES if good else BAD).items()}
        assert {one["name"]: one["sha256"] for one in shown["files"]} == wanted_digests, at
        last = shown["state"]
        assert last == (State.SEALED.value if good else State.QUARANTINED.value), at
        assert not (into / "copy").exists(), at
        assert (into / "verdict.json").exists(), at
        assert not list(place.wallets["dana"].glob("*kept*")), at
        registered = [one for one in place.deployment.log.entries[begin:] if _registers(one)]
        assert len(registered) == (1 if good else 0), at


def _registers(entry: bytes) -> bool:
    return read_entry(entry).event is EventName.VERSION_REGISTERED
