"""A visit of somebody who is signed in, and what comes of it: a page, or another address."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from strongroom.access.policy import NoRuleError, Policy
from strongroom.audit.reading.proven import Found
from strongroom.audit.reading.query import Query
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.console.beside import Beside
from strongroom.console.door import SignedIn
from strongroom.console.errors import FormError, NotByConsoleError
from strongroom.console.log_reader import LogReader, Opened
from strongroom.console.taken_away import holds
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel
from strongroom.personnel.roster import PersonKind

ROWS: Final = 200
"""Rows of a table on one page."""
_MAX_DIGITS: Final = 15
HIGHEST: Final = SecurityLevel.SL3
"""The highest level of a model whose requests are signed here. From SL4 on a server must not be what shows them."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its template, its title, and the facts in it, which its JSON twin consists of."""

    template: str
    title: str
    data: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class GoTo:
    """Another address of this console: the browser is sent there with 303, so a reload repeats no act."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to keep: browsers save it, and show nothing of it."""

    name: str
    """Made of ids of ours: it stands in a header."""
    media_type: str
    data: bytes


@dataclass(kw_only=True)
class Visit:
    """One request by one person; what the deployment is like is asked once, when it is needed."""

    me: SignedIn
    origin: str
    """This console's."""
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    now: Instant
    random_bytes: Callable[[int], bytes]
    beside: Beside = field(default_factory=Beside)
    """What the console was given beside the broker."""
    reader: LogReader
    """The log's index, and what of it was proven before."""
    verified: Trust | None = None
    """The deployment, once it was asked for."""
    opened: Opened | None = None
    """The log, once it was asked for."""

    @property
    def session(self) -> Session:
        """The person's dealings with the deployment."""
        return self.me.session

    @property
    def trust(self) -> Trust:
        """The deployment, verified against what this console saw of it before."""
        # Not a cached property: before Python 3.12 its lock is one for all visits, and one slow answer would stop all.
        if self.verified is None:
            self.verified = self.session.refresh()
        return self.verified

    @property
    def log(self) -> Opened:
        """The log, with a head that continues what this console saw before."""
        if self.opened is None:
            self.opened = self.reader.open(self.session)
        return self.opened

    def look(self, query: Query, limit: int, before: int | None = None) -> Found:
        """Return the newest ``limit`` entries of the log that answer a query, oldest first, each proven to be there.

        However long the log is, that takes some calls and no more; ``reach`` says how much of it the index knows.

        :param before: only entries before this one.
        """
        return self.reader.look(self.log, query, limit, self.log.size if before is None else before)

    @property
    def behind(self) -> int:
        """How many entries at the log's end the index doesn't know: what :meth:`look` found may be older than them.

        Asked for after the last look: one that finds the index wrong throws it away.
        """
        return self.log.size - min(self.log.size, self.log.index.grow(self.log.view, self.log.head))

    @property
    def roles(self) -> frozenset[str]:
        """The roles that the roster in force gives this person; none to who isn't a human in it, and active."""
        roster = self.trust.roster
        people = [] if roster is None else [one for one in roster.people if one.id == self.me.person]
        return frozenset(role for one in people if one.active and one.kind is PersonKind.HUMAN for role in one.roles)

    def digest(self, name: str) -> Digest:
        """Return the digest that the address names, in hex.

        :raises FormError: it isn't one.
        """
        try:
            return Digest.parse(f"sha256:{self.path[name]}")
        except MalformedError:
            raise FormError("that address holds no digest") from None

    def chrome(self) -> dict[str, Json]:
        """Return what stands around every page: which deployment, its log, and what is wrong with it."""
        trust = self.trust
        frozen = sorted(name for name, model in trust.models.items() if model.frozen)
        return {
            "person": self.me.person,
            "until": format_instant(self.me.until),
            "deployment": trust.genesis.deployment,
            "genesis": str(trust.genesis.digest),
            "log_size": trust.head.size,
            "locked": trust.locked,
            "cause": trust.cause,
            "frozen": [*frozen],
            "waiting": len(trust.waiting),
            "destructions": len(trust.destructions),
            "holds": [one.subject for one in holds(trust, self.now)],
        }


T = TypeVar("T")


def page_of(items: Sequence[T], name: Callable[[T], str], after: str, most: int = ROWS) -> tuple[Sequence[T], str]:
    """Return the items behind the one called ``after``, at most so many, and what the next page is behind, or "".

    :param items: in the order of their names.
    """
    begin = bisect_right(items, after, key=name)
    shown = items[begin : begin + most]
    return shown, name(shown[-1]) if begin + most < len(items) else ""


def entry_number(text: str) -> int:
    """Return the number of an entry of the log that an address names.

    :raises FormError: it isn't one.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise FormError("an entry is named by its number")
    return int(text)


Handler = Callable[[Visit], Page | GoTo | File]


def level_of(policy: Policy | None, model: ModelId) -> SecurityLevel | None:
    """Return a model's level in the policy in force, or None where it has none."""
    try:
        return None if policy is None else policy.terms(model).level
    except NoRuleError:
        return None


def signable(trust: Trust, model: ModelId) -> bool:
    """Tell whether requests about a model may be signed in a browser."""
    level = level_of(trust.policy, model)
    return level is not None and level.rank <= HIGHEST.rank


def require_signable(trust: Trust, model: ModelId) -> None:
    """Check that requests about a model may be signed in a browser.

    :raises NotByConsoleError: its level is SL4 or above, or unknown.
    """
    if not signable(trust, model):
        raise NotByConsoleError.of(model)
