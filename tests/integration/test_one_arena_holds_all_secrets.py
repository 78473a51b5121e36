"""A process may keep all its secrets in memory that the kernel hides: whoever makes one needn't know."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import UnavailableError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes, SecretUseError, keep_secrets_in
from strongroom.walls.adapters import secret_memory
from strongroom.walls.adapters.secret_memory import PLACES, REGION, SecretArena

pytestmark = pytest.mark.integration
KEY = bytes(range(32, 64))


@pytest.fixture(scope="module")
def arena() -> Iterator[SecretArena]:
    made = SecretArena()
    keep_secrets_in(made.take)
    yield made
    keep_secrets_in(None)


def free(arena: SecretArena, size: int = PLACES[0]) -> int:
    gc.collect()
    return len(arena._free[size])


def test_a_secret_is_moved_and_what_it_was_made_of_is_zeroed(arena: SecretArena) -> None:
    buffer = bytearray(KEY)
    before = free(arena)
    secret = SecretBytes(buffer)
    assert buffer == bytes(len(KEY))
    assert bytes(secret.reveal(TOKEN)) == KEY
    assert free(arena) == before - 1


def test_a_wiped_place_reads_zeros_and_is_taken_again_only_when_nobody_looks(arena: SecretArena) -> None:
    before = free(arena)
    secret = SecretBytes(bytearray(KEY))
    view = secret.reveal(TOKEN)
    secret.wipe()
    assert bytes(view) == bytes(len(KEY))
    with pytest.raises(SecretUseError):
        secret.reveal(TOKEN)
    assert free(arena) == before - 1
    del view
    assert free(arena) == before


def test_a_forgotten_secret_is_cleared_and_a_view_keeps_it_alive(arena: SecretArena) -> None:
    before = free(arena)
    view = SecretBytes(bytearray(KEY)).reveal(TOKEN)
    gc.collect()
    assert bytes(view) == KEY
    del view
    assert free(arena) == before
    (address,) = (arena._free[PLACES[0]][-1],)
    place = secret_memory._PLACE_TYPES[PLACES[0]].from_address(address)
    place.free = arena._free[PLACES[0]]  # type: ignore[attr-defined]
    arena._free[PLACES[0]].pop()
    assert bytes(place) == bytes(PLACES[0])


@pytest.mark.usefixtures("arena")
@given(st.binary(min_size=1, max_size=PLACES[-1]))
def test_every_length_comes_back_as_it_was(value: bytes) -> None:
    with SecretBytes(bytearray(value)) as secret:
        assert len(secret) == len(value)
        assert bytes(secret.reveal(TOKEN)) == value


def test_more_than_one_region_is_taken_when_many_are_held(arena: SecretArena) -> None:
    count = 2 * REGION // PLACES[0]
    held = [SecretBytes(bytearray(number.to_bytes(4, "big"))) for number in range(count)]
    assert [int.from_bytes(one.reveal(TOKEN), "big") for one in held] == list(range(count))
    for one in held:
        one.wipe()
    assert free(arena) >= count


def test_too_long_or_too_many_is_refused_and_the_buffer_zeroed(
    arena: SecretArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = bytearray(b"x" * (PLACES[-1] + 1))
    with pytest.raises(UnavailableError):
        SecretBytes(buffer)
    assert not any(buffer)
    monkeypatch.setattr(secret_memory, "MOST_REGIONS", arena._regions)
    held = []
    last = bytearray()
    with pytest.raises(UnavailableError, match="too many secrets"):  # noqa: PT012 - each could be the one
        for _ in range(arena._regions * REGION // PLACES[0] + 1):
            last = bytearray(KEY)
            held.append(SecretBytes(last))
    assert not any(last)


def test_a_secret_in_memory_of_the_callers_stays_there(arena: SecretArena) -> None:
    before, buffer = free(arena), bytearray(KEY)
    secret = SecretBytes(memoryview(buffer))
    assert free(arena) == before
    secret.wipe()
    assert not any(buffer)
