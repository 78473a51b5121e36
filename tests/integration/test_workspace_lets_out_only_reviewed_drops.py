"""A researcher's code beside opened weights, in the real sandbox: in goes anything, out comes one charged drop."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.access.request import Action, Purpose
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.cli import enclave_options, enclave_order, enclave_workspace
from strongroom.client.drops import DropApi
from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import UnavailableError
from strongroom.release.drop import PassageAsk
from support import workspaces
from support.deployment import signer
from support.enclave_lab import require_sandbox
from support.workspaces import WorkspaceLab, workspace_lab

pytestmark = pytest.mark.integration

SCRIPT = """
import json, os, pathlib
model, given, drop = (pathlib.Path(os.environ["STRONGROOM_" + name]) for name in ("MODEL", "INPUT", "DROP"))
weights = (model / "model.bin").read_bytes()
print("looked at", len(weights))
(drop / "found").mkdir()
found = {"bytes": len(weights), "ask": (given / "ask.txt").read_text()}
(drop / "found" / "numbers.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTPM]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    with SoftwareTPM(tmp_path_factory.mktemp("tpm")) as made:
        yield made


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTPM) -> Iterator[WorkspaceLab]:
    require_sandbox()
    with workspace_lab(tmp_path_factory.mktemp("lab"), tpm, seconds=15) as made:
        for name in ("dana", "sam"):
            made.identity(name)
        yield made


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclave_workspace, "workspace_image", workspaces.light_image)
    for module in (enclave_options, enclave_order):
        monkeypatch.setattr(module, "measure_image", workspaces.light_measure)


def handed(lab: WorkspaceLab) -> Path:
    folder = lab.new("input")
    folder.mkdir()
    (folder / "ask.txt").write_text("how many?")
    return folder


def plain(facts: dict[str, int]) -> dict[str, int]:
    """Return what an archive says beside what blinds its digest."""
    assert {"blind-a", "blind-b"} <= facts.keys()
    return {name: value for name, value in facts.items() if not name.startswith("blind-")}


def test_run_reviewed_and_received(lab: WorkspaceLab) -> None:
    drop = lab.new("drop")
    told = lab.run(lab.approved(), SCRIPT, drop=drop, folder=handed(lab))
    assert told["bits"] == 8 * told["bytes"] + 29
    assert (told["researcher"], told["reviewers"]) == ("dana", ["sam"])
    # Not even whose it is reads it before a reviewer did.
    assert b"looked at" not in drop.read_bytes()
    own = lab.json("receive", drop, "--identity", lab.identity("dana"), "--into", lab.new("early"), by="dana", code=3)
    assert own["code"] == "drop-not-for-you"

    into, accepted = lab.new("look"), lab.new("accepted")
    seen = lab.json("review", drop, "--identity", lab.identity("sam"), "--into", into, by="sam")
    assert {one["name"] for one in seen["files"]} == {"found/numbers.json", "output.txt"}
    assert plain(seen["facts"]) == {"code": 0}
    assert (into / "output.txt").read_text() == "looked at 32768\n"
    done = lab.json("review", drop, "--identity", lab.identity("sam"), "--accept", accepted, "--yes", by="sam")
    assert done["outcome"] == "accept"
    got = lab.new("got")
    lab.json("receive", accepted, "--identity", lab.identity("dana"), "--into", got, by="dana")
    assert json.loads((got / "found" / "numbers.json").read_text()) == {"bytes": 32768, "ask": "how many?"}
    quota = lab.json("quota", "minilm", by="dana")
    assert quota["own"]["used"] == told["bits"]


NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": "# Looking"},
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": ["import os\n", "n = 6"],
        },
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": "n * 7"},
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": "print(undefined)"},
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": "print('never')"},
    ],
}

ATTEMPTS = r"""
import ctypes, json, os, pathlib, socket, subprocess, sys, threading
model, drop = (pathlib.Path(os.environ["STRONGROOM_" + name]) for name in ("MODEL", "DROP"))
SECRET = (model / "model.bin").read_bytes()[:64]
tried = {}

def attempt(name, function):
    try:
        tried[name] = repr(function())
    except BaseException as error:
        tried[name] = "blocked: " + type(error).__name__

def spill():
    got = []
    for number in range(3, 1024):
        try:
            os.write(number, SECRET)
            got.append(number)
        except OSError:
            pass
    assert got, "no descriptor"
    return got

def stray():
    import resource
    code = "import time; time.sleep(60)"
    return subprocess.Popen([sys.executable, "-c", code]).pid

os.write(0, SECRET)
attempt("descriptors", spill)
attempt("fork", os.fork)
attempt("program", stray)
attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
attempt("network", lambda: socket.create_connection(("127.0.0.1", 80)))
attempt("change the input", lambda: (model / ".workspace" / "input" / "ask.txt").write_text("changed"))
attempt("change the code", lambda: (model / ".workspace" / "code.py").write_text("changed"))
attempt("the host's files", lambda: os.listdir("/home"))
(drop.parent / "outside.txt").write_bytes(SECRET)
attempt("link", lambda: (drop / "link").symlink_to(model / "model.bin"))
attempt("hard link", lambda: (drop / "hard-link").hardlink_to(model / "model.bin"))
attempt("pipe", lambda: os.mkfifo(drop / "pipe"))
with open(drop / "sparse", "wb") as file:
    attempt("sparse", lambda: file.truncate(1 << 40))
(drop / "a\nb").write_text("a name with a line in it")
(drop / "closed").write_text("x")
deep = drop
for number in range(12):
    deep = deep / "d"
    attempt("deep", deep.mkdir)
(drop / "tried.json").write_text(json.dumps(tried))

def go_on():
    while True:
        (drop / "changing").write_text("x" * 1000)

threading.Thread(target=go_on, daemon=True).start()
os._exit(77)
"""


