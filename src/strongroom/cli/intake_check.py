"""``strongroom intake check``: judge a folder where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strongroom.cli.intake_trust import Asked, leave_out_option, signature_options
from strongroom.cli.output import show, table
from strongroom.cli.session import json_option
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.intake.adapters.delivered_folder import open_delivery
from strongroom.intake.adapters.trust import verify_signature
from strongroom.intake.formats.identify import FileVerdict
from strongroom.intake.signatures import SignedBy
from strongroom.intake.verdict import FileList
from strongroom.quarantine.adapters.reading import judge_walled


@click.command("check")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@signature_options
@leave_out_option
@json_option
def check(*, folder: Path, leave_out: tuple[str, ...], as_json: bool, **asked: Any) -> None:
    """Judge FOLDER where it lies: names, signature, and every file's format. Nothing is loaded, moved or changed."""
    signature = Asked(**asked)
    bundle = signature.bundle()
    with open_delivery(folder, leave_out=leave_out) as delivered:
        listed = delivered.listed()
        signed = None
        if bundle is not None:
            signed = verify_signature(bundle, listed, signature.trust(), now=SystemClock().now())
        found = judge_walled(delivered.sources)
        for one in delivered.files:
            one.check_unchanged()
    show(_data(listed, found, signed), _text(listed, found, signed), as_json=as_json)


def _data(listed: FileList, found: dict[str, FileVerdict], signed: SignedBy | None) -> Json:
    files: list[Json] = [
        {
            "name": one.name,
            "bytes": one.size,
            "sha256": one.digest.value.hex(),
            "format": found[one.name].format.value,
            "facts": found[one.name].facts,
        }
        for one in listed.files
    ]
    by: Json = None if signed is None else {"mode": signed.mode.value, "signer": signed.signer}
    return {"artifact": str(listed.digest), "signed": by, "files": files}


def _text(listed: FileList, found: dict[str, FileVerdict], signed: SignedBy | None) -> list[str]:
    rows = [(one.name, found[one.name].format.value, str(one.size)) for one in listed.files]
    by = "signed by nobody who was asked for" if signed is None else f"signed by {signed.signer} ({signed.mode.value})"
    return [table(rows, ("FILE", "FORMAT", "BYTES")), "", f"every file is let in; {by}", f"artifact {listed.digest}"]
