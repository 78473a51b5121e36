"""Launching a workspace on this machine: its image, its input, the asking, and the file that comes out."""

from __future__ import annotations

import fcntl
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, StrongroomError, UnavailableError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId
from strongroom.egress.archive import MAX_ARCHIVE, MAX_FILES, Archive, ArchivedFile
from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.drop.words import ENVIRONMENT, INPUT, PART, SCRIPTS, refused
from strongroom.enclave.image import Image
from strongroom.enclave.launch.relay import Opened, ReleasePort, relay
from strongroom.enclave.launch.wiring import AGENT, Launch, tpm_transport
from strongroom.enclave.sandbox import process_profile
from strongroom.enclave.script.notebook import code_cells
from strongroom.release.drop import PassageAsk
from strongroom.release.drop_file import MAX_FILE

COMMAND: Final = ("python", "-m", "strongroom.enclave.script.wiring")
SCRATCH_BYTES: Final = 128 << 20
"""Memory that a workspace's code may write, its drop included. Measured."""
_LOWEST_ROOM: Final = 64 << 20
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class WorkspacePort(Protocol):
    """The broker, as a workspace's launcher sees it. Called from other threads than the rest."""

    def begin(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
        """Have an input recorded.

        :raises StrongroomError: the keeper refuses, or there was no answer.
        """
        ...

    def leave(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
        """Have a drop charged.

        :raises StrongroomError: the keeper refuses, or there was no answer.
        """
        ...


def workspace_image(image: ImageId, sealed: Path, *, input_bytes: int = 0, room: int | None = None) -> Image:
    """Return the image of a workspace beside a sealed model. What is run in it isn't part of it.

    :param input_bytes: what is handed in; its room isn't measured, like that of the weights.
    :param room: bytes of memory for the opened weights; by default what the sealed directory takes, and a tenth more.
    :raises UsageError: no such sealed directory.
    """
    if not sealed.is_dir():
        raise UsageError("a workspace needs a sealed directory")
    size = sum(path.stat().st_size for path in sealed.rglob("*") if path.is_file())
    code_roots, links = python_roots()
    profile = process_profile(
        code_roots=code_roots,
        sealed_roots=(str(sealed.resolve()),),
        links=links,
        model_bytes=(room or size + size // 10 + _LOWEST_ROOM) + 2 * input_bytes,
        scratch_bytes=SCRATCH_BYTES,
        environment=ENVIRONMENT,
    )
    paths = sysconfig.get_paths()
    return Image(
        image=image,
        command=COMMAND,
        profile=profile,
        interpreter=sys.executable,
        trees={
            "standard-library": paths["stdlib"],
            "packages": paths["platlib"],
            "strongroom": str(Path(__file__).resolve().parents[2]),
        },
    )


def pack_input(code: Path, folder: Path | None) -> bytes:
    """Return the archive of what is handed in: one script or notebook, and what lies in a folder.

    :raises UsageError: the code is neither, or there is something in the folder that isn't a file or a folder.
    :raises MalformedError: a notebook that isn't one, a name that isn't taken, or too much.
    """
    names = {Path(name).suffix: name for name in SCRIPTS}
    if code.suffix not in names or not code.is_file():
        raise UsageError("a workspace runs one Python script (`.py`) or notebook (`.ipynb`)")
    data = _read(code, MAX_ARCHIVE)
    if code.suffix == ".ipynb":
        # Found out here, and not after a release was used for it.
        code_cells(data)
    files, room = [ArchivedFile(names[code.suffix], data)], MAX_ARCHIVE - len(data)
    for path in sorted(folder.rglob("*")) if folder else ():
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UsageError(f"`{path}` is neither a file nor a folder", remedy="hand in copies, not links")
        if path.is_dir():
            continue
        if len(files) > MAX_FILES:
            raise UsageError(f"a workspace's input has at most {MAX_FILES} files")
        assert folder is not None  # noqa: S101 - there is nothing to walk otherwise
        name = f"{INPUT}/{path.relative_to(folder).as_posix()}"
        files.append(ArchivedFile(name, _read(path, room)))
        room -= len(files[-1].data)
    return Archive.of(files).to_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run of a workspace: the archive that is handed in, and the new file for what comes out."""

    input: bytes
    drop: Path


def run_workspace(
    launch: Launch,
    work: Work,
    broker: ReleasePort,
    passages: WorkspacePort,
    *,
    opened: Callable[[Opened], None],
    err: IO[bytes],
    seconds: float = 3600.0,
) -> None:
    """Measure into the TPM, start the agent, hand the input in, relay, and write the encrypted drop to its file.

    The file is there when this returns, whole; nothing is there when it raises.

    :raises ConflictError: the drop's file is there already.
    :raises TpmError: the TPM was measured into since its reset.
    :raises SandboxError: the confinement can't be entered.
    :raises StrongroomError: the keeper refused the release, the input or the drop; or the agent failed.
    """
    if work.drop.exists():
        raise ConflictError(f"`{work.drop}` is there already", remedy="choose another name for the drop")
    temporary = work.drop.with_name(f".{work.drop.name}.new")
    transport, handed = tpm_transport(launch.tpm), _sealed(work.input)
    try:
        with TpmDevice(transport) as device, temporary.open("wb") as sink:
            TpmAttester(device).measure(launch.order.measurements)
            inherited = {"tpm": transport.descriptor, "input": handed}
            with ProcessRunner().launch(launch.image.profile, module=AGENT, inherited=inherited) as running:
                drains = [_drain(pipe, err) for pipe in (running.stdout, running.stderr)]
                try:
                    aside = _Passages(passages, sink)
                    relay(running, launch.order, broker, opened=opened, seconds=seconds, aside=aside)
                finally:
                    running.kill()
                    for drain in drains:
                        drain.join(10)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.rename(work.drop)
    finally:
        os.close(handed)
        temporary.unlink(missing_ok=True)


class _Passages:
    """Carries the agent's asking to the keeper, and what it sends into a file."""

    def __init__(self, port: WorkspacePort, sink: IO[bytes]) -> None:
        self._port = port
        self._sink = sink
        self._room = MAX_FILE

    def hear(self, told: Fields, delivery: Envelope, tell: Callable[[Json], None]) -> bool:
        """Take a message of the drop's; see :mod:`strongroom.enclave.drop.words`."""
        if told.optional("part"):
            part = told.binary("part", max_length=PART)
            self._room -= len(part)
            if self._room < 0:
                raise UnavailableError("the enclave sends more than a drop may have")
            self._sink.write(part)
            return True
        for word, ask_keeper in (("begin", self._port.begin), ("leave", self._port.leave)):
            if told.optional(word):
                with told.child(word) as child:
                    ask = PassageAsk.read(child)
                # A call that hangs must hold up no lease.
                work = _Carrying(ask_keeper, delivery, ask, tell)
                threading.Thread(target=work.carry, daemon=True).start()
                return True
        return False


@dataclass(frozen=True, slots=True)
class _Carrying:
    """One asking on its way to the keeper and back."""

    ask_keeper: Callable[[Envelope, PassageAsk], Envelope]
    delivery: Envelope
    ask: PassageAsk
    tell: Callable[[Json], None]

    def carry(self) -> None:
        """Ask, and tell the agent what came of it."""
        try:
            self.tell({"word": self.ask_keeper(self.delivery, self.ask).to_json()})
        except UnavailableError:
            # No answer is none: the agent asks again, until it has waited long enough.
            return
        except StrongroomError as error:
            self.tell(refused(error))


def _sealed(data: bytes) -> int:
    """Return a descriptor of memory that holds ``data`` and that nobody can change any more."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UsageError(f"a workspace's input has at most {MAX_ARCHIVE} bytes")
    return data


def _drain(source: IO[bytes], sink: IO[bytes]) -> threading.Thread:
    # The command has neither of the two, and the agent gives them up before it starts it: what comes is from before.
    def copy() -> None:
        with suppress(OSError, ValueError):
            while part := os.read(source.fileno(), 65536):
                sink.write(part)
                sink.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread
