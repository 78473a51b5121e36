"""docs/operate/policy.md: its rules are the default policy's, its brakes the self-test's, its cases come out so."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from strongroom.access.brakes import BRAKES
from strongroom.access.cases import read_cases, run_case
from strongroom.access.policy import Caps, ModelTerms, NoRuleError, Policy
from strongroom.access.request import Action
from strongroom.access.self_test import safe_engine
from strongroom.attestation.isolation import IsolationClass
from strongroom.client.default_policy import default_policy
from strongroom.client.render import duration
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel
from strongroom.release.documents import level_cap
from strongroom.release.policy_diff import Mark

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operate" / "policy.md").read_text(encoding="utf-8")
POLICY = default_policy(Digest.of(b"genesis"))
BEGIN, END = "<!-- rules: generated from the default policy -->\n", "<!-- rules: end -->"


def table(policy: Policy) -> str:
    """Return the rules as the page shows them: a row for each action, a column for each level."""
    rows = [
        "| | " + " | ".join(level.value for level in SecurityLevel) + " |",
        "|---" * (1 + len(SecurityLevel)) + "|",
        *(
            f"| `{action.value}` | " + " | ".join(cell(policy, action, level) for level in SecurityLevel) + " |"
            for action in Action
        ),
    ]
    return "\n".join(rows) + "\n"


def cell(policy: Policy, action: Action, level: SecurityLevel) -> str:
    try:
        rule = policy.rule(action, level)
    except NoRuleError:
        return "never"
    units = {"any": "", "other": " (other unit)", "owner": " (owner's unit)"}
    assert all(factor.count == 1 for factor in rule.factors)
    people = "".join(f" + {one.role.removeprefix('approver-')}{units[one.unit.value]}" for one in rule.factors)
    uses = "once" if rule.max_uses == 1 else f"{rule.max_uses} uses"
    tiers = f"tier {rule.requester_tier}" + (f" + {rule.approver_tier}" if rule.factors else "")
    return f"{rule.requester_role}{people}; {tiers}; {duration(rule.max_window)}, {uses}"


def test_the_rules_of_the_page_are_those_of_the_default_policy() -> None:
    shown = PAGE[PAGE.index(BEGIN) + len(BEGIN) : PAGE.index(END)]
    assert shown == table(POLICY), f"the page should show:\n{table(POLICY)}"


def test_what_the_page_says_beside_the_table_is_so() -> None:
    caps = Caps()
    assert f"{caps.output} people with output-limited access" in PAGE
    assert f"{caps.isolated} with isolated" in PAGE
    assert f"{caps.copy} with copy" in PAGE
    for level in SecurityLevel:
        for rule in POLICY.rules:
            if rule.level is level and rule.action is not Action.FREEZE:
                assert rule.nda is (level.rank >= 2)
                assert rule.hardware is (level.rank >= 3)
                assert rule.courses == (("weights-handling",) if level.rank >= 3 else ())


def test_every_brake_stands_on_the_page() -> None:
    listed = re.findall(r"^- although (.*)$", PAGE, re.MULTILINE)
    assert listed == [brake.although for brake in BRAKES]


def test_the_caps_of_the_page_are_those_of_the_isolation_classes() -> None:
    rows = [f"| `{one.value}` | {f'SL{cap}' if (cap := level_cap(one)) else 'never'} |" for one in IsolationClass]
    assert "\n".join(rows) + "\n<!-- caps: end -->" in PAGE


def test_every_mark_is_explained() -> None:
    assert all(f"**{mark.value}**" in PAGE for mark in Mark)


def test_the_page_s_cases_come_out_as_it_says() -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    terms = ModelTerms(model=ModelId("atlas"), level=SecurityLevel.SL3, least_isolation="measured-host")
    policy = replace(POLICY, models=(terms,))
    results = [run_case(case, policy, safe_engine(policy)) for case in read_cases(json.loads(text))]
    assert len(results) > 2
    assert all(result.passed for result in results)
    assert {result.allowed for result in results} == {True, False}
