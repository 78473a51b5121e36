"""Who sends what rules wait for is read from the code; a rule that nobody sends anything for isn't counted as heard."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import strongroom
from strongroom.audit.facts import SCHEMA
from strongroom.core.events import EventName
from strongroom.detection.cases import coverage
from strongroom.detection.expressions import All, Any, Expression, Match, Not, Test, anchors
from strongroom.detection.pack import ANCHOR, Pack
from strongroom.detection.rules import (
    About,
    Certainty,
    Comparison,
    Correlation,
    CorrelationKind,
    Rule,
    Severity,
    Threshold,
)
from strongroom.detection.senders import FED, LOG, SENT, UNSENT, heard_from
from strongroom.detection.vocabulary import COMMON, JUDGED, VOCABULARY
from strongroom.detection.wiring import shipped_pack
from strongroom.framework.catalogue import load

ROOT = Path(strongroom.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs"
MAKERS = {
    "cli/assess_watch.py": "strongroom",
    "detection/detector.py": "detector",
    "detection/sensors/auditd.py": "",
    "detection/sensors/hosts.py": "",
    "detection/sensors/tokens.py": "",
    "enclave/gateway/telling.py": "gateway",
    "intake/copies/discovery.py": "strongroom",
    "intake/copies/register.py": "strongroom",
    "responder/sensing/wiring.py": "responder",
    "responder/tailing.py": "responder",
    "responder/wiring.py": "responder",
}
"""Module -> whose events it makes; empty where each says so itself."""
ADDED = {"host:file:opened": {"decoy"}, "host:login:opened": {"role"}, "host:process:started": {"role"}}
"""What the responder adds to other sensors' events."""
LATER = {"detector:decoy:named": {"person"}}
"""What is put in behind the rest, where it is known."""
FACTS = {event.value: set(facts) for event, facts in SCHEMA.items()}


def test_each_event_of_the_vocabulary_has_a_sender_or_is_said_to_have_none() -> None:
    sent = {event for events in SENT.values() for event in events}
    assert sent | FED.keys() | UNSENT == set(VOCABULARY)
    assert not (sent | FED.keys()) & UNSENT
    assert not FED.keys() & JUDGED
    assert all(fields <= VOCABULARY[event] | {"index"} for events in SENT.values() for event, fields in events.items())


def test_the_table_of_senders_is_what_the_code_makes() -> None:
    made: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for sender, event, fields in made_in(ast.parse(path.read_text())):
            assert name in MAKERS, f"{name} makes `{event}`: of which sender?"
            others = ADDED.get(event, set()) if MAKERS[name] == "" else LATER.get(event, set())
            made[sender or MAKERS[name]][event] |= (fields | others) - COMMON - {"model"}
    listed = {
        sender: {event: fields - {"model"} for event, fields in events.items()} for sender, events in SENT.items()
    }
    assert made == listed


def test_every_rule_s_event_has_a_class_of_sender() -> None:
    known = {event for events in SENT.values() for event in events} | FED.keys() | UNSENT | FACTS.keys()
    for rule in shipped_pack().rules:
        assert (anchors(rule.expression, ANCHOR) or frozenset({"none"})) <= known, rule.id


def test_each_entry_of_the_log_that_a_rule_is_about_is_written_by_something() -> None:
    skipped = {"core/events.py", "audit/facts.py"}
    texts = [path.read_text() for path in ROOT.rglob("*.py") if path.relative_to(ROOT).as_posix() not in skipped]
    named = {event for rule in shipped_pack().rules for event in anchors(rule.expression, ANCHOR) or ()} & FACTS.keys()
    assert named
    for event in named:
        assert any(f"EventName.{EventName(event).name}" in text for text in texts), event


def test_the_pages_say_all_three_numbers() -> None:
    covered, senders = coverage(shipped_pack(), (), load()), heard_from(shipped_pack(), FACTS)
    heard, rules = len(covered.heard(senders)), sum(map(bool, senders.values()))
    with_feeds = heard_from(shipped_pack(), FACTS, FED)
    fed, never = len(covered.heard(with_feeds)), sum(not names for names in with_feeds.values())
    page = (DOCS / "operate" / "detection.md").read_text()
    assert f"# {len(covered.covered)} of 38 vectors have a rule; {heard} have one" in page
    assert f"{rules} of the {len(senders)} rules can be matched" in page
    assert f"The other {len(senders) - rules} rules wait" in page
    assert f"for; {fed} with feeds of your own" in page
    waiting = len(senders) - rules
    assert f"For {waiting - never} of those {waiting} rules" in page
    assert f"make {fed} of 38 vectors. {never} rules are left" in page
    threats = (DOCS / "threat-model.md").read_text()
    assert f"{len(covered.covered)} of RAND's 38 vectors have a rule, and {heard} of them one" in threats
    assert f"with all of them {fed} have one" in threats
    decision = (DOCS / "adr" / "0044-own-matcher-for-sigma-rules.md").read_text()
    assert f"{heard} have one whose events" in decision
    assert f"{fed} if an operator's own feeds" in decision


