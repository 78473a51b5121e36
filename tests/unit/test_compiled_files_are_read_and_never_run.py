"""Compiled files are compared with their sources without being loaded; hostile ones end as a refusal."""

from __future__ import annotations

import importlib.util
import marshal
import sys
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.intake.installation.compiled import is_compiled_from, source_of

HEADER = importlib.util.MAGIC_NUMBER + bytes(12)
SOURCE = b'''"""Doc."""
BIG = (1 << 80, -1.5, 2j, None, ..., True, b"raw", "\xc3\xa9")
def judge(name, *, among=frozenset({"a"})):
    """Judge."""
    return name in {"dana", "eve"} and [one for one in among]
class Kept:
    def held(self): return lambda: self.held
'''


def compiled(source: bytes, *, name: str = "x.py", level: int = 0) -> bytes:
    return HEADER + marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=level))


def test_the_same_source_compiled_elsewhere_is_the_same() -> None:
    assert is_compiled_from(SOURCE, compiled(SOURCE, name="/another/place.py"), level=0)
    again = HEADER + marshal.dumps(marshal.loads(compiled(SOURCE)[len(HEADER) :]))  # noqa: S302 - ours
    assert again != compiled(SOURCE)  # other marks on what is met twice
    assert is_compiled_from(SOURCE, again, level=0)


@pytest.mark.parametrize(
    "change",
    [
        (b"eve", b"eva"),
        (b"name in ", b"name not in "),
        (b"1 << 80", b"1 << 81"),
        (b"-1.5", b"-1.25"),
        (b"True", b"1"),
        (b"held", b"hold"),
    ],
    ids=lambda pair: pair[1].decode(),
)
def test_other_code_is_another(change: tuple[bytes, bytes]) -> None:
    assert not is_compiled_from(SOURCE, compiled(SOURCE.replace(*change)), level=0)


def test_levels_are_told_apart() -> None:
    assert is_compiled_from(SOURCE, compiled(SOURCE, level=2), level=2)
    assert not is_compiled_from(SOURCE, compiled(SOURCE, level=2), level=0)


def test_bytes_at_the_end_and_another_python_are_refused() -> None:
    good = compiled(SOURCE)
    assert not is_compiled_from(SOURCE, good + b"N", level=0)
    assert not is_compiled_from(SOURCE, b"\0\0\r\n" + good[4:], level=0)
    assert not is_compiled_from(b"def broken(:", good, level=0)


def test_values_that_double_end_soon() -> None:
    # Each tuple holds the one before twice: 2 to the power of 60 values in a few hundred bytes.
    doubling = b"\xa9\x02" * 60 + b"NN" + b"".join(b"r" + i.to_bytes(4, "little") for i in range(59, 0, -1))
    assert not is_compiled_from(SOURCE, HEADER + doubling, level=0)
    assert not is_compiled_from(SOURCE, HEADER + b"\xa9\x01r\0\0\0\0", level=0)
    assert not is_compiled_from(SOURCE, HEADER + b")\x01" * 5000 + b"N", level=0)
    assert not is_compiled_from(SOURCE, HEADER + b"(\xff\xff\xff\x7f", level=0)


@given(st.binary(max_size=200))
def test_any_bytes_are_no_match(data: bytes) -> None:
    assert not is_compiled_from(SOURCE, HEADER + data, level=0)


@given(st.data())
def test_a_changed_byte_is_no_match_unless_it_changes_nothing_that_runs(data: st.DataObject) -> None:
    good = compiled(SOURCE)
    at = data.draw(st.integers(len(HEADER), len(good) - 1))
    value = data.draw(st.integers(0, 255))
    changed = good[:at] + bytes([value]) + good[at + 1 :]
    if is_compiled_from(SOURCE, changed, level=0):
        loaded = marshal.loads(changed[len(HEADER) :])  # noqa: S302 - ours but for a byte
        assert isinstance(loaded, CodeType)
        assert loaded.replace(co_filename="x.py") == compile(SOURCE, "x.py", "exec", dont_inherit=True, optimize=0)


def test_a_compiled_file_is_a_sources_only_where_python_looks() -> None:
    tag = sys.implementation.cache_tag
    assert source_of(f"a/__pycache__/b.{tag}.pyc", tag) == ("a/b.py", 0)
    assert source_of(f"__pycache__/b.{tag}.opt-2.pyc", tag) == ("b.py", 2)
    for path in (f"a/b.{tag}.pyc", "a/b.pyc", f"a/__pycache__/b.{tag}.opt-3.pyc", "a/__pycache__/b.other-1.pyc"):
        assert source_of(path, tag) is None
