"""Who sends the events that rules are about, and with which fields: what a rule can hear at all.

That a rule holds its cases says nothing of whether anybody sends what it waits for. So coverage has more numbers than
one, and the others are counted here: a rule is heard if one sender's event, with no fields but those that this sender
fills, can match it. The log's own events and facts are the caller's to give, as they stand in ``audit.facts``; and so
is what an operator's own feeds tell, for whether there are any is a deployment's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from strongroom.detection.expressions import ANYTHING, All, Any, Expression, Match, Not, Test, anchors
from strongroom.detection.pack import ANCHOR, Pack
from strongroom.detection.rules import TEMPORAL, Correlation
from strongroom.detection.vocabulary import COMMON, JUDGED, VOCABULARY

LOG: Final = "log"
SENT: Final[Mapping[str, Mapping[str, frozenset[str]]]] = MappingProxyType(
    {
        "auditd": {
            "host:file:opened": frozenset({"path", "exe", "uid", "decoy"}),
            "host:login:opened": frozenset({"person", "method", "role"}),
            "host:process:started": frozenset({"exe", "uid", "role"}),
            "identity:login:failed": frozenset({"person", "client", "cause"}),
        },
        "canarytokens": {"identity:credential:used": frozenset({"credential", "decoy", "client"})},
        "detector": {
            "detector:person:unusual": frozenset({"person", "test", "score", "measure"}),
            "detector:state:evicted": frozenset({"count", "rule"}),
        },
        "falco": {
            "host:file:opened": frozenset({"path", "exe", "uid", "decoy"}),
            "host:process:started": frozenset({"exe", "parent", "uid", "role"}),
        },
        "gateway": {
            "detector:state:evicted": frozenset({"count"}),
            "gateway:request:refused": VOCABULARY["gateway:request:refused"],
            "gateway:usage:counted": VOCABULARY["gateway:usage:counted"],
        },
        "guard": {
            "host:decoy:gone": frozenset({"path", "model"}),
            "host:file:opened": frozenset({"path", "exe", "uid", "kind", "decoy", "broker"}),
        },
        "osquery": {
            "host:device:added": frozenset({"kind", "device"}),
            "host:file:changed": frozenset({"path", "seen"}),
            "host:file:opened": frozenset({"path", "decoy"}),
            "host:process:started": frozenset({"exe", "uid", "role"}),
        },
        "responder": {
            "detector:decoy:named": frozenset({"decoy_model", "entry", "person", "index"}),
            "detector:log:broken": frozenset({"cause"}),
            "detector:sensor:silent": frozenset({"sensor", "seconds"}),
            "detector:state:evicted": frozenset({"count"}),
        },
        "strongroom": {
            "assessor:measure:lost": VOCABULARY["assessor:measure:lost"],
            "register:copy:troubled": VOCABULARY["register:copy:troubled"],
            "scanner:copy:found": VOCABULARY["scanner:copy:found"],
        },
        "tetragon": {
            "host:file:opened": frozenset({"path", "exe", "uid", "decoy"}),
            "host:process:started": frozenset({"exe", "parent", "uid", "role"}),
        },
        "wazuh": {
            "host:file:changed": frozenset({"path", "expected", "seen"}),
            "host:login:opened": frozenset({"person", "method", "role"}),
            "identity:login:failed": frozenset({"person", "client", "cause"}),
        },
    }
)
"""Sender -> event -> the fields that it may have, beside the common ones.

``auditd`` reads the kernel's audit records, too. The role of a host, and whether a file is a decoy, the responder adds.
"""
FEED: Final = "feed"
FED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {event: fields for event, fields in VOCABULARY.items() if event not in JUDGED}
)
"""What feeds of an operator's own systems may tell, with all fields: each where the responder's settings name it."""
UNSENT: Final = frozenset(
    {
        "detector:algorithm:refused",
        "detector:conflict:declared",
        "detector:invariant:broken",
        "detector:key:used",
        "detector:nonce:repeated",
        "detector:pack:loaded",
        "detector:pair:concentrated",
        "detector:policy:differs",
        "gateway:conservation:broken",
    }
)
"""Events of the vocabulary that nothing in the product sends, no reader reads, and no feed may tell: rules wait."""


def heard_from(
    pack: Pack, facts: Mapping[str, Collection[str]], feeds: Collection[str] = ()
) -> Mapping[str, tuple[str, ...]]:
    """Return each rule's senders, sorted; none for a rule that can't match whatever is sent.

    :param facts: event of the log -> the facts that its entries have.
    :param feeds: events of :data:`FED` that an operator's feeds tell.
    """
    sent = {
        **SENT,
        LOG: {event: frozenset(names) | {"index"} for event, names in facts.items()},
        FEED: {event: FED[event] for event in feeds},
    }
    found: dict[str, frozenset[str]] = {}
    for rule in pack.rules:
        about = anchors(rule.expression, ANCHOR) or frozenset()
        found[rule.id] = frozenset(
            sender
            for sender, events in sent.items()
            if any(_possible(rule.expression, event, events[event] | COMMON)[0] for event in about & events.keys())
        )
    for correlation in pack.correlations:
        found[correlation.id] = _joined(correlation, found)
    return {name: tuple(sorted(senders)) for name, senders in found.items()}


def _joined(correlation: Correlation, found: Mapping[str, frozenset[str]]) -> frozenset[str]:
    each: Iterable[frozenset[str]] = [found[rule] for rule in correlation.rules]
    if correlation.kind in TEMPORAL and not all(each):
        # All of them must match, and one never does.
        return frozenset()
    return frozenset[str]().union(*each)


def _possible(expression: Expression, event: str, sent: frozenset[str]) -> tuple[bool, bool]:
    """Return whether an event of this name with these fields at most can match, and whether it can fail to.

    A field that is sent may hold anything, or be left out. Parts are judged one by one: where two parts of one
    condition can't hold together, that isn't seen, and the rule counts as heard.
    """
    match expression:
        case Test(field=field, match=Match.EQUALS, value=value) if field == ANCHOR:
            return value.lower() == event, value.lower() != event
        case Test(field=field, match=how, value=value):
            named = {field, value} if how in {Match.SAME, Match.SAME_START, Match.SAME_END} else {field}
            if field == ANYTHING or named <= sent:
                return True, True
            absent = how in {Match.ABSENT, Match.NULL}
            return absent, not absent
        case Not(part=part):
            can, cannot = _possible(part, event, sent)
            return cannot, can
        case All(parts=parts):
            each = [_possible(part, event, sent) for part in parts]
            return all(can for can, _ in each), any(cannot for _, cannot in each)
        case Any(parts=parts):
            each = [_possible(part, event, sent) for part in parts]
            return any(can for can, _ in each), all(cannot for _, cannot in each)
