"""``strongroom assess report``: reports of an assessment that was kept, made again anywhere, and signed if wanted."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.assurance.reports.forms import FORMS
from strongroom.assurance.reports.provenance import sign_document
from strongroom.cli.assess_reports import wanted, write_reports
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, open_wallet, passphrase_option, read_file, write_file
from strongroom.framework.catalogue import load


@click.command("report")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", required=True, help=f"Any of {', '.join(FORMS)}, with commas.")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path())
@click.option("--sign", "signed", is_flag=True, help="Sign each OSCAL document with the wallet's Ed25519 key.")
@as_wallet
@passphrase_option
@json_option
def report(
    file: Path, out: str, folder: Path, wallet: Path, passphrase_fd: int | None, *, signed: bool, as_json: bool
) -> None:
    """Write reports of the assessment in FILE. One that says more than its observations carry is refused.

    A signature lies beside its document, as NAME.dsse.json: DSSE over an in-toto statement.
    """
    names, catalogue = wanted(out), load()
    made = Assessment.parse(read_file(file, most=MAX_ASSESSMENT))
    made.check(catalogue)
    written = write_reports(names, made, catalogue, folder)
    if signed:
        signer = open_wallet(wallet, passphrase_fd).signer()
        for path in [path for path in written if path.name.startswith("oscal-")]:
            target = path.with_suffix(".dsse.json")
            write_file(target, sign_document(path.name, path.read_bytes(), signer).to_bytes())
            written.append(target)
    show({"written": [str(path) for path in written]}, [str(path) for path in written], as_json=as_json)
