"""A wrapped key opens for the purpose that it was wrapped for, under its own wrapping key, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.ids import ModelId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.local import (
    Argon2Cost,
    WrongPassphraseError,
    unwrap_with_passphrase,
    wrap_with_passphrase,
)
from strongroom.keys.hierarchy import Tree, data_purpose, epoch_purpose, kek_purpose, root_purpose, signing_purpose
from strongroom.keys.recipient import RECIPIENT_KEY_BYTES, DeliveryError, RecipientKey, encrypt_to
from strongroom.keys.wrapping import KeyKind, WrapError, WrappedKey, WrapPurpose, new_key, unwrap, wrap

GENESIS = Digest.of(b"genesis")
PURPOSE = data_purpose(GENESIS, ModelId("atlas"), 2, "dk-1", "kek-1")
OTHERS: dict[str, object] = {
    "genesis": Digest.of(b"other"),
    "kind": KeyKind.MODEL_KEK,
    "name": "dk-2",
    "parent": "kek kek-2",
    "model": "borea",
    "version": 3,
}
CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=512)


def counting() -> Callable[[int], bytes]:
    """Bytes that differ each time."""
    made = iter(range(1, 256))
    return lambda count: bytes([next(made)]) * count


def secret(fill: int = 7, size: int = 32) -> SecretBytes:
    return SecretBytes(bytearray([fill]) * size)


def test_every_field_of_a_purpose_is_tried_here() -> None:
    assert set(OTHERS) == {field.name for field in fields(WrapPurpose)}


def test_a_key_opens_for_its_purpose() -> None:
    wrapped = wrap(secret(1), secret(7), PURPOSE, counting())
    assert bytes(unwrap(secret(1), wrapped, PURPOSE).reveal(TOKEN)) == bytes([7]) * 32
    assert bytes([7]) * 32 not in wrapped.ciphertext


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_purpose_is_refused(name: str) -> None:
    wrapped = wrap(secret(1), secret(7), PURPOSE, counting())
    other = replace(PURPOSE, **{name: OTHERS[name]})  # type: ignore[arg-type]  # each has its field's type
    assert other.associated_data() != PURPOSE.associated_data()
    with pytest.raises(WrapError):
        unwrap(secret(1), wrapped, other)


def test_another_wrapping_key_or_changed_bytes_are_refused() -> None:
    wrapped = wrap(secret(1), secret(7), PURPOSE, counting())
    with pytest.raises(WrapError):
        unwrap(secret(2), wrapped, PURPOSE)
    for place in range(len(wrapped.ciphertext)):
        changed = bytearray(wrapped.ciphertext)
        changed[place] ^= 1
        with pytest.raises(WrapError):
            unwrap(secret(1), WrappedKey(wrapped.nonce, bytes(changed)), PURPOSE)
    for nonce in (b"", wrapped.nonce[:-1], wrapped.nonce + b"\0", bytes(12)):
        with pytest.raises(WrapError):
            unwrap(secret(1), WrappedKey(nonce, wrapped.ciphertext), PURPOSE)
    for cut in (b"", wrapped.ciphertext[:-1], wrapped.ciphertext + b"\0"):
        with pytest.raises(WrapError):
            unwrap(secret(1), WrappedKey(wrapped.nonce, cut), PURPOSE)


def test_no_two_places_of_the_hierarchy_share_a_purpose() -> None:
    atlas, borea = ModelId("atlas"), ModelId("borea")
    purposes = [
        root_purpose(GENESIS),
        signing_purpose(GENESIS, 1, None),
        signing_purpose(GENESIS, 2, None),
        signing_purpose(GENESIS, 2, Digest.of(b"an order")),
        *(epoch_purpose(GENESIS, tree, epoch) for tree in Tree for epoch in (1, 2)),
        *(kek_purpose(GENESIS, e, m, k) for e in (1, 2) for m in (atlas, borea) for k in ("kek-1", "kek-2")),
        *(
            data_purpose(GENESIS, m, v, d, k)
            for m in (atlas, borea)
            for v in (1, 2)
            for d in ("dk-1", "dk-2")
            for k in ("kek-1", "kek-2")
        ),
        # Names chosen to run together, were they merely joined.
        kek_purpose(GENESIS, 1, ModelId("1"), "1"),
        data_purpose(GENESIS, ModelId("root"), 1, "keeper", "root"),
    ]
    assert len({purpose.associated_data() for purpose in purposes}) == len(purposes)


def test_a_new_key_is_whatever_the_random_source_gives() -> None:
    source = counting()
    first, second = new_key(source), new_key(source)
    assert bytes(first.reveal(TOKEN)) != bytes(second.reveal(TOKEN))
    assert len(first) == 32


def test_a_passphrase_opens_what_it_closed_and_another_doesn_t() -> None:
    purpose = root_purpose(GENESIS)
    good, bad = b"six random words", b"six random w0rds"
    stored = wrap_with_passphrase(secret(7), SecretBytes(bytearray(good)), purpose, counting(), CHEAP)
    opened = unwrap_with_passphrase(stored, SecretBytes(bytearray(good)), purpose)
    assert bytes(opened.reveal(TOKEN)) == bytes([7]) * 32
    with pytest.raises(WrongPassphraseError):
        unwrap_with_passphrase(stored, SecretBytes(bytearray(bad)), purpose)
    with pytest.raises(WrongPassphraseError):
        unwrap_with_passphrase(stored, SecretBytes(bytearray(good)), root_purpose(Digest.of(b"other")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"kdf":"argon2id"', b'"kdf":"argon2d"'),
        (b'"provider":"local"', b'"provider":"tpm"'),
        (b'"memory_kib":512', b'"memory_kib":4294967295'),
        (b'"iterations":1', b'"iterations":0'),
        (b'"lanes":1', b'"lanes":100000'),
        (b'"v":1', b'"v":2'),
        (b'"v":1', b'"v":1,"w":1'),
        (b'{"iterations', b'{ "iterations'),
    ],
)
def test_a_changed_key_file_is_malformed_before_any_cost_is_paid(old: bytes, new: bytes) -> None:
    purpose = root_purpose(GENESIS)
    stored = wrap_with_passphrase(secret(7), SecretBytes(bytearray(b"six random words")), purpose, counting(), CHEAP)
    assert old in stored
    with pytest.raises(MalformedError):
        unwrap_with_passphrase(stored.replace(old, new), SecretBytes(bytearray(b"six random words")), purpose)


def test_a_short_passphrase_isn_t_taken() -> None:
    with pytest.raises(UsageError):
        wrap_with_passphrase(secret(7), secret(1, 11), root_purpose(GENESIS), counting(), CHEAP)


def test_a_delivery_opens_for_its_recipient_and_context_once() -> None:
    key = RecipientKey()
    sent = encrypt_to(key.public, secret(7), b"context")
    assert bytes(key.open(sent, b"context").reveal(TOKEN)) == bytes([7]) * 32
    with pytest.raises(DeliveryError, match="used already"):
        key.open(sent, b"context")


def test_another_context_recipient_or_ciphertext_is_refused_and_the_key_is_gone() -> None:
    sent_to = RecipientKey()
    sent = encrypt_to(sent_to.public, secret(7), b"context")
    tries: list[tuple[RecipientKey, bytes, bytes]] = [
        (RecipientKey(), sent, b"context"),
        (sent_to, sent, b"another context"),
    ]
    for place in (0, len(sent) // 2, len(sent) - 1):
        key = RecipientKey()
        changed = bytearray(encrypt_to(key.public, secret(7), b"context"))
        changed[place] ^= 1
        tries.append((key, bytes(changed), b"context"))
    tries += [(RecipientKey(), b"", b""), (RecipientKey(), sent[:100], b"context")]
    for key, ciphertext, context in tries:
        with pytest.raises(DeliveryError, match="doesn't open"):
            key.open(ciphertext, context)
        with pytest.raises(DeliveryError, match="used already"):
            key.open(ciphertext, context)


@pytest.mark.parametrize(
    "public",
    [b"", bytes(RECIPIENT_KEY_BYTES - 1), bytes(RECIPIENT_KEY_BYTES + 1), b"\xff" * RECIPIENT_KEY_BYTES],
)
def test_what_isn_t_a_recipient_key_is_refused(public: bytes) -> None:
    with pytest.raises(MalformedError):
        encrypt_to(public, secret(7), b"context")


def test_two_encryptions_of_one_key_differ() -> None:
    key = RecipientKey()
    assert encrypt_to(key.public, secret(7), b"c") != encrypt_to(key.public, secret(7), b"c")
