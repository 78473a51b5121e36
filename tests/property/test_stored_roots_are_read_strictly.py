"""A root key needs every provider that holds a part of it, and what is stored of it is read strictly or refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError, TamperedError, UsageError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.hierarchy import root_purpose
from strongroom.keys.provider import (
    Capability,
    Closed,
    Finality,
    KeyServiceMismatchError,
    KeyServiceRefusedError,
    KeyServiceUnavailableError,
    Patience,
    WrappingProvider,
)
from strongroom.keys.split_root import make_root, move_root, open_root, read_root, root_purposes
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import WrapError, WrappedKey, WrapPurpose, unwrap, wrap

GENESIS = Digest.of(b"genesis")
RING = "gcp-kms:projects/p/locations/l/keyRings/r/cryptoKeys/"
A, B, C = (KeyUri.parse(RING + name) for name in "abc")


class MemoryService:
    """A key service in memory: AES-256-GCM under a key of its own."""

    capabilities = frozenset({Capability.ASSOCIATED_DATA})

    def __init__(self) -> None:
        self.key = SecretBytes(bytearray(os.urandom(32)))
        self.seen: list[bytes] = []
        self.failing: list[StrongroomError] = []
        self.asked = 0

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        self._ask()
        self.seen.append(bytes(key.reveal(TOKEN)))
        wrapped = wrap(self.key, key, purpose, os.urandom)
        return Closed(key="k", version="1", data=wrapped.nonce + wrapped.ciphertext)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        self._ask()
        return unwrap(self.key, WrappedKey(closed.data[:12], closed.data[12:]), purpose)

    def destroy(self) -> None:
        self._ask()

    def renew(self) -> None:
        self._ask()

    def destroy_before(self, _kept: Closed) -> Finality:
        self._ask()
        return Finality.DONE

    def _ask(self) -> None:
        self.asked += 1
        if self.failing:
            raise self.failing.pop(0)


class Providers:
    """Three providers in memory, and a clock that moves when somebody sleeps."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.now = 0.0
        self.services = {uri: MemoryService() for uri in (A, B, C)}
        self._patience = patience

    def of(self, uri: KeyUri) -> WrappingProvider:
        return WrappingProvider(
            uri,
            self.services[uri],
            random_bytes=os.urandom,
            monotonic=lambda: self.now,
            sleep=self._sleep,
            patience=self._patience,
        )

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def made(providers: Providers, *uris: KeyUri) -> tuple[bytes, bytes]:
    root, stored = make_root(GENESIS, [providers.of(uri) for uri in uris], os.urandom)
    return bytes(root.reveal(TOKEN)), stored


def reopened(providers: Providers, stored: bytes, genesis: Digest = GENESIS) -> bytes:
    return bytes(open_root(genesis, stored, providers.of).reveal(TOKEN))


@pytest.mark.parametrize("uris", [(A,), (A, B)])
def test_a_root_opens_again_and_no_service_saw_it(uris: tuple[KeyUri, ...]) -> None:
    providers = Providers()
    root, stored = made(providers, *uris)
    assert reopened(providers, stored) == root
    assert root not in stored
    assert all(root not in service.seen for service in providers.services.values())
    assert made(providers, *uris)[0] != root


def test_one_of_two_parts_gives_nothing() -> None:
    providers = Providers()
    root, stored = made(providers, A, B)
    parts = decode(stored)["parts"]  # type: ignore[index,call-overload]
    for kept in ([parts[0]], [parts[1]], [parts[1], parts[0]], [parts[0], parts[0]]):  # type: ignore[index]
        with pytest.raises(TamperedError):
            reopened(providers, encode({"v": 1, "type": "strongroom/root", "parts": kept}))
    # Whoever has one service's key and the file has one part: 32 bytes that aren't the root, nor lead to it alone.
    for held, purpose in zip(read_root(stored), root_purposes(GENESIS, 2), strict=True):
        part = providers.of(held.provider).unwrap(held, purpose)
        assert bytes(part.reveal(TOKEN)) != root
        with pytest.raises(WrapError):
            providers.of(held.provider).unwrap(held, root_purpose(GENESIS))
    for missing in (A, B):
        providers = Providers()
        _, stored = made(providers, A, B)
        providers.services[missing].failing = [KeyServiceRefusedError("no")]
        with pytest.raises(KeyServiceRefusedError):
            reopened(providers, stored)


def test_a_root_belongs_to_one_genesis() -> None:
    providers = Providers()
    for uris in ((A,), (A, B)):
        _, stored = made(providers, *uris)
        with pytest.raises(TamperedError):
            reopened(providers, stored, Digest.of(b"another"))


