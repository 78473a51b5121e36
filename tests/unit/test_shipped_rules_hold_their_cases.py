"""The pack that comes with the program: every rule holds its cases, and coverage is counted from that."""

from __future__ import annotations

import re

import pytest
import yaml

from strongroom.access.clearance import Shortcoming
from strongroom.audit.facts import SCHEMA
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.detection.cases import Failure, coverage, failures, read_cases
from strongroom.detection.engine import Engine
from strongroom.detection.expressions import ANYTHING, anchors, fields_named
from strongroom.detection.matching import Value
from strongroom.detection.pack import ANCHOR
from strongroom.detection.rules import Certainty, Rule
from strongroom.detection.vocabulary import COMMON, fields_of
from strongroom.detection.wiring import cases_of, compile_folder, linear_regex, shipped_pack, shipped_rules
from strongroom.framework.catalogue import load

NOT_VETTING = {
    Shortcoming.KEY_NOT_HARDWARE,
    Shortcoming.ROLE_MISSING,
    Shortcoming.NOT_HUMAN,
    Shortcoming.APPROVAL_NOT_RECORDED,
    Shortcoming.APPROVAL_STALE,
}
CANNOT = {"NET-2", "NET-3"}
"""Emanations and wiretaps: nothing that software sees tells of them."""


def test_every_rule_matches_what_it_should_and_nothing_beside() -> None:
    assert failures(shipped_pack(), cases_of(shipped_rules()), linear_regex) == ()


def test_the_pack_is_what_its_sources_compile_to() -> None:
    assert compile_folder(shipped_rules(), "strongroom").to_bytes() == shipped_pack().to_bytes()


def test_coverage_is_counted_from_rules_that_hold_their_cases() -> None:
    pack, catalogue = shipped_pack(), load()
    whole = coverage(pack, (), catalogue)
    assert set(whole.rules) - set(whole.covered) == CANNOT
    only = [rule.id for rule in pack.every if "rand.ais-5" in rule.about.tags]
    assert "AIS-5" not in coverage(pack, [Failure(rule, "broken") for rule in only], catalogue).covered


def test_a_case_that_goes_otherwise_is_told() -> None:
    pack = shipped_pack()
    (case, *_rest) = read_cases(
        {
            "decoy-shard-opened": {
                "matches": [[{"event": "host:file:opened", "decoy": False}]],
                "passes": [[{"event": "e"}]],
            }
        }
    )
    told = failures(pack, [case], linear_regex)
    assert Failure("decoy-shard-opened", "story 1 should match") in told
    assert any(failure.what.startswith("has no case") for failure in told)


def test_rules_name_only_events_and_fields_that_somebody_sends() -> None:
    for rule in shipped_pack().rules:
        events, fields = events_and_fields(rule)
        assert events
        known = [fields_of(event) or {*SCHEMA[EventName(event)], *COMMON, "index"} for event in events]
        for field in fields - {ANCHOR}:
            assert any(field in names for names in known), (rule.id, field)


@pytest.mark.parametrize("lacks", [one for one in Shortcoming if one not in NOT_VETTING])
def test_each_way_not_to_be_vetted_is_seen_when_somebody_asks(lacks: Shortcoming) -> None:
    engine = Engine(shipped_pack(), regex=linear_regex)
    for _again in range(5):
        event: dict[str, Value] = {"event": EventName.REFUSED.value, "step": 2, "reason": f"requester-{lacks}"}
        hits = [hit.rule for hit in engine.observe(event, 1)]
    assert hits == ["vetting-refused", "vetting-refused-often"]


def events_and_fields(rule: Rule) -> tuple[frozenset[str], frozenset[str]]:
    return anchors(rule.expression, ANCHOR) or frozenset(), fields_named(rule.expression) - {ANYTHING}


def test_tags_name_techniques_in_their_own_form() -> None:
    form = re.compile(r"rand\.[a-z]{3}-[1-7]|attack\.t\d{4}(\.\d{3})?|atlas\.aml\.t\d{4}(\.\d{3})?")
    for rule in shipped_pack().every:
        assert all(form.fullmatch(tag) for tag in rule.about.tags), rule.id


def test_what_may_act_alone_starts_a_playbook() -> None:
    sure = [rule for rule in shipped_pack().every if rule.about.certainty is Certainty.SURE]
    assert len(sure) >= 8
    assert all(rule.about.playbook for rule in sure)


@pytest.mark.parametrize(
    "document",
    [None, {"r": {}}, {"r": {"matches": [], "passes": []}}, {"r": {"matches": [[7]], "passes": [[{"event": "e"}]]}}],
)
def test_cases_of_another_form_are_refused(document: object) -> None:
    with pytest.raises(MalformedError):
        read_cases(yaml.safe_load(yaml.safe_dump(document)))
