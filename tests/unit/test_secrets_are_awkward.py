"""A secret isn't shown, compared, copied or pickled by accident, and is gone once wiped."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes, SecretUseError

PLAIN = b"0123456789abcdef"


def secret() -> SecretBytes:
    return SecretBytes(bytearray(PLAIN))


def test_it_is_read_with_the_token_only() -> None:
    assert bytes(secret().reveal(TOKEN)) == PLAIN
    assert len(secret()) == len(PLAIN)
    with pytest.raises(TypeError):
        secret().reveal()  # type: ignore[call-arg]


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, lambda s: f"{s}", lambda s: f"{[s]} {(s,)}"])
def test_it_is_never_shown(show: Callable[[SecretBytes], str]) -> None:
    text = show(secret())
    assert "<secret>" in text
    assert PLAIN.decode() not in text


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s == secret(),
        lambda s: s == PLAIN,
        lambda s: s != PLAIN,
        lambda s: [s].index(secret()),
        hash,
        list,
        bytes,
        bytearray,
        copy.copy,
        copy.deepcopy,
        pickle.dumps,
    ],
)
def test_it_is_not_compared_copied_or_serialised(use: Callable[[SecretBytes], object]) -> None:
    with pytest.raises((SecretUseError, TypeError)) as caught:
        use(secret())
    assert PLAIN.decode() not in str(caught.value)


def test_it_has_no_place_for_more_attributes() -> None:
    with pytest.raises(AttributeError):
        secret().copy = PLAIN  # type: ignore[attr-defined]
    assert not hasattr(secret(), "__dict__")


def test_wiping_overwrites_the_buffer_itself() -> None:
    buffer = bytearray(PLAIN)
    held = SecretBytes(buffer)
    view = held.reveal(TOKEN)
    held.wipe()
    assert bytes(view) == bytes(len(PLAIN))
    assert buffer == bytes(len(PLAIN))
    for use in (len, lambda s: s.reveal(TOKEN)):
        with pytest.raises(SecretUseError, match="was wiped"):
            use(held)
    held.wipe()


def test_a_with_block_wipes_even_when_it_fails() -> None:
    buffer = bytearray(PLAIN)
    with pytest.raises(RuntimeError), SecretBytes(buffer):
        raise RuntimeError
    assert buffer == bytes(len(PLAIN))


def test_an_empty_secret_can_be_wiped() -> None:
    empty = SecretBytes(bytearray())
    assert len(empty) == 0
    empty.wipe()
