"""A member that nobody asked for, or of another type than was asked for, makes the whole object refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import model_id

DIGEST = Digest.of(b"a")
GOOD: list[tuple[str, Callable[[Fields], object], Json, object]] = [
    ("text", lambda f: f.text("x"), "é", "é"),
    ("digest", lambda f: f.digest("x"), str(DIGEST), DIGEST),
    ("instant", lambda f: f.instant("x"), "1970-01-01T00:01:00Z", 60),
    ("binary", lambda f: f.binary("x"), "AQI=", b"\x01\x02"),
    ("integer", lambda f: f.integer("x", least=1, most=3), 3, 3),
    ("boolean", lambda f: f.boolean("x"), False, False),
    ("texts", lambda f: f.texts("x", most=2), ["a", "b"], ("a", "b")),
    ("parsed", lambda f: f.parsed("x", model_id), "atlas", "atlas"),
    ("objects", lambda f: f.objects("x", lambda g: g.text("y"), most=1), [{"y": "z"}], ("z",)),
]
BAD: list[tuple[str, Callable[[Fields], object], list[Json]]] = [
    ("text", lambda f: f.text("x", max_length=3), ["abcd", "a\n", "\x7f", 1, None, ["a"], True]),
    ("digest", lambda f: f.digest("x"), ["sha256:00", 1, "sha1:" + "0" * 40]),
    ("instant", lambda f: f.instant("x"), ["now", 60, "1970-01-01T00:01:00"]),
    ("binary", lambda f: f.binary("x", max_length=3), ["AAAAAA==", "A", "AQI", 1]),
    ("integer", lambda f: f.integer("x", least=1, most=3), [0, 4, True, "1", None]),
    ("boolean", lambda f: f.boolean("x"), [0, 1, "true", None]),
    ("constant", lambda f: f.constant("x", 1), [2, "1", None]),
    ("texts", lambda f: f.texts("x", most=2), [["a", "b", "c"], [1], "a", {"0": "a"}, ["a\x00"]]),
    ("parsed", lambda f: f.parsed("x", model_id), ["Atlas", "../a", 1]),
    (
        "objects",
        lambda f: f.objects("x", lambda g: g.text("y"), most=1),
        [[{"y": "z"}] * 2, [{}], [{"y": "z", "w": 1}], [1]],
    ),
    ("child", lambda f: f.child("x"), ["a", None, []]),
]


def whole(value: Json, read: Callable[[Fields], object]) -> object:
    with Fields({"x": value}, "thing") as f:
        return read(f)


@pytest.mark.parametrize(("read", "value", "expected"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_what_was_asked_for_is_returned(read: Callable[[Fields], object], value: Json, expected: object) -> None:
    assert whole(value, read) == expected


@pytest.mark.parametrize(
    ("read", "value"),
    [pytest.param(read, value, id=f"{name}-{i}") for name, read, values in BAD for i, value in enumerate(values)],
)
def test_another_type_or_range_is_refused_and_named(read: Callable[[Fields], object], value: Json) -> None:
    with pytest.raises(MalformedError, match=r"`thing\.x"):
        whole(value, read)


@pytest.mark.parametrize("read", [row[1] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_missing_member_is_refused(read: Callable[[Fields], object]) -> None:
    with pytest.raises(MalformedError, match=r"`thing\.x` is missing"):
        read(Fields({}, "thing"))


def test_a_member_that_nobody_read_is_refused() -> None:
    with pytest.raises(MalformedError, match="doesn't know"), Fields({"x": "a", "admin": True}, "thing") as f:
        f.text("x")


def test_a_member_is_read_once() -> None:
    f = Fields({"x": "a"}, "thing")
    f.text("x")
    with pytest.raises(MalformedError, match="missing"):
        f.text("x")


def test_an_optional_member_may_be_absent_or_null() -> None:
    for value, there in ({}, False), ({"x": None}, False), ({"x": "a"}, True):
        f = Fields(value, "thing")  # type: ignore[arg-type]
        assert f.optional("x") is there
        if there:
            f.text("x")
        f.end()


@pytest.mark.parametrize("value", [None, [], "a", 1])
def test_only_an_object_is_an_object(value: Json) -> None:
    with pytest.raises(MalformedError, match="`thing` must be a JSON object"):
        Fields(value, "thing")


def test_an_error_of_ones_own_is_not_hidden_by_what_is_left() -> None:
    with pytest.raises(KeyError), Fields({"x": 1}, "thing"):
        raise KeyError


def test_the_place_of_a_nested_error_is_named() -> None:
    value: Json = {"a": [{"b": "c"}, {"b": 1}]}
    with pytest.raises(MalformedError, match=r"`thing\.a\[1\]\.b`"), Fields(value, "thing") as f:
        f.objects("a", lambda g: g.text("b"), most=2)
