"""Who has nobody's keys: the network, and other users of the machine. These can be tried on a running deployment.

They change nothing there: each asks once, and is told no.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from strongroom.attacks.attack import attack
from strongroom.attacks.ending import NotRunError, RefusedError
from strongroom.attacks.lab.callers import SECONDS, Caller, trusting
from strongroom.attacks.lab.users import NOBODY, as_user
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.core.clock import SystemClock

GENESIS: Final = "/v1/genesis"
LIFE: Final = timedelta(hours=1)


def _careless() -> ssl.SSLContext:
    """Return the context of who doesn't care whom they speak to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _serves(trial: Trial) -> None:
    """Show that the deployment's own broker answers there, and nothing else that refuses for reasons of its own."""
    target = trial.lab.target
    with trial.honest("the deployment's broker shakes hands there"):
        _shakes_hands(trial, trusting((target.home / "broker" / "ca" / "ca.pem").read_bytes()))
    if not trial.lab.live:
        with trial.honest("it answers whoever has a certificate"):
            trial.scratch.caller("sam").get(GENESIS).done()


def _calls(trial: Trial, context: ssl.SSLContext, path: str = GENESIS, **headers: str) -> object:
    caller = Caller(trial.lab.target.port, context)
    try:
        return caller.call("GET", path, **headers).done()
    finally:
        caller.close()


@attack(
    vectors="CEC-4 BYP-1",
    capacity="OC1",
    measures="SL1-NAC-04 SL2-NST-02",
    layer=Layer.TRANSPORT,
    refusals="tls-refused hung-up",
    outside=True,
)
def no_certificate(trial: Trial) -> None:
    """A stranger calls the broker without any certificate, also claiming an identity in headers."""
    _serves(trial)
    trial.attempt("without one", lambda: _calls(trial, _careless()))
    trial.attempt("another door", lambda: _calls(trial, _careless(), "/v1/log/entries?start=0&count=256"))
    named = {
        "x-forwarded-client-cert": "Subject=CN=root-1",
        "x-remote-user": "root-1",
        "authorization": "Bearer root-1",
    }
    trial.attempt("named in headers", lambda: _calls(trial, _careless(), **named))


@attack(
    vectors="ACS-1",
    capacity="OC3",
    measures="SL1-NAC-04 SL2-NST-02",
    layer=Layer.TRANSPORT,
    refusals="tls-refused hung-up",
    outside=True,
)
def certificate_of_another_authority(trial: Trial) -> None:
    """A stranger makes an authority of the same name, and a root holder's certificate with it."""
    _serves(trial)
    now = SystemClock().now()
    folder = trial.lab.folder("authority")
    issued = DevCa.create(folder / "ca", "scratch", at=now).issue_person("root-1", at=now, life=LIFE)
    certificate, key = folder / "certificate", folder / "key"
    issued.save(certificate, key)
    context = _careless()
    context.load_cert_chain(certificate, key)
    trial.attempt("signed by their own authority", lambda: _calls(trial, context))


@attack(
    vectors="BYP-3 NET-3",
    capacity="OC3",
    measures="SL2-NST-02",
    layer=Layer.TRANSPORT,
    refusals="tls-refused",
    outside=True,
)
def older_tls(trial: Trial) -> None:
    """A client talks the broker down to TLS 1.2, whose flaws are known."""
    _serves(trial)
    with trial.honest("by the same way, TLS 1.3 is spoken"):
        _shakes_hands(trial, _careless())
    context = _careless()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    trial.attempt("TLS 1.2", lambda: _shakes_hands(trial, context))


