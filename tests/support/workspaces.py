"""A workspace in a real process enclave: keeper, log writer, broker, TPM, agent and launcher as they are.

People's acts and the launcher's go through the broker, with wallets of their own; the release itself over the keeper's
socket. The installation isn't measured as a whole, which would take seconds; what is measured is adopted and compared.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from strongroom.access.policy import POLICY_TYPE
from strongroom.access.request import Purpose
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.measure_files import measure_trees
from strongroom.attestation.measurement import Measurement
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE
from strongroom.cli import enclave_workspace
from strongroom.client.adapters.wallet_folder import TLS_CERTIFICATE, TLS_KEY, WalletFolder
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.egress.bits import Output
from strongroom.egress.policies import EGRESS_TYPE, EgressPolicies
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.image import Image, measured
from strongroom.enclave.workspace.wiring import workspace_image
from strongroom.keys.adapters.identity_file import create_identity
from strongroom.keys.recipient import public_text
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.release.drop import REVIEWER
from strongroom.release.drop_statements import DROP_KEY_TYPE, DropKey
from support.attested import IMAGE, Attested, Sealed
from support.brokers import RunningBroker, broker_beside
from support.deployment import MODEL, ROOTS, TESTS, Deployment, signer
from support.leased import Release, Way

REVIEWERS = ("sam",)


def roomy(**changes: Any) -> EgressPolicy:
    """Return a policy under which files may leave: of a thousand billion parameters, 10 million bits each a year."""
    made = EgressPolicy.template(MODEL, parameters=10**12, vocabulary=512)
    return replace(made, **{"outputs": (Output.TOKENS, Output.BYTES), "workspace_person_bits": 10_000_000, **changes})


def light_image(image: str, sealed: Path, *, input_bytes: int = 0) -> Image:
    """Return the workspace's image, of which only a small folder is measured."""
    made = workspace_image(IMAGE, sealed, input_bytes=input_bytes)
    assert image == IMAGE
    return replace(made, trees={"command": str(TESTS / "support" / "webauthn_page")})


def light_measure(image: Image, genesis: Genesis) -> tuple[Measurement, ...]:
    """Measure it."""
    return measured(
        image,
        interpreter=Digest.of(b"interpreter"),
        files=measure_trees({name: Path(tree) for name, tree in image.trees.items()}),
        genesis=genesis.digest,
    )


@dataclass
class WorkspaceLab:
    """Everything that a researcher and a reviewer need."""

    folder: Path
    attested: Attested
    sealed: Sealed
    broker: RunningBroker
    ways: list[Way] = field(default_factory=list)
    """The way of each launch, newest last."""
    _names: int = 0

    @property
    def deployment(self) -> Deployment:
        """The deployment."""
        return self.attested.deployment

    def store(self, egress: EgressPolicies) -> None:
        """Have the broker keep the documents in force; they were adopted before it ran."""
        caller, values = self.broker.caller(), self.attested.values
        assert values is not None
        for kind, form, payload in (
            ("roster", ROSTER_TYPE, self.deployment.roster.to_bytes()),
            ("policy", POLICY_TYPE, self.deployment.policy.to_bytes()),
            ("reference-values", REFERENCE_VALUES_TYPE, values.to_bytes()),
            ("egress", EGRESS_TYPE, egress.to_bytes()),
        ):
            answer = caller.post(f"/v1/documents/{kind}", {"envelope": sign(form, payload, *ROOTS).to_json()})
            assert answer.status == 200, answer.text

    def new(self, name: str) -> Path:
        """Return a path where nothing is yet."""
        self._names += 1
        return self.folder / f"{self._names}-{name}"

    def wallet(self, name: str, *, enclave: bool = False) -> Path:
        """Return a wallet with a certificate, bound to the broker."""
        path = self.folder / f"wallet-{name}"
        if path.exists():
            return path
        WalletFolder.create(path, PersonId(name), lambda _size: Digest.of(name.encode()).value, passphrase=None)
        authority = self.broker.authority()
        url = f"https://127.0.0.1:{self.broker.port}"
        WalletFolder(path, _nobody).bind(url, self.deployment.genesis, authority.certificate)
        issue = authority.issue_enclave if enclave else authority.issue_person
        issued = issue(name, at=int(time.time()), life=timedelta(hours=1))
        issued.save(path / TLS_CERTIFICATE, path / TLS_KEY)
        return path

    def identity(self, name: str) -> Path:
        """Return a person's recipient identity; it is made, and recorded for drops, the first time."""
        file = self.folder / f"{name}.identity"
        if not file.exists():
            public = create_identity(file, os.urandom, passphrase=None)
            file.with_name(file.name + ".pub").write_text(public_text(public) + "\n")
            key = DropKey(genesis=self.deployment.genesis.digest, person=PersonId(name), public=public)
            self.state("drop-key", sign(DROP_KEY_TYPE, key.to_bytes(), signer(name)))
        return file

    def state(self, kind: str, envelope: Envelope) -> None:
        """Have a statement recorded."""
        self.deployment.call("state", kind=kind, envelope=envelope.to_json())

    def approved(self, **members: object) -> Envelope:
        """Ask for research, and have it approved; the TPM is as after power-on."""
        self.attested.tpm.power_cycle()
        with self.attested.device() as device:
            device.startup()
        request, self._approvals = self.attested.approved(self.sealed, **{"purpose": Purpose.RESEARCH, **members})
        self.broker.caller().post("/v1/requests", {"request": request.to_json()})
        return request

    def again(self, request: Envelope) -> Envelope:
        """Make the TPM ready for one more use of a request."""
        self.attested.tpm.power_cycle()
        with self.attested.device() as device:
            device.startup()
        return request

    def type(self, *arguments: object, by: str, port: Any = None) -> Result:
        """Type ``strongroom enclave workspace`` and these words."""
        group = enclave_workspace.workspace(port, lambda _facts, **_more: None)
        words = [*map(str, arguments), "--as", str(self.wallet(by, enclave=by == "host")), "--json"]
        return CliRunner().invoke(_as_strongroom(group), ["workspace", *words])

    def json(self, *arguments: object, by: str, code: int = 0, port: Any = None) -> Any:
        """Type it, and return what was printed."""
        result = self.type(*arguments, by=by, port=port)
        assert result.exit_code == code, (result.stdout, result.stderr[-3000:], result.exception)
        return json.loads(result.stdout)

    def run(
        self,
        request: Envelope,
        code: str,
        *,
        drop: Path,
        folder: Path | None = None,
        name: str = "code.py",
        exit_code: int = 0,
        while_it_runs: Callable[[], object] = lambda: None,
    ) -> Any:
        """Run code in a workspace; returns what was printed."""
        script = self.new("code")
        script.mkdir()
        (script / name).write_text(code)
        release = self._release(request)

        def port(api: Any) -> Way:
            self.ways.append(Way(release, api))
            threading.Thread(target=while_it_runs, daemon=True).start()
            return self.ways[-1]

        words = ["run", MODEL, "--sealed", self.sealed.path, "--image", IMAGE, "--request", request.digest]
        words += ["--tpm", f"unix:{self.attested.tpm.socket_path}", "--code", script / name, "--drop", drop]
        words += ["--input", folder] if folder else []
        return self.json(*words, by="host", code=exit_code, port=port)

    def _release(self, request: Envelope) -> Release:
        assert self.attested.record is not None
        nothing = Path()
        return Release(
            home=self.deployment.home,
            launch=None,  # type: ignore[arg-type]  # the command line makes its own
            request=request,
            approvals=self._approvals,
            platform=self.attested.record,
            wrapped=self.sealed.wrapped,
            url="",
            authority=nothing,
            certificate=nothing,
            key=nothing,
        )


