"""``strongroom audit proof``: one file that shows, offline, that one entry is in the log and was witnessed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from strongroom.audit.proof_file import MAX_PROOF, ProofFile, make_proof
from strongroom.audit.succession import Succession
from strongroom.audit.tiles import CHECKPOINT, COSIGNED, WIDTH, ShardSource, Tile, TileReader, TileSource, read_bundle
from strongroom.audit.verify_shards import published_log
from strongroom.audit.witness_policy import MAX_POLICY, WitnessPolicy
from strongroom.cli.audit_files import FILE, read_key, source_option
from strongroom.cli.files import json_option, read_file
from strongroom.core.clock import SystemClock
from strongroom.core.errors import NotFoundError
from strongroom.core.printable import printable

_OUT = click.Path(path_type=Path, dir_okay=False)
_MAX_ENTRY = 65_535


@click.group("proof")
def proof() -> None:
    """Prove one entry to somebody who has neither the log nor a connection (C2SP tlog-proof)."""


@proof.command("make")
@source_option
@click.argument("index", type=click.IntRange(min=0))
@click.option("--key", type=FILE, required=True, help="A file with the log's verifier key, one line.")
@click.option("--out", type=_OUT, required=True, help="The proof to write; the entry goes beside it, as OUT.entry.")
def make(source: TileSource, index: int, key: Path, out: Path) -> None:
    """Write the proof of the entry at INDEX, under the newest checkpoint that witnesses cosigned and that covers it.

    INDEX counts over all shards. The proof is one of the shard that holds the entry: the policy that verifies it names
    that shard's key.
    """
    known, head = published_log(source, Succession.from_key(read_key(key)), None)
    if index >= head.size:
        raise NotFoundError(f"the log has {head.size} entries, none with index {index}")
    shard = known.holding(index)
    tree, at = known.final(shard) or head.checkpoint, index - shard.base
    part = ShardSource(source, shard.folder)
    cosigned, newest = part.read(COSIGNED), part.read(CHECKPOINT)
    if cosigned is not None and known.read(cosigned).checkpoint.size > at:
        newest = cosigned
    if newest is None:
        raise NotFoundError("the shard's folder holds no `checkpoint`", remedy="give the log's published folder")
    made = make_proof(at, newest, TileReader(part, tree.size).node)
    width = min(WIDTH, tree.size - at // WIDTH * WIDTH)
    entry = read_bundle(part, Tile(None, at // WIDTH, width))[at % WIDTH]
    out.write_bytes(made.to_bytes())
    out.with_name(f"{out.name}.entry").write_bytes(entry)
    size = known.read(newest).checkpoint.size
    where = "" if shard.number == 1 else f", number {at} of the log `{printable(shard.origin)}`,"
    click.echo(f"{out}: entry {index}{where} under a checkpoint of {size} entries")


@proof.command("verify")
@click.argument("file", type=FILE)
@click.option("--entry", type=FILE, required=True, help="The entry's bytes.")
@click.option("--policy", type=FILE, required=True, help="A C2SP trust policy: logs, witnesses and their quorum.")
@json_option
def verify(file: Path, entry: Path, policy: Path, *, as_json: bool) -> None:
    """Verify FILE with nothing but the entry and a policy."""
    wanted = WitnessPolicy.parse(read_file(policy, most=MAX_POLICY))
    read = ProofFile.parse(read_file(file, most=MAX_PROOF))
    found = read.verify(read_file(entry, most=_MAX_ENTRY), wanted, now=SystemClock().now())
    facts = {"origin": found.checkpoint.origin, "index": read.index, "size": found.checkpoint.size}
    if as_json:
        click.echo(json.dumps({"ok": True, **facts, "witnesses": sorted(found.counted)}, sort_keys=True))
        return
    origin, names = printable(found.checkpoint.origin), (printable(name) for name in sorted(found.counted))
    click.echo(f"entry {read.index} is in the log `{origin}` of {found.checkpoint.size} entries")
    click.echo(f"cosigned by {', '.join(names) or 'nobody: the policy asks for no witness'}")
