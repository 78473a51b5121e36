"""What the verbs that read the log share: from where, what is looked for, and how entries are shown."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.audit.entries import Entry
from strongroom.audit.errors import WrongKeyError
from strongroom.audit.note import VerifierKey
from strongroom.audit.reading.query import Outcome, Query, read_moment
from strongroom.audit.reading.view import LogView, PublishedView
from strongroom.audit.tiles import TileSource
from strongroom.cli.audit_files import FILE, LOG_PLACE, read_key, read_small
from strongroom.cli.session import as_wallet, session
from strongroom.client.log_view import BrokerLog
from strongroom.core.clock import Instant, SystemClock, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.signature import PublicKey

F = TypeVar("F", bound=Callable[..., Any])
_TOLD: Final = (
    "model",
    "version",
    "platform",
    "requester",
    "person",
    "publisher",
    "reviewer",
    "action",
    "step",
    "reason",
    "cause",
    "outcome",
    "total",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the log is read: as it is published, or the deployment that a wallet is bound to."""

    published: TileSource | None
    key: Path | None
    genesis: Path | None
    wallet: Path
    """Unused with a published log."""

    @contextmanager
    def opened(self) -> Iterator[LogView]:
        """Open it.

        :raises UsageError: options that don't go together. :raises WrongKeyError: a key that isn't the genesis' log's.
        """
        if self.published is None:
            if self.key is not None or self.genesis is not None:
                raise UsageError("--key and --genesis go with --log; a wallet has its own")
            with session(self.wallet) as person:
                yield BrokerLog(person, time.sleep)
            return
        yield PublishedView(self.published, *self._keys())

    def _keys(self) -> tuple[VerifierKey | None, PublicKey | None]:
        key = None if self.key is None else read_key(self.key)
        if self.genesis is None:
            return key, None
        genesis = Genesis.parse(read_small(self.genesis))
        own = VerifierKey(genesis.log_origin, genesis.log_key)
        if key is not None and key != own:
            raise WrongKeyError("the verifier key isn't the one that the genesis names for its log")
        return own, genesis.keeper_key


def source_options(function: F) -> F:
    """Add the options that say where the log is read; passed as ``source``."""

    @functools.wraps(function)
    def wrapped(
        *args: Any, published: TileSource | None, key: Path | None, genesis: Path | None, wallet: Path, **rest: Any
    ) -> Any:
        return function(*args, source=Source(published=published, key=key, genesis=genesis, wallet=wallet), **rest)

    for option in (
        as_wallet,
        click.option("--genesis", type=FILE, help="With --log: the genesis; also checks the keeper's signatures."),
        click.option("--key", type=FILE, help="With --log: a file with the log's verifier key, one line."),
        click.option(
            "--log",
            "published",
            type=LOG_PLACE,
            help="The log's published folder, or where it is hosted; without it, your wallet's deployment is asked.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]  # the same function to click, with other options


def query_options(function: F) -> F:
    """Add the options that say what is looked for; passed as ``query``."""

    @functools.wraps(function)
    def wrapped(
        *args: Any,
        person: str | None,
        model: str | None,
        request: str | None,
        platform: str | None,
        delivery: str | None,
        event: str | None,
        outcome: str | None,
        since: str | None,
        until: str | None,
        **rest: Any,
    ) -> Any:
        query = Query(
            person=person,
            model=model,
            request=request,
            platform=platform,
            delivery=delivery,
            event=event,
            outcome=None if outcome is None else Outcome(outcome),
            since=moment(since),
            until=moment(until),
        )
        return function(*args, query=query, **rest)

    for option in (
        click.option("--until", help="Only before then, written likewise."),
        click.option("--since", help="Only from then on: `2026-11-23T22:08:37Z`, `2026-11-23`, or `7d` ago."),
        click.option("--outcome", type=click.Choice([one.value for one in Outcome]), help="Only with this outcome."),
        click.option("--event", help="Only this event, or this family of events: `release`, `access:request`."),
        click.option("--delivery", help="Only about what was delivered under this id."),
        click.option("--platform", help="Only about this platform."),
        click.option("--request", help="Only about this request or grant; its digest may be cut short."),
        click.option("--model", help="Only about this model, its requests and their releases."),
        click.option("--person", help="Only with this person, in any role."),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]  # as above


def moment(text: str | None) -> Instant | None:
    """Read a time that was given in an option."""
    return None if text is None else read_moment(text, now=SystemClock().now())


def print_entry(index: int, entry: Entry, *, as_json: bool) -> None:
    """Print an entry as one line."""
    if as_json:
        click.echo(json.dumps({"index": index, **entry.to_json()}, sort_keys=True))
        return
    told = "  ".join(f"{name}={entry.facts[name]}" for name in _TOLD if name in entry.facts)
    click.echo(f"{index:>8}  {format_instant(entry.at)}  {entry.event.value:<36}  {told}".rstrip())


def say_unverified(view: LogView) -> None:
    """Say on standard error that nothing was checked against the log's key."""
    if not view.signed:
        click.echo("not verified: the log's key wasn't given (--key)", err=True)
