"""Taking a data key out of the keeper's delivery to a person: step 7 for ``seal`` and ``export-plaintext``."""

from __future__ import annotations

from strongroom.access.request import Request
from strongroom.client.followed import FollowedLog
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientIdentity, RecipientKey
from strongroom.release.delivery import Delivery, DeliveryMismatchError, accept


def accept_for_sealing(
    envelope: Envelope, log: FollowedLog, recipient: RecipientKey, request: Request
) -> tuple[Delivery, SecretBytes]:
    """Check a delivery and open its new data key. On any refusal the key is wiped.

    :raises SignatureError: not signed by this deployment's keeper.
    :raises DeliveryMismatchError: for another request, action, model, version or recipient, or recorded nowhere.
    :raises DeliveryError: the ciphertext doesn't open.
    :raises LogError: the checkpoint isn't the log's.
    """
    delivery, data_key = _accept(envelope, log, recipient, request)
    if delivery.manifest is not None:
        data_key.wipe()
        raise DeliveryMismatchError("the keeper's delivery is of a key that is in use already")
    return delivery, data_key


def accept_for_export(
    envelope: Envelope, log: FollowedLog, recipient: RecipientIdentity, request: Request
) -> tuple[Delivery, SecretBytes]:
    """Check a delivery and open the data key that it exports. On any refusal the key is wiped.

    :raises SignatureError: not signed by this deployment's keeper.
    :raises DeliveryMismatchError: for another request, action, model, version or recipient, or recorded nowhere.
    :raises DeliveryError: the ciphertext doesn't open.
    :raises LogError: the checkpoint isn't the log's.
    """
    delivery, data_key = _accept(envelope, log, recipient, request)
    if delivery.manifest != request.manifest:
        data_key.wipe()
        raise DeliveryMismatchError("the keeper's delivery is for another manifest")
    return delivery, data_key


def _accept(
    envelope: Envelope, log: FollowedLog, recipient: RecipientKey | RecipientIdentity, request: Request
) -> tuple[Delivery, SecretBytes]:
    delivery, data_key = accept(
        envelope, log.genesis, recipient, request=request.digest, model=request.model, version=request.version
    )
    try:
        if delivery.action is not request.action:
            raise DeliveryMismatchError("the keeper's delivery is for another action")
        if delivery.log_index >= log.head(delivery.checkpoint.encode()).size:
            # A key whose making nobody recorded must not be used: the log is what makes it accountable.
            raise DeliveryMismatchError("the delivery's checkpoint doesn't cover the record of its key")
    except StrongroomError:
        data_key.wipe()
        raise
    return delivery, data_key