@contextmanager
def workspace_lab(
    folder: Path,
    tpm: SoftwareTPM,
    *,
    policy: EgressPolicy | None = None,
    seconds: int = 60,
    reviewers: Sequence[str] = REVIEWERS,
) -> Iterator[WorkspaceLab]:
    """Found, start, seal, enrol and measure; leases last ``seconds``."""
    with Deployment.found(folder / "home") as deployment:
        people = tuple(
            replace(one, roles=one.roles | {REVIEWER}) if one.id in reviewers else one
            for one in deployment.roster.people
        )
        deployment.roster = replace(deployment.roster, people=people)
        deployment.start("log")
        deployment.start("keeper", more=["--lease-seconds", str(seconds)])
        deployment.adopt_first()
        egress = adopt_policy(deployment, policy or roomy())
        path = folder / "model.sealed"
        path.mkdir()
        measurements = light_measure(light_image(IMAGE, path), deployment.genesis)
        path.rmdir()
        attested = Attested(deployment, tpm, measurements)
        attested.adopt_reference_values()
        attested.enrol()
        plain = folder / "plain"
        plain.mkdir()
        (plain / "config.json").write_text('{"made": "for a test"}')
        (plain / "model.bin").write_bytes(b"WEIGHTS!" * 4096)
        sealed = attested.seal(plain, path)
        for one in (path, *path.rglob("*")):
            one.chmod(0o755 if one.is_dir() else 0o644)
        broker = broker_beside(deployment.home, deployment.genesis)
        try:
            made = WorkspaceLab(folder, attested, sealed, broker)
            made.store(egress)
            yield made
        finally:
            broker.kill()


def adopt_policy(
    deployment: Deployment, policy: EgressPolicy, *, after: EgressPolicies | None = None
) -> EgressPolicies:
    """Adopt a model's egress policy: the first, or one that follows."""
    document = EgressPolicies(
        genesis=deployment.genesis.digest,
        epoch=after.epoch + 1 if after else 1,
        predecessor=Digest.of(after.to_bytes()) if after else None,
        policies=(policy,),
    )
    deployment.adopt("egress", sign(EGRESS_TYPE, document.to_bytes(), *ROOTS[:2]))
    return document


def _as_strongroom(group: click.Group) -> click.Group:
    """Return the command line that this group is part of: there, refusals become words and exit codes."""
    from strongroom.cli.main import Verbs  # noqa: PLC0415 - beside its only use

    class One(Verbs):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            del ctx, cmd_name
            return group

    return One(name="strongroom")


def _nobody() -> Any:
    raise AssertionError("no passphrase is needed")
