"""What launcher and agent say to each other. The launcher relays; nothing that it says is trusted by the agent.

launcher -> agent   {order: {...}}                       what to open, and what was measured
agent -> launcher   {ask: {platform}}                    a challenge, please
launcher -> agent   {challenge, nonce}                   from the keeper
agent -> launcher   {evidence}                           step 3
launcher -> agent   {delivery: envelope}                 step 6
agent -> launcher   {opened: {...}}, then {ended: {...}} step 7

From the delivery on, at any time:

agent -> launcher   {renew: {use, recipient, serial, nonce}, proof: {challenge, evidence}}   a lease, please;
                                                         the proof where evidence was asked for
launcher -> agent   {lease: envelope}                    from the keeper, for that asking
launcher -> agent   {prove: {challenge, nonce}}          from the keeper: ask again, with new evidence
launcher -> agent   {fell: reason}                       the lease ended, says the deployment

Of a workspace also those of :mod:`strongroom.enclave.drop.words`.

either              {failed: {kinds, reason, message, remedy}}
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.attestation.measurement import MAX_EVENTS, Measurement
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PlatformId, model_id, platform_id
from strongroom.ipc.frames import read_error, tell_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the agent is asked to open and run."""

    genesis: Genesis
    request: Digest
    model: ModelId
    version: int
    manifest: Envelope
    sealed: str
    command: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    platform: PlatformId | None = None
    """What a chip was enrolled as, where a chip speaks for the machine; a TPM's id is worked out from its key."""

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "order": {
                "genesis": to_base64(self.genesis.to_bytes()),
                "request": str(self.request),
                "model": self.model,
                "version": self.version,
                "manifest": self.manifest.to_json(),
                "sealed": self.sealed,
                "command": [*self.command],
                "measurements": [one.to_json() for one in self.measurements],
                "platform": self.platform,
            }
        }

    @classmethod
    def read(cls, message: Json) -> Order:
        """Read the launcher's first message."""
        with Fields(message, "message") as outer, outer.child("order") as fields:
            with fields.child("manifest") as manifest:
                envelope = Envelope.read(manifest)
            return cls(
                genesis=Genesis.parse(fields.binary("genesis", max_length=16384)),
                request=fields.digest("request"),
                model=fields.parsed("model", model_id),
                version=fields.integer("version", least=1),
                manifest=envelope,
                sealed=fields.text("sealed", max_length=4096),
                command=fields.texts("command", most=64, max_length=4096),
                measurements=fields.objects("measurements", Measurement.read, most=MAX_EVENTS),
                platform=fields.parsed("platform", platform_id) if fields.optional("platform") else None,
            )


def failed(error: StrongroomError) -> Json:
    """Return an error as a message."""
    return {"failed": tell_error(error)}


def unless_failed(message: Json) -> Fields:
    """Return a message's fields; a failure is raised as what the other side raised.

    :raises StrongroomError: the other side failed.
    """
    fields = Fields(message, "message")
    if fields.optional("failed"):
        with fields.child("failed") as told:
            raise read_error(told)
    return fields
