"""Who speaks for the platform that an agent runs on: its TPM, or the chip that keeps its machine's memory.

The agent has no way to the chip's interface, which lies in the kernel's file system, outside its view. The first
process of its machine, measured like itself, asks the kernel for it; they speak over a channel of their own:

agent -> first process   {slots: {name: bytes}}         what the statement is to commit to
first process -> agent   {kind, body}                   the statement
                         {failed: {...}}
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Final, Protocol

from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.attester import NoDevices, StatementSource, collect
from strongroom.attestation.bindings import Slot
from strongroom.attestation.evidence import EvidenceItem, devices_digest
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import platform_of
from strongroom.attestation.transcript import Binding
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import NotFoundError, StrongroomError, UnavailableError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId
from strongroom.enclave.adapters.channel import Channel, inherited_descriptor
from strongroom.enclave.agent.messages import Order, failed, unless_failed
from strongroom.tpm.adapters.transport import DescriptorTransport

CHIP: Final = "chip"
"""The name under which an agent gets the channel to its chip."""
STATEMENT_SECONDS: Final = 60.0
_WAIT_SECONDS: Final = 365 * 86400.0


class PlatformVoice(Protocol):
    """What speaks for a platform."""

    @property
    def platform(self) -> PlatformId:
        """Whose evidence it is."""
        ...

    def evidence(self, nonce: bytes, recipient_key: bytes, bind: Callable[[Digest], Binding]) -> bytes:
        """Return evidence for a challenge; ``bind`` makes the binding from the digest over the devices' statements.

        :raises StrongroomError: it can't be had now, or not for what is measured here.
        """
        ...


class TpmVoice:
    """A TPM that the launch was measured into. ``boot_pcrs`` are quoted beside it."""

    def __init__(self, device: TpmDevice, order: Order, boot_pcrs: tuple[int, ...]) -> None:
        self._attester, self._measurements = TpmAttester(device, boot_pcrs=boot_pcrs), order.measurements
        with device.attestation_key() as key:
            self._platform = platform_of(key.public)

    @property
    def platform(self) -> PlatformId:
        """The one of the TPM's attestation key."""
        return self._platform

    def evidence(self, nonce: bytes, recipient_key: bytes, bind: Callable[[Digest], Binding]) -> bytes:
        """Quote the registers."""
        del nonce
        binding = bind(devices_digest(()))
        return self._attester.attest(binding=binding, measurements=self._measurements, recipient_key=recipient_key)


class ChipVoice:
    """A chip, for which the machine's first process asks. What was launched is in its statement, measured by itself."""

    def __init__(self, source: StatementSource, platform: PlatformId | None) -> None:
        """``platform`` is what the launcher says; a lie is another chip's name, and the keeper compares it.

        :raises UsageError: it wasn't said.
        """
        if platform is None:
            raise UsageError("the order must name the platform that this chip was enrolled as")
        self._source, self._platform = source, platform

    @property
    def platform(self) -> PlatformId:
        """The one that the chip was enrolled as."""
        return self._platform

    def evidence(self, nonce: bytes, recipient_key: bytes, bind: Callable[[Digest], Binding]) -> bytes:
        """Have the chip state the binding."""
        return collect(
            platform=self._platform,
            source=self._source,
            devices=NoDevices(),
            nonce=nonce,
            recipient_key=recipient_key,
            bind=bind,
        ).to_bytes()


class DistantChip:
    """The chip as its agent reaches it."""

    def __init__(self, channel: Channel, kind: EvidenceKind) -> None:
        self._channel, self._kind = channel, kind

    @classmethod
    def inherited(cls) -> DistantChip:
        """Take the channel over which the first process says which kind of chip it is, and then answers.

        :raises NotFoundError: this machine has no such chip.
        """
        channel = Channel(socket.socket(fileno=inherited_descriptor(CHIP)))
        with Fields(channel.receive(timeout=STATEMENT_SECONDS), "chip") as told:
            return cls(channel, told.parsed("kind", EvidenceKind))

    @property
    def kind(self) -> EvidenceKind:
        """The chip's kind of statement."""
        return self._kind

    def statement(self, slots: Mapping[Slot, bytes]) -> EvidenceItem:
        """Have a statement made.

        :raises StrongroomError: the kernel's interface refused.
        """
        named: Json = {slot.value: to_base64(value) for slot, value in slots.items()}
        self._channel.send({"slots": named}, timeout=STATEMENT_SECONDS)
        with unless_failed(self._channel.receive(timeout=STATEMENT_SECONDS)) as answer:
            return EvidenceItem.read(answer)

    def close(self) -> None:
        """Close this end."""
        self._channel.close()


def answer_for(channel: Channel, source: StatementSource) -> None:
    """Say which kind of chip this is, and answer its agent until that is gone. Runs in the machine's first process."""
    with suppress(UnavailableError):
        channel.send({"kind": source.kind.value}, timeout=STATEMENT_SECONDS)
        while True:
            asked = Fields(channel.receive(timeout=_WAIT_SECONDS), "chip")
            channel.send(_answer(asked, source), timeout=STATEMENT_SECONDS)


def _answer(asked: Fields, source: StatementSource) -> Json:
    try:
        with asked, asked.child("slots") as slots:
            wanted = {slot: slots.binary(slot.value, max_length=64) for slot in Slot if slots.optional(slot.value)}
        return source.statement(wanted).to_json()
    except StrongroomError as error:
        return failed(error)


@contextmanager
def platform_voice(order: Order, boot_pcrs: tuple[int, ...]) -> Iterator[PlatformVoice]:
    """Yield what speaks for this agent's platform: the chip where there is one, else the TPM.

    The TPM stays with the agent, which proves itself anew while the command runs; the command gets neither.

    :raises NotFoundError: neither was passed in.
    """
    try:
        chip = DistantChip.inherited()
    except NotFoundError:
        with TpmDevice(DescriptorTransport(inherited_descriptor("tpm"))) as device:
            yield TpmVoice(device, order, boot_pcrs)
        return
    with closing(chip):
        yield ChipVoice(chip, order.platform)
