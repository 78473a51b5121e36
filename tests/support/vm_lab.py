"""A measured virtual machine against a real keeper: image, software TPM, QEMU, deployment, each as it is.

Needs QEMU, OVMF, a cloud kernel with its modules, squashfs-tools, cryptsetup-bin, a static busybox and swtpm:
``tools/install-guest-packages``.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.reference_values import ReferenceImage
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId, PlatformId
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.launch.relay import Challenged, Opened, Released
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.vm.adapters.build import Recipe, build
from strongroom.enclave.vm.adapters.qemu import VmLaunch, VmRunner
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.machine import QEMU, Accelerator
from strongroom.enclave.vm.prediction import Prediction, launched, reference_image
from strongroom.enclave.vm.wiring import predict_image, run
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.dossier import Dossier, Testimony
from strongroom.release.lease import LeaseAsk, LeaseProof
from support import tiny_llama
from support.attested import Attested, Sealed, envelope
from support.deployment import Deployment

IMAGE = ImageId("vm-answers")
UID = 65534
MEMORY = 768
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SUPPORT = Path(__file__).resolve().parent
FACTS = {
    "sibling": "/etc/strongroom/command.json",
    "sealed": "/sealed",
    "tmp": "/tmp",  # noqa: S108 - inside the machine
    "home": "/root",
    "socket": "/run/keeper.sock",
    "abstract": "keeper",
}


def guest_kernel() -> tuple[Path, Path] | None:
    """Return the newest installed cloud kernel and its modules."""
    found = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"), key=lambda path: path.stat().st_mtime)
    pairs = [(one, Path("/lib/modules") / one.name.removeprefix("vmlinuz-")) for one in reversed(found)]
    return next((pair for pair in pairs if pair[1].is_dir()), None)


def require_tools(*, boot: bool) -> tuple[Path, Path]:
    """Skip the calling test, with the reason, where an image can't be built (or booted); returns kernel and modules."""
    kernel = guest_kernel()
    needed = {"mksquashfs": "squashfs-tools", "veritysetup": "cryptsetup-bin", "busybox": "busybox-static"}
    needed |= {QEMU: "qemu-system-x86", "swtpm": "swtpm"} if boot else {}
    missing = [
        package
        for program, package in needed.items()
        if shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin") is None
    ]
    missing += [] if FIRMWARE.is_file() else ["ovmf"]
    missing += [] if kernel else ["linux-image-cloud-amd64"]
    if missing or kernel is None:
        pytest.skip(f"not on this host: {', '.join(missing)} (tools/install-guest-packages)")
    return kernel


def open_to_others(folder: Path) -> None:
    """Let QEMU's user pass through a folder of pytest's and those above it."""
    for one in (folder, *folder.parents):
        if one.stat().st_uid == os.geteuid() and one not in map(Path, ("/", "/tmp")):  # noqa: S108 - only named
            one.chmod(one.stat().st_mode | 0o011)