def _shakes_hands(trial: Trial, context: ssl.SSLContext) -> object:
    try:
        with (
            socket.create_connection(("127.0.0.1", trial.lab.target.port), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            return wrapped.version()
    except ssl.SSLError as error:
        # An alert or a closed line is the server's word; whatever else failed may be this machine's own library.
        told = isinstance(error, ssl.SSLEOFError) or "ALERT" in str(error.reason).upper()
        raise RefusedError("tls-refused" if told else "", str(error)) from error
    except ConnectionResetError as error:
        raise RefusedError("tls-refused", "reset") from error


@attack(
    vectors="BYP-3 NET-3",
    capacity="OC3",
    measures="SL2-NST-02 SL1-WST-02",
    layer=Layer.TRANSPORT,
    refusals="hung-up",
    outside=True,
)
def no_encryption_at_all(trial: Trial) -> None:
    """A client speaks plain HTTP to the broker's port."""
    _serves(trial)

    def speak() -> object:
        connection = http.client.HTTPConnection("127.0.0.1", trial.lab.target.port, timeout=SECONDS)
        try:
            connection.request("GET", GENESIS)
            return connection.getresponse().read()
        except ConnectionRefusedError:
            raise
        except (http.client.HTTPException, ConnectionError) as error:
            raise RefusedError("hung-up", type(error).__name__) from error
        finally:
            connection.close()

    trial.attempt("GET without TLS", speak)


def _as_nobody(trial: Trial, act: Callable[[], object]) -> Callable[[], object]:
    if os.geteuid() != 0:
        raise NotRunError("it needs root, to play another user of this machine")
    # A running deployment may lie in a folder that is closed already; a scratch copy's own modes must do.
    seen = Path("/") if trial.lab.live else trial.lab.target.home
    with trial.honest("another user sees that the place is there"):
        as_user(NOBODY, seen.stat)
    return lambda: as_user(NOBODY, act)


@attack(
    vectors="CEC-4 BYP-3",
    capacity="OC2",
    measures="SL1-WAC-01 SL3-WPI-03",
    layer=Layer.WALLS,
    refusals="EACCES",
    outside=True,
)
def keepers_socket_by_another_user(trial: Trial) -> None:
    """Another user of the machine calls the keeper and the log writer past the broker."""
    home = trial.lab.target.home

    def connect(name: str) -> Callable[[], object]:
        def act() -> object:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.connect(str(home / "run" / name))
                return "connected"

        return act

    with trial.honest("the deployment's own user may"):
        connect("keeper.sock")()
    trial.attempt("the keeper", _as_nobody(trial, connect("keeper.sock")))
    trial.attempt("the log writer", _as_nobody(trial, connect("log.sock")))


@attack(
    vectors="CEC-3 BYP-2",
    capacity="OC2",
    measures="SL1-WAC-01 SL2-WST-02",
    layer=Layer.WALLS,
    refusals="EACCES",
    outside=True,
)
def keepers_files_by_another_user(trial: Trial) -> None:
    """Another user of the machine reads the keyring, the log's key, the authority's key and the database."""
    home = trial.lab.target.home
    names = ("keeper/keyring.json", "log/log.key", "broker/ca/ca.key", "broker/broker.db")
    with trial.honest("the deployment's own user reads them"):
        for name in names:
            _opens(home / name)
    for name in names:
        trial.attempt(name, _as_nobody(trial, lambda n=name: _opens(home / n)))  # type: ignore[misc]


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL3-WST-03 SL4-WTU-01",
    layer=Layer.WALLS,
    refusals="EACCES",
    outside=True,
)
def keepers_memory_by_another_user(trial: Trial) -> None:
    """Another user of the machine reads the keeper's memory, its maps and its open files."""
    pid = _keeper(trial.lab.target.home)
    with trial.honest("root finds the keeper's memory where it is looked for"):
        _opens(Path(f"/proc/{pid}/mem"))
    for name in ("mem", "maps", "environ"):
        trial.attempt(name, _as_nobody(trial, lambda n=name: _opens(Path(f"/proc/{pid}/{n}"))))  # type: ignore[misc]
    trial.attempt("fd", _as_nobody(trial, lambda: [*Path(f"/proc/{pid}/fd").iterdir()]))


def _opens(path: Path) -> str:
    """Open a file for reading, and read none of it: what a running deployment keeps secret stays where it is."""
    with path.open("rb"):
        return "opened"


def _keeper(home: Path) -> int:
    """Return the id of the keeper's process, from who listens on its socket."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(home / "run" / "keeper.sock"))
        return int.from_bytes(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
