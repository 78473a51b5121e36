"""What correlations remember: exact sliding windows for each group, in bounded memory.

Time is the detector's own, given with each event: who writes events can't move a window. When room runs out the group
that was touched longest ago is forgotten, and it is said so: flooding groups can't evict state unseen.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.core.clock import Instant
from strongroom.detection.matching import Value, numbers_of, texts_of
from strongroom.detection.rules import MAX_KEPT, Comparison, Correlation, CorrelationKind, Threshold

MAX_GROUPS: Final = 100_000
Group = tuple[str, ...]

_COMPARE: Final[Mapping[Comparison, Callable[[float, int], bool]]] = {
    Comparison.AT_LEAST: lambda figure, count: figure >= count,
    Comparison.ABOVE: lambda figure, count: figure > count,
    Comparison.AT_MOST: lambda figure, count: figure <= count,
    Comparison.BELOW: lambda figure, count: figure < count,
    Comparison.EQUAL: lambda figure, count: figure == count,
    Comparison.OTHER: lambda figure, count: figure != count,
}


class Window(Protocol):
    """What one group of one correlation remembers."""

    newest: Instant
    overflowed: bool
    """Whether something that still counted had to be forgotten."""

    def add(self, rule: str, at: Instant, values: tuple[Value, ...]) -> bool:
        """Add a match of ``rule``; returns whether the correlation holds now."""
        ...


@dataclass(slots=True)
class Counted:
    """Matches, or distinct values, within the timespan."""

    timespan: int
    threshold: Threshold
    distinct: bool
    newest: Instant = 0
    overflowed: bool = False
    _seen: OrderedDict[object, Instant] = field(default_factory=OrderedDict)
    _serial: int = 0

    def add(self, _rule: str, at: Instant, values: tuple[Value, ...]) -> bool:
        """Add a match; a value that was there before counts from now on."""
        self.newest = at
        seen = self._seen
        for key in self._keys(values):
            seen.pop(key, None)
            seen[key] = at
        oldest = at - self.timespan
        while seen and seen[first := next(iter(seen))] <= oldest:
            del seen[first]
        while len(seen) > MAX_KEPT:
            seen.popitem(last=False)
            self.overflowed = True
        return _COMPARE[self.threshold.comparison](len(seen), self.threshold.count)

    def _keys(self, values: tuple[Value, ...]) -> tuple[object, ...]:
        if not self.distinct:
            self._serial += 1
            return (self._serial,)
        texts = [texts_of(value) for value in values]
        if len(texts) == 1:
            return texts[0]
        return (tuple(texts),) if all(texts) else ()


@dataclass(slots=True)
class Measured:
    """A sum, average or percentile of numbers within the timespan."""

    timespan: int
    threshold: Threshold
    kind: CorrelationKind
    newest: Instant = 0
    overflowed: bool = False
    _seen: deque[tuple[Instant, float]] = field(default_factory=deque)
    _sum: float = 0

    def add(self, _rule: str, at: Instant, values: tuple[Value, ...]) -> bool:
        """Add a match's numbers; one without any changes nothing."""
        self.newest = at
        found = [number for value in values for number in numbers_of(value)]
        for number in found:
            self._seen.append((at, number))
            self._sum += number
        while self._seen and self._seen[0][0] <= at - self.timespan:
            self._sum -= self._seen.popleft()[1]
        while len(self._seen) > MAX_KEPT:
            self._forget()
        if not found:
            return False
        return _COMPARE[self.threshold.comparison](self._figure(), self.threshold.count)

    def _forget(self) -> None:
        self.overflowed = True
        at, oldest = self._seen.popleft()
        if self.kind is CorrelationKind.VALUE_SUM:
            # It joins the one after it: the sum stays whole, only its age is rounded up.
            at, next_oldest = self._seen.popleft()
            self._seen.appendleft((at, oldest + next_oldest))
        else:
            self._sum -= oldest

    def _figure(self) -> float:
        if self.kind is CorrelationKind.VALUE_SUM:
            return self._sum
        if self.kind is CorrelationKind.VALUE_AVG:
            return self._sum / len(self._seen)
        numbers = sorted(number for _at, number in self._seen)
        if self.kind is CorrelationKind.VALUE_MEDIAN:
            middle = len(numbers) // 2
            return numbers[middle] if len(numbers) % 2 else (numbers[middle - 1] + numbers[middle]) / 2
        # Nearest rank: the smallest number that at least `percentile` percent don't exceed.
        rank = max(1, -(-len(numbers) * self.threshold.percentile // 100))
        return numbers[rank - 1]


@dataclass(slots=True)
class Together:
    """Every rule matched within the timespan, in any order."""

    timespan: int
    rules: tuple[str, ...]
    without: frozenset[str]
    newest: Instant = 0
    overflowed: bool = False
    _last: dict[str, Instant] = field(default_factory=dict)

    def add(self, rule: str, at: Instant, _values: tuple[Value, ...]) -> bool:
        """Add a match of one rule."""
        self.newest = at
        self._last[rule] = at
        if rule in self.without or any(at - self._last[name] < self.timespan for name in self.without & {*self._last}):
            return False
        return all(name in self._last and at - self._last[name] < self.timespan for name in self.rules)


@dataclass(slots=True)
class InOrder:
    """Every rule matched within the timespan, one after the other."""

    timespan: int
    rules: tuple[str, ...]
    without: frozenset[str]
    newest: Instant = 0
    overflowed: bool = False
    _begun: list[Instant | None] = field(default_factory=list)
    """For each length, when the newest sequence that came so far began."""
    _broken: Instant | None = None

    def __post_init__(self) -> None:
        """Begin with no sequence."""
        self._begun = [None] * len(self.rules)

    def add(self, rule: str, at: Instant, _values: tuple[Value, ...]) -> bool:
        """Add a match of one rule."""
        self.newest = at
        if rule in self.without:
            self._broken = at
            return False
        # From the end: a rule that stands twice in the order isn't two steps of it at once.
        for step in reversed(range(len(self.rules))):
            if self.rules[step] == rule:
                self._begun[step] = at if step == 0 else self._begun[step - 1]
        began = self._begun[-1]
        if rule != self.rules[-1] or began is None or at - began >= self.timespan:
            return False
        return self._broken is None or at - self._broken >= self.timespan


def window_of(correlation: Correlation) -> Window:
    """Return an empty window of the correlation's kind."""
    timespan, threshold, kind = correlation.timespan, correlation.threshold, correlation.kind
    if kind is CorrelationKind.TEMPORAL:
        return Together(timespan, correlation.rules, frozenset(correlation.without))
    if kind is CorrelationKind.TEMPORAL_ORDERED:
        return InOrder(timespan, correlation.rules, frozenset(correlation.without))
    if kind in {CorrelationKind.EVENT_COUNT, CorrelationKind.VALUE_COUNT}:
        return Counted(timespan, threshold, kind is CorrelationKind.VALUE_COUNT)
    return Measured(timespan, threshold, kind)


class Windows:
    """The windows of one correlation, one for each group, the least recently touched first."""

    def __init__(self, correlation: Correlation, *, most: int = MAX_GROUPS) -> None:
        self._correlation = correlation
        self._most = most
        self._groups: OrderedDict[Group, Window] = OrderedDict()
        self.forgotten = 0
        """Groups that still counted and had to be forgotten, and windows that overflowed."""

    def __len__(self) -> int:
        """Return how many groups are remembered."""
        return len(self._groups)

    def add(self, group: Group, rule: str, at: Instant, values: tuple[Value, ...]) -> bool:
        """Add a match of ``rule`` in ``group``; returns whether the correlation holds now."""
        window = self._groups.get(group)
        if window is None:
            self._make_room(at)
            window = self._groups[group] = window_of(self._correlation)
        else:
            self._groups.move_to_end(group)
        holds = window.add(rule, at, values)
        if window.overflowed:
            self.forgotten += 1
            window.overflowed = False
        return holds

    def _make_room(self, at: Instant) -> None:
        while len(self._groups) >= self._most:
            _group, window = self._groups.popitem(last=False)
            if at - window.newest < self._correlation.timespan:
                self.forgotten += 1
