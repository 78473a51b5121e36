"""``strongroom audit shard``: end one tree of the log, begin the next, prune old ones; on the deployment's machine."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.audit.cosignature import CosignatureKind, CosignerKey
from strongroom.audit.note import VerifierKey
from strongroom.audit.succession import Succession
from strongroom.audit.wiring import Places
from strongroom.cli.files import json_option
from strongroom.core.genesis import Genesis
from strongroom.ipc.adapters.client import UnixClient

_home = click.option(
    "--home", type=click.Path(exists=True, path_type=Path, file_okay=False), required=True, help="The deployment."
)


@click.group("shard")
def shard() -> None:
    """The log is a succession of trees: each is closed for the next, under keys of its own."""


@shard.command("next-key")
@_home
@json_option
def next_key(home: Path, *, as_json: bool) -> None:
    """Print the verifier keys of the next shard, made now if they weren't: what its witnesses must follow."""
    places = Places(home)
    genesis = Genesis.parse(places.genesis.read_bytes())
    with BlockingLogClient(places.socket) as client:
        prepared = client.prepare()
    origin = Succession.of(genesis).origin(prepared.number)
    keys = [
        str(VerifierKey(origin, prepared.key)),
        str(CosignerKey(origin, CosignatureKind.ML_DSA_44, prepared.cosigner)),
    ]
    if as_json:
        click.echo(json.dumps({"shard": prepared.number, "keys": keys}, sort_keys=True))
        return
    for key in keys:
        click.echo(key)


@shard.command("close")
@_home
@json_option
def close(home: Path, *, as_json: bool) -> None:
    """Close the log's newest shard and open the next. Where witnesses are asked, let them follow its key before."""
    index = asyncio.run(_ask(home, "close-shard"))
    if as_json:
        click.echo(json.dumps({"index": index}))
        return
    click.echo(f"the log goes on in a new shard, which begins with entry {index}")


@shard.command("prune")
@_home
@click.argument("number", type=click.IntRange(min=1))
@click.option("--below", type=click.IntRange(min=1), required=True, help="Index within the shard: a multiple of 256.")
@json_option
def prune(home: Path, number: int, below: int, *, as_json: bool) -> None:
    """Take the first entries of closed shard NUMBER out of the published folder; their hashes stay. Copy it before.

    It is recorded first. The deployment's own store keeps every entry: the keeper replays them, and shows them to who
    may ask it.
    """
    index = asyncio.run(_ask(home, "prune-shard", shard=number, minimum=below))
    if as_json:
        click.echo(json.dumps({"index": index}))
        return
    click.echo(f"entry {index} says that shard {number} is published from its index {below} on")


async def _ask(home: Path, operation: str, **members: int) -> int:
    client = UnixClient(home / "run" / "keeper.sock")
    try:
        with await client.call(operation, **members) as answer:
            index = answer.integer("index")
            answer.value("checkpoint")
            return index
    finally:
        await client.close()
