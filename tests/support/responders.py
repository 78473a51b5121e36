"""A real deployment with a real responder beside it: a host with decoys, a gate, and a warden in the roster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.access.policy import POLICY_TYPE
from strongroom.access.request import Action
from strongroom.attacks.ending import NotRunError
from strongroom.attacks.lab.guarded import guard_settings, need_guard
from strongroom.client.adapters.wallet_folder import TLS_CERTIFICATE, TLS_KEY, WalletFolder
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.personnel.roster import ROSTER_TYPE, Person, PersonKind
from strongroom.responder.adapters.record_file import read_record
from strongroom.responder.decoys import Decoy, DecoyKind, Decoys
from strongroom.responder.wiring import DECOYS
from support.brokers import RunningBroker
from support.deployment import MODEL, ROOTS, Deployment, signer
from support.forked import Forked, Process, first_said, reap

WARDEN = "warden"
OPENER = Path(__file__).with_name("decoy_opener.py")


def need_fanotify(folder: Path) -> None:
    """Skip where files can't be guarded, and say why."""
    try:
        need_guard(folder)
    except NotRunError as error:
        pytest.skip(f"this kernel or user can't guard files: {error}")


def warden() -> Person:
    """Return the agent that the responder acts as."""
    return Person(
        id=PersonId(WARDEN),
        kind=PersonKind.AGENT,
        sponsor=PersonId("sam"),
        org="security",
        active=True,
        roles=frozenset({"responder"}),
        keys=(signer(WARDEN).public_key,),
    )


def _nobody() -> SecretBytes:
    raise AssertionError("the wallet has no passphrase")


@dataclass
class ResponderLab:
    """The deployment, its broker, the warden's wallet, and where the responder keeps what is its own."""

    folder: Path
    deployment: Deployment
    broker: RunningBroker
    process: Process | None = None
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def wallet(self) -> Path:
        return self.folder / "wallet"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def wallet_of(self, person: str) -> Path:
        """Return the folder of somebody's wallet."""
        return self.wallet if person == WARDEN else self.folder / f"wallet-{person}"

    def make_wallet(self, person: str = WARDEN) -> None:
        """Make somebody's wallet, bound to the broker."""
        wallet = self.wallet_of(person)
        WalletFolder.create(wallet, PersonId(person), lambda _n: Digest.of(person.encode()).value, passphrase=None)
        authority = self.broker.authority()
        url = f"https://127.0.0.1:{self.broker.port}"
        WalletFolder(wallet, _nobody).bind(url, self.deployment.genesis, authority.certificate)
        issued = authority.issue_person(person, at=int(time.time()), life=timedelta(hours=1))
        issued.save(wallet / TLS_CERTIFICATE, wallet / TLS_KEY)

    def start(
        self,
        *,
        response: dict[str, object] | None = None,
        program: str = "strongroom.responder.wiring",
        **settings: object,
    ) -> None:
        """Start the responder, and wait until it guards."""
        made: dict[str, object] = {
            **guard_settings("w1", MODEL),
            "freezes_an_hour": 1000,
            **settings,
        }
        path = self.folder / "responder.json"
        path.write_text(json.dumps(made))
        arguments = ["--home", str(self.deployment.home)]
        arguments += ["--wallet", str(self.wallet), "--settings", str(path), "--state", str(self.state)]
        if response is not None:
            (self.folder / "response.json").write_text(json.dumps(response))
            arguments += ["--response", str(self.folder / "response.json")]
        with (self.folder / "responder.err").open("ab") as errors:
            self.process = Forked(program, arguments, stderr=errors.fileno())
        assert first_said(self.process, self.folder / "responder.err")["ready"] == "responder"

    def stop(self) -> int:
        """Stop the responder by SIGTERM."""
        assert self.process is not None
        process, self.process = self.process, None
        process.terminate()
        return reap(process)

    def kill(self) -> None:
        """End the responder by SIGKILL."""
        assert self.process is not None
        process, self.process = self.process, None
        process.kill()
        reap(process)

    def errors(self) -> str:
        """Return the end of what the responder said."""
        return (self.folder / "responder.err").read_text()[-4000:]

    def facts(self) -> list[dict[str, Json]]:
        """Return the facts of each line of its record, which is checked to be whole."""
        return [json.loads(line)["facts"] for line in read_record(self.state)]

    def done(self, count: int, *, seconds: float = 60.0) -> list[dict[str, Json]]:
        """Wait until so many freezes are done, and return what the record says of each."""
        ends = time.monotonic() + seconds
        while True:
            found = [facts for facts in self.facts() if "times" in facts]
            if len(found) >= count or time.monotonic() > ends:
                assert len(found) >= count, self.errors()
                return found
            time.sleep(0.005)

    def frozen(self) -> bool:
        """Tell whether the keeper says that the model is frozen."""
        frozen = self.deployment.call("status")["frozen"]
        assert isinstance(frozen, list)
        return MODEL in frozen

    def resume(self) -> None:
        """Have people resume the model."""
        request = self.deployment.request(Action.RESUME)
        approvals = [self.deployment.approve(request, by) for by in ("sam", "rina")]
        self.deployment.control(request, *approvals)


@contextmanager
def responder_lab(folder: Path, deployment: Deployment) -> Iterator[ResponderLab]:
    """Start log writer, keeper and broker, with the warden in the roster."""
    with deployment:
        deployment.roster = replace(deployment.roster, people=(*deployment.roster.people, warden()))
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        broker = RunningBroker(deployment.home, deployment.genesis, None)  # type: ignore[arg-type]  # the real one runs
        broker.start()
        lab = ResponderLab(folder, deployment, broker)
        try:
            caller = broker.caller("root-0")
            for kind, form, payload in (
                ("roster", ROSTER_TYPE, deployment.roster.to_bytes()),
                ("policy", POLICY_TYPE, deployment.policy.to_bytes()),
            ):
                answer = caller.post(f"/v1/documents/{kind}", {"envelope": sign(form, payload, *ROOTS).to_json()})
                assert answer.status == 200, answer.text
            lab.make_wallet()
            yield lab
        finally:
            if lab.process is not None:
                lab.stop()
            broker.stop()


def opens(path: Path, *more: str) -> dict[str, int]:
    """Open a file in a process of its own; returns its `errno` (0: it was opened), and when it began and ended."""
    command: Sequence[str] = [sys.executable, "-I", "-S", str(OPENER), str(path), *more]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30, env={"PATH": os.environ["PATH"]})
    told: dict[str, int] = json.loads(done.stdout)
    return told


def plant(lab: ResponderLab, *names: str) -> list[Path]:
    """Plant decoys and give the responder its list, for its next start."""
    paths = [lab.folder / name for name in names]
    for path in paths:
        path.write_bytes(os.urandom(4096))
    now, listed = int(time.time()), lab.state / DECOYS
    before = Decoys.parse(Envelope.parse(listed.read_bytes()).payload).serial if listed.exists() else 0
    decoys = tuple(Decoy(path=str(path), kind=DecoyKind.SHARD, model=MODEL, planted=now) for path in paths)
    made = Decoys(genesis=lab.deployment.genesis.digest, serial=max(before + 1, now), decoys=decoys).sign(
        signer(WARDEN)
    )
    lab.state.mkdir(mode=0o700, exist_ok=True)
    listed.write_bytes(made.to_bytes())
    return paths
