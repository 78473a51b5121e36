"""What a check may look at: the fresh observations, asked one question at a time.

Every subject that a collector looked at has to pass: every host, every copy, every model (RAND's rule that one weaker
copy defeats the level). What wasn't seen is never taken for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from strongroom.assurance.observations import Fact, Observation
from strongroom.assurance.thresholds import Thresholds
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest

_WHOLE = "deployment"
"""The subject that needs no name."""


class _NotSeenError(Exception):
    """A fact isn't there, or is of another form than asked for."""


class Facts:
    """One observation's facts, typed. A fact that isn't there ends the question as unseen."""

    def __init__(self, facts: dict[str, Fact]) -> None:
        self._facts = facts

    def number(self, name: str) -> int:
        """Return a number."""
        value = self._facts.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _NotSeenError

    def flag(self, name: str) -> bool:
        """Return whether something is so."""
        value = self._facts.get(name)
        if isinstance(value, bool):
            return value
        raise _NotSeenError

    def text(self, name: str) -> str:
        """Return a text."""
        value = self._facts.get(name)
        if isinstance(value, str):
            return value
        raise _NotSeenError

    def names(self, name: str) -> tuple[str, ...]:
        """Return a list of names."""
        value = self._facts.get(name)
        if isinstance(value, tuple):
            return value
        raise _NotSeenError


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that a measure asks for.

    :ivar collector: whose observations were asked.
    :ivar holds: None where it couldn't be seen.
    :ivar words: what was asked, as a statement that should be true.
    :ivar vital: without it the measure isn't even partly met.
    :ivar told: of whom it isn't true, or why it couldn't be seen.
    :ivar looked: whether the collector saw anything at all.
    """

    collector: str
    holds: bool | None
    words: str
    vital: bool = True
    told: tuple[str, ...] = ()
    looked: bool = True


Evidence = Mapping[str, tuple[tuple[Observation, Digest], ...]]
"""Collector -> its observations that count, each with its digest."""


def evidence(observations: Iterable[Observation], limits: Thresholds, now: Instant) -> Evidence:
    """Return the observations that count at one time, under one set of thresholds.

    One that expired, is of the future, or was made under other thresholds is as good as none.
    """
    found: dict[str, tuple[tuple[Observation, Digest], ...]] = {}
    wanted = limits.digest
    for one in observations:
        if one.fresh(now) and one.configuration == wanted:
            found[one.collector] = (*found.get(one.collector, ()), (one, one.digest))
    return found


class Seen:
    """The evidence, as one check asks it; remembers what it was asked."""

    def __init__(self, by_collector: Evidence, limits: Thresholds) -> None:
        self._by_collector = by_collector
        self._limits = limits
        self.used: dict[Digest, None] = {}
        self.limits_used: set[str] = set()

    def limit(self, name: str) -> int:
        """Return a threshold."""
        self.limits_used.add(name)
        value: int = getattr(self._limits, name)
        return value

    def none(self, collector: str, fact: str, words: str, *, vital: bool = True) -> Part:
        """Ask that a list is empty, for every subject; what stands in it is told."""
        return self._ask(collector, lambda f: f.names(fact), lambda found: not found, words, vital=vital)

    def every(self, collector: str, holds: Callable[[Facts], bool], words: str, *, vital: bool = True) -> Part:
        """Ask the same of every subject that a collector looked at."""
        return self._ask(
            collector, lambda f: () if holds(f) else None, lambda found: found is not None, words, vital=vital
        )

    def _ask(
        self,
        collector: str,
        ask: Callable[[Facts], tuple[str, ...] | None],
        holds: Callable[[tuple[str, ...] | None], bool],
        words: str,
        *,
        vital: bool,
    ) -> Part:
        wrong: list[str] = []
        unseen: list[str] = []
        looks = self._by_collector.get(collector, ())
        for one, digest in looks:
            self.used[digest] = None
            try:
                answer = ask(Facts(dict(one.facts)))
            except _NotSeenError:
                unseen.append(one.missing or f"{one.subject} doesn't tell")
                continue
            if not holds(answer):
                wrong += answer or (() if one.subject == _WHOLE else (one.subject,))
                wrong = wrong or [_WHOLE]
        state = False if wrong else None if unseen or not looks else True
        told = tuple(name for name in dict.fromkeys(wrong or unseen) if name != _WHOLE)
        return Part(
            collector=collector,
            holds=state,
            words=words,
            vital=vital,
            told=told,
            looked=any(not one.missing for one, _digest in looks),
        )