def opened(lab: WorkspaceLab, drop: Path) -> tuple[dict[str, Any], Path]:
    """Return what the reviewer's client tells of a drop, and the folder with its files."""
    into = lab.new("look")
    told: dict[str, Any] = lab.json("review", drop, "--identity", lab.identity("sam"), "--into", into, by="sam")
    return told, into


def test_a_notebooks_cells_run_in_order_and_its_error_is_in_the_drop_alone(lab: WorkspaceLab) -> None:
    drop = lab.new("drop")
    lab.run(lab.approved(), json.dumps(NOTEBOOK), drop=drop, name="code.ipynb")
    told, into = opened(lab, drop)
    assert plain(told["facts"]) == {"code": 1}
    printed = (into / "output.txt").read_text()
    assert printed.startswith("42\n")
    assert "NameError" in printed
    assert "never" not in printed


def test_nothing_else_gets_out(lab: WorkspaceLab) -> None:
    drop = lab.new("drop")
    told = lab.run(lab.approved(), ATTEMPTS, drop=drop, folder=handed(lab))
    seen, into = opened(lab, drop)
    names = {one["name"] for one in seen["files"]}
    assert names - {"changing", "output.txt"} == {"closed", "tried.json"}, (into / "output.txt").read_text()
    assert seen["facts"]["code"] == 77
    assert seen["facts"]["left-out-name"] >= 2
    # Its end was told as any other's.
    assert told["bits"] == 8 * told["bytes"] + 29
    tried = json.loads((into / "tried.json").read_text())
    wanted = {"descriptors", "fork", "program", "unix socket", "network", "change the input", "change the code", "pipe"}
    wanted |= {"the host's files", "link", "hard link"}
    assert {name for name, what in tried.items() if what.startswith("blocked")} >= wanted, tried
    if not tried["sparse"].startswith("blocked"):
        assert seen["facts"]["left-out-too-large"] == 1
    assert not list(drop.parent.glob(f".{drop.name}*"))


