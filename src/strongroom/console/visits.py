"""A visit of somebody who is signed in, and what comes of it: a page, or another address."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from strongroom.access.policy import NoRuleError, Policy
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.console.door import SignedIn
from strongroom.console.errors import FormError, NotByConsoleError
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel

ROWS: Final = 200
"""Rows of a table on one page."""
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
    verified: Trust | None = None
    """The deployment, once it was asked for."""

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
        }


T = TypeVar("T")


def page_of(items: Sequence[T], name: Callable[[T], str], after: str) -> tuple[Sequence[T], str]:
    """Return the items behind the one called ``after``, at most :data:`ROWS`, and what the next page is behind, or "".

    :param items: in the order of their names.
    """
    begin = bisect_right(items, after, key=name)
    shown = items[begin : begin + ROWS]
    return shown, name(shown[-1]) if begin + ROWS < len(items) else ""


Handler = Callable[[Visit], Page | GoTo]


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
        raise NotByConsoleError(
            f"what is signed about `{model}` is shown by your own machine, not by a server",
            remedy="use the command that stands beside",
        )
