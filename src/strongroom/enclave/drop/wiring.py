"""The agent's part of a workspace, inside: what comes in before the weights do, and the one way out once all has ended.

The order is what it rests on: docs/spec/drop-protocol.md. The input is recorded before any weights are opened; the
command has no output; every process but the agent is gone before its folder is read; no byte is sent without a ticket.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.secret import SecretBytes
from strongroom.egress.archive import MAX_ARCHIVE, Archive
from strongroom.egress.workspace import MAX_DROP
from strongroom.enclave.adapters.channel import Channel, inherited_descriptor
from strongroom.enclave.adapters.command import end_everything
from strongroom.enclave.adapters.model_folder import ModelFolder
from strongroom.enclave.drop.adapters.folder import pack_folder
from strongroom.enclave.drop.blinding import blinding_facts
from strongroom.enclave.drop.words import DROP_PATH, ENDED, OUTPUT, PART, PLACE
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.ipc.frames import read_error
from strongroom.release.drop import Begun, PassageAsk, Ticket, accept_begun, accept_ticket
from strongroom.release.drop_file import KEY_BYTES, encrypt_drop
from strongroom.release.lease import NONCE_BYTES

T = TypeVar("T")
ANSWER_SECONDS: Final = 120.0
"""How long an answer is waited for in all. The lease goes on meanwhile, or ends it."""
AGAIN_SECONDS: Final = 5.0
"""An asking without an answer is made again: the keeper may have been started anew."""
SEND_SECONDS: Final = 4.0
"""How long a launcher that doesn't read may hold up one message: less than any lease lasts."""


class Desk:
    """What a researcher works at: made before a key is asked for, closed when everything has ended."""

    def __init__(self, profile: SandboxProfile, channel: Channel) -> None:
        """Take the input, and lay it out beside where the weights will be.

        :raises NotFoundError: the launcher handed in no input. :raises MalformedError: it isn't an archive.
        """
        self._channel = channel
        self._input = _input()
        self._heard: Json = None
        # Here the folder is still open; it is closed for good, for everybody, once the weights are in it too.
        folder = ModelFolder.of(profile)
        for file in Archive.parse(self._input).files:
            folder.write(f"{PLACE}/{file.name}", (file.data,))
        Path(DROP_PATH).mkdir(mode=0o700)

    @classmethod
    def of(cls, profile: SandboxProfile, channel: Channel) -> Desk | None:
        """Return a desk where the image says that its output is a drop."""
        return cls(profile, channel) if OUTPUT in profile.environment else None

    def hears(self, message: Json) -> bool:
        """Take a message if it is an answer to this desk's asking."""
        mine = isinstance(message, dict) and ("word" in message or "refused" in message)
        if mine:
            self._heard = message
        return mine

    def sit_down(
        self,
        genesis: Genesis,
        *,
        request: Digest,
        use: int,
        recipient: Digest,
        blind: bytes,
        turn: Callable[[float], None],
    ) -> Door:
        """Have the input recorded; the weights may be opened then.

        :param blind: the request's blinding key.
        :param turn: waits so many seconds at most for a message, and keeps the lease.
        :raises StrongroomError: the keeper refuses, or no answer came.
        """
        door = Door(self, genesis, request=request, use=use, recipient=recipient, blind=blind, turn=turn)
        door.enter(self._input)
        self._input = b""
        return door

    def silence(self) -> int:
        """Let the agent itself say nothing any more; returns the command's only descriptor, which leads nowhere."""
        nowhere = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        return nowhere

    def tell(self, message: Json) -> None:
        """Say something to the launcher."""
        self._channel.send(message, timeout=SEND_SECONDS)

    def heard(self) -> Json:
        """Return the newest answer, once."""
        message, self._heard = self._heard, None
        return message


class Door:
    """The keeper's leave to bring something in, and to let something out."""

    def __init__(
        self,
        desk: Desk,
        genesis: Genesis,
        *,
        request: Digest,
        use: int,
        recipient: Digest,
        blind: bytes,
        turn: Callable[[float], None],
    ) -> None:
        self._desk = desk
        self._blind = blind
        self._genesis = genesis
        self._request = request
        self._use = use
        self._recipient = recipient
        self._turn = turn

    def enter(self, data: bytes) -> None:
        """Have an input recorded."""

        def accept(envelope: Envelope, ask: PassageAsk) -> Begun:
            return accept_begun(envelope, self._genesis, request=self._request, ask=ask)

        self._asked("begin", data, accept)

    def leave(self, status: ExitStatus) -> ExitStatus:
        """End whatever still runs, pack the drop, have it charged, and send it; returns what may be told of the end.

        :raises StrongroomError: the keeper refuses, or no ticket came: then nothing left.
        """
        _end_all()
        facts = {"code": status.code} if status.code is not None else {"signal": status.signal or 0}
        packed = pack_folder(DROP_PATH, limit=MAX_DROP, facts=facts)
        blinding = blinding_facts(self._blind, Digest.of(packed.to_bytes()))
        data = Archive(files=packed.files, facts={**packed.facts, **blinding}).to_bytes()

        def accept(envelope: Envelope, ask: PassageAsk) -> Ticket:
            return accept_ticket(envelope, self._genesis, request=self._request, ask=ask)

        envelope, ticket = self._asked("leave", data, accept)
        with SecretBytes(bytearray(os.urandom(KEY_BYTES))) as key:
            file = encrypt_drop(data, envelope, ticket.reviewers, key).to_bytes()
        for start in range(0, len(file), PART):
            # Between two parts as well: whoever reads slowly must not outlast the lease.
            self._turn(0)
            self._desk.tell({"part": to_base64(file[start : start + PART])})
        return ENDED

    def _asked(self, what: str, data: bytes, accept: Callable[[Envelope, PassageAsk], T]) -> tuple[Envelope, T]:
        until = _now() + ANSWER_SECONDS
        while _now() < until:
            ask = PassageAsk(
                use=self._use,
                recipient=self._recipient,
                nonce=os.urandom(NONCE_BYTES),
                digest=Digest.of(data),
                size=len(data),
            )
            self._desk.tell({what: dict(ask.to_json())})
            again = _now() + AGAIN_SECONDS
            while _now() < again:
                self._turn(again - _now())
                envelope = _answered(self._desk.heard())
                if envelope is None:
                    continue
                try:
                    return envelope, accept(envelope, ask)
                except StrongroomError:
                    # Forged, or for an asking before: it opens nothing, and ends nothing that the keeper may yet allow.
                    continue
        raise UnavailableError(
            "the keeper's leave didn't come",
            remedy="see whether the launcher reaches the deployment; then run it again",
        )


def _answered(message: Json) -> Envelope | None:
    if message is None:
        return None
    with Fields(message, "message") as fields:
        if fields.optional("refused"):
            with fields.child("refused") as told:
                raise read_error(told)
        with fields.child("word") as word:
            return Envelope.read(word)


def _input() -> bytes:
    descriptor = inherited_descriptor("input")
    if os.fstat(descriptor).st_size > MAX_ARCHIVE:
        raise MalformedError(f"a workspace's input has at most {MAX_ARCHIVE} bytes")
    data, at = bytearray(), 0
    # By position, and once: whoever writes to it meanwhile changes nothing that was read.
    while part := os.pread(descriptor, 1 << 20, at):
        data += part
        at += len(part)
        if at > MAX_ARCHIVE:
            raise MalformedError(f"a workspace's input has at most {MAX_ARCHIVE} bytes")
    os.close(descriptor)
    return bytes(data)


def _end_all() -> None:
    """Leave no process but this one: what the command started would go on writing while its folder is read."""
    end_everything()
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
