"""Targets of key services: their URIs, what is stored of a root key, and what a transit engine answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.access.request import LogHead
from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId
from strongroom.keeper.keyring import HeldEpoch, HeldKek, Keyring
from strongroom.keys.adapters.transit import read_answer
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import Closed, HeldKey
from strongroom.keys.split_root import read_root
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import WrappedKey
from strongroom.release.key_orders import KeyAct, KeyOrder

URIS: Final = (
    "local:",
    "tpm2:unix:/run/tpm.sock?pcrs=0,7&auth-file=/a&parent=0x81000001",
    "pkcs11:token=a%20b;object=o?module-path=/m.so&pin-source=file:/p&algorithm=aes-kwp",
    "transit:https://bao.example:8200/transit/root?token-file=/t&namespace=a/b",
    "aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1?profile=p",
    "gcp-kms:projects/p/locations/l/keyRings/r/cryptoKeys/k",
    "azure-kv:https://vault.example/keys/k/0123456789abcdef0123456789abcdef",
)


def key_uri(data: bytes) -> None:
    """Read a URI, as an operator or a stored root names a provider."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedError("not text") from None
    if str(KeyUri.parse(text)) != text:
        raise AssertionError


def _stored() -> Iterable[bytes]:
    for count in (1, 2):
        held = HeldKey(
            provider=KeyUri.parse(URIS[3]),
            closed=Closed(key="root", version="v1", data=b"vault:v1:AAAA"),
            inner=WrappedKey(bytes(12), bytes(48)),
        )
        yield encode({"v": 1, "type": "strongroom/root", "parts": [held.to_json()] * count})


def _keyrings() -> Iterable[bytes]:
    wrapped = WrappedKey(bytes(12), bytes(48))
    (stored,) = list(_stored())[:1]
    yield Keyring(
        generation=1,
        authority=None,
        roots=((Tree.ESCROWED, stored), (Tree.UNESCROWED, stored)),
        signing=wrapped,
        epochs=(
            HeldEpoch(epoch=1, tree=Tree.ESCROWED, wrapped=wrapped),
            HeldEpoch(epoch=2, tree=Tree.UNESCROWED, wrapped=wrapped),
        ),
        keks=(HeldKek(kek="5e" * 16, model=ModelId("atlas"), epoch=1, wrapped=wrapped),),
    ).to_bytes()


def _orders() -> Iterable[bytes]:
    digest = Digest.of(b"x")
    for act, subject in ((KeyAct.ROTATE_EPOCH, None), (KeyAct.RESTORE, digest)):
        yield KeyOrder(
            genesis=digest,
            act=act,
            subject=subject,
            nonce=bytes(16),
            log=LogHead(size=1, root=digest),
            issued=1_795_000_000,
            expires=1_795_000_009,
        ).to_bytes()


def keyring(data: bytes) -> None:
    """Read a keyring, as it lies in the keeper's folder or in a key package."""
    if Keyring.parse(data).to_bytes() != data:
        raise AssertionError


def key_order(data: bytes) -> None:
    """Read an order of the root quorum."""
    if KeyOrder.parse(data).to_bytes() != data:
        raise AssertionError


KEYS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "key-uri": Target(read=key_uri, seeds=lambda: [uri.encode() for uri in URIS], longest=2048),
        "keyring": Target(read=keyring, seeds=_keyrings),
        "key-order": Target(read=key_order, seeds=_orders, longest=4096),
        "stored-root": Target(read=read_root, seeds=_stored),
        "transit-answer": Target(read=read_answer, seeds=lambda: [b'{"data": {"plaintext": "AAAA"}, "auth": null}']),
    }
)
