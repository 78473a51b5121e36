"""``strongroom assess plan``: the security plan, as data that people edit, sign and compare with reality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.assurance.plan import MAX_PLAN, PLAN_SIGNERS, PLAN_TYPE, SecurityPlan, draft
from strongroom.cli.assess_files import read_envelope
from strongroom.cli.assess_show import against_plan
from strongroom.cli.files import require_new
from strongroom.cli.output import show, table
from strongroom.cli.session import (
    as_wallet,
    json_option,
    open_wallet,
    passphrase_option,
    read_file,
    write_file,
    yes_option,
)
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.envelope import Envelope
from strongroom.core.ids import person_id
from strongroom.core.printable import printable
from strongroom.framework.catalogue import load

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_from: Final = click.option("--from", "assessment", type=_FILE, required=True, help="An assessment's JSON.")


@click.group("plan")
def plan() -> None:
    """The security plan: what is protected from whom, up to which level, who does what until when."""


@plan.command("draft")
@click.argument("file", type=_FILE)
@_from
@click.option("--owner", required=True, help="Who answers for what has no owner yet.")
@click.option("--before", type=_FILE, help="The signed plan before: what it says is kept.")
@json_option
def draft_plan(file: Path, assessment: Path, owner: str, before: Path | None, *, as_json: bool) -> None:
    """Write the next plan to FILE: each gap with an owner, an effort and a date. Edit it, then sign it."""
    require_new(file)
    made, catalogue = _assessment(assessment), load()
    old = None if before is None else SecurityPlan.parse(read_envelope(before).payload)
    new = draft(
        made.genesis,
        made.goal,
        made.models,
        made.gaps(catalogue),
        catalogue,
        owner=person_id(owner),
        now=SystemClock().now(),
        before=old,
    )
    write_file(file, json.dumps(parse(new.to_bytes()), indent=2, ensure_ascii=False).encode() + b"\n")
    told = f"{file}: {len(new.tasks)} tasks up to {new.goal}; edit it, then: strongroom assess plan sign {file}"
    show({"file": str(file), "tasks": len(new.tasks), "serial": new.serial}, told, as_json=as_json)


@plan.command("sign")
@click.argument("file", type=_FILE)
@as_wallet
@passphrase_option
@yes_option
@json_option
def sign_plan(file: Path, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Show the plan in FILE and sign it, into FILE with the ending `.signed.json`. Two attestors sign."""
    payload = encode(parse(read_file(file, most=MAX_PLAN), max_bytes=MAX_PLAN))
    read, target = SecurityPlan.parse(payload), file.with_suffix(".signed.json")
    envelope = Envelope(PLAN_TYPE, payload, ())
    if target.exists() and read_envelope(target).payload == payload:
        envelope = read_envelope(target)
    holder = open_wallet(wallet, passphrase_fd)
    click.echo("\n".join(_lines(read)), err=as_json)
    if not yes:
        click.confirm(f"Sign this as `{holder.identity.person}`?", abort=True, err=True)
    signed = envelope.signed_by(holder.signer())
    write_file(target, signed.to_bytes())
    data: dict[str, Json] = {"file": str(target), "digest": str(signed.digest), "signatures": len(signed.signatures)}
    show(data, f"{target}: {len(signed.signatures)} signatures of {PLAN_SIGNERS}", as_json=as_json)


@plan.command("show")
@click.argument("file", type=_FILE)
@click.option("--from", "assessment", type=_FILE, help="An assessment's JSON: say how plan and reality differ.")
@json_option
def show_plan(file: Path, assessment: Path | None, *, as_json: bool) -> None:
    """Show the signed plan in FILE, and how it differs from an assessment. Signatures are checked by `assess`."""
    read = SecurityPlan.parse(read_envelope(file).payload)
    made = None if assessment is None else _assessment(assessment)
    found = () if made is None else against_plan(read, made, load())
    data: dict[str, Json] = {"plan": parse(read.to_bytes()), "differences": [*found]}
    show(data, [*_lines(read), *(f"DIFFERS  {text}" for text in found)], as_json=as_json)


def _assessment(path: Path) -> Assessment:
    return Assessment.parse(read_file(path, most=MAX_ASSESSMENT))


def _lines(read: SecurityPlan) -> list[str]:
    rows = [
        (task.measure, task.owner, format_instant(task.due)[:10], str(task.effort), printable(task.note))
        for task in sorted(read.tasks, key=lambda task: (task.due, task.measure))
    ]
    return [
        f"plan {read.serial}, reviewed {format_instant(read.reviewed)}, up to {read.goal}",
        *(f"protects  {asset.model}: {printable(asset.why)}" for asset in read.assets),
        *(f"from      {actor.capacity}: {printable(actor.who)}" for actor in read.actors),
        *(table(rows, ("measure", "owner", "due", "effort", "what")).splitlines() if rows else ()),
    ]
