"""``strongroom audit timestamp``: RFC 3161 timestamps over the log's checkpoints, asked for and verified offline."""

from __future__ import annotations

import json
from pathlib import Path

import click

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.timestamps import TimestampFolder
from strongroom.audit.merkle import make_consistency
from strongroom.audit.succession import Head, Prove, Succession
from strongroom.audit.tiles import CHECKPOINT, COSIGNED, ShardSource, TileReader, TileSource
from strongroom.audit.timestamp import (
    MAX_RESPONSE,
    MAX_ROOTS,
    read_roots,
    request_timestamp,
    verify_answer,
    verify_timestamp,
)
from strongroom.audit.verify_shards import published_log
from strongroom.audit.witness_policy import MAX_POLICY, WitnessPolicy, check_note
from strongroom.cli.audit_files import FILE, log_option, read_key
from strongroom.cli.files import json_option, read_file
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.errors import NotFoundError

_key_option = click.option("--key", type=FILE, required=True, help="A file with the log's verifier key, one line.")
_tsa_option = click.option("--tsa", type=FILE, required=True, help="The timestamping authority's root, PEM.")


@click.group("timestamp")
def timestamp() -> None:
    """Anchor the log in time by an outside authority (RFC 3161)."""


@timestamp.command("request")
@log_option
@_key_option
def request(folder: Path, key: Path) -> None:
    """Write a request over the newest checkpoint that witnesses cosigned, or over the newest where there are none."""
    source = FolderSource(folder)
    known, head = published_log(source, Succession.from_key(read_key(key)), None)
    part = ShardSource(source, head.shard.folder)
    data = part.read(COSIGNED) or part.read(CHECKPOINT)
    if data is None:
        raise NotFoundError("the folder holds no checkpoint", remedy="give the log's published folder")
    size = known.read(data).size
    path = TimestampFolder(folder).begin(size, data, request_timestamp(data))
    click.echo(f"a request over the checkpoint of {size} entries: {path}")
    click.echo("Send it to the authority as `application/timestamp-query`; then, with what it answers:")
    click.echo(f"strongroom audit timestamp import ANSWER --size {size} --log {folder} --tsa ROOT.pem")


@timestamp.command("import")
@log_option
@click.argument("answer", type=FILE)
@click.option("--size", type=click.IntRange(min=0), required=True, help="Entries of the checkpoint that was stamped.")
@_tsa_option
def import_(folder: Path, answer: Path, size: int, tsa: Path) -> None:
    """Verify what the authority answered and keep it beside the log."""
    stamps = TimestampFolder(folder)
    response, roots = read_file(answer, most=MAX_RESPONSE), read_roots(read_file(tsa, most=MAX_ROOTS))
    now = SystemClock().now()
    stamp = verify_answer(response, stamps.checkpoint(size), stamps.request(size), roots, now=now)
    stamps.finish(size, response)
    click.echo(f"the checkpoint of {size} entries existed at {format_instant(stamp.at)}")


@timestamp.command("verify")
@log_option
@_key_option
@_tsa_option
@click.option("--policy", type=FILE, help="A trust policy: each stamped checkpoint must have its quorum of witnesses.")
@json_option
def verify(folder: Path, key: Path, tsa: Path, policy: Path | None, *, as_json: bool) -> None:
    """Verify every timestamp, and that the log still continues each checkpoint that was stamped."""
    log_key, roots, now = read_key(key), read_roots(read_file(tsa, most=MAX_ROOTS)), SystemClock().now()
    wanted = None if policy is None else WitnessPolicy.parse(read_file(policy, most=MAX_POLICY))
    stamps = TimestampFolder(folder)
    found: list[dict[str, int | str | list[str]]] = []
    source = FolderSource(folder)
    known, head = published_log(source, Succession.from_key(log_key), None)
    for size in stamps.stamped():
        data = stamps.checkpoint(size)
        stamp = verify_timestamp(stamps.response(size), data, roots, now=now)
        then = known.read(data)
        counted = [] if wanted is None else [*check_note(data, wanted, now=now, log=then.shard.verifier).counted]
        known.require_extends(head, size=then.size, root=then.root, prove=_prover(source, known, head))
        found.append({"size": size, "at": format_instant(stamp.at), "serial": str(stamp.serial), "witnesses": counted})
    if not found:
        raise NotFoundError("no timestamp lies beside the log")
    if as_json:
        click.echo(json.dumps({"ok": True, "timestamps": found}, sort_keys=True))
        return
    for one in found:
        click.echo(f"{one['size']:>10} entries existed at {one['at']}")
    if wanted is not None:
        click.echo("each of these checkpoints was cosigned by a quorum of witnesses")


def _prover(source: TileSource, known: Succession, head: Head) -> Prove:
    def prove(old: int, new: int) -> tuple[bytes, ...]:
        shard = known.holding(new - 1)
        tree = known.final(shard) or head.checkpoint
        node = TileReader(ShardSource(source, shard.folder), tree.size).node
        return make_consistency(old - shard.base, new - shard.base, node)

    return prove