class _Forging(DropApi):
    """Answers the first asking with a ticket that somebody else signed."""

    asked: list[PassageAsk]

    def leave(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
        """Forge once, then ask."""
        type(self).asked.append(ask)
        word = super().leave(delivery, ask)
        return sign(word.kind, word.payload, signer("dana")) if len(self.asked) == 1 else word


class _Silent(DropApi):
    """Never answers an asking to leave."""

    def leave(self, _delivery: Envelope, _ask: PassageAsk) -> Envelope:
        """Say nothing."""
        raise UnavailableError("nobody is there")


@pytest.mark.heavy
def test_a_forged_ticket_opens_nothing(lab: WorkspaceLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclave_workspace, "DropApi", _Forging)
    _Forging.asked, drop = [], lab.new("drop")
    told = lab.run(lab.approved(), "print('a drop')", drop=drop)
    # It asked again, with another nonce, and went with the keeper's own word.
    assert len({ask.nonce for ask in _Forging.asked}) == 2
    charged = [one for one in lab.json("quota", "minilm", by="dana")["drops"] if one["drop"] == told["drop"]]
    assert len(charged) == 1


@pytest.mark.heavy
def test_without_a_ticket_no_byte_leaves(lab: WorkspaceLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclave_workspace, "DropApi", _Silent)
    before, drop = lab.json("quota", "minilm", by="dana"), lab.new("drop")

    def cut() -> None:
        time.sleep(4)
        lab.ways[-1].cut = True

    refused = lab.run(lab.approved(), "print('kept inside')", drop=drop, exit_code=3, while_it_runs=cut)
    # The lease ended while it waited; the launcher has nothing, not even a part.
    assert refused["code"] == "lease-lost"
    assert not drop.exists()
    assert not list(drop.parent.glob(f".{drop.name}*"))
    assert lab.json("quota", "minilm", by="dana") == before


def test_when_the_lease_ends_nothing_leaves(lab: WorkspaceLab) -> None:
    before, drop = lab.json("quota", "minilm", by="dana"), lab.new("drop")
    request = lab.approved()

    def revoke() -> None:
        # Once it sleeps: the release is in the log then.
        while lab.deployment.call("ended", request=str(request.digest), use=1, wait=0) != {"reason": ""}:
            time.sleep(0.2)
        time.sleep(2)
        lab.deployment.control(lab.deployment.request(Action.REVOKE_GRANT, target=request.digest))

    code = "import time; print('working', flush=True); time.sleep(60)"
    refused = lab.run(request, code, drop=drop, exit_code=3, while_it_runs=lambda: _patiently(revoke))
    assert refused["code"] == "grant-revoked"
    assert not drop.exists()
    assert lab.json("quota", "minilm", by="dana") == before


def _patiently(work: Any) -> None:
    # Before its release the keeper knows no such lease.
    for _ in range(100):
        try:
            work()
        except Exception:  # noqa: BLE001 - tried until it is there
            time.sleep(0.2)
        else:
            return


@pytest.mark.heavy
def test_killed_between_ticket_and_drop_it_is_charged_once(lab: WorkspaceLab, monkeypatch: pytest.MonkeyPatch) -> None:
    charged: list[Envelope] = []

    class Killing(DropApi):
        """The keeper is killed after it signed; what it signed gets lost."""

        def leave(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
            word = super().leave(delivery, ask)
            charged.append(word)
            if len(charged) == 1:
                lab.deployment.kill("keeper")
                lab.deployment.start("keeper", more=["--lease-seconds", "15"])
                raise UnavailableError("the answer got lost")
            return word

    monkeypatch.setattr(enclave_workspace, "DropApi", Killing)
    drop = lab.new("drop")
    request = lab.approved(max_uses=2)
    told = lab.run(request, "print('found something')", drop=drop)
    first, last = (json.loads(word.payload) for word in (charged[0], charged[-1]))
    assert (first["log_index"], first["bits"]) == (last["log_index"], last["bits"]) == (told["charged"], told["bits"])
    monkeypatch.undo()
    monkeypatch.setattr(enclave_workspace, "workspace_image", workspaces.light_image)
    for module in (enclave_options, enclave_order):
        monkeypatch.setattr(module, "measure_image", workspaces.light_measure)
    # The launcher's file got lost as well: the same code lets the same bytes out, under the same charge.
    again = lab.run(lab.again(request), "print('found something')", drop=lab.new("drop"))
    assert (again["charged"], again["drop"]) == (told["charged"], told["drop"])


@pytest.mark.heavy
def test_refused_it_stays_refused_and_charged(lab: WorkspaceLab) -> None:
    drop = lab.new("drop")
    told = lab.run(lab.approved(), "print('weights, rather')", drop=drop)
    done = lab.json("review", drop, "--identity", lab.identity("sam"), "--refuse", "--yes", by="sam")
    assert done["outcome"] == "refuse"
    late = lab.json(
        "review", drop, "--identity", lab.identity("sam"), "--accept", lab.new("late"), "--yes", by="sam", code=9
    )
    assert late["code"] == "drop-reviewed"
    shown = [one for one in lab.json("quota", "minilm", by="dana")["drops"] if one["drop"] == told["drop"]]
    assert [one["outcome"] for one in shown] == ["refuse"]


@pytest.mark.heavy
def test_what_isnt_for_research_is_refused_before_weights_are_opened(lab: WorkspaceLab) -> None:
    drop = lab.new("drop")
    refused = lab.run(lab.approved(purpose=Purpose.EVALUATE), "print('x')", drop=drop, exit_code=3)
    assert refused["code"] == "workspace-purpose"
    assert not drop.exists()


def test_only_enclaves_ask_and_only_people_look(lab: WorkspaceLab) -> None:
    person, enclave = lab.broker.caller(), lab.broker.caller("host", enclave=True)
    digest = "sha256:" + "0" * 64
    ask: dict[str, Json] = {"use": 1, "recipient": digest, "nonce": "A" * 43 + "=", "digest": digest, "bytes": 1}
    body: Any = {"delivery": {"payloadType": "x", "payload": "", "signatures": []}, "ask": ask}
    for path in ("/v1/workspaces/inputs", "/v1/workspaces/drops"):
        assert person.post(path, body).json["code"] == "other-party"
        assert enclave.post(path, body).json["code"] == "bad-signature"
        for wrong in ({**ask, "bytes": 0}, {**ask, "nonce": "AAAA"}, {**ask, "more": 1}):
            assert enclave.post(path, {**body, "ask": wrong}).status == 400
    assert enclave.get("/v1/models/minilm/drops").json["code"] == "other-party"
    assert person.get("/v1/models/nothing/drops").json == {"drops": []}
    assert person.get("/v1/models/NOTHING/drops").status == 400
