"""From an open of a decoy to releases refused, egress dropped and everything on the disk: each hop, in milliseconds.

Real processes: log writer, keeper, broker, responder and its guard; a thief that is a new process each time; a gate
between two network namespaces. What is printed is seen from outside. The thief times its own open. Somebody else asks
the keeper without a pause worth the name how things stand: the last answer by which the model wasn't frozen bounds from
below when releases ended, as the newest packet that got out does for egress; the first answer that calls it frozen, and
a release that is asked about next and must be denied, bound it from above. A sender inside the enclave's namespace
stamps a packet every quarter of a millisecond, and the newest stamp that got out counts. After each run people resume
the model, with two approvals, and the gate is opened again. How long one question takes is printed.

    python benchmarks/containment.py [--runs N]

Root, fanotify, nftables and swtpm are needed.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import structlog

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.canonical import Json
from strongroom.enclave.gate.adapters import tools
from strongroom.enclave.gate.rules import Quotas, open_rules
from strongroom.enclave.gate.settings import GateSettings
from strongroom.enclave.gate.wiring import Gate
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.dossier import Dossier
from support.attested import Attested
from support.deployment import MODEL, Deployment
from support.gates import PEER, PORT, inside, settings, two_namespaces
from support.responders import ResponderLab, opens, plant, responder_lab

WARM_UP = 5
PAUSE = 0.0002
SENDER = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    while True:
        try:
            sender.sendto(b"%020d" % time.monotonic_ns(), (sys.argv[1], int(sys.argv[2])))
        except OSError:
            pass
        time.sleep(0.00025)
"""
GOALS = {"open denied": 1.0, "releases last allowed": 5.0, "egress dropped": 5.0, "record on the disk": 50.0}


class Prober:
    """Asks the keeper, from a thread of its own, how things stand, until the model is frozen and a release denied."""

    def __init__(self, sock: Path, dossier: Json) -> None:
        self._sock, self._dossier = sock, dossier
        self._asking, self._ended = threading.Event(), threading.Event()
        self.open = self.frozen = self.refused = 0
        self.took: list[float] = []
        """How long each question and its answer took, in milliseconds: so much later than it was true is it seen."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()), daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Ask until the model is frozen, and then whether a release would be allowed."""
        self._ended.clear()
        self._asking.set()

    def end(self) -> None:
        """Wait for both answers."""
        if not self._ended.wait(10):
            sys.exit("the model wasn't frozen within ten seconds")

    async def _ask(self) -> None:
        client = UnixClient(self._sock)
        while True:
            await asyncio.sleep(PAUSE)
            if not self._asking.is_set():
                continue
            began = time.monotonic_ns()
            status = await client.call("status")
            self.frozen = time.monotonic_ns()
            self.took.append((self.frozen - began) / 1e6)
            if MODEL not in status.texts("frozen", most=1000):
                self.open = self.frozen
                continue
            answer = await client.call("explain", dossier=self._dossier)
            self.refused = time.monotonic_ns()
            if "model-frozen" not in json.dumps([answer.value("checks"), answer.value("others")]):
                os._exit(1)
            self._asking.clear()
            self._ended.set()


@contextmanager
def gate_with_traffic(made: GateSettings, folder: Path) -> Iterator[tuple[Gate, socket.socket]]:
    """Open a gate, and have a sender inside say what time it is."""

    def listen() -> socket.socket:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
        found.bind((PEER, PORT))
        found.settimeout(0)
        return found

    with two_namespaces(made):
        gate = Gate(made, folder)
        gate.open()
        with inside(made.world, listen) as listener:
            command = ["ip", "netns", "exec", made.enclave, sys.executable, "-c", SENDER, PEER, str(PORT)]
            sender = subprocess.Popen(command)
            try:
                yield gate, listener
            finally:
                sender.kill()
                sender.wait()


def newest(listener: socket.socket) -> int:
    """Return the newest stamp that got out."""
    stamp = 0
    with suppress(BlockingIOError):
        while True:
            stamp = max(stamp, int(listener.recv(64)))
    return stamp


def reopen(made: GateSettings, state: Path) -> None:
    """Open a shut gate again, in its namespace as it is."""
    (state / f"{made.name}.frozen").unlink(missing_ok=True)
    quotas = Quotas(through_out=made.bytes_out, through_in=made.bytes_in, used_out=0, used_in=0)
    tools.load(made.namespace, open_rules(made, quotas))


