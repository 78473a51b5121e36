"""Step 6: the delivery that carries a data key, and step 7's checks of it.

The keeper signs the whole delivery; the HPKE context is everything but the ciphertext. So a delivery can't be cut
apart: request, use, model, version, manifest, recipient and log index belong to this ciphertext or it doesn't open.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Final

from strongroom.access.request import Action
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, model_id
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey
from strongroom.keys.recipient import RecipientIdentity, RecipientKey, encrypt_to
from strongroom.release.lease import LEAST_SECONDS, MOST_SECONDS, Sampling

DELIVERY_TYPE: Final = payload_type("delivery.v1")
CIPHERTEXT_LIMIT: Final = 2048


class DeliveryMismatchError(TamperedError):
    """A genuine delivery, but not the one that was asked for."""

    code = "delivery-mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A data key on its way to one recipient key."""

    genesis: Digest
    action: Action
    request: Digest
    use: int
    model: ModelId
    version: int
    manifest: Digest | None
    publisher_key: PublicKey | None
    data_key: str
    recipient: Digest
    log_index: int
    """Where the record of this release stands in the log."""
    checkpoint: str
    """The signed checkpoint that covers the record."""
    issued: Instant
    lease_seconds: int | None = None
    """The first lease, from when the evidence was sent: an enclave renews before it ends. A person has none."""
    sampling: Sampling | None = None
    """What the first lease would say, so that no gateway begins without it. A person has none."""
    ciphertext: bytes = b""

    @classmethod
    def parse(cls, payload: bytes) -> Delivery:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=32768), "delivery") as fields:
            fields.constant("v", 1)
            checkpoint = fields.value("checkpoint")
            if not isinstance(checkpoint, str):
                raise MalformedError("`delivery.checkpoint` must be a signed note")
            return cls(
                genesis=fields.digest("genesis"),
                action=fields.parsed("action", Action),
                request=fields.digest("request"),
                use=fields.integer("use", least=1),
                model=fields.parsed("model", model_id),
                version=fields.integer("version", least=1),
                manifest=fields.digest("manifest") if fields.optional("manifest") else None,
                publisher_key=(
                    fields.parsed("publisher_key", PublicKey.parse, max_length=MAX_KEY_TEXT)
                    if fields.optional("publisher_key")
                    else None
                ),
                data_key=fields.text("data_key", max_length=64),
                recipient=fields.digest("recipient"),
                log_index=fields.integer("log_index"),
                checkpoint=checkpoint,
                issued=fields.instant("issued"),
                lease_seconds=(
                    fields.integer("lease_seconds", least=LEAST_SECONDS, most=MOST_SECONDS)
                    if fields.optional("lease_seconds")
                    else None
                ),
                sampling=fields.parsed("sampling", Sampling) if fields.optional("sampling") else None,
                ciphertext=fields.binary("ciphertext", max_length=CIPHERTEXT_LIMIT),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the keeper signs."""
        body: Json = {
            "v": 1,
            "genesis": str(self.genesis),
            "action": self.action.value,
            "request": str(self.request),
            "use": self.use,
            "model": self.model,
            "version": self.version,
            "manifest": str(self.manifest) if self.manifest else None,
            "publisher_key": str(self.publisher_key) if self.publisher_key else None,
            "data_key": self.data_key,
            "recipient": str(self.recipient),
            "log_index": self.log_index,
            "checkpoint": self.checkpoint,
            "issued": format_instant(self.issued),
            "lease_seconds": self.lease_seconds,
            "sampling": self.sampling.value if self.sampling else None,
            "ciphertext": to_base64(self.ciphertext),
        }
        return encode(body)

    def context(self) -> bytes:
        """Return the HPKE ``info``: a digest of all members but the ciphertext."""
        bare = dataclasses.replace(self, ciphertext=b"")
        return hashlib.sha256(b"strongroom/delivery/v1\x00" + bare.to_bytes()).digest()

    def carrying(self, data_key: SecretBytes, recipient_public: bytes) -> Delivery:
        """Return this delivery with ``data_key`` encrypted to the recipient."""
        return dataclasses.replace(self, ciphertext=encrypt_to(recipient_public, data_key, self.context()))


def accept(
    envelope: Envelope,
    genesis: Genesis,
    recipient: RecipientKey | RecipientIdentity,
    *,
    request: Digest,
    model: ModelId,
    version: int,
) -> tuple[Delivery, SecretBytes]:
    """Step 7, first half: check a delivery against the measured genesis and open its data key.

    :raises SignatureError: not signed by this deployment's keeper.
    :raises DeliveryMismatchError: for another request, model, version or recipient.
    :raises DeliveryError: the ciphertext doesn't open.
    """
    verify(envelope, DELIVERY_TYPE, [genesis.keeper_key], threshold=1)
    delivery = Delivery.parse(envelope.payload)
    wanted: list[tuple[str, object, object]] = [
        ("deployment", delivery.genesis, genesis.digest),
        ("request", delivery.request, request),
        ("model", delivery.model, model),
        ("version", delivery.version, version),
        ("recipient key", delivery.recipient, recipient.digest),
    ]
    for name, seen, expected in wanted:
        if seen != expected:
            raise DeliveryMismatchError(f"the keeper's delivery is for another {name}")
    return delivery, recipient.open(delivery.ciphertext, delivery.context())
