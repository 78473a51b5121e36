"""Each way to match, by the Sigma specification: what it takes, and what it doesn't."""

from __future__ import annotations

from typing import Final

import pytest

from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.detection.adapters.sigma_rules import SigmaRuleError, compile_rules
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.expressions import MAX_EXPRESSION_DEPTH, Match, Not, Test, expression_json, read_expression
from strongroom.detection.pack import Pack
from strongroom.detection.wiring import linear_regex

RULE: Final = """
title: t
name: r
logsource: {{product: strongroom}}
detection:
    anchor:
        event: vault:thing:did
    {name}
    condition: {condition}
"""


def matched(detection: str, event: dict[str, object], condition: str = "anchor and s") -> bool:
    rules, _none = compile_rules([("r", RULE.format(name=detection, condition=condition))])
    engine = Engine(Pack(name="p", rules=rules), regex=linear_regex)
    return bool(engine.observe(read_event({"event": "vault:thing:did", **event}), 0))


@pytest.mark.parametrize(
    ("item", "takes", "leaves"),
    [
        ("user: Alice", ["alice", "ALICE"], ["alic", "alice2", None]),
        ("user|cased: Alice", ["Alice"], ["alice"]),
        ("user: [alice, bob]", ["bob", "Alice"], ["carol"]),
        ("user: 'a*e'", ["alice", "ae"], ["alic", "xalice"]),
        ("user: 'a?ice'", ["alice"], ["aice", "allice"]),
        (r"user: 'a\*e'", ["a*e"], ["alice"]),
        (r"user: 'C:\dir\x'", [r"c:\DIR\x"], ["c:dirx"]),
        ("user|contains: LIC", ["alice"], ["alce"]),
        ("user|contains: 'l*c'", ["alice", "lc"], ["cl"]),
        ("user|startswith: al", ["Alice"], ["xal"]),
        ("user|endswith: ce", ["aliCE"], ["cex"]),
        ("user|contains|all: [al, ce]", ["alice"], ["al", "ce"]),
        ("user|re: '^a.+e$'", ["alice"], ["Alice", "ae"]),
        ("user|re|i: '^a.+e$'", ["ALICE"], ["ae"]),
        ("user|cidr: 192.0.2.0/24", ["192.0.2.7"], ["192.0.3.7", "x", "::1"]),
        ("user|cidr: 2001:db8::/32", ["2001:db8::1"], ["192.0.2.7"]),
        ("user: 5", [5, "5", 5.0], [6, "05x", True, None]),
        ("user|gt: 5", [6, "6", 5.5], [5, "5", "x", None, True]),
        ("user|gte: 5", [5], [4]),
        ("user|lt: 5", [4, -1], [5]),
        ("user|lte: 5", [5], [6]),
        ("user|neq: 5", [4, "x", None], [5, "5"]),
        ("user: true", [True, "true", "TRUE"], [False, "yes", 1]),
        ("user: null", [None], ["", 0]),
        ("user: ''", [""], ["x", None]),
        ("user: '*'", ["x", ""], [None]),
        ("user|exists: true", ["x", None], []),
        ("user|base64: alice", ["YWxpY2U="], ["alice"]),
        ("user|base64offset|contains: alice", ["xxYWxpY2Vx"], ["alice"]),
        ("user|windash|contains: ' -f '", ["a -f b", "a /f b"], ["a f b"]),
        ("user|fieldref: other", ["Same"], ["another"]),
    ],
)
def test_a_modifier_takes_and_leaves_what_it_should(item: str, takes: list[object], leaves: list[object]) -> None:
    for value in takes:
        assert matched(f"s:\n        {item}", {"user": value, "other": "same"}), value
    for value in leaves:
        assert not matched(f"s:\n        {item}", {"user": value, "other": "same"}), value


def test_a_field_that_is_not_there_matches_null_and_nothing_else() -> None:
    assert matched("s:\n        user: null", {})
    assert matched("s:\n        user|exists: false", {})
    assert not matched("s:\n        user|exists: true", {})
    assert not matched("s:\n        user|gte: 0", {})


def test_a_list_matches_where_one_of_its_values_does() -> None:
    assert matched("s:\n        user: bob", {"user": ["alice", "Bob"]})
    assert matched("s:\n        user|gt: 5", {"user": [1, 9]})
    assert not matched("s:\n        user: carol", {"user": ["alice", "bob"]})


def test_keywords_look_into_every_field() -> None:
    assert matched("s: [needle, 'n?il']", {"a": 1, "b": "a NEEDLE here"})
    assert not matched("s: [needle]", {"needle": "x"})


def test_conditions_join_as_they_read() -> None:
    both = "s1: {user: a}\n    s2: {other: b}"
    assert matched(both, {"user": "a", "other": "b"}, "anchor and all of s*")
    assert not matched(both, {"user": "a", "other": "c"}, "anchor and all of s*")
    assert matched(both, {"user": "a", "other": "c"}, "anchor and 1 of s*")
    assert not matched(both, {"user": "a", "other": "b"}, "anchor and not (s1 or s2)")


def test_a_placeholder_is_refused_by_name() -> None:
    with pytest.raises(SigmaRuleError, match="placeholder"):
        matched("s:\n        user|expand: '%admins%'", {})


def test_what_is_not_sigma_is_refused() -> None:
    for text in (
        "title: x",
        "[",
        "detection: {a: {b: c}, condition: a}",
        "title: t\nname: r\nlogsource: 7\ndetection: 8",
    ):
        with pytest.raises(SigmaRuleError):
            compile_rules([("r", text)])


def test_a_regular_expression_with_look_ahead_is_refused() -> None:
    with pytest.raises(MalformedError):
        linear_regex("a(?=b)")


def test_the_json_form_is_read_back_and_is_strict() -> None:
    deep: Not | Test = Test("user", Match.EQUALS, "a")
    for _level in range(MAX_EXPRESSION_DEPTH):
        deep = Not(deep)
    assert read_expression(Fields(expression_json(deep), "e")) == deep
    with pytest.raises(MalformedError, match="deeper"):
        read_expression(Fields(expression_json(Not(deep)), "e"))
    for members in (
        {"is": "all", "parts": []},
        {"is": "some", "parts": []},
        {"is": "test", "field": "", "match": "above", "value": "5", "cased": False},
        {"is": "test", "field": "a", "match": "above", "value": "x", "cased": False},
        {"is": "test", "field": "a", "match": "null", "value": "x", "cased": False},
        {"is": "test", "field": "a", "match": "regex", "value": "x", "cased": True},
        {"is": "test", "field": "a", "match": "cidr", "value": "10.0.0.1/8", "cased": False},
    ):
        with pytest.raises(MalformedError):
            read_expression(Fields(members, "e"))  # type: ignore[arg-type]
