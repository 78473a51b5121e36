"""``strongroom audit gather``: fetch the log and all that it names into a folder, for whoever verifies it offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from strongroom.cli.output import end, progress_bar, show
from strongroom.cli.session import as_wallet, json_option, session
from strongroom.client.adapters.gathered_folder import GatheredFolder
from strongroom.client.gather import Gathered, Gatherer, SignedShard, copy_shard, shown_entries, signed_shards
from strongroom.core.canonical import Json
from strongroom.core.errors import ExitCode


@click.command("gather")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@as_wallet
@json_option
def gather(folder: Path, wallet: Path, *, as_json: bool) -> None:
    """Fetch the log as tiles, and every object that it names, into FOLDER; again later, to go on from there.

    Afterwards: strongroom audit verify --log FOLDER/log --key FOLDER/log.key --genesis FOLDER/genesis.json
    --evidence FOLDER. Compare key and genesis with what you know of the deployment from elsewhere.

    Decisions, evidence and statements are shown to people whose role is `auditor`; for others they count as missing.
    """
    with session(wallet) as person:
        place = GatheredFolder(folder)
        place.begin(person.wallet.genesis())
        shards = signed_shards(person)
        size = shards[-1].shard.base + shards[-1].head.size
        gatherer = Gatherer(person.api, place.exhibits)
        with progress_bar("gathering") as progress:

            def passing(signed: SignedShard) -> Iterator[bytes]:
                base = signed.shard.base
                for index, data in enumerate(shown_entries(person.api, base, signed.head.size), base):
                    gatherer.take(index, data)
                    if progress is not None:
                        progress(index + 1, size)
                    yield data

            for signed in shards:
                copy_shard(passing(signed), signed, place)
    _show(folder, size, gatherer.gathered, as_json=as_json)


def _show(folder: Path, size: int, gathered: Gathered, *, as_json: bool) -> None:
    kinds = sorted(gathered.fetched.keys() | gathered.held.keys() | gathered.missing.keys())
    counts: dict[str, Json] = {
        kind: {"fetched": gathered.fetched[kind], "held": gathered.held[kind], "missing": gathered.missing[kind]}
        for kind in kinds
    }
    lines = [f"{folder}: the log of {size} entries, and of what it names"]
    for kind in kinds:
        here = gathered.fetched[kind] + gathered.held[kind]
        lines.append(f"{here:>8}  {kind}" + (f", {gathered.missing[kind]} missing" if gathered.missing[kind] else ""))
    lines += [f"FALSE     entry {index}: another {kind} was handed out than it names" for index, kind in gathered.false]
    false: list[Json] = [{"index": index, "kind": kind} for index, kind in gathered.false]
    show({"folder": str(folder), "size": size, "objects": counts, "false": false}, lines, as_json=as_json)
    if gathered.false:
        end(ExitCode.TAMPERED)
