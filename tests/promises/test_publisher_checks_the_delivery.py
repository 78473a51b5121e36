"""A publisher uses a data key only from a delivery that its keeper signed, for this very request, on record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.access.request import Action, LogHead, Purpose, Request
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import WrongKeyError
from strongroom.client.delivery import accept_for_sealing
from strongroom.client.followed import FollowedLog
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes, SecretUseError
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import DELIVERY_TYPE, Delivery, DeliveryMismatchError, accept
from support.cosigners import LOG_COSIGNER

NOW = 1_795_471_717
KEEPER, LOG, STRANGER = (Ed25519Signer.from_seed(bytes([n]) * 32) for n in range(3))
GENESIS = Genesis(
    deployment="test",
    created=NOW,
    root_keys=(STRANGER.public_key,),
    root_threshold=1,
    keeper_key=KEEPER.public_key,
    log_origin="log",
    log_key=LOG.public_key,
    log_cosigner=LOG_COSIGNER,
)


def checkpoint(size: int, by: Ed25519Signer = LOG) -> str:
    return Checkpoint("log", size, bytes(32)).sign(by).decode()


class Sealing:
    """A request to seal, its recipient key, and the delivery that answers it."""

    def __init__(self) -> None:
        self.recipient = RecipientKey()
        self.request = Request(
            genesis=GENESIS.digest,
            action=Action.SEAL,
            requester=PersonId("dana"),
            model=ModelId("minilm"),
            version=2,
            manifest=None,
            purpose=Purpose.PUBLISH,
            ticket="",
            justification=None,
            image=None,
            measurement=None,
            platforms=(),
            recipient=self.recipient.digest,
            target=None,
            not_before=NOW,
            expires=NOW + 60,
            max_uses=1,
            nonce=bytes(16),
            roster=Digest.of(b"roster"),
            policy=Digest.of(b"policy"),
            log=LogHead(size=1, root=Digest.of(b"root")),
        )

    def delivered(self, *, by: Ed25519Signer = KEEPER, **changes: object) -> Envelope:
        """Sign a delivery, right but for ``changes``."""
        base = Delivery(
            genesis=GENESIS.digest,
            action=Action.SEAL,
            request=self.request.digest,
            use=1,
            model=self.request.model,
            version=2,
            manifest=None,
            publisher_key=None,
            data_key="k",
            recipient=self.recipient.digest,
            log_index=6,
            checkpoint=checkpoint(7),
            issued=NOW,
        )
        with SecretBytes(bytearray(b"D" * 32)) as key:
            made = replace(base, **changes).carrying(key, self.recipient.public)  # type: ignore[arg-type]
        return sign(DELIVERY_TYPE, made.to_bytes(), by)

    def accept(self, envelope: Envelope) -> SecretBytes:
        """Accept it as the publisher would."""
        return accept_for_sealing(envelope, FollowedLog(GENESIS, lambda _first: ()), self.recipient, self.request)[1]


def test_the_right_delivery_opens() -> None:
    sealing = Sealing()
    assert len(sealing.accept(sealing.delivered())) == 32


@pytest.mark.parametrize(
    "changes",
    [
        {"genesis": Digest.of(b"x")},
        {"action": Action.OPEN_IN_ENCLAVE},
        {"request": Digest.of(b"x")},
        {"model": ModelId("atlas")},
        {"version": 1},
        {"manifest": Digest.of(b"x")},
        {"recipient": Digest.of(b"x")},
        {"log_index": 7},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_delivery_for_anything_else_is_refused(changes: dict[str, object]) -> None:
    sealing = Sealing()
    with pytest.raises(DeliveryMismatchError):
        sealing.accept(sealing.delivered(**changes))  # type: ignore[arg-type]


def test_a_delivery_by_anybody_else_is_refused() -> None:
    sealing = Sealing()
    with pytest.raises(SignatureError):
        sealing.accept(sealing.delivered(by=STRANGER))


def test_a_record_under_another_logs_checkpoint_is_none() -> None:
    sealing = Sealing()
    with pytest.raises(WrongKeyError):
        sealing.accept(sealing.delivered(checkpoint=checkpoint(7, by=KEEPER)))


def test_a_refused_key_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[SecretBytes] = []

    def keep(*arguments: object, **named: object) -> tuple[Delivery, SecretBytes]:
        delivery, key = accept(*arguments, **named)  # type: ignore[arg-type]
        opened.append(key)
        return delivery, key

    monkeypatch.setattr("strongroom.client.delivery.accept", keep)
    sealing = Sealing()
    with pytest.raises(DeliveryMismatchError):
        sealing.accept(sealing.delivered(log_index=7))
    with pytest.raises(SecretUseError):
        len(opened[0])
