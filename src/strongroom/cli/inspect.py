"""``strongroom inspect``: what a sealed directory says of itself, without any key."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.session import json_option
from strongroom.core.canonical import Json
from strongroom.core.signature import PublicKey
from strongroom.sealing.adapters.directory import inspect_directory, read_envelope, verify_directory
from strongroom.sealing.manifest import ManifestExpectation, verify_manifest


@click.command("inspect")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--publisher", help="The publisher's public key (ed25519:...): checks the signature and every byte.")
@json_option
def inspect(directory: Path, publisher: str | None, *, as_json: bool) -> None:
    """Look at a sealed directory without any key that opens it.

    Without --publisher these are claims. With it, the manifest's signature and all ciphertext are checked.
    """
    facts = inspect_directory(directory)
    manifest = facts.manifest
    if publisher is not None:
        expected = ManifestExpectation(
            genesis=manifest.genesis, model=manifest.model, version=manifest.version, digest=facts.digest
        )
        verified = verify_manifest(read_envelope(directory), PublicKey.parse(publisher), expect=expected)
        verify_directory(directory, verified)
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
        "verified": publisher is not None,
    }
    width = max(len(name) for name in data)
    lines = [f"{name:<{width}}  {_plain(value)}" for name, value in data.items() if name != "verified"]
    checked = "every byte is what that key signed" if publisher else "nothing of this is verified: give --publisher"
    show(data, (*lines, "", checked), as_json=as_json)


def _plain(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "nobody"
    return "none" if value is None else str(value)
