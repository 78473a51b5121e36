"""The gate's simulation against the standard library's own unpickler, in Python, with stand-ins for every global."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from strongroom.intake.formats.pickle_globals import TORCH_GLOBALS
from strongroom.intake.formats.pickles import check_pickle
from strongroom.intake.rules import IntakeRefusedError
from strongroom.intake.source import BytesSource
from support.hostile import changed

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.complex_numbers()
)
_HASHABLE = st.none() | st.integers() | st.text(max_size=10)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(_HASHABLE, inner, max_size=6)
        | st.dictionaries(_HASHABLE, inner, max_size=6).map(OrderedDict)
        | st.sets(_HASHABLE, max_size=6)
        | st.frozensets(_HASHABLE, max_size=6)
    ),
    max_leaves=40,
)


@given(_VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_let_in(value: object, protocol: int) -> None:
    facts = check_pickle(BytesSource(pickle.dumps(value, protocol)), "p", allowed=TORCH_GLOBALS)
    assert facts.protocol >= min(protocol, 2) or protocol < 2


class _Called:
    """Stands for an allowed class: takes whatever it is called with."""

    def __new__(cls, *_arguments: object, **_named: object) -> Any:
        return object.__new__(cls)

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def add(self, value: object) -> None:
        pass

    def __hash__(self) -> int:
        return 0


class _Watched(pickle._Unpickler):
    """The standard library's unpickler, which here can load nothing: every global is a stand-in, and noted."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.named: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.named.add(f"{module} {name}")
        return _Called


def _agree(data: bytes) -> bool:
    try:
        facts = check_pickle(BytesSource(data), "p", allowed=TORCH_GLOBALS)
    except IntakeRefusedError:
        return False
    watched = _Watched(data)
    # What an allowed pickle then does (say, take an item of a number) may fail; what it may not do is name more.
    with suppress(Exception):
        watched.load()
    assert watched.named <= set(facts.globals)
    return True


@given(_VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL), st.integers(0, 2**32))
def test_no_changed_pickle_names_more_than_was_seen(value: object, protocol: int, seed: int) -> None:
    seeds = [
        pickle.dumps(value, protocol),
        pickle.dumps(OrderedDict(a={1}), protocol),
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    ]
    for data in changed(seeds, 6, seed):
        _agree(data)


@given(
    st.lists(
        st.sampled_from(
            [
                b"\x80\x02", b"\x80\x04", b"ccollections\nOrderedDict\n", b"cos\nsystem\n", b"\x8c\x02os",
                b"\x8c\x06system", b"\x8c\x0bcollections", b"\x8c\x0bOrderedDict", b"\x93",
                b"(", b")", b"t", b"R", b"o", b"N", b"}", b"]",
                b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"\x94", b"0", b"1", b"2", b"b", b"s", b"u", b"a", b"e",
                b"\x85", b"\x86", b"\x81", b"\x90", b"\x8f", b".",
            ]
        ),
        max_size=14,
    )
)  # fmt: skip
def test_no_program_of_opcodes_names_more_than_was_seen(opcodes: list[bytes]) -> None:
    _agree(b"".join(opcodes) + b".")
