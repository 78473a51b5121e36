"""Cases of a policy's author and files of decisions: whatever they hold, they are read or refused, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.access.cases import read_cases, run_case
from strongroom.client.decisions import from_file, to_file
from strongroom.core.errors import StrongroomError
from strongroom.release.decided import Decided
from support.examples import examples
from support.policies import ENGINE, EVERY_LEVEL

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PEOPLE = st.dictionaries(
    st.sampled_from(["id", "org", "roles", "employment", "tier", "vetted", "human", "nda", "courses", "approved_ago"]),
    JSON | st.sampled_from(["sam", "the-asker", "lapsed", "never"]),
    max_size=4,
)
CASE = st.fixed_dictionaries(
    {
        "name": JSON | st.just("a case"),
        "action": st.sampled_from(["seal", "open-in-enclave", "freeze", "export-plaintext", "", "rotate"]),
        "model": st.sampled_from(["model-sl1", "model-sl4", "gpt", "-"]),
        "expect": st.sampled_from(["allow", "deny", "maybe"]),
    },
    optional={
        "reason": JSON,
        "purpose": JSON | st.just("serve"),
        "window": JSON,
        "uses": JSON,
        "waited": JSON,
        "requester": PEOPLE | JSON,
        "approvers": st.lists(PEOPLE, max_size=2) | JSON,
        "denied": JSON,
        "frozen": JSON,
        "uses_left": JSON,
        "holders": JSON,
        "enclave": st.dictionaries(st.sampled_from(["isolation_too_weak", "platform_named"]), JSON) | JSON,
        "no_enclave": JSON,
    },
)


@settings(max_examples=examples(300))
@given(st.lists(CASE, max_size=2).map(lambda cases: {"v": 1, "cases": cases}) | JSON)
def test_cases_are_decided_or_refused(value: Any) -> None:
    try:
        for case in read_cases(value):
            result = run_case(case, EVERY_LEVEL, ENGINE)
            assert result.allowed is not bool(result.reasons)
    except StrongroomError:
        pass


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda line: b"\n" not in line), max_size=8))
def test_a_file_of_decisions_gives_its_lines_back(lines: list[bytes]) -> None:
    assert from_file(to_file(lines)) == tuple(lines)


@given(st.binary(max_size=200))
def test_any_line_is_a_decision_or_malformed(data: bytes) -> None:
    for line in from_file(data):
        try:
            Decided.parse(line)
        except StrongroomError:
            continue
