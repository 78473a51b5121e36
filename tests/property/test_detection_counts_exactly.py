"""Windows equal a naive count over the whole history, wildcards equal an oracle, and what is forgotten is said."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from strongroom.detection.engine import Engine
from strongroom.detection.expressions import Any, Match, Not, Test, anchors
from strongroom.detection.matching import compile_expression, like
from strongroom.detection.pack import Pack
from strongroom.detection.rules import (
    MAX_KEPT,
    About,
    Certainty,
    Comparison,
    Correlation,
    CorrelationKind,
    GroupField,
    Rule,
    Severity,
    Threshold,
)
from strongroom.detection.windows import Windows, window_of
from strongroom.detection.wiring import linear_regex

SPAN: Final = 10
ABOUT: Final = About(title="t", severity=Severity.LOW, certainty=Certainty.HINT, tags=(), playbook="")
BASE: Final = Correlation(
    id="c",
    about=ABOUT,
    kind=CorrelationKind.EVENT_COUNT,
    rules=("a", "b"),
    group_by=(GroupField(name="g"),),
    timespan=SPAN,
    threshold=Threshold(comparison=Comparison.AT_LEAST, count=3),
)
steps = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"]), st.integers(0, 9)),
    max_size=40,
)


@given(steps, st.sampled_from(list(Comparison)), st.integers(0, 5))
def test_event_counts_equal_a_naive_count(story: list[tuple[int, str, str, int]], how: Comparison, count: int) -> None:
    window = window_of(replace(BASE, threshold=Threshold(comparison=how, count=count)))
    now, seen = 0, list[int]()
    for wait, rule, _text, _number in story:
        now += wait
        seen.append(now)
        naive = sum(now - at < SPAN for at in seen)
        assert window.add(rule, now, ()) is compared(naive, how, count)


def compared(figure: float, how: Comparison, count: int) -> bool:
    return {
        Comparison.AT_LEAST: figure >= count,
        Comparison.ABOVE: figure > count,
        Comparison.AT_MOST: figure <= count,
        Comparison.BELOW: figure < count,
        Comparison.EQUAL: figure == count,
        Comparison.OTHER: figure != count,
    }[how]


@given(steps)
def test_distinct_values_and_sums_equal_a_naive_count(story: list[tuple[int, str, str, int]]) -> None:
    threshold = replace(BASE.threshold, fields=("v",))
    distinct = window_of(replace(BASE, kind=CorrelationKind.VALUE_COUNT, threshold=replace(threshold, count=2)))
    total = window_of(replace(BASE, kind=CorrelationKind.VALUE_SUM, threshold=replace(threshold, count=12)))
    median = window_of(replace(BASE, kind=CorrelationKind.VALUE_MEDIAN, threshold=replace(threshold, count=5)))
    now, seen = 0, list[tuple[int, str, int]]()
    for wait, rule, text, number in story:
        now += wait
        seen.append((now, text, number))
        inside = [(word, size) for at, word, size in seen if now - at < SPAN]
        sizes = sorted(size for _word, size in inside)
        middle = len(sizes) // 2
        half = sizes[middle] if len(sizes) % 2 else (sizes[middle - 1] + sizes[middle]) / 2
        assert distinct.add(rule, now, (text,)) is (len({word for word, _size in inside}) >= 2)
        assert total.add(rule, now, (number,)) is (sum(sizes) >= 12)
        assert median.add(rule, now, (number,)) is (half >= 5)


@given(steps)
def test_rules_in_order_equal_a_naive_search(story: list[tuple[int, str, str, int]]) -> None:
    window = window_of(replace(BASE, kind=CorrelationKind.TEMPORAL_ORDERED, rules=("a", "b", "a")))
    now, seen = 0, list[tuple[int, str]]()
    for wait, rule, _text, _number in story:
        now += wait
        seen.append((now, rule))
        naive = rule == "a" and any(
            seen[i][1] == "a" and seen[j][1] == "b" and now - seen[i][0] < SPAN
            for j in range(len(seen) - 1)
            for i in range(j)
        )
        assert window.add(rule, now, ()) is naive


@given(steps)
def test_rules_together_equal_a_naive_search(story: list[tuple[int, str, str, int]]) -> None:
    window = window_of(replace(BASE, kind=CorrelationKind.TEMPORAL, rules=("a", "b")))
    now, seen = 0, list[tuple[int, str]]()
    for wait, rule, _text, _number in story:
        now += wait
        seen.append((now, rule))
        inside = {name for at, name in seen if now - at < SPAN}
        assert window.add(rule, now, ()) is ({"a", "b"} <= inside)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=60), st.integers(1, 5))
def test_a_group_that_still_counted_is_never_forgotten_unsaid(story: list[tuple[int, int]], most: int) -> None:
    windows = Windows(BASE, most=most)
    now, kept, forgotten = 0, dict[int, int](), 0
    for group, wait in story:
        now += wait
        if group not in kept and len(kept) == most:
            oldest = next(iter(kept))
            forgotten += now - kept.pop(oldest) < SPAN
        kept.pop(group, None)
        kept[group] = now
        windows.add((str(group),), "a", now, ())
        assert (len(windows), windows.forgotten) == (len(kept), forgotten)


@given(st.sampled_from([CorrelationKind.VALUE_SUM, CorrelationKind.VALUE_AVG, CorrelationKind.VALUE_MEDIAN]))
def test_a_full_window_says_so_and_keeps_its_figure_sound(kind: CorrelationKind) -> None:
    threshold = Threshold(comparison=Comparison.EQUAL, count=2 * (MAX_KEPT + 5), fields=("v",))
    if kind is not CorrelationKind.VALUE_SUM:
        threshold = replace(threshold, count=2)
    window = window_of(replace(BASE, kind=kind, timespan=SPAN, threshold=threshold))
    held = [window.add("a", 1, (2,)) for _n in range(MAX_KEPT + 5)]
    assert window.overflowed
    # Sums lose nothing; averages and medians are those of the newest that are kept.
    assert held[-1]


@given(st.text("ab*?\\", max_size=8), st.text("ab*?\\", max_size=8))
def test_wildcards_equal_an_oracle(pattern: str, text: str) -> None:
    oracle, characters = "", iter(pattern)
    for character in characters:
        if character == "\\":
            oracle += re.escape(next(characters, "\\"))
        else:
            oracle += {"*": ".*", "?": "."}.get(character, re.escape(character))
    assert like(pattern)(text) is (re.fullmatch(oracle, text, re.DOTALL) is not None)


values = st.sampled_from(["a", "b", "c"])
tests = st.builds(Test, st.sampled_from(["event", "u", "v"]), st.just(Match.EQUALS), values)
trees = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda *parts: Any(parts), inner, inner),
    ),
    max_leaves=6,
)


@given(
    st.lists(trees, min_size=1, max_size=5), st.lists(st.fixed_dictionaries({"event": values, "u": values}), max_size=8)
)
def test_the_index_finds_what_looking_at_every_rule_finds(
    expressions: list[Test | Not | Any], events: list[dict[str, str]]
) -> None:
    rules = tuple(
        Rule(id=f"r{number}", about=ABOUT, expression=expression)
        for number, expression in enumerate(expressions)
        if anchors(expression, "event") is not None
    )
    engine = Engine(Pack(name="p", rules=rules), regex=linear_regex)
    for event in events:
        naive = {rule.id for rule in rules if compile_expression(rule.expression, linear_regex)(event, event)}
        assert {hit.rule for hit in engine.observe(event, 0)} == naive


@given(st.lists(st.sampled_from(["dana", "Dana", "DANA", "\uff44ana", "da\u200bna"]), min_size=3, max_size=9))
def test_who_writes_one_name_in_several_ways_is_counted_once(names: list[str]) -> None:
    rules = tuple(
        Rule(id=name, about=ABOUT, expression=Test("event", Match.EQUALS, "e"), silent=True) for name in ("a", "b")
    )
    correlation = replace(BASE, rules=("a",))
    engine = Engine(Pack(name="p", rules=rules, correlations=(correlation,)), regex=linear_regex)
    counted = 0
    for name in names:
        hits = engine.observe({"event": "e", "g": name}, 1)
        counted += name != "da\u200bna"
        if name != "da\u200bna":
            assert bool(hits) is (counted >= 3)
            # It is named as the event does.
            assert all(hit.group == (("g", name),) for hit in hits)
