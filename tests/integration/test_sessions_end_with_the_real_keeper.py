"""Broker, keeper and log writer as they are: a login by the roster in force, and its end by a suspension."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.security_key import SoftwareSecurityKey
from stage import free_port
from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.broker.identity_listener import TERMS
from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.console.adapters.console_folder import save_keys
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import DeniedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import ROSTER_TYPE
from support.brokers import Caller, RunningBroker, broker_beside
from support.deployment import ROOTS, Deployment
from support.identity import body_of, log_in, session_caller, wallet
from support.security_keys import Ports

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, RunningBroker]]:
    with Deployment.found(tmp_path_factory.mktemp("home")) as founded:
        founded.start("log")
        founded.start("keeper")
        (founded.home / "broker").mkdir(mode=0o700, exist_ok=True)
        (founded.home / "broker" / "oidc.toml").write_text("required = false\n")
        running = broker_beside(founded.home, founded.genesis, "--identity-port", "0")
        yield founded, running
        assert running.stop() == 0


def roster_with(founded: Deployment, running: RunningBroker, holder: WalletFolder) -> None:
    """Have a first roster adopted, in which dana signs with the wallet's key."""
    people = tuple(
        replace(one, keys=(holder.identity.key, *one.keys[1:])) if one.id == "dana" else one
        for one in founded.roster.people
    )
    roster = replace(founded.roster, people=people)
    envelope = sign(ROSTER_TYPE, roster.to_bytes(), *ROOTS[:2])
    body_of(running.caller("root-0").post("/v1/documents/roster", {"envelope": envelope.to_json()}))


def test_a_suspension_ends_the_session_and_the_next_login(
    deployment: tuple[Deployment, RunningBroker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    founded, running = deployment
    holder = wallet(running, tmp_path / "dana")
    with pytest.raises(DeniedError) as caught:
        log_in(running, holder)
    assert caught.value.reason == "login-denied"
    roster_with(founded, running, holder)
    opened = log_in(running, holder)
    assert opened.until - time.time() > 7 * 3600
    caller = session_caller(running, holder)
    assert caller.get("/v1/state").status == 200
    founded.call("suspend", person="dana", cause="left")
    began = time.monotonic()
    while caller.get("/v1/genesis").status == 200:
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    took = time.monotonic() - began
    assert caller.get("/v1/genesis").json["code"] == "barred"
    with pytest.raises(DeniedError) as caught:
        log_in(running, holder)
    assert caught.value.reason == "login-not-in-standing"
    with capsys.disabled():
        sys.stdout.write(f"\n  suspended at the keeper, refused at the door {took * 1000:.0f} ms later\n")


def console_folder(home: Path, folder: Path) -> Path:
    """Return the folder of a console into which dana may sign in."""
    DevCa.open_or_create(
        home / "broker" / "ca", Genesis.parse((home / "genesis.json").read_bytes()).deployment, at=int(time.time())
    )
    main(["console", "prepare", "--folder", str(folder), "--home", str(home)], standalone_mode=False)
    with pytest.MonkeyPatch.context() as patch:
        ports = Ports(patch, {number: SoftwareSecurityKey(algorithms=(-7,)) for number in ("first", "second")})
        _made, keys = ports.enrol(person=PersonId("dana"), genesis=Digest.of(b"genesis"), rp_id="localhost")
    save_keys(folder, PersonId("dana"), keys)
    return folder


def status_of(port: int, path: str, authority: Path) -> int:
    """Return what is answered at a port of this machine."""
    connection = http.client.HTTPSConnection(
        "localhost", port, context=ssl.create_default_context(cafile=str(authority)), timeout=10
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_up_passes_the_identity_port_on_and_serves_the_console(tmp_path: Path) -> None:
    home, words, run = tmp_path / "home", tmp_path / "words", [sys.executable, "-m", "strongroom.cli.main"]
    words.write_text("only an example, choose your own words")
    founding = ["init", "--home", str(home), "--kdf-memory", "8"]
    for name in ("root-1", "root-2"):
        make = [*run, "people", "keygen", "--id", name, "--out", str(tmp_path / name)]
        (tmp_path / f"{name}.pub").write_bytes(subprocess.run(make, stdout=subprocess.PIPE, check=True).stdout)
        founding += ["--root", str(tmp_path / f"{name}.pub")]
    port, identity_port, origin_port = str(free_port()), free_port(), free_port()
    rising = ["up", "--home", str(home), "--port", port, "--identity-port", str(identity_port)]
    rising += ["--console", str(tmp_path / "console"), "--console-origin", f"https://localhost:{origin_port}"]
    with words.open("rb") as given, words.open("rb") as again:
        asked, asked_again = str(given.fileno()), str(again.fileno())
        subprocess.run([*run, *founding, "--passphrase-fd", asked], pass_fds=[int(asked)], check=True)
        authority = console_folder(home, tmp_path / "console") / "broker-ca.crt"
        (home / "assessments").mkdir()
        process = subprocess.Popen(
            [*run, *rising, "--passphrase-fd", asked_again],
            pass_fds=[int(asked_again)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["console_url"] == f"https://localhost:{origin_port}"
        assert status_of(origin_port, "/sign-in", authority) == 200
        # The console releases nothing: when it ends, what does goes on.
        said = [next(process.stderr)]
        while not said[-1].startswith("console ready"):
            said.append(next(process.stderr))
        console = int(said[-1].partition("pid ")[2].rstrip(")\n"))
        # What the deployment's folder has is given to it, and what is missing is said.
        assert f"--assessments={home / 'assessments'}" in Path(f"/proc/{console}/cmdline").read_text().split("\0")
        lacks = [line for line in said if "the console shows" in line]
        assert len(lacks) == 2
        assert str(home / "responder") in lacks[0]
        assert str(home / "quarantine") in lacks[1]
        os.kill(console, signal.SIGKILL)
        assert "nothing else did" in next(process.stderr)
        assert ready["identity_url"] == f"https://127.0.0.1:{identity_port}"
        context = ssl.create_default_context(cafile=str(home / "broker" / "ca" / "ca.pem"))
        caller = Caller(identity_port, context)
        answer = caller.get(TERMS)
        caller.connection.close()
        assert (answer.status, answer.json["code"]) == (403, "login-not-configured")
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()
        process.stderr.close()
