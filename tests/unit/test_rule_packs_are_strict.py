"""A pack means what it says: no rule without an anchor, none twice, none about nothing; events are bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.envelope import sign
from strongroom.core.errors import MalformedError
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.detection.engine import MAX_FIELDS, MAX_TEXT, Engine, read_event
from strongroom.detection.expressions import All, Any, Match, Not, Test
from strongroom.detection.pack import PACK_TYPE, Pack, UnanchoredRuleError, open_pack
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
from strongroom.detection.wiring import linear_regex

ABOUT = About(title="t", severity=Severity.HIGH, certainty=Certainty.HINT, tags=("rand.ais-4",), playbook="")
EVENT = Test("event", Match.EQUALS, "Vault:Thing:Did")
RULE = Rule(id="r", about=ABOUT, expression=EVENT)
COUNT = Correlation(
    id="c",
    about=ABOUT,
    kind=CorrelationKind.EVENT_COUNT,
    rules=("r",),
    group_by=(GroupField(name="user", other=(("r", "who"),)),),
    timespan=60,
    threshold=Threshold(comparison=Comparison.AT_LEAST, count=2),
)
PACK = Pack(name="p", rules=(RULE,), correlations=(COUNT,))


def test_a_pack_is_read_back_as_it_was() -> None:
    again = Pack.parse(PACK.to_bytes())
    assert again == PACK
    assert again.digest == PACK.digest


@pytest.mark.parametrize(
    "expression",
    [
        Test("user", Match.EQUALS, "a"),
        Test("event", Match.STARTS, "vault:"),
        Not(EVENT),
        Any((EVENT, Test("user", Match.EQUALS, "a"))),
        All((Test("user", Match.EQUALS, "a"), Not(EVENT))),
    ],
)
def test_a_rule_that_any_event_might_match_is_refused(expression: Test | Not | Any | All) -> None:
    with pytest.raises(UnanchoredRuleError):
        Pack(name="p", rules=(replace(RULE, expression=expression),)).check()


@pytest.mark.parametrize(
    "pack",
    [
        Pack(name="p", rules=(RULE, RULE)),
        Pack(name="p", rules=(RULE,), correlations=(replace(COUNT, id="r"),)),
        Pack(name="p", rules=(RULE,), correlations=(replace(COUNT, rules=("x",)),)),
        Pack(name="p", rules=(RULE,), correlations=(replace(COUNT, rules=("d",)), replace(COUNT, id="d"))),
        Pack(name="p", rules=(RULE,), correlations=(replace(COUNT, rules=("c",)),)),
        Pack(name="p", rules=(RULE,), correlations=(replace(COUNT, rules=()),)),
        Pack(name="p", rules=(RULE,), correlations=(replace(COUNT, without=("r",)),)),
        Pack(name="p", rules=(RULE,), correlations=(replace(COUNT, kind=CorrelationKind.VALUE_SUM),)),
        Pack(
            name="p",
            rules=(RULE,),
            correlations=(replace(COUNT, threshold=Threshold(comparison=Comparison.AT_LEAST, count=MAX_KEPT)),),
        ),
    ],
)
def test_a_pack_that_does_not_hold_together_is_refused(pack: Pack) -> None:
    with pytest.raises(MalformedError):
        pack.check()


def test_only_a_trusted_key_opens_a_pack() -> None:
    mine, other = Ed25519Signer.from_seed(bytes(32)), Ed25519Signer.from_seed(bytes([1] * 32))
    envelope = sign(PACK_TYPE, PACK.to_bytes(), mine)
    assert open_pack(envelope, [mine.public_key]) == PACK
    with pytest.raises(SignatureError):
        open_pack(envelope, [other.public_key])
    with pytest.raises(SignatureError):
        open_pack(sign(PACK_TYPE + "x", PACK.to_bytes(), mine), [mine.public_key])


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": 7},
        {"event": "e", "a": {"b": 1}},
        {"event": "e", "a": [[1]]},
        {"event": "e", "a": "x" * (MAX_TEXT + 1)},
        {"event": "e", "a": ["x"] * (MAX_FIELDS + 1)},
        {"event": "e", **{str(n): n for n in range(MAX_FIELDS)}},
    ],
)
def test_an_event_out_of_bounds_is_refused(event: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        read_event(event)


def test_the_name_of_an_event_has_no_case() -> None:
    engine = Engine(PACK, regex=linear_regex)
    assert [hit.rule for hit in engine.observe({"event": "VAULT:thing:DID"}, 0)] == ["r"]
    assert engine.observe({"event": "vault:thing:undone"}, 0) == ()


def test_a_silent_rule_is_heard_through_its_correlation_alone() -> None:
    engine = Engine(Pack(name="p", rules=(replace(RULE, silent=True),), correlations=(COUNT,)), regex=linear_regex)
    event = {"event": "vault:thing:did", "who": "dana"}
    assert engine.observe(event, 0) == ()
    (hit,) = engine.observe(event, 1)
    assert (hit.rule, hit.group) == ("c", (("user", "dana"),))


def test_an_event_without_the_group_s_field_joins_no_group() -> None:
    engine = Engine(PACK, regex=linear_regex)
    for now in range(5):
        assert [hit.rule for hit in engine.observe({"event": "vault:thing:did"}, now)] == ["r"]
