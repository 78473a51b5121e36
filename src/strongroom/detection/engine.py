"""The engine: an event in, hits out. Rules are found by the event's name; correlations follow their rules' matches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Final
from unicodedata import normalize

from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError
from strongroom.detection.expressions import anchors
from strongroom.detection.matching import Predicate, RegexCompiler, Value, View, compile_expression, texts_of
from strongroom.detection.pack import ANCHOR, Pack
from strongroom.detection.rules import About, Correlation, Rule
from strongroom.detection.windows import MAX_GROUPS, Group, Windows

MAX_FIELDS: Final = 256
MAX_TEXT: Final = 65536
"""Characters of one field: longer text is refused by :func:`read_event`, so that no rule has to read it."""
CLIENT: Final = "client"
"""The field that says from where somebody came."""
_LONGEST_NAME: Final = 256
"""Characters: compatibility forms of longer text may take many times its room."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that matched: its id, what is said of it, and for a correlation the group that it was about."""

    rule: str
    about: About
    group: tuple[tuple[str, str], ...] = ()


def read_event(fields: Mapping[str, object]) -> dict[str, Value]:
    """Take an event from outside, bounded.

    :raises MalformedError: no name, too many fields, a field that isn't text, a number, a boolean, null or a list of
        those, or too long a text. Somebody who can write events could otherwise slow down or blind every rule.
    """
    if len(fields) > MAX_FIELDS:
        raise MalformedError(f"an event has at most {MAX_FIELDS} fields")
    event = {name: _value(name, value) for name, value in fields.items()}
    if not isinstance(event.get(ANCHOR), str):
        raise MalformedError(f"an event needs a name in `{ANCHOR}`")
    return event


def _value(name: str, value: object) -> Value:
    if isinstance(value, list | tuple):
        if len(value) > MAX_FIELDS:
            raise MalformedError(f"field `{name[:64]}` holds more than {MAX_FIELDS} values")
        scalars = tuple(_value(name, item) for item in value)
        if any(isinstance(item, tuple) for item in scalars):
            raise MalformedError(f"field `{name[:64]}` holds a list in a list")
        return scalars  # type: ignore[return-value]
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise MalformedError(f"field `{name[:64]}` has more than {MAX_TEXT} characters")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise MalformedError(f"field `{name[:64]}` is of a kind that events don't have")


def _lowered(event: View) -> dict[str, Value]:
    return {name: value.lower() if value.__class__ is str else _low(value) for name, value in event.items()}


def _low(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(item.lower() if isinstance(item, str) else item for item in value)
    return value


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    matches: Predicate
    followed: bool
    """Whether a correlation follows it."""


@dataclass(frozen=True, slots=True)
class _Followed:
    correlation: Correlation
    windows: Windows


class Engine:
    """A pack, compiled, and what its correlations remember.

    :param regex: makes linear-time patterns; only needed where the pack has regular expressions.
    :param groups: how many groups each correlation remembers at most.
    :raises MalformedError: the pack isn't sound, or a regular expression isn't one.
    """

    def __init__(self, pack: Pack, *, regex: RegexCompiler, groups: int = MAX_GROUPS) -> None:
        pack.check()
        self.pack = pack
        self._regex, self._groups = regex, groups
        self._by_event: Mapping[str, Sequence[_Compiled]] = _index(pack, regex)
        self._following: dict[str, list[_Followed]] = defaultdict(list)
        self._all = [_Followed(correlation, Windows(correlation, most=groups)) for correlation in pack.correlations]
        for followed in self._all:
            for name in dict.fromkeys((*followed.correlation.rules, *followed.correlation.without)):
                self._following[name].append(followed)

    def anew(self) -> Engine:
        """Return one with the same rules that remembers nothing."""
        return Engine(self.pack, regex=self._regex, groups=self._groups)

    @property
    def forgotten(self) -> int:
        """How often something that still counted had to be forgotten for want of room. It never falls."""
        return sum(followed.windows.forgotten for followed in self._all)

    def observe(self, event: View, now: Instant) -> tuple[Hit, ...]:
        """Return what an event matched, and every correlation that holds with it.

        :param event: from :func:`read_event`, or as strict.
        :param now: the detector's own time in seconds; it must not fall.
        """
        name = event[ANCHOR]
        rules = self._by_event.get(name.lower()) if isinstance(name, str) else None
        if rules is None:
            return ()
        low = _lowered(event)
        hits: list[Hit] = []
        for compiled in rules:
            if compiled.matches(low, event):
                if not compiled.rule.silent:
                    hits.append(Hit(compiled.rule.id, compiled.rule.about))
                if compiled.followed:
                    self._follow(compiled.rule.id, event, now, hits)
        return tuple(hits)

    def _follow(self, rule: str, event: View, now: Instant, hits: list[Hit]) -> None:
        for followed in self._following.get(rule, ()):
            correlation = followed.correlation
            group = _group(correlation, rule, event)
            if group is None:
                continue
            values = tuple(event.get(field) for field in correlation.threshold.fields)
            if followed.windows.add(_counted_under(correlation, group), rule, now, values):
                if not correlation.silent:
                    names = (field.name for field in correlation.group_by)
                    hits.append(Hit(correlation.id, correlation.about, tuple(zip(names, group, strict=True))))
                self._follow(correlation.id, event, now, hits)


def _index(pack: Pack, regex: RegexCompiler) -> dict[str, list[_Compiled]]:
    followed = {name for c in pack.correlations for name in (*c.rules, *c.without)}
    index: dict[str, list[_Compiled]] = defaultdict(list)
    for rule in pack.rules:
        compiled = _Compiled(rule, compile_expression(rule.expression, regex), rule.id in followed)
        for name in anchors(rule.expression, ANCHOR) or ():
            index[name].append(compiled)
    return dict(index)


def _counted_under(correlation: Correlation, group: Group) -> Group:
    named = zip(correlation.group_by, group, strict=True)
    return tuple(_one_client(text) if field.name == CLIENT else _one_name(text) for field, text in named)


def _one_client(text: str) -> str:
    """Return what an address is counted under: whoever has one of IPv6 has the 2^64 beside it, too."""
    try:
        address = ip_address(text)
    except ValueError:
        return _one_name(text)
    if isinstance(address, IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or int(address) >> 64)


def _one_name(text: str) -> str:
    """Return what a name is counted under, in whatever case and width it is written: people log in by any of them.

    Rules compare without regard to case; whoever varies the case of a name mustn't be counted once for each. The group
    that a hit names is as the event says it.
    """
    if text.isascii() or len(text) > _LONGEST_NAME:
        return text.lower()
    return normalize("NFKC", normalize("NFKC", text).casefold())


def _group(correlation: Correlation, rule: str, event: View) -> Group | None:
    group = []
    for field in correlation.group_by:
        texts = texts_of(event.get(field.of(rule)))
        if not texts:
            # An event without the field belongs to no group: it must not pile up under a common one.
            return None
        group.append(texts[0] if len(texts) == 1 else "\x1f".join(texts))
    return tuple(group)
