"""``strongroom audit publish`` and ``hosted``: the log laid down in a store under object lock, and whether it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.s3_host import MOST_DAYS, Retention, S3Host
from strongroom.audit.hosting import HostAddress, Hosted, HostMovedError, Scheme, hosted_sizes, publish, survey
from strongroom.audit.succession import Succession
from strongroom.cli.audit_files import FILE, log_option, read_small
from strongroom.cli.files import json_option
from strongroom.cli.output import end
from strongroom.cli.seconds import Seconds
from strongroom.cli.stopping import Stopping
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.errors import ExitCode, NotFoundError, UnavailableError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.printable import printable

SHOWN: Final = 20
"""Paths of each kind printed as text; JSON has them all."""
_LONGEST: Final = 600.0
_TOLD: Final = {
    "unlocked": "not locked",
    "covered": "deleted or written over, its first version kept by the lock",
    "foreign": "not a file of a log",
    "missing": "not there, though a checkpoint speaks of it",
}


@click.command("publish")
@log_option
@click.option(
    "--genesis", type=FILE, required=True, help="The deployment's genesis: names the log's and the keeper's key."
)
@click.option("--to", "address", required=True, help="s3://BUCKET/PREFIX, in an S3-compatible store.")
@click.option("--lock-days", type=click.IntRange(1, MOST_DAYS), help="How long nobody can delete what is laid down.")
@click.option("--unlocked", is_flag=True, help="Into a store where whoever may delete can take the log away.")
@click.option("--every", type=Seconds(1, 86_400), help="Go on until interrupted, this many seconds apart.")
@json_option
def publish_log(
    folder: Path,
    genesis: Path,
    address: str,
    lock_days: int | None,
    every: float | None,
    *,
    unlocked: bool,
    as_json: bool,
) -> None:
    """Lay the published log down where it can't be deleted: what is new, then the checkpoint that speaks of it.

    Each file is checked against the signed root before it leaves. Credentials, region and endpoint are the SDK's own:
    its environment, its profile or the machine's role.
    """
    if (lock_days is None) == (not unlocked):
        raise UsageError("say how long the store must keep the log: --lock-days, or --unlocked")
    place = _store(address)
    host = S3Host(place, clock=SystemClock(), lock=None if lock_days is None else Retention(lock_days))
    if lock_days is not None:
        host.require_locking()
    source, named = FolderSource(folder), Genesis.parse(read_small(genesis))
    if every is None:
        _tell(_once(source, host, named), host, as_json=as_json)
        return
    with Stopping() as stopping:
        _publish_always(source, host, named, every, stopping, as_json=as_json)


def _once(source: FolderSource, host: S3Host, genesis: Genesis) -> Hosted:
    return publish(source, host, Succession.of(genesis), genesis.keeper_key)


def _publish_always(
    source: FolderSource, host: S3Host, genesis: Genesis, every: float, stopping: Stopping, *, as_json: bool
) -> None:
    silent = 0
    while True:
        try:
            done = _once(source, host, genesis)
            silent = 0
            if done.files:
                _tell(done, host, as_json=as_json)
        except (UnavailableError, HostMovedError) as error:
            # A store that is down holds nothing back: what is missing is laid down when it is there again. And where
            # another publisher came first, what it left is looked at in the next round.
            if not silent:
                click.echo(f"waiting: {error.message}", err=True)
            silent += 1
        if stopping.pause(min(max(_LONGEST, every), every * 2.0 ** min(silent, 10))):
            return


def _tell(done: Hosted, host: S3Host, *, as_json: bool) -> None:
    place, days = host.address, host.days
    if as_json:
        told = {"to": str(place), "size": done.size, "before": done.before, "lock_days": days}
        click.echo(json.dumps({**told, "files": done.files, "bytes": done.length}, sort_keys=True))
        return
    kept = "not locked: whoever may delete there can take it away" if days is None else f"locked for {days} days"
    click.echo(f"{done.size} entries at {place}: {done.files} new files of {done.length} bytes, {kept}")


@click.command("hosted")
@click.argument("address")
@json_option
def hosted(address: str, *, as_json: bool) -> None:
    """Look at every version of a log that was published to ADDRESS: is each locked, and was anything hidden?

    Exit code 6: something can be deleted, was deleted or written over in sight, doesn't belong there, or is missing.
    """
    host, now = S3Host(_store(address), clock=SystemClock(), lock=None), SystemClock().now()
    host.require_locking()
    found = survey(host.versions(), now, hosted_sizes(host))
    if not found.versions:
        raise NotFoundError("nothing was published there", remedy="look at the address")
    lists = {
        "unlocked": found.unlocked,
        "covered": found.covered,
        "foreign": found.foreign,
        "missing": found.missing,
    }
    until = None if found.locked_until is None else format_instant(found.locked_until)
    if as_json:
        counts = {"ok": not any(lists.values()), "versions": found.versions, "locked_until": until}
        click.echo(json.dumps({**counts, **lists}, sort_keys=True))
    else:
        click.echo(f"{found.versions} versions; the first lock ends {until or 'now: nothing is locked'}")
        for kind, paths in lists.items():
            for path in paths[:SHOWN]:
                click.echo(f"{_TOLD[kind]}: {printable(path)}")
            if len(paths) > SHOWN:
                click.echo(f"{_TOLD[kind]}: and {len(paths) - SHOWN} more; --json lists them")
    if any(lists.values()):
        end(ExitCode.TAMPERED)


def _store(address: str) -> HostAddress:
    place = HostAddress.parse(address)
    if place.scheme is not Scheme.S3:
        raise UsageError(
            "a log is published into a store: `s3://BUCKET/PREFIX`", remedy="a web server serves the folder as it is"
        )
    return place
