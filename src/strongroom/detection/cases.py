"""Cases of rules: stories that a rule must match, and stories that it must let pass. Coverage counts only what passes.

A story is a list of events in order; ``after`` is the seconds since the one before, ``repeat`` how often one comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.matching import RegexCompiler, Value
from strongroom.detection.pack import Pack
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.vectors import AttackVector

BEGIN: Final = 1_000_000
MAX_REPEAT: Final = 10_000
VECTOR_TAG: Final = "rand."


@dataclass(frozen=True, slots=True)
class Step:
    """An event, how often it comes, and how many seconds after the one before each time."""

    event: Mapping[str, Value]
    repeat: int = 1
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One story of one rule. ``number`` counts within the rule, from 1."""

    rule: str
    number: int
    matches: bool
    story: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that went otherwise, or a rule without cases of both kinds."""

    rule: str
    what: str


def read_cases(document: object) -> tuple[Case, ...]:
    """Read a document of cases: rule id -> ``matches`` and ``passes`` -> stories -> events.

    :raises MalformedError: another form, or an event that isn't one.
    """
    cases: list[Case] = []
    for rule, kinds in _mapping(document, "the document").items():
        both = _mapping(kinds, f"`{rule}`")
        if {*both} != {"matches", "passes"}:
            raise MalformedError(f"`{rule}` needs `matches` and `passes`, and nothing else")
        for kind, stories in both.items():
            for number, story in enumerate(_list(stories, f"`{rule}.{kind}`"), 1):
                steps = tuple(_step(event, f"`{rule}.{kind}`") for event in _list(story, f"`{rule}.{kind}`"))
                cases.append(Case(rule=str(rule), number=number, matches=kind == "matches", story=steps))
    return tuple(cases)


def _step(document: object, where: str) -> Step:
    members = dict(_mapping(document, where))
    repeat, after = members.pop("repeat", 1), members.pop("after", 0)
    if not isinstance(repeat, int) or not isinstance(after, int) or not 1 <= repeat <= MAX_REPEAT or after < 0:
        raise MalformedError(f"{where}: `repeat` is 1 to {MAX_REPEAT}, `after` a number of seconds")
    return Step(read_event(members), repeat, after)


def _mapping(document: object, where: str) -> Mapping[str, object]:
    if not isinstance(document, dict):
        raise MalformedError(f"{where} must be a mapping")
    return document


def _list(document: object, where: str) -> Sequence[object]:
    if not isinstance(document, list) or not document:
        raise MalformedError(f"{where} must be a list that isn't empty")
    return document


def failures(pack: Pack, cases: Iterable[Case], regex: RegexCompiler) -> tuple[Failure, ...]:
    """Play every case against the pack; returns what went otherwise. Silent rules are listened to as well."""
    heard = Pack(
        name=pack.name,
        rules=tuple(replace(rule, silent=False) for rule in pack.rules),
        correlations=tuple(replace(correlation, silent=False) for correlation in pack.correlations),
    )
    found: list[Failure] = []
    kinds: dict[str, set[bool]] = {rule.id: set() for rule in pack.every}
    for case in cases:
        if case.rule not in kinds:
            found.append(Failure(case.rule, "there is no such rule"))
            continue
        kinds[case.rule].add(case.matches)
        if (case.rule in _play(heard, case, regex)) is not case.matches:
            found.append(Failure(case.rule, f"story {case.number} should {'match' if case.matches else 'pass'}"))
    lacking = {rule for rule, kind in kinds.items() if len(kind) < 2}
    return (*found, *(Failure(rule, "has no case of one kind: both are needed") for rule in sorted(lacking)))


def _play(pack: Pack, case: Case, regex: RegexCompiler) -> frozenset[str]:
    engine, now, hits = Engine(pack, regex=regex), BEGIN, set[str]()
    for step in case.story:
        for _again in range(step.repeat):
            now += step.after
            hits.update(hit.rule for hit in engine.observe(step.event, now))
    return frozenset(hits)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which of RAND's vectors have rules whose cases all pass."""

    rules: Mapping[str, tuple[str, ...]]
    """Vector id -> ids of rules, in the pack's order; every vector is here."""

    @property
    def covered(self) -> tuple[str, ...]:
        """Ids of the vectors that have one."""
        return tuple(vector for vector, rules in self.rules.items() if rules)

    def heard(self, senders: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """Return ids of the vectors with a rule that somebody sends what it needs.

        :param senders: of each rule, from :func:`strongroom.detection.senders.heard_from`.
        """
        return tuple(vector for vector, rules in self.rules.items() if any(senders[rule] for rule in rules))


def coverage(pack: Pack, failed: Iterable[Failure], catalogue: Catalogue) -> Coverage:
    """Return which vectors are covered.

    :raises MalformedError: a rule is tagged with a vector that RAND doesn't know.
    """
    broken = {failure.rule for failure in failed}
    vectors: Mapping[str, AttackVector] = {vector.id.lower(): vector for vector in catalogue.vectors.values()}
    rules: dict[str, list[str]] = {vector.id: [] for vector in vectors.values()}
    for rule in pack.every:
        for tag in rule.about.tags:
            if not tag.startswith(VECTOR_TAG):
                continue
            vector = vectors.get(tag.removeprefix(VECTOR_TAG))
            if vector is None:
                raise MalformedError(f"rule `{rule.id}` is tagged `{tag}`, which isn't one of RAND's vectors")
            if rule.id not in broken:
                rules[vector.id].append(rule.id)
    return Coverage({vector: tuple(names) for vector, names in rules.items()})
