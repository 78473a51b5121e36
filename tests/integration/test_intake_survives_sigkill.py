"""A gate that is killed with SIGKILL, where nothing of it runs any more: no plaintext lies there, and it goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

import pytest

from strongroom.audit.entries import read_entry
from strongroom.client import wiring
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.safetensors_header import make_header
from strongroom.intake.states import ORDER
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.sealing.adapters.publish import LocalTarget
from strongroom.sealing.adapters.sinks import FileSink
from support.delivered import checkpoint_file
from support.gated import judge_here, lay_out, review, seal, with_reviewers
from support.place import Place

pytestmark = pytest.mark.integration

MARK: Final = b"\x93weights of the supplier\x07"


class FarDeployment:
    """The deployment, as the process sees it that is killed: what it recorded outlives that process."""

    def __init__(self, way: Connection) -> None:
        self._way = way

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def call(self, *arguments: Any, **named: Any) -> Any:
        self._way.send((arguments, named))
        answer = self._way.recv()
        if isinstance(answer, StrongroomError):
            raise answer
        return answer


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    judge_here(monkeypatch)
    with Place.opened(tmp_path, monkeypatch) as made:
        yield with_reviewers(made)


def delivered(place: Place) -> Path:
    head, _names = make_header([("w", "U8", (3 << 20,), 3 << 20)], None)
    body = MARK * ((3 << 20) // len(MARK) + 1)
    files = {"model.safetensors": head + body[: 3 << 20], "pytorch_model.bin": checkpoint_file(), "config.json": b"{}"}
    return lay_out(place.folder / "delivered", files)


def killed(place: Place, arguments: tuple[str, ...], owner: type, name: str, *, at: int) -> None:
    """Type a command in a process that gets SIGKILL when it has called something for the ``at``-th time."""
    here, there = Pipe()
    child = os.fork()
    if child == 0:
        try:
            here.close()
            _kill_self(owner, name, at)
            wiring.connect = lambda _wallet: FarDeployment(there)  # type: ignore[assignment,return-value]
            place.run("intake", *arguments, by="dana")
        finally:
            os._exit(0)
    there.close()
    with here:
        _serve(place, here)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), "it came to its end before"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _kill_self(owner: type, name: str, at: int) -> None:
    function, seen = getattr(owner, name), 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        result = function(*arguments, **named)
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, call)


def _serve(place: Place, here: Connection) -> None:
    while True:
        try:
            arguments, named = here.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer: object = place.deployment.call(*arguments, **named)
        except StrongroomError as error:
            answer = error
        here.send(answer)


def in_clear(place: Place) -> list[Path]:
    """Return files other than the supplier's that hold a piece of what was delivered."""
    files = [path for path in place.folder.rglob("*") if path.is_file() and "delivered" not in path.parts]
    return [path for path in files if MARK[:12] in path.read_bytes()]


def states(place: Place) -> list[str]:
    entries = [read_entry(one) for one in place.deployment.log.entries]
    return [one.text("state") for one in entries if one.event is EventName.INTAKE_RECORDED]


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (WalletFolder, "keep", 1),
        (FileSink, "put", 3),
        (LocalTarget, "publish", 1),
        (DeliveryFolder, "propose", 2),
        (BrokerApi, "hand_in", 4),
    ],
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_receiving_goes_on_after_sigkill(place: Place, owner: type, name: str, at: int) -> None:
    source, into = delivered(place), place.folder / "q"
    command = ("receive", str(source), "--model", "minilm", "--into", str(into))
    killed(place, command, owner, name, at=at)
    assert in_clear(place) == []
    assert place.json("intake", *command, by="dana")["state"] == "scanned"
    assert states(place) == [one.value for one in ORDER[:5]]
    assert seal(place, into, review(place, into, "otto"))["state"] == "sealed"


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (FileSink, "put", 3),
        (LocalTarget, "publish", 1),
        (BrokerApi, "register", 1),
        (BrokerApi, "hand_in", 2),
        (WalletFolder, "forget", 2),
    ],
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_sealing_goes_on_after_sigkill(place: Place, owner: type, name: str, at: int) -> None:
    source, into = delivered(place), place.folder / "q"
    place.json("intake", "receive", str(source), "--model", "minilm", "--into", str(into), by="dana")
    said = review(place, into, "otto")
    killed(place, ("seal", str(into), "--review", str(said)), owner, name, at=at)
    assert in_clear(place) == []
    assert seal(place, into, said)["state"] == "sealed"
    assert states(place) == [one.value for one in ORDER]
    assert place.json("status", by="dana")["models"]["minilm"]["version"] == 1
    assert not list(place.wallets["dana"].glob("*kept*"))
    assert not (into / "copy").exists()
    # The search would find it.
    (place.folder / "leak").write_bytes((source / "model.safetensors").read_bytes())
    assert in_clear(place) == [place.folder / "leak"]
