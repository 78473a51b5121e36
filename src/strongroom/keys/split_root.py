"""The root key as it is kept: wrapped by one provider, or made of two parts that two providers wrap.

With two, root = HKDF-SHA-256 (RFC 5869) over part 1, then part 2, salted with the genesis digest. Each part is wrapped
for its own place in this deployment; either alone says nothing about the root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.hierarchy import root_part_purpose, root_purpose
from strongroom.keys.provider import HeldKey, WrappingProvider
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import KEY_BYTES, RandomBytes, WrapPurpose, new_key

MAX_STORED: Final = 65536
MOST_PARTS: Final = 2
_INFO: Final = b"strongroom/split-root/v1"


def make_root(
    genesis: Digest, providers: Sequence[WrappingProvider], random_bytes: RandomBytes
) -> tuple[SecretBytes, bytes]:
    """Make a root key and what is stored of it (canonical JSON, no secret).

    :raises UsageError: not one or two providers, or twice the same.
    :raises StrongroomError: a provider refused or isn't there.
    """
    if len({str(provider.uri) for provider in providers}) != len(providers) or not 1 <= len(providers) <= MOST_PARTS:
        raise UsageError("a root key has one provider, or two different ones")
    with ExitStack() as made:
        parts = [made.enter_context(new_key(random_bytes)) for _ in providers]
        held = [
            provider.wrap(part, purpose)
            for provider, part, purpose in zip(providers, parts, root_purposes(genesis, len(parts)), strict=True)
        ]
        return _combined(genesis, parts), _encoded(held)


def open_root(genesis: Digest, stored: bytes, provider_of: Callable[[KeyUri], WrappingProvider]) -> SecretBytes:
    """Open the root key with every provider that holds a part of it.

    :raises MalformedError: not what :func:`make_root` stored.
    :raises StrongroomError: a provider refused, isn't there, or its part was changed.
    """
    held = read_root(stored)
    with ExitStack() as opened:
        parts = [
            opened.enter_context(provider_of(part.provider).unwrap(part, purpose))
            for part, purpose in zip(held, root_purposes(genesis, len(held)), strict=True)
        ]
        return _combined(genesis, parts)


def move_root(
    genesis: Digest,
    stored: bytes,
    provider_of: Callable[[KeyUri], WrappingProvider],
    providers: Sequence[WrappingProvider],
) -> bytes:
    """Wrap the same parts by other providers, or by newer versions of the same; returns what is stored then.

    :raises UsageError: another number of providers than of parts, or twice the same.
    :raises StrongroomError: a provider refused or isn't there; what was stored still stands.
    """
    held = read_root(stored)
    if len(providers) != len(held) or len({str(provider.uri) for provider in providers}) != len(providers):
        raise UsageError(f"the root key has {len(held)} parts: name as many different providers")
    moved = [
        provider_of(part.provider).rewrap(part, purpose, to)
        for part, purpose, to in zip(held, root_purposes(genesis, len(held)), providers, strict=True)
    ]
    return _encoded(moved)


def hold_root(genesis: Digest, root: SecretBytes, provider: WrappingProvider) -> bytes:
    """Wrap a whole root key, which came from escrow, by one provider; returns what is stored of it.

    A root key that had two parts has one from then on: parts can't be had back from it. The next rotation makes two
    again where it is told of a second provider (``strongroom up --second-root-provider``).

    :raises StrongroomError: the provider refused or isn't there.
    """
    (purpose,) = root_purposes(genesis, 1)
    return _encoded([provider.wrap(root, purpose)])


def read_root(stored: bytes) -> tuple[HeldKey, ...]:
    """Read what :func:`make_root` stored.

    :raises MalformedError: another form.
    :raises KeyUriError: a provider's URI isn't one.
    """
    with Fields(decode(stored, max_bytes=MAX_STORED), "root") as fields:
        fields.constant("v", 1)
        fields.constant("type", "strongroom/root")
        held = fields.objects("parts", HeldKey.read, most=MOST_PARTS)
    if not held:
        raise MalformedError("the stored root key has no part")
    return held


def root_purposes(genesis: Digest, count: int) -> tuple[WrapPurpose, ...]:
    """Return what each of ``count`` parts is wrapped for.

    A part is never wrapped for the place of a whole root: who drops a part from the file opens nothing.
    """
    if count == 1:
        return (root_purpose(genesis),)
    return tuple(root_part_purpose(genesis, number) for number in range(1, count + 1))


def _encoded(held: Sequence[HeldKey]) -> bytes:
    return encode({"v": 1, "type": "strongroom/root", "parts": [part.to_json() for part in held]})


def _combined(genesis: Digest, parts: Sequence[SecretBytes]) -> SecretBytes:
    if len(parts) == 1:
        return SecretBytes(bytearray(parts[0].reveal(TOKEN)))
    both = bytearray().join(part.reveal(TOKEN) for part in parts)
    with SecretBytes(both) as joined:
        out = bytearray(KEY_BYTES)
        HKDF(SHA256(), KEY_BYTES, salt=genesis.value, info=_INFO).derive_into(joined.reveal(TOKEN), out)
        return SecretBytes(out)
