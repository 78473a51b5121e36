"""The agent's process, inside the confinement: steps 3 and 7 of the release protocol.

3  make a recipient key, ask for a challenge, answer it with a quote that binds both
7  check the delivery against the measured genesis, check manifest and version, open the weights in memory, wipe the
   key, close the folder, and start the command, which sees neither key nor channel nor TPM; renew the lease all the
   while, with new evidence when it is due, and end the command when it ends

``python -I -m strongroom.enclave.agent.wiring``, started by the runner.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.attestation.errors import CollectionError
from strongroom.attestation.measurement import MeasuredName
from strongroom.attestation.transcript import Binding
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError, StrongroomError, TamperedError, UnavailableError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.enclave.adapters.channel import Channel, inherited_descriptor
from strongroom.enclave.adapters.command import Command, end_everything, start_command
from strongroom.enclave.adapters.model_folder import ModelFolder
from strongroom.enclave.agent.adapters.platform_voice import PlatformVoice, platform_voice
from strongroom.enclave.agent.ending import told_ending
from strongroom.enclave.agent.hold import EvidenceDue, Hold
from strongroom.enclave.agent.messages import Order, failed, unless_failed
from strongroom.enclave.drop.blinding import blinding_key
from strongroom.enclave.drop.wiring import Desk, Door
from strongroom.enclave.engine.canaries import CANARY_FILE
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import Delivery, DeliveryMismatchError, accept
from strongroom.release.lease import NONCE_BYTES, LeaseLostError, LeaseProof
from strongroom.sealing.adapters.directory import open_directory
from strongroom.sealing.canary import canaries_to_bytes
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, verify_manifest
from strongroom.tpm.errors import TpmError
from strongroom.walls.adapters.secret_memory import secret_from

RELAY_SECONDS: Final = 120.0
REPORT_SECONDS: Final = 1.0
"""How long a launcher that doesn't read may hold up the agent."""
_MAX_PROFILE: Final = 1 << 20


class GenesisNotMeasuredError(TamperedError):
    """The launcher handed in another genesis than the one that was measured."""

    code = "genesis-not-measured"


