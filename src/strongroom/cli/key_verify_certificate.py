"""``strongroom key verify-certificate``: offline, by the genesis, and by the log where that is at hand."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.audit.replay import EntryChecks
from strongroom.audit.succession import Succession
from strongroom.audit.tiles import TileSource
from strongroom.audit.verify_shards import verified_shard_entries, verify_shards
from strongroom.cli.audit_files import FILE, LOG_PLACE, read_small
from strongroom.cli.files import json_option
from strongroom.cli.output import show
from strongroom.cli.session import read_file
from strongroom.client.certificates import certificate_lines
from strongroom.core.canonical import Json
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis
from strongroom.release.destruction import Certificate, CertificateMismatchError, require_drawn_from, verify_certificate
from strongroom.release.ledger import Ledger


@click.command("verify-certificate")
@click.argument("file", type=FILE)
@click.option("--genesis", "genesis_file", type=FILE, required=True, help="The deployment's genesis.")
@click.option("--log", "source", type=LOG_PLACE, help="The log's published folder, or where it is hosted.")
@json_option
def verify_destruction(file: Path, genesis_file: Path, source: TileSource | None, *, as_json: bool) -> None:
    """Verify the destruction certificate in FILE. With --log, hold every word of it against the log.

    What the key services did (`providers`) is the keeper's word in either case.

    Exit code 6: it isn't the keeper's, a byte was changed, or the log says something else.
    """
    genesis = Genesis.parse(read_small(genesis_file))
    told = verify_certificate(Envelope.parse(read_file(file, most=2 * MAX_PAYLOAD)), genesis)
    if source is not None:
        _hold_against(told, genesis, source)
    data: Json = {
        "model": told.model,
        "serial": told.serial,
        "not_reachable": [copy.to_json() for copy in told.not_reachable],
        "log": source is not None,
    }
    checked = "verified by the genesis" if source is None else "verified by the genesis and against the log"
    show(data, [checked, *certificate_lines(told)], as_json=as_json)


def _hold_against(told: Certificate, genesis: Genesis, source: TileSource) -> None:
    checks = EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest)
    report = verify_shards(
        source, Succession.of(genesis), entries=checks, keeper_key=genesis.keeper_key, cosigned=False
    )
    if report.pruned:
        raise UsageError(
            "entries of this log were pruned: the certificate can't be drawn again from what is left",
            remedy="give a whole copy of the log",
        )
    ledger = Ledger()
    for index, entry, root in verified_shard_entries(source, report):
        if index >= told.log_size:
            break
        ledger.apply(index, entry)
        ledger.roots += root
    if ledger.size < told.log_size:
        raise CertificateMismatchError(
            f"the certificate was drawn from {told.log_size} entries, and this log has {ledger.size}",
            remedy="fetch a newer copy of the log; if there is none, the log was cut: treat it as an incident",
        )
    require_drawn_from(told, ledger)
