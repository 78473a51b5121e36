"""A delivery can't be cut apart: whatever is changed in it, its recipient refuses it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from strongroom.access.request import Action
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer, HybridSigner, SignatureError
from strongroom.keys.recipient import DeliveryError, RecipientKey
from strongroom.release.delivery import DELIVERY_TYPE, Delivery, DeliveryMismatchError, accept
from strongroom.release.lease import Sampling
from support.cosigners import LOG_COSIGNER

KEEPER = Ed25519Signer.from_seed(b"K" * 32)
THIEF = Ed25519Signer.from_seed(b"T" * 32)
PUBLISHER = HybridSigner.from_seed(b"P" * 32)
GENESIS = Genesis(
    deployment="test",
    created=1_795_000_000,
    root_keys=(THIEF.public_key,),
    root_threshold=1,
    keeper_key=KEEPER.public_key,
    log_origin="strongroom/test",
    log_key=THIEF.public_key,
    log_cosigner=LOG_COSIGNER,
)
REQUEST = Digest.of(b"request")
ATLAS = ModelId("atlas")


def delivery_to(key: RecipientKey) -> Delivery:
    bare = Delivery(
        genesis=GENESIS.digest,
        action=Action.OPEN_IN_ENCLAVE,
        request=REQUEST,
        use=1,
        model=ATLAS,
        version=2,
        manifest=Digest.of(b"manifest"),
        publisher_key=PUBLISHER.public_key,
        data_key="dk-1",
        recipient=key.digest,
        log_index=41,
        checkpoint="strongroom/test\n42\nAAAA\n",
        issued=1_795_000_000,
        lease_seconds=60,
        sampling=Sampling.POLICY,
    )
    return bare.carrying(SecretBytes(bytearray(b"D" * 32)), key.public)


def taken(delivery: Delivery, key: RecipientKey, signer: Ed25519Signer = KEEPER) -> bytes:
    envelope = sign(DELIVERY_TYPE, delivery.to_bytes(), signer)
    seen, data_key = accept(envelope, GENESIS, key, request=REQUEST, model=ATLAS, version=2)
    assert seen == delivery
    return bytes(data_key.reveal(TOKEN))


CHANGES: dict[str, object] = {
    "genesis": Digest.of(b"x"),
    "action": Action.SEAL,
    "request": Digest.of(b"x"),
    "use": 2,
    "model": ModelId("borea"),
    "version": 3,
    "manifest": Digest.of(b"x"),
    "publisher_key": HybridSigner.from_seed(b"x" * 32).public_key,
    "data_key": "dk-2",
    "recipient": Digest.of(b"x"),
    "log_index": 42,
    "checkpoint": "strongroom/test\n43\nAAAA\n",
    "issued": 1_795_000_001,
    "lease_seconds": 3600,
    "sampling": Sampling.WHOLE,
    "ciphertext": b"",
}


def test_step_7_a_delivery_opens() -> None:
    key = RecipientKey()
    assert taken(delivery_to(key), key) == b"D" * 32


def test_every_field_is_tried_here() -> None:
    assert set(CHANGES) == {field.name for field in fields(Delivery)}


@pytest.mark.parametrize("name", CHANGES)
def test_step_7_any_changed_field_is_refused_even_under_the_keeper_s_signature(name: str) -> None:
    key = RecipientKey()
    changed = replace(delivery_to(key), **{name: CHANGES[name]})  # type: ignore[arg-type]  # each has its field's type
    with pytest.raises((DeliveryMismatchError, DeliveryError)):
        taken(changed, key)


@pytest.mark.parametrize("name", ["manifest", "publisher_key"])
def test_step_7_a_field_that_was_taken_out_is_refused(name: str) -> None:
    key = RecipientKey()
    with pytest.raises(DeliveryError):
        taken(replace(delivery_to(key), **{name: None}), key)  # type: ignore[arg-type]  # both may be None


def test_step_7_a_swapped_ciphertext_is_refused() -> None:
    key = RecipientKey()
    other = replace(delivery_to(key), data_key="dk-2", ciphertext=delivery_to(key).ciphertext)
    with pytest.raises(DeliveryError):
        taken(other, key)


def test_step_7_only_the_keeper_s_signature_will_do() -> None:
    key = RecipientKey()
    delivery = delivery_to(key)
    with pytest.raises(SignatureError):
        taken(delivery, key, THIEF)
    payload = delivery.to_bytes()
    for envelope in (
        Envelope(DELIVERY_TYPE, payload, ()),
        sign(DELIVERY_TYPE.replace("delivery", "platform"), payload, KEEPER),
        replace(sign(DELIVERY_TYPE, payload, KEEPER), payload=payload.replace(b'"use":1', b'"use":2')),
    ):
        with pytest.raises(SignatureError):
            accept(envelope, GENESIS, key, request=REQUEST, model=ATLAS, version=2)
    # None of these touched the recipient key: a forged answer can't burn it.
    assert taken(delivery, key) == b"D" * 32


def test_step_7_another_request_model_version_or_deployment_was_asked_for() -> None:
    key = RecipientKey()
    envelope = sign(DELIVERY_TYPE, delivery_to(key).to_bytes(), KEEPER)
    with pytest.raises(DeliveryMismatchError, match="request"):
        accept(envelope, GENESIS, key, request=Digest.of(b"x"), model=ATLAS, version=2)
    with pytest.raises(DeliveryMismatchError, match="model"):
        accept(envelope, GENESIS, key, request=REQUEST, model=ModelId("borea"), version=2)
    with pytest.raises(DeliveryMismatchError, match="version"):
        accept(envelope, GENESIS, key, request=REQUEST, model=ATLAS, version=1)
    other = replace(GENESIS, deployment="other")
    with pytest.raises(DeliveryMismatchError, match="deployment"):
        accept(envelope, other, key, request=REQUEST, model=ATLAS, version=2)
    with pytest.raises(DeliveryMismatchError, match="recipient"):
        accept(envelope, GENESIS, RecipientKey(), request=REQUEST, model=ATLAS, version=2)


def test_step_7_a_recipient_key_takes_one_delivery() -> None:
    key = RecipientKey()
    delivery = delivery_to(key)
    taken(delivery, key)
    with pytest.raises(DeliveryError, match="used already"):
        taken(delivery, key)


def edited(**members: Json) -> bytes:
    body = decode(delivery_to(RecipientKey()).to_bytes())
    assert isinstance(body, dict)
    return encode({**body, **members})


@pytest.mark.parametrize(
    "payload",
    [
        edited(checkpoint=None),
        edited(checkpoint=7),
        edited(use=0),
        edited(version=0),
        edited(ciphertext="A" * 4000),
        edited(extra=1),
        edited(v=True),
        edited(issued=1_795_000_000),
        edited(lease_seconds=4),
        edited(lease_seconds=3601),
        edited(sampling="none"),
        edited(sampling=1),
        b"{}",
    ],
)
def test_another_form_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        Delivery.parse(payload)
