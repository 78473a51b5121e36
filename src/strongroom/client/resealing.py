"""The data key of the version that is sealed anew: exported once, and kept in the wallet until that is done.

A publisher is never given the key of a version that is there: only a grant to export opens that, and it may be good for
one use. So an interruption must not cost it. Whoever opens the wallet meanwhile opens this version too.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.access.request import Request
from strongroom.client.delivery import accept_for_export
from strongroom.client.service import Session
from strongroom.client.unfinished import unfinished_name
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey
from strongroom.keys.recipient import RecipientIdentity
from strongroom.release.delivery import DeliveryMismatchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Which version an exported data key opens, as the keeper signed it."""

    model: ModelId
    version: int
    manifest: Digest
    publisher_key: PublicKey

    @classmethod
    def parse(cls, data: bytes) -> Exported:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data), "exported") as fields:
            fields.constant("v", 1)
            return cls(
                model=fields.parsed("model", model_id),
                version=fields.integer("version", least=1),
                manifest=fields.digest("manifest"),
                publisher_key=fields.parsed("publisher_key", PublicKey.parse, max_length=MAX_KEY_TEXT),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "model": self.model,
                "version": self.version,
                "manifest": str(self.manifest),
                "publisher_key": str(self.publisher_key),
            }
        )


def exported_key(session: Session, request: Request, identity: RecipientIdentity) -> tuple[Exported, SecretBytes]:
    """Use a grant to export, or take what an earlier call got by it. The caller wipes the key.

    :raises DeniedError: the keeper refuses.
    :raises TamperedError: the delivery isn't this deployment's keeper's, or of another version.
    """
    name = _kept_name(request)
    kept = session.wallet.kept(name)
    if kept is not None:
        return Exported.parse(kept[0]), kept[1]
    envelope = session.api.export(request.digest, identity.public)
    delivery, data_key = accept_for_export(envelope, session.log, identity, request)
    if delivery.publisher_key is None or delivery.manifest is None:
        data_key.wipe()
        raise DeliveryMismatchError("the delivery names no manifest")
    exported = Exported(
        model=delivery.model,
        version=delivery.version,
        manifest=delivery.manifest,
        publisher_key=delivery.publisher_key,
    )
    session.wallet.keep(name, data_key, exported.to_bytes())
    return exported, data_key


def forget_exported(session: Session, request: Request) -> None:
    """Remove what :func:`exported_key` kept."""
    session.wallet.forget(_kept_name(request))


def _kept_name(request: Request) -> str:
    return unfinished_name(request.model, str(request.digest))
