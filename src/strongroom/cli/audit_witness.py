"""``strongroom audit witness``: a witness of other people's logs, run by other people than those who run the log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from strongroom.audit.adapters.witness_store import WitnessFolder
from strongroom.audit.cosignature import CosignatureKind, Cosigner
from strongroom.audit.note import MAX_BYTES
from strongroom.audit.witness_policy import read_log_key
from strongroom.cli.files import json_option, read_file
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.signature import SEED_BYTES

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_KINDS = {"ml-dsa-44": CosignatureKind.ML_DSA_44, "ed25519": CosignatureKind.ED25519}


@click.group("witness")
def witness() -> None:
    """Witness logs: see that they only grow, and sign what was seen. For another administration than the log's."""


@witness.command("init")
@click.argument("folder", type=_FOLDER)
@click.option("--name", required=True, help="The witness's name, like `witness.example/w1`: an address without scheme.")
@click.option("--algorithm", type=click.Choice([*_KINDS]), default="ml-dsa-44", show_default=True, help="Of the key.")
@json_option
def init(folder: Path, name: str, algorithm: str, *, as_json: bool) -> None:
    """Make a witness: its key and its folder. The key is only ever used by one folder on one machine."""
    seed = os.urandom(SEED_BYTES)
    cosigner = Cosigner.from_seed(name, _KINDS[algorithm], seed)
    WitnessFolder.create(folder, cosigner, seed)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "key": str(cosigner.key)}, sort_keys=True))
        return
    click.echo(f"a witness `{cosigner.key.shown}` at {folder}")
    click.echo(f"  its verifier key, for policies: {folder / 'witness.pub'}")
    click.echo(f"  its key's fingerprint, to be compared over the telephone: {cosigner.key.fingerprint}")
    click.echo(f"Next: strongroom audit witness follow {folder} --key LOG.pub")


@witness.command("follow")
@click.argument("folder", type=_FOLDER)
@click.option("--key", "keys", type=_FILE, required=True, multiple=True, help="A file with verifier keys of the log.")
def follow(folder: Path, keys: tuple[Path, ...]) -> None:
    """Begin to witness a log, from nothing. Restart the witness afterwards."""
    lines = [line for path in keys for line in _lines(path)]
    origin = WitnessFolder.open(folder).follow(tuple(read_log_key(line) for line in lines))
    click.echo(f"follows `{origin}` with {len(lines)} of its keys")


@witness.command("show")
@click.argument("folder", type=_FOLDER)
@json_option
def show(folder: Path, *, as_json: bool) -> None:
    """Show a witness's key, and what it cosigned last of each log."""
    opened = WitnessFolder.open(folder)
    logs = [
        {
            "origin": log.origin,
            "keys": len(log.keys),
            "size": log.latest.size if log.latest else 0,
            "cosigned_at": format_instant(log.at) if log.latest else None,
        }
        for log in opened.logs()
    ]
    if as_json:
        click.echo(json.dumps({"key": str(opened.cosigner.key), "logs": logs}, sort_keys=True))
        return
    click.echo(str(opened.cosigner.key))
    click.echo(f"  fingerprint {opened.cosigner.key.fingerprint}")
    for log in logs:
        click.echo(f"  {log['origin']}: {log['size']} entries, cosigned {log['cosigned_at'] or 'never'}")


@witness.command("run")
@click.argument("folder", type=_FOLDER)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8447, show_default=True, help="Port to listen on; 0 for any.")
@click.option("--tls-certificate", type=_FILE, help="A PEM file: serve over TLS 1.3.")
@click.option("--tls-key", type=_FILE, help="The certificate's key.")
def run(folder: Path, host: str, port: int, tls_certificate: Path | None, tls_key: Path | None) -> None:
    """Serve until SIGTERM: add-checkpoint, and each log's checkpoint as cosigned last."""
    from strongroom.audit.adapters.witness_server import (  # noqa: PLC0415 - the other commands need no server
        Listening,
        serve_witness,
    )

    if (tls_certificate is None) is not (tls_key is None):
        raise UsageError("give `--tls-certificate` and `--tls-key` together")
    listening = Listening(host=host, port=port, certificate=tls_certificate, key=tls_key)
    serve_witness(folder, listening, SystemClock())


def _lines(path: Path) -> list[str]:
    try:
        return read_file(path, most=MAX_BYTES).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"`{path.name}` holds no verifier keys") from None