def test_parts_of_two_roots_don_t_mix_into_a_known_one() -> None:
    providers = Providers()
    (first, one), (second, two) = made(providers, A, B), made(providers, A, B)
    mixed = [decode(one)["parts"][0], decode(two)["parts"][1]]  # type: ignore[index,call-overload]
    # Each part is genuine; the root that they give opens nothing that the genesis names.
    assert reopened(providers, encode({"v": 1, "type": "strongroom/root", "parts": mixed})) not in {first, second}


def test_a_root_moves_and_stays_the_same() -> None:
    providers = Providers()
    root, stored = made(providers, A)
    moved = move_root(GENESIS, stored, providers.of, [providers.of(B)])
    assert [held.provider for held in read_root(moved)] == [B]
    assert reopened(providers, moved) == root
    root, stored = made(providers, A, B)
    moved = move_root(GENESIS, stored, providers.of, [providers.of(A), providers.of(C)])
    assert reopened(providers, moved) == root
    for wrong in ([A], [A, A], [A, B, C]):
        with pytest.raises(UsageError):
            move_root(GENESIS, stored, providers.of, [providers.of(uri) for uri in wrong])


@pytest.mark.parametrize("uris", [(), (A, A), (A, B, C)])
def test_a_root_has_one_provider_or_two_different_ones(uris: tuple[KeyUri, ...]) -> None:
    with pytest.raises(UsageError):
        made(Providers(), *uris)


def test_another_provider_is_not_asked() -> None:
    providers = Providers()
    held = read_root(made(providers, A)[1])[0]
    with pytest.raises(KeyServiceMismatchError):
        providers.of(B).unwrap(held, root_purpose(GENESIS))
    assert providers.services[B].asked == 0


def test_an_absence_that_ends_is_waited_out() -> None:
    providers = Providers()
    root, stored = made(providers, A)
    providers.services[A].failing = [KeyServiceUnavailableError("gone"), KeyServiceUnavailableError("gone")]
    assert reopened(providers, stored) == root
    assert providers.now == 0.75


def test_nothing_is_asked_again_after_the_deadline() -> None:
    providers = Providers(Patience(attempts=100, first_pause=1.0, deadline=10.0))
    _, stored = made(providers, A)
    service = providers.services[A]
    service.asked, service.failing = 0, [KeyServiceUnavailableError("gone") for _ in range(100)]
    with pytest.raises(KeyServiceUnavailableError):
        reopened(providers, stored)
    assert (providers.now, service.asked) == (7.0, 4)


@pytest.mark.parametrize("error", [KeyServiceRefusedError("no"), KeyServiceMismatchError("other")])
def test_a_word_is_taken_at_the_first_time(error: StrongroomError) -> None:
    providers = Providers()
    _, stored = made(providers, A)
    providers.services[A].asked, providers.services[A].failing = 0, [error]
    with pytest.raises(type(error)):
        reopened(providers, stored)
    assert providers.services[A].asked == 1


CHANGES: list[Callable[[bytes], bytes]] = [
    lambda stored: stored.replace(b'"v":1', b'"v":2'),
    lambda stored: stored.replace(b'"type":"strongroom/root"', b'"type":"strongroom/other"'),
    lambda stored: stored.replace(b'"v":1', b'"v":1,"w":1'),
    lambda stored: stored.replace(b'"key":"k"', b'"key":"k","more":1'),
    lambda stored: stored.replace(b'"key":"k"', b'"key":1'),
    lambda stored: b" " + stored,
    lambda _: encode({"v": 1, "type": "strongroom/root", "parts": []}),
    lambda stored: encode({"v": 1, "type": "strongroom/root", "parts": list(decode(stored)["parts"]) * 3}),  # type: ignore[index,call-overload,arg-type]
    lambda stored: stored.replace(b"gcp-kms:projects", b"gcp-kms:project"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_another_form_is_refused(change: Callable[[bytes], bytes]) -> None:
    _, stored = made(Providers(), A)
    assert change(stored) != stored
    with pytest.raises((MalformedError, UsageError)):
        read_root(change(stored))


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_never_gives_the_root(at: int, flip: int) -> None:
    providers = Providers()
    root, stored = made(providers, A, B)
    place = at % len(stored)
    changed = stored[:place] + bytes([stored[place] ^ flip]) + stored[place + 1 :]
    try:
        got = reopened(providers, changed)
    except (StrongroomError, KeyError):
        return
    assert got == root, "what opens is the same root: a label changed that nothing rests on"


def test_a_held_key_of_another_name_is_refused() -> None:
    providers = Providers()
    held = read_root(made(providers, A)[1])[0]
    with pytest.raises(TamperedError):
        providers.of(B).unwrap(replace(held, provider=B), root_purpose(GENESIS))


@given(st.text(max_size=200) | st.sampled_from([str(uri) for uri in (A, B)]).flatmap(lambda s: st.just(s + "?x=y")))
def test_any_text_is_a_uri_or_refused(text: str) -> None:
    with suppress(StrongroomError):
        assert str(KeyUri.parse(text)) == text
