"""The keeper keeps what opens its root key at its providers, and not the passphrase; locking wipes both."""

from __future__ import annotations

import os

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes, SecretUseError
from strongroom.keys.adapters.local import Argon2Cost, KeptKey, LocalService, WrongPassphraseError
from strongroom.keys.hierarchy import Tree, root_purpose
from strongroom.keys.split_root import make_root
from strongroom.keys.uri import KeyUri
from strongroom.keys.wiring import RootProviders, key_provider

GENESIS = Digest.of(b"genesis")
CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=512)
WORDS = b"six random words for this"
PURPOSE = root_purpose(GENESIS)


def words(text: bytes = WORDS) -> SecretBytes:
    return SecretBytes(bytearray(text))


def stored() -> tuple[bytes, bytes]:
    with words() as passphrase:
        provider = key_provider(KeyUri.parse("local:"), passphrase=passphrase, cost=CHEAP)
        root, data = make_root(GENESIS, [provider], os.urandom)
    with root:
        return bytes(root.reveal(TOKEN)), data


def test_another_root_key_is_made_without_the_passphrase() -> None:
    root, data = stored()
    passphrase = words()
    providers = RootProviders(GENESIS, passphrase)
    with providers.open(Tree.ESCROWED, data) as opened:
        assert bytes(opened.reveal(TOKEN)) == root
    passphrase.wipe()
    made, again = providers.make(Tree.ESCROWED)
    with made:
        fresh = bytes(made.reveal(TOKEN))
    assert fresh != root
    # The same words open it at the next start.
    with words() as typed, RootProviders(GENESIS, typed).open(Tree.ESCROWED, again) as opened:
        assert bytes(opened.reveal(TOKEN)) == fresh


def test_nothing_is_made_after_it_was_wiped_or_before_it_opened() -> None:
    _root, data = stored()
    passphrase = words()
    providers = RootProviders(GENESIS, passphrase)
    with pytest.raises(LockedError):
        providers.make(Tree.ESCROWED)
    providers.open(Tree.ESCROWED, data).wipe()
    passphrase.wipe()
    # A tree that has no root key yet gets one under the same services.
    made, again = providers.make(Tree.UNESCROWED)
    with made, words() as typed, RootProviders(GENESIS, typed).open(Tree.UNESCROWED, again) as opened:
        assert bytes(opened.reveal(TOKEN)) == bytes(made.reveal(TOKEN))
    providers.wipe()
    with pytest.raises(LockedError):
        providers.make(Tree.ESCROWED)
    with pytest.raises(SecretUseError):
        providers.open(Tree.ESCROWED, data)


def test_a_wrong_passphrase_leaves_nothing_behind() -> None:
    kept = KeptKey()
    with words() as right:
        closed = LocalService(right, os.urandom, CHEAP).close_key(SecretBytes(bytearray(32)), PURPOSE)
    with words(b"six other words for that") as wrong, pytest.raises(WrongPassphraseError):
        LocalService(wrong, os.urandom, CHEAP, kept).open_key(closed, PURPOSE)
    assert kept.held() is None


def test_the_kept_key_closes_by_the_salt_and_cost_that_opened() -> None:
    kept, passphrase = KeptKey(), words()
    first = LocalService(passphrase, os.urandom, CHEAP).close_key(SecretBytes(bytearray(32)), PURPOSE)
    service = LocalService(passphrase, os.urandom, Argon2Cost(iterations=2, lanes=1, memory_kib=1024), kept)
    service.open_key(first, PURPOSE).wipe()
    held = kept.held()
    assert held is not None
    assert held[2] == CHEAP
    second = service.close_key(SecretBytes(bytearray(b"\x07" * 32)), PURPOSE)
    with words() as typed, LocalService(typed, os.urandom).open_key(second, PURPOSE) as key:
        assert bytes(key.reveal(TOKEN)) == b"\x07" * 32
    kept.wipe()
    with pytest.raises(SecretUseError):
        held[0].reveal(TOKEN)
