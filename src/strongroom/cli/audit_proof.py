"""``strongroom audit proof``: one file that shows, offline, that one entry is in the log and was witnessed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import read_checkpoint
from strongroom.audit.proof_file import MAX_PROOF, ProofFile, make_proof
from strongroom.audit.tiles import CHECKPOINT, COSIGNED, WIDTH, Tile, TileReader, read_bundle
from strongroom.audit.verify import published_head
from strongroom.audit.witness_policy import MAX_POLICY, WitnessPolicy
from strongroom.cli.audit_files import FILE, log_option, read_key
from strongroom.cli.files import json_option, read_file
from strongroom.client.render import printable
from strongroom.core.clock import SystemClock
from strongroom.core.errors import NotFoundError

_OUT = click.Path(path_type=Path, dir_okay=False)
_MAX_ENTRY = 65_535


@click.group("proof")
def proof() -> None:
    """Prove one entry to somebody who has neither the log nor a connection (C2SP tlog-proof)."""


@proof.command("make")
@log_option
@click.argument("index", type=click.IntRange(min=0))
@click.option("--key", type=FILE, required=True, help="A file with the log's verifier key, one line.")
@click.option("--out", type=_OUT, required=True, help="The proof to write; the entry goes beside it, as OUT.entry.")
def make(folder: Path, index: int, key: Path, out: Path) -> None:
    """Write the proof of the entry at INDEX, under the newest checkpoint that witnesses cosigned and that covers it."""
    source, log_key = FolderSource(folder), read_key(key)
    head = published_head(source, log_key)
    cosigned, newest = source.read(COSIGNED), source.read(CHECKPOINT)
    if cosigned is not None and read_checkpoint(cosigned, log_key).size > index:
        newest = cosigned
    if newest is None or index >= head.size:
        raise NotFoundError(f"the log has {head.size} entries, none with index {index}")
    made = make_proof(index, newest, TileReader(source, head.size).node)
    width = min(WIDTH, head.size - index // WIDTH * WIDTH)
    entry = read_bundle(source, Tile(None, index // WIDTH, width))[index % WIDTH]
    out.write_bytes(made.to_bytes())
    out.with_name(f"{out.name}.entry").write_bytes(entry)
    click.echo(f"{out}: entry {index} under a checkpoint of {read_checkpoint(newest, log_key).size} entries")


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
