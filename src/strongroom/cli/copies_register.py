"""``strongroom copies add|retire``: what the registrar says of copies, in the register and in the log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from strongroom.cli.asking import seconds
from strongroom.cli.copies_parts import host_option, register_option, state, writing_register
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, read_file
from strongroom.client.precautions import require_no_hold
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, UsageError
from strongroom.core.ids import model_id
from strongroom.core.printable import printable
from strongroom.intake.adapters.copy_files import copy_sources
from strongroom.intake.copies.possession import files_digest
from strongroom.intake.copies.register import OUT_OF_HANDS, CopyKind, Ending, Step, Terms

_MOST_EVIDENCE: Final = 16 << 20
_ID_BYTES: Final = 16


@click.command("add")
@click.argument("place")
@click.option("--model", required=True, help="The model's name.")
@click.option("--version", type=click.IntRange(min=1), required=True, help="Its version.")
@click.option("--kind", type=click.Choice([one.value for one in CopyKind]), required=True, help="What the copy is.")
@click.option("--holder", required=True, help="Who answers for it: a person, a team, a customer.")
@click.option("--reason", required=True, help="Why it exists.")
@click.option("--until", required=True, metavar="INSTANT", help="When it must be gone, e.g. 2027-01-01T00:00:00Z.")
@click.option("--prove-every", default="30d", show_default=True, help="How long a proof is good for.")
@click.option(
    "--like",
    type=click.Path(path_type=Path, exists=True),
    help="The same files, reachable here; PLACE itself, if left out.",
)
@host_option
@register_option
@as_wallet
@passphrase_option
@json_option
def add(
    *,
    place: str,
    model: str,
    version: int,
    kind: str,
    holder: str,
    reason: str,
    until: str,
    prove_every: str,
    like: Path | None,
    host: str,
    register: Path,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Register the copy at PLACE: a path on the host, or an address. Its bytes aren't read; its files are listed."""
    here = host == os.uname().nodename and "://" not in place
    named = str(Path(place).resolve()) if here else place
    terms = Terms(
        model=model_id(model),
        version=version,
        kind=CopyKind(kind),
        host=host,
        place=named,
        holder=holder,
        reason=reason,
        expires=parse_instant(until),
        prove_seconds=seconds(prove_every),
        files=files_digest(copy_sources(like or Path(named))),
    )
    with writing_register(register, wallet, passphrase_fd) as (writing, person):
        now, known = SystemClock().now(), writing.register
        if terms.expires <= now:
            raise UsageError(f"`--until {until}` is past", remedy="name a time to come")
        if (twin := known.covering(host, named, terms.model, terms.kind)) is not None:
            raise ConflictError(f"that place is copy `{twin.id}` already", remedy="retire it first")
        said = known.next(os.urandom(_ID_BYTES).hex(), Step.ADDED, now, terms=terms)
        state(writing, person, said)
    data: Json = {"copy": said.copy, "files": str(terms.files), "head": str(known.head)}
    show(data, f"copy {said.copy}: to be proved again by {format_instant(now + terms.prove_seconds)}", as_json=as_json)


@click.command("retire")
@click.argument("copy")
@click.option(
    "--how", type=click.Choice([one.value for one in Ending]), required=True, help="What became of it, as you know it."
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that shows it, e.g. a certificate of destruction; the statement names its digest.",
)
@register_option
@as_wallet
@passphrase_option
@json_option
def retire(
    *,
    copy: str,
    how: str,
    evidence: Path | None,
    register: Path,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Say what became of COPY. A copy on this machine that is said to be gone must be gone.

    While a hold stands on its model, none is destroyed or given back: only `lost` can be said.
    """
    ending = Ending(how)
    shown = None if evidence is None else Digest.of(read_file(evidence, most=_MOST_EVIDENCE))
    if shown is None and ending in OUT_OF_HANDS:
        raise UsageError(f"`{how}` is a claim that something must show", remedy="give --evidence FILE")
    with writing_register(register, wallet, passphrase_fd) as (writing, person):
        known = writing.register
        terms = known.one(copy).terms
        if ending in OUT_OF_HANDS:
            # Asked first: what the log then refuses wouldn't bring the copy back.
            require_no_hold(person.refresh(), terms.model)
        here = terms.host == os.uname().nodename and "://" not in terms.place
        if ending in {Ending.DESTROYED, Ending.RETURNED} and here and os.path.lexists(terms.place):
            raise ConflictError(f"`{printable(terms.place)}` is still there", remedy="destroy it first")
        state(writing, person, known.next(copy, Step.RETIRED, SystemClock().now(), ending=ending, evidence=shown))
    data: Json = {"copy": copy, "ending": ending.value, "head": str(known.head)}
    show(data, f"copy {copy}: {ending.value}", as_json=as_json)
