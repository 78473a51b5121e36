"""``strongroom attestation kept``: what a release was proved by, fetched for whoever judges it again."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, session
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, TamperedError, UsageError


@click.command("kept")
@click.argument("digest")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@as_wallet
@json_option
def kept(digest: str, out: Path, wallet: Path, *, as_json: bool) -> None:
    """Fetch the record that the log names DIGEST (`strongroom explain '#N'` shows it as `attested`), for auditors.

    It holds the evidence as it came, what it had to commit to, and the signed result. `strongroom attestation verify`
    reads the evidence in it, `strongroom attestation result` the token.
    """
    try:
        wanted = Digest.parse(digest)
    except MalformedError as error:
        raise UsageError(f"DIGEST: {error.message}") from None
    with session(wallet) as person:
        record = person.api.attested(wanted)
    data = record.to_bytes()
    # The server's word is worth nothing here; the log's digest is what the record must have.
    if not Digest.of(data).matches(wanted):
        raise TamperedError("the deployment handed out another record than the one of this digest")
    try:
        with out.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"`{out}` can't be written: {error.strerror}") from None
    show({"file": str(out), "bytes": len(data)}, f"{out}: {len(data):,} bytes, as the log names them", as_json=as_json)