def approved(attested: Attested, folder: Path) -> Json:
    """Return the dossier of an approved release of a sealed model."""
    attested.adopt_reference_values()
    attested.enrol()
    attested.measure()
    (folder / "plain").mkdir()
    (folder / "plain" / "model.bin").write_bytes(os.urandom(1 << 16))
    sealed = attested.seal(folder / "plain", folder / "sealed")
    request, approvals = attested.approved(sealed, max_uses=1000)
    return Dossier(request=request, approvals=approvals, wrapped=sealed.wrapped).to_json()


def measure(
    lab: ResponderLab, prober: Prober, made: GateSettings, listener: socket.socket, runs: int
) -> list[dict[str, float]]:
    """Have a decoy opened so many times."""
    (decoy,) = plant(lab, "model-00007-of-00009.floe")
    state = lab.folder / "gates"
    gates = [{"settings": str(lab.folder / "gate.json"), "state": str(state), "models": [MODEL]}]
    lab.start(gates=gates)
    rows = []
    for run in range(runs + WARM_UP):
        time.sleep(0.01)
        newest(listener)
        prober.begin()
        opened = opens(decoy)
        if opened["errno"] != errno.EPERM:
            sys.exit("the decoy was opened")
        prober.end()
        began = opened["began"]
        done = lab.done(run + 1)[run]
        time.sleep(0.02)
        left, times = newest(listener), done["times"]
        assert isinstance(times, dict)
        if done["failed"]:
            sys.exit(f"not all was done: {done['failed']}")
        said = {name: (int(str(at)) - began) / 1e6 for name, at in times.items()}
        rows.append(
            {
                "the guard answered": said["opened"],
                "open denied": (opened["ended"] - began) / 1e6,
                "the responder decided": said["decided"],
                "the keeper was told": said["asked"],
                "releases last allowed": (prober.open - began) / 1e6,
                "the keeper says frozen": (prober.frozen - began) / 1e6,
                "a release is denied, seen": (prober.refused - began) / 1e6,
                "egress dropped": max(0.0, (left - began) / 1e6),
                "the kernel's rules read back": said["dropped"],
                "record on the disk": said["recorded"],
                "freeze in the log, synced": said["logged"],
            }
        )
        lab.resume()
        reopen(made, state)
    return rows[WARM_UP:]


def _told(values: list[float]) -> str:
    return f"p50 {statistics.median(values):.3f}, p99 {statistics.quantiles(values, n=100)[98]:.3f} ms"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="containment latency")
    parser.add_argument("--runs", type=int, default=200, help="times that the decoy is opened (at most 240)")
    runs = min(parser.parse_args().runs, 240)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if not SoftwareTPM.available():
        sys.exit("no software TPM: install swtpm and swtpm-tools")
    made = settings("bench", bytes_out=1 << 40, bytes_in=1 << 40, block_bytes=1 << 38, connections=64)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "gate.json").write_text(json.dumps(made.to_json()))
        with (
            SoftwareTPM(place / "tpm") as tpm,
            responder_lab(place, Deployment.found(place / "home")) as lab,
            gate_with_traffic(made, place / "gates") as (_gate, listener),
        ):
            dossier = approved(Attested(lab.deployment, tpm), place)
            prober = Prober(lab.deployment.home / "run" / "keeper.sock", dossier)
            rows = measure(lab, prober, made, listener, runs)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load {load}; a question to the keeper and its answer: {_told(sorted(prober.took))}")
    print(f"{len(rows)} runs, milliseconds since the thief's open began, on {os.cpu_count()} cores")
    print(f"{'':<30} {'p50':>8} {'p99':>8} {'worst':>8}   goal, p99")
    for hop in rows[0]:
        values = sorted(row[hop] for row in rows)
        p99 = statistics.quantiles(values, n=100)[98]
        goal = f"{GOALS[hop]:.0f}: {'kept' if p99 <= GOALS[hop] else 'MISSED'}" if hop in GOALS else ""
        print(f"{hop:<30} {statistics.median(values):>8.3f} {p99:>8.3f} {values[-1]:>8.3f}   {goal}")


if __name__ == "__main__":
    main()
