"""Targets of key services: their URIs, what is stored of a root key, and what a transit engine answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.core.canonical import encode
from strongroom.core.errors import MalformedError
from strongroom.keys.adapters.transit import read_answer
from strongroom.keys.provider import Closed, HeldKey
from strongroom.keys.split_root import read_root
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import WrappedKey

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


KEYS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "key-uri": Target(read=key_uri, seeds=lambda: [uri.encode() for uri in URIS], longest=2048),
        "stored-root": Target(read=read_root, seeds=_stored),
        "transit-answer": Target(read=read_answer, seeds=lambda: [b'{"data": {"plaintext": "AAAA"}, "auth": null}']),
    }
)