def test_the_page_names_each_sure_rule_that_a_feed_can_match() -> None:
    fed = heard_from(shipped_pack(), FACTS, FED)
    sure = {one.id for one in shipped_pack().every if one.about.certainty is Certainty.SURE and "feed" in fed[one.id]}
    told = (
        (DOCS / "operate" / "detection.md")
        .read_text()
        .split("Four rules that are `sure`\n")[1]
        .split("None of them")[0]
    )
    assert len(sure) == 4
    assert all(f"`{rule}`" in told for rule in sure)


def test_a_feed_is_a_sender_only_of_what_it_is_said_to_tell() -> None:
    assert heard_from(shipped_pack(), FACTS)["duress"] == ()
    assert heard_from(shipped_pack(), FACTS, ["facility:alarm:raised"])["duress"] == ("feed",)
    assert heard_from(shipped_pack(), FACTS, ["facility:badge:missing"])["duress"] == ()


def test_a_rule_is_heard_by_what_its_senders_fill() -> None:
    heard = heard_from(shipped_pack(), FACTS)
    assert heard["decoy-shard-opened"] == ("auditd", "falco", "guard", "osquery", "tetragon")
    assert heard["break-glass-opened"] == (LOG,)
    # Programs are told of by four sensors; which ones are on a list, by none. So it is with networks' devices.
    assert heard["unlisted-program-on-weights-host"] == ()
    assert heard["device-on-isolated-machine"] == ()
    assert heard["many-failed-logins-of-one"] == ("auditd", "wazuh")
    # Of three rules in order, nobody sends two.
    assert heard["reset-then-device-then-request"] == ()


OPENED = Test(ANCHOR, Match.EQUALS, "identity:credential:used")


@pytest.mark.parametrize(
    ("expression", "heard"),
    [
        (OPENED, True),
        (All((OPENED, Test("decoy", Match.TRUE))), True),
        (All((OPENED, Test("uid", Match.NUMBER, "0"))), False),
        (All((OPENED, Test("uid", Match.NULL))), True),
        (All((OPENED, Test("uid", Match.ABSENT))), True),
        (All((OPENED, Test("uid", Match.PRESENT))), False),
        (All((OPENED, Not(Test("uid", Match.NUMBER, "0")))), True),
        (All((OPENED, Not(Test("uid", Match.ABSENT)))), False),
        (All((OPENED, Not(Test("decoy", Match.TRUE)))), True),
        (All((OPENED, Test("client", Match.SAME, "credential"))), True),
        (All((OPENED, Test("client", Match.SAME, "uid"))), False),
        (All((OPENED, Any((Test("uid", Match.NUMBER, "0"), Test("", Match.CONTAINS, "x"))))), True),
        (All((OPENED, Not(Any((Test("uid", Match.ABSENT), Test("decoy", Match.TRUE)))))), False),
        (All((OPENED, Not(All((Test("uid", Match.PRESENT), Test("decoy", Match.TRUE)))))), True),
        (Test(ANCHOR, Match.EQUALS, "facility:alarm:raised"), False),
    ],
)
def test_fields_that_nobody_fills_match_as_absent_ones_do(expression: Expression, heard: bool) -> None:  # noqa: FBT001
    found = heard_from(Pack(name="p", rules=(rule("one", expression),)), {})
    assert found == {"one": ("canarytokens",) if heard else ()}


@pytest.mark.parametrize(
    ("kind", "heard"), [(CorrelationKind.TEMPORAL, ()), (CorrelationKind.EVENT_COUNT, ("canarytokens",))]
)
def test_what_needs_all_of_its_rules_is_heard_if_all_are(kind: CorrelationKind, heard: tuple[str, ...]) -> None:
    never = rule("never", Test(ANCHOR, Match.EQUALS, "facility:alarm:raised"))
    both = Correlation(
        id="both",
        about=never.about,
        kind=kind,
        rules=("one", "never"),
        group_by=(),
        timespan=60,
        threshold=Threshold(comparison=Comparison.AT_LEAST, count=2),
    )
    pack = Pack(name="p", rules=(rule("one", OPENED), never), correlations=(both,))
    assert heard_from(pack, {})["both"] == heard


def rule(name: str, expression: Expression) -> Rule:
    about = About(title="t", severity=Severity.LOW, certainty=Certainty.HINT, tags=(), playbook="")
    return Rule(id=name, about=about, expression=expression)


def made_in(tree: ast.AST) -> Iterator[tuple[str, str, set[str]]]:
    """Yield sender (empty: its module's), event and fields of each event of the vocabulary that code makes."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name(id="event"), args=[ast.Constant(value=str(name)), ast.Constant(value=str(who))]
            ):
                yield who, name, {one.arg for one in node.keywords if one.arg}
            case ast.Call(func=ast.Attribute(attr="own"), args=[ast.Constant(value=str(name))]):
                yield "", name, {one.arg for one in node.keywords if one.arg}
            case ast.Dict(keys=keys, values=values):
                texts = [key.value if isinstance(key, ast.Constant) else getattr(key, "id", "") for key in keys]
                for key, value in zip(texts, values, strict=True):
                    if key in {"event", "ANCHOR"} and isinstance(value, ast.Constant) and value.value in VOCABULARY:
                        named = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
                        fields = {str(one) for one in texts if one} - {"event", "ANCHOR", "INDEX"}
                        fields |= {"index"} if "INDEX" in texts else set()
                        yield "guard" if "GUARD" in named else "", str(value.value), fields
