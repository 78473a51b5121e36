"""Of a root key's shares any M in any order give it back, and no fewer do; no changed word passes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strongroom.core.errors import StrongroomError
from strongroom.keys.slip39 import ShareError, combine, padded, read_share, split
from support.escrows import secret, seen

ROOTS = st.binary(min_size=32, max_size=32)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    count = draw(st.integers(2, 6))
    return draw(st.integers(2, count)), count


@given(ROOTS, sizes(), st.data())
def test_any_m_in_any_order_open_and_fewer_or_more_do_not(
    root: bytes, size: tuple[int, int], data: st.DataObject
) -> None:
    threshold, count = size
    shares = split(secret(root), threshold=threshold, count=count)
    order = data.draw(st.permutations(shares))
    assert seen(combine(order[:threshold])) == root
    with pytest.raises(ShareError):
        combine(order[: threshold - 1])
    if count > threshold:
        with pytest.raises(ShareError):
            combine(order)
    with pytest.raises(ShareError, match="twice"):
        combine([*order[: threshold - 1], order[0]])


@given(ROOTS, st.integers(0, 32), st.integers(0, 65))
def test_no_changed_word_passes(root: bytes, at: int, which: int) -> None:
    # Shares are random, so what is drawn mustn't hang on them.
    one, other, third = (seen(share).split() for share in split(secret(root), threshold=2, count=3))
    word = [*other, *third][which]
    assume(word != one[at])
    changed = padded(secret(b" ".join([*one[:at], word, *one[at + 1 :]])))
    with pytest.raises(ShareError):
        read_share(changed)


@given(ROOTS)
def test_shares_of_two_splittings_do_not_mix(root: bytes) -> None:
    first, second = (split(secret(root), threshold=2, count=2) for _ in range(2))
    try:
        mixed = seen(combine([first[0], second[1]]))
    except ShareError:
        return
    # Two splittings have one name once in 32,768 times; then SLIP-39's own digest of 32 bits stands, or the keyring.
    assert mixed != root


@given(st.one_of(st.binary(max_size=400), st.text(alphabet="abcdefg ", max_size=330).map(str.encode)))
def test_any_bytes_are_a_share_or_refused(data: bytes) -> None:
    for held in (secret(data), secret(data.ljust(320))):
        with contextlib.suppress(StrongroomError):
            read_share(held)
    with contextlib.suppress(StrongroomError):
        read_share(padded(secret(data)))


def test_the_reference_vector_of_another_kind_is_refused() -> None:
    # A share that SLIP-39 allows and a ceremony never makes: with a passphrase's rounds, or alone in its group.
    shamir = pytest.importorskip("shamir_mnemonic")
    rounds = shamir.generate_mnemonics(1, [(2, 3)], bytes(32), iteration_exponent=1)[0][0]
    groups = shamir.generate_mnemonics(2, [(2, 2), (2, 2)], bytes(32), iteration_exponent=0)[0][0]
    alone = shamir.generate_mnemonics(1, [(1, 1)], bytes(32), iteration_exponent=0)[0][0]
    for text in (rounds, groups, alone):
        with pytest.raises(ShareError, match="another kind"):
            read_share(padded(secret(text.encode())))


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 2), (3, 2), (2, 17), (0, 0)])
def test_no_share_opens_alone(threshold: int, count: int) -> None:
    with pytest.raises(StrongroomError) as caught:
        split(secret(bytes(32)), threshold=threshold, count=count)
    assert caught.value.reason == "custodian-threshold"
