"""``strongroom inspect``: what a sealed directory says of itself, without any key."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.session import json_option
from strongroom.core.canonical import Json
from strongroom.sealing.adapters.directory import inspect_directory


@click.command("inspect")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def inspect(directory: Path, *, as_json: bool) -> None:
    """Look at a sealed directory without any key. These are its own claims: `strongroom verify` checks them."""
    facts = inspect_directory(directory)
    manifest = facts.manifest
    data: dict[str, Json] = {
        "model": manifest.model,
        "version": manifest.version,
        "manifest": str(facts.digest),
        "predecessor": str(manifest.predecessor) if manifest.predecessor else None,
        "deployment": str(manifest.genesis),
        "publisher": manifest.publisher,
        "signed_by": [*facts.signed_by],
        "data_key": manifest.data_key_id,
        "objects": len(manifest.objects),
        "bytes": manifest.size,
    }
    width = max(len(name) for name in data)
    lines = [f"{name:<{width}}  {_plain(value)}" for name, value in data.items()]
    show(data, (*lines, "", "nothing of this is verified: strongroom verify"), as_json=as_json)


def _plain(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "nobody"
    return "none" if value is None else str(value)