class Watch:
    """What the agent does beside its work: asks for leases, listens, and looks at its deadline.

    Its clock runs on while the machine sleeps (CLOCK_BOOTTIME), and nobody can set it.
    """

    def __init__(self, channel: Channel, hold: Hold, prove: Callable[[EvidenceDue], LeaseProof]) -> None:
        self._channel = channel
        self._hold = hold
        self._prove = prove
        self.aside: Callable[[Json], bool] = lambda _message: False
        """Takes a message that isn't about the lease, and says whether it was one."""

    def turn(self, *, seconds: float, command: Command | None = None) -> None:
        """Wait up to ``seconds`` for a message or for the command's end; ask for a lease when one is due.

        :raises LeaseLostError: the deadline passed, or the launcher is gone.
        :raises LeaseEndedError: the lease ended.
        """
        now = boot_seconds()
        self._hold.check(now)
        try:
            if now >= self._hold.due():
                self._channel.send(self._hold.ask(now, os.urandom(NONCE_BYTES)), timeout=REPORT_SECONDS)
            waiting = select.poll()
            waiting.register(self._channel, select.POLLIN)
            if command is not None:
                waiting.register(command, select.POLLIN)
            least = max(0.0, min(seconds, self._hold.due() - now, self._hold.until - now))
            if self._channel.fileno() in {descriptor for descriptor, _ in waiting.poll(least * 1000)}:
                message = self._channel.receive(timeout=self._hold.until - now)
                due = None if self.aside(message) else self._hold.hear(message)
                if due is not None:
                    self._answer(due)
        except UnavailableError as error:
            raise LeaseLostError(f"no lease can come any more: {error.message}") from None

    def _answer(self, due: EvidenceDue) -> None:
        began = boot_seconds()
        try:
            proof = self._prove(due)
        except (TpmError, CollectionError):
            # Busy, say. It is asked again a third of a period later, and the deadline stands.
            return
        self._channel.send(self._hold.ask(began, os.urandom(NONCE_BYTES), proof), timeout=REPORT_SECONDS)

    def between(self, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yield the chunks, with a turn before each: opening takes minutes, and the lease must live through them."""
        for chunk in chunks:
            self.turn(seconds=0)
            yield chunk

    def until_ended(self, command: Command) -> ExitStatus:
        """Return how the command ended by itself.

        :raises LeaseLostError: as :meth:`turn`; everything inside was ended. :raises LeaseEndedError: the same.
        """
        try:
            while (status := command.poll(timeout=0)) is None:
                # Counted in wakeful seconds, unlike the deadline: short turns, so that waking up finds it.
                self.turn(seconds=1, command=command)
        except StrongroomError:
            end_everything()
            raise
        return status


def boot_seconds() -> float:
    """Return the seconds since this machine was started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Witness:
    """Says what runs here, again and again: for one order, and the one recipient key that the release is for."""

    def __init__(self, order: Order, voice: PlatformVoice, recipient_key: bytes) -> None:
        self._order = order
        self._voice = voice
        self._recipient_key = recipient_key

    def evidence(self, challenge: str, nonce: bytes) -> bytes:
        """Return evidence for a challenge.

        :raises StrongroomError: the platform refused, or doesn't hold the measurements any more.
        """
        order = self._order

        def bind(devices: Digest) -> Binding:
            return Binding(
                genesis=order.genesis.digest,
                challenge=challenge,
                nonce=nonce,
                request=order.request,
                model=order.model,
                version=order.version,
                manifest=order.manifest.digest,
                recipient_key=Digest.of(self._recipient_key),
                devices=devices,
            )

        return self._voice.evidence(nonce, self._recipient_key, bind)

    def prove(self, due: EvidenceDue) -> LeaseProof:
        """Answer a challenge while the command runs; raises as :meth:`evidence`."""
        return LeaseProof(challenge=due.challenge, evidence=self.evidence(due.challenge, due.nonce))


def attested_key(channel: Channel, order: Order, voice: PlatformVoice) -> tuple[Delivery, SecretBytes, Hold, Witness]:
    """Steps 3 and 7, first half: prove what runs here, and receive the data key, on a lease from now on."""
    recipient = RecipientKey()
    witness = Witness(order, voice, recipient.public)
    channel.send({"ask": {"platform": voice.platform}}, timeout=RELAY_SECONDS)
    with unless_failed(channel.receive(timeout=RELAY_SECONDS)) as challenge:
        named, nonce = challenge.text("challenge", max_length=64), challenge.binary("nonce", max_length=32)
    evidence = witness.evidence(named, nonce)
    asked = boot_seconds()
    channel.send({"evidence": to_base64(evidence)}, timeout=RELAY_SECONDS)
    with unless_failed(channel.receive(timeout=RELAY_SECONDS)) as answer, answer.child("delivery") as told:
        envelope = Envelope.read(told)
    delivery, data_key = accept(
        envelope, order.genesis, recipient, request=order.request, model=order.model, version=order.version
    )
    if delivery.lease_seconds is None:
        data_key.wipe()
        raise DeliveryMismatchError("the keeper's delivery names no lease")
    return (
        delivery,
        data_key,
        Hold(
            genesis=order.genesis,
            request=order.request,
            platform=voice.platform,
            use=delivery.use,
            recipient=delivery.recipient,
            period=delivery.lease_seconds,
            since=asked,
        ),
        witness,
    )


def checked_manifest(order: Order, delivery: Delivery) -> VerifiedManifest:
    """Step 7: the manifest is the one that the keeper delivered the key for, by the publisher whom it names.

    :raises TamperedError: another manifest, publisher or version.
    """
    if delivery.publisher_key is None or delivery.manifest is None:
        raise TamperedError("the delivery names no manifest", reason="delivery-mismatch")
    expected = ManifestExpectation(
        genesis=order.genesis.digest, model=order.model, version=delivery.version, digest=delivery.manifest
    )
    return verify_manifest(order.manifest, delivery.publisher_key, expect=expected)


def open_weights(
    order: Order, manifest: VerifiedManifest, data_key: SecretBytes, profile: SandboxProfile, watch: Watch
) -> Json:
    """Step 7: decrypt every file into the memory-only folder, and close it for good.

    The canaries go there too, for the command to compare: they are as secret as the weights.
    """
    folder, total = ModelFolder.of(profile), 0
    with open_directory(Path(order.sealed), data_key=data_key, manifest=manifest) as model:
        if model.canaries:
            folder.write(CANARY_FILE, (canaries_to_bytes(model.canaries),))
        for file in model.files():
            if file.name == CANARY_FILE:
                raise MalformedError("a model has no file with the name of its canaries", reason="model.name")
            total += folder.write(file.name, watch.between(model.chunks(file.name)))
        count, canaries = len(model.files()), len(model.canaries)
    folder.close()
    return {"files": count, "bytes": total, "canaries": canaries}


def metered_channel(profile: SandboxProfile) -> int | None:
    """Return the descriptor that the command speaks through, where the image says that its output is metered.

    :raises NotFoundError: it says so, and there is none: then nothing runs.
    """
    return inherited_descriptor("meter") if OUTPUT in profile.environment else None


def seated(desk: Desk | None, watch: Watch, order: Order, delivery: Delivery, data_key: SecretBytes) -> Door | None:
    """Have a workspace's input recorded, before any weights are opened beside it; returns the way out, if it is one.

    What leaves later is blinded by a key that the data key makes: the way out has that one, and not the data key.

    :raises StrongroomError: the keeper refuses the workspace, or doesn't answer.
    """
    if desk is None:
        return None
    watch.aside = desk.hears
    return desk.sit_down(
        order.genesis,
        request=order.request,
        use=delivery.use,
        recipient=delivery.recipient,
        blind=blinding_key(data_key.reveal(TOKEN), order.request),
        turn=lambda seconds: watch.turn(seconds=seconds),
    )


def serve(channel: Channel, profile: SandboxProfile, boot_pcrs: tuple[int, ...]) -> int:
    """Carry out one order; returns the command's exit code."""
    order = Order.read(channel.receive(timeout=RELAY_SECONDS))
    genesis = next((one.digest for one in order.measurements if one.name is MeasuredName.GENESIS), None)
    if genesis != order.genesis.digest:
        raise GenesisNotMeasuredError("the genesis that was handed in isn't the measured one")
    desk = Desk.of(profile, channel)
    with platform_voice(order, boot_pcrs) as voice:
        delivery, key, hold, witness = attested_key(channel, order, voice)
        watch = Watch(channel, hold, witness.prove)
        # The page is one that the kernel keeps even from root, where it offers that; OpenSSL's own copy isn't in it.
        with key, secret_from(bytearray(key.reveal(TOKEN))) as data_key:
            key.wipe()
            door = seated(desk, watch, order, delivery, data_key)
            opened = open_weights(order, checked_manifest(order, delivery), data_key, profile, watch)
        meter = desk.silence() if desk else metered_channel(profile)
        with start_command(profile, order.command, meter=meter) as command:
            facts: Json = {
                "opened": opened,
                "log_index": delivery.log_index,
                "use": delivery.use,
                "checkpoint": delivery.checkpoint,
            }
            channel.send(facts, timeout=REPORT_SECONDS)
            status = watch.until_ended(command)
            status = door.leave(status) if door else told_ending(profile, status)
    ended: Json = {"code": status.code, "signal": status.signal}
    channel.send({"ended": ended}, timeout=RELAY_SECONDS)
    return status.code if status.code is not None else 1


def main(boot_pcrs: tuple[int, ...] = ()) -> None:
    """Run as the agent. ``boot_pcrs``: what it quotes beside its launch, in a machine whose boot is measured."""
    channel = Channel.inherited()
    profile = SandboxProfile.from_bytes(os.pread(inherited_descriptor("profile"), _MAX_PROFILE, 0))
    try:
        sys.exit(serve(channel, profile, boot_pcrs))
    except StrongroomError as error:
        with suppress(UnavailableError):
            channel.send(failed(error), timeout=REPORT_SECONDS)
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