def recipe(code: Path | None, command: tuple[str, ...], kernel: tuple[Path, Path], **changes: Any) -> Recipe:
    """Return how the tests' image is built."""
    made = Recipe(
        image=IMAGE,
        code=code,
        command=command,
        kernel=kernel[0],
        modules=kernel[1],
        firmware=FIRMWARE,
        variables=VARIABLES,
        memory_mib=MEMORY,
        cpus=1,
        model_bytes=64 << 20,
    )
    return replace(made, **changes)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in an image, and what it opens. Each is given a folder of its own."""

    recipe: Callable[[Path, tuple[Path, Path]], Recipe]
    plain: Callable[[Path], object]


def _attempts(code: Path, kernel: tuple[Path, Path]) -> Recipe:
    (code / "support").mkdir(parents=True)
    shutil.copyfile(SUPPORT / "vm_attempts.py", code / "vm_attempts.py")
    shutil.copyfile(SUPPORT / "escape_calls.py", code / "support" / "escape_calls.py")
    return recipe(code, ("vm_attempts.py", json.dumps(FACTS)), kernel)


def _small_model(plain: Path) -> None:
    (plain / "config.json").write_text('{"answer": 42}')
    (plain / "model.bin").write_bytes(bytes(1 << 20))


def _engine(_code: Path, kernel: tuple[Path, Path]) -> Recipe:
    engine = BuiltIn.NUMPY
    return recipe(None, engine.command, kernel, packages=engine.packages, environment=(OUTPUT,))


ATTEMPTS = Contents(_attempts, _small_model)
"""A command that tries to get out."""
ENGINE = Contents(_engine, tiny_llama.make)
"""A Llama behind the metered channel."""


class Passed(io.BytesIO):
    """What came out, kept."""


@dataclass
class Way:
    """The way from the launcher to the keeper's socket."""

    lab: VmLab
    request: Envelope
    approvals: tuple[Envelope, ...]
    times: dict[str, float] = field(default_factory=dict)
    evidence: bytes = b""
    """What the agent handed in."""

    def keeper(self, operation: str, **members: Json) -> Fields:
        """Call the keeper, from any thread."""

        async def call() -> Fields:
            client = UnixClient(self.lab.attested.deployment.home / "run" / "keeper.sock")
            try:
                return await client.call(operation, **members)
            finally:
                await client.close()

        return asyncio.run(call())

    def challenge(self, request: Digest, platform: PlatformId) -> Challenged:
        """Ask the keeper."""
        self.times["asked"] = time.monotonic()
        with self.keeper("challenge", request=str(request), platform=platform) as told:
            told.instant("expires")
            return Challenged(told.text("challenge"), told.binary("nonce"))

    def release(self, request: Digest, platform: PlatformId, challenge: str, evidence: bytes) -> Released:
        """Hand the keeper a dossier."""
        assert (request, platform) == (self.request.digest, self.lab.attested.platform)
        self.times["attested"], self.evidence = time.monotonic(), evidence
        assert self.lab.attested.record is not None
        testimony = Testimony(challenge=challenge, platform=self.lab.attested.record, evidence=evidence)
        dossier = Dossier(
            request=self.request, approvals=self.approvals, testimony=testimony, wrapped=self.lab.sealed.wrapped
        )
        with self.keeper("release", dossier=dossier.to_json()) as told:
            self.times["released"] = time.monotonic()
            return Released(envelope(told.value("delivery")), told.text("result", max_length=1 << 18))

    def renew(self, request: Digest, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope:
        """Nothing is renewed: the lease outlives the test."""
        del request, ask, proof
        raise UnavailableError("no broker here")

    def lease_end(self, request: Digest, use: int, *, wait: int) -> str:
        """Nobody ends it."""
        del request, use
        time.sleep(min(wait, 1))
        return ""


@dataclass
class Ran:
    """How one start went."""

    status: ExitStatus | None
    error: StrongroomError | None
    out: bytes
    err: bytes
    times: dict[str, float]
    evidence: bytes


@dataclass
class VmLab:
    """An image, what was predicted for it, and a deployment that wants it."""

    attested: Attested
    sealed: Sealed
    folder: Path
    image: VmImage
    prediction: Prediction
    entry: ReferenceImage

    def launch(self, image: VmImage, folder: Path, tpm: Path) -> VmLaunch:
        """Return a start of an image on a TPM."""
        return VmLaunch(
            image=image, folder=folder, sealed=self.sealed.path, tpm=tpm, accelerator=Accelerator.TCG, uid=UID
        )

    def approved(self) -> tuple[Order, Way]:
        """Ask and approve; returns the order for the machine, and the way to the keeper."""
        request, approvals = self.attested.approved(self.sealed, image=IMAGE, measurement=self.entry.measurement)
        manifest = self.sealed.sealed.manifest
        order = Order(
            genesis=self.attested.deployment.genesis,
            request=request.digest,
            model=manifest.model,
            version=manifest.version,
            manifest=self.sealed.sealed.envelope,
            sealed="/elsewhere",
            command=("/bin/sh",),
            measurements=(),
        )
        return order, Way(self, request, approvals)

    def run(self, image: VmImage | None = None, folder: Path | None = None, genesis: Genesis | None = None) -> Ran:
        """Ask, approve, start, and run to the end."""
        order, way = self.approved()
        order = replace(order, genesis=genesis or order.genesis)
        out, err = Passed(), Passed()
        status, error = None, None

        def opened(facts: Opened) -> None:
            assert facts.files
            way.times["opened"] = time.monotonic()

        with vm_tpm(self.attested.tpm) as tpm:
            way.times["started"] = time.monotonic()
            try:
                status = run(
                    self.launch(image or self.image, folder or self.folder, tpm),
                    order,
                    way,
                    opened=opened,
                    out=out,
                    err=err,
                    seconds=600,
                )
            except StrongroomError as caught:
                error = caught
            way.times["ended"] = time.monotonic()
        return Ran(status, error, out.getvalue(), err.getvalue(), way.times, way.evidence)


@contextmanager
def vm_tpm(tpm: SoftwareTPM) -> Iterator[Path]:
    """Hand a TPM that is powered off to a machine: the same state, on a control socket, opened to QEMU's user."""
    tpm.stop()
    folder = tpm.folder / "machine"
    folder.mkdir(exist_ok=True)
    open_to_others(folder)
    control = folder / "control.sock"
    control.unlink(missing_ok=True)
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tpm.state}", "--terminate"]
    command += ["--ctrl", f"type=unixio,path={control},mode=0666", "--log", f"file={folder / 'swtpm.log'}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder) as process:
        until = time.monotonic() + 10
        while not control.exists() and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield control
        finally:
            process.terminate()


@contextmanager
def vm_lab(folder: Path, tpm: SoftwareTPM, kernel: tuple[Path, Path], contents: Contents = ATTEMPTS) -> Iterator[VmLab]:
    """Build, predict, found, adopt the prediction, enrol and seal."""
    image = build(contents.recipe(folder / "code", kernel), folder / "image")
    open_to_others(folder)
    with Deployment.found(folder / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper", more=["--lease-seconds", "3000"])
        deployment.adopt_first()
        _, prediction = predict_image(folder / "image", deployment.genesis.digest)
        attested = Attested(deployment, tpm, launched(image, deployment.genesis.digest))
        entry = reference_image(image, prediction)
        attested.adopt_reference_values(entry)
        attested.enrol()
        plain = folder / "plain"
        plain.mkdir()
        contents.plain(plain)
        sealed = attested.seal(plain, folder / "model.sealed")
        yield VmLab(attested, sealed, folder / "image", image, prediction, entry)


def with_word(image: VmImage, word: str) -> VmImage:
    """Return an image whose kernel is started with one more word."""
    return replace(image, command_line_template=f"{image.command_line_template} {word}")


__all__ = [
    "IMAGE",
    "Ran",
    "VmLab",
    "VmRunner",
    "open_to_others",
    "recipe",
    "require_tools",
    "vm_lab",
    "vm_tpm",
    "with_word",
]
