"""``strongroom intake show``, ``ls`` and ``verify``: what is known of deliveries. Nothing here needs a key."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import end, show, table
from strongroom.cli.public_keys import public_key
from strongroom.cli.session import json_option, read_file
from strongroom.core.canonical import Json, decode
from strongroom.core.clock import format_instant
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ExitCode, StrongroomError
from strongroom.core.signature import SignatureAlgorithm
from strongroom.intake.states import Standing, State
from strongroom.intake.verdict import MAX_VERDICT, Verdict
from strongroom.quarantine.adapters.delivery_folder import SEALED, TERMS, DeliveryFolder
from strongroom.quarantine.gate import checked, checks, listed_in, terms_of

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_MOST_LISTED = 10_000


@click.command("show")
@click.argument("delivery", type=_FOLDER)
@json_option
def show_delivery(*, delivery: Path, as_json: bool) -> None:
    """Show what the gate found of DELIVERY: its terms, each record, each file. Contents are shown by nothing."""
    folder = DeliveryFolder(delivery)
    show_standing(folder, checked(folder), as_json=as_json)


@click.command("ls")
@click.argument("folder", type=_FOLDER)
@json_option
def list_deliveries(*, folder: Path, as_json: bool) -> None:
    """List the deliveries that lie in FOLDER, and where each stands."""
    found = sorted(folder.iterdir())[:_MOST_LISTED]
    rows = [_row(DeliveryFolder(path)) for path in found if (path / TERMS).is_file()]
    data: Json = [dict(zip(("folder", "model", "state", "rule"), row, strict=True)) for row in rows]
    show(data, table(rows, ("FOLDER", "MODEL", "STATE", "RULE")), as_json=as_json)


def _row(folder: DeliveryFolder) -> tuple[str, str, str, str]:
    try:
        last = checked(folder).last
    except StrongroomError as error:
        # One that was changed must not hide the others.
        return (folder.path.name, "", f"unreadable: {error.reason}", "")
    return (folder.path.name, last.model, last.state.value, "" if last.rule is None else last.rule.value)


@click.command("verify")
@click.argument("verdict", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--publisher", required=True, help="The publishing key of who ran the gate, or a file that holds it.")
@json_option
def verify(*, verdict: Path, publisher: str, as_json: bool) -> None:
    """Check that a gate signed VERDICT, and that it says what its records say."""
    key = public_key(publisher, SignatureAlgorithm.ED25519_ML_DSA_65)
    found = Verdict.verified(Envelope.parse(read_file(verdict, most=2 * MAX_VERDICT)), key)
    word = "accepted" if found.accepted else "refused"
    rule = "" if found.rule is None else found.rule.value
    data: Json = {
        "delivery": found.delivery,
        "model": found.model,
        "artifact": None if found.artifact is None else str(found.artifact),
        "verdict": word,
        "rule": rule or None,
        "record": str(found.records[-1].digest),
    }
    text = (
        f"{word}{f' by rule `{rule}`' if rule else ''}: delivery {found.delivery} for `{found.model}`",
        f"  artifact  {found.artifact}",
        f"  record    {found.records[-1].digest}: compare it with the log",
    )
    show(data, text, as_json=as_json)


def show_standing(folder: DeliveryFolder, standing: Standing, *, as_json: bool) -> None:
    """Print where a delivery stands, and what was found."""
    show(_data(folder, standing), _text(folder, standing), as_json=as_json)


def ended(standing: Standing) -> None:
    """End the program with the code of a refusal, where the delivery was refused before."""
    if standing.last.state is State.QUARANTINED:
        end(ExitCode.TAMPERED)


def _data(folder: DeliveryFolder, standing: Standing) -> Json:
    last, found, terms = standing.last, checks(folder, standing), terms_of(folder, standing)
    files: list[Json] = []
    if last.artifact is not None:
        files = [
            {
                "name": one.name,
                "bytes": one.size,
                "sha256": one.digest.value.hex(),
                "format": found[one.name][0].value if one.name in found else None,
                "facts": found[one.name][1] if one.name in found else None,
            }
            for one in listed_in(folder, standing).files
        ]
    return {
        "delivery": last.delivery,
        "model": last.model,
        "state": last.state.value,
        "rule": None if last.rule is None else last.rule.value,
        "artifact": None if last.artifact is None else str(last.artifact),
        "record": str(last.digest),
        "terms": decode(terms.to_bytes()),
        "records": [decode(one.to_bytes()) for one in standing.records],
        "files": files,
        "sealed": str(folder.path / SEALED) if last.state is State.SEALED else None,
    }


def _text(folder: DeliveryFolder, standing: Standing) -> list[str]:
    last, found, terms = standing.last, checks(folder, standing), terms_of(folder, standing)
    lines = [f"delivery {last.delivery} for `{last.model}`: {last.state.value}"]
    lines += [] if last.rule is None else [f"refused by rule `{last.rule.value}`; its key is destroyed"]
    signer = "asked of nobody" if terms.signature is None else f"asked, bundle {terms.signature.bundle}"
    scanners = ", ".join(f"{one.name} {one.version}" for one in terms.rules.scanners) or "none"
    lines += [f"  signature  {signer}", f"  scanners   {scanners}", f"  reviews    {terms.rules.reviews}", ""]
    rows = [
        (one.state.value + (" (waived)" if one.waived else ""), format_instant(one.at), str(one.digest))
        for one in standing.records
    ]
    lines.append(table(rows, ("STATE", "AT", "RECORD")))
    if last.artifact is not None:
        files = [
            (one.name, found[one.name][0].value if one.name in found else "", str(one.size))
            for one in listed_in(folder, standing).files
        ]
        lines += ["", table(files, ("FILE", "FORMAT", "BYTES")), f"artifact {last.artifact}"]
    if last.state is State.SCANNED:
        lines.append(f"waits for reviews: strongroom intake review {folder.path}")
    return lines
