"""``strongroom egress propose`` and ``show``: the egress policies of a deployment, and how far its odometers stand."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.cli.documents import read_envelope
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, open_wallet, read_file, session, write_file
from strongroom.client.odometer import proven_reading
from strongroom.client.told import OdometerTold
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import model_id
from strongroom.egress.bits import MILLI
from strongroom.egress.bound import theft_bound
from strongroom.egress.buckets import DAY
from strongroom.egress.odometer import OdometerEntry
from strongroom.egress.policies import EgressPolicies, changes
from strongroom.egress.policy import MAX_POLICY, EgressPolicy
from strongroom.release.documents import DocumentKind

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_NEW_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command("propose")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--out", type=_NEW_FILE, required=True, help="File to write.")
@click.option("--remove", "removed", multiple=True, help="A model that isn't to be served any more.")
@click.option("--first", is_flag=True, help="Nothing is in force yet: begin with epoch 1.")
@click.option("--previous", type=_FILE, help="The signed policies to follow, where the deployment is out of reach.")
@as_wallet
@json_option
def propose(
    files: tuple[Path, ...],
    out: Path,
    removed: tuple[str, ...],
    previous: Path | None,
    wallet: Path,
    *,
    first: bool,
    as_json: bool,
) -> None:
    """Write the next egress policies, for the root quorum to sign: those in force, and those of FILES in their place.

    Each of FILES holds one model's policy, as `strongroom egress policy` prints it. What lets more out than before is
    marked LOOSER: at least two root holders sign it, and it waits where changes wait.
    """
    before = None if first else _before(wallet, previous)
    if before is None and not first:
        raise UsageError("no egress policies are in force", remedy="begin with epoch 1: --first")
    gone = {model_id(name) for name in removed}
    unknown = gone - set(before.by_model if before else ())
    if unknown:
        raise UsageError(f"no model `{min(unknown)}` is in the egress policies in force")
    added = tuple(_read(path) for path in files)
    if not added and not gone:
        raise UsageError("there is nothing to change", remedy="name a policy's file, or --remove a model")
    genesis = open_wallet(wallet).genesis().digest
    base = before or EgressPolicies(genesis=genesis, epoch=1, predecessor=None, policies=())
    made = EgressPolicies(
        genesis=genesis,
        epoch=before.epoch + 1 if before else 1,
        predecessor=Digest.of(before.to_bytes()) if before else None,
        policies=tuple(one for one in base.merged(added) if one.model not in gone),
    )
    made.check()
    write_file(out, made.to_bytes())
    found = changes(base.by_model, made.by_model)
    told: Json = {
        "file": str(out),
        "epoch": made.epoch,
        "models": [one.model for one in made.policies],
        "changes": [{"looser": one.looser, "text": one.text} for one in found],
    }
    lines = [f"{one.word}  {one.text}" for one in found]
    show(told, (*lines, f"{out}: epoch {made.epoch}; next: strongroom sign egress {out}"), as_json=as_json)


@click.command("show")
@click.argument("model")
@as_wallet
@json_option
def show_model(model: str, wallet: Path, *, as_json: bool) -> None:
    """Show MODEL's egress policy in force, and how much of its life and of its day the log says is spent.

    The policy is checked like every document, the odometer's entry by the keeper's signature and its place in the log.
    That there is no newer entry is the server's word.
    """
    name = model_id(model)
    with session(wallet) as person:
        trust = person.refresh()
        rules = trust.egress_of(name)
        told = person.api.odometer(name)
        entry = proven_reading(person, trust, name, told)
    show(_json(rules, told, entry), _lines(rules, told, entry), as_json=as_json)


def _before(wallet: Path, file: Path | None) -> EgressPolicies | None:
    if file is not None:
        return EgressPolicies.parse(read_envelope(file, DocumentKind.EGRESS).payload)
    with session(wallet) as person:
        return person.refresh().egress


def _read(path: Path) -> EgressPolicy:
    with Fields(parse(read_file(path, most=MAX_POLICY), max_bytes=MAX_POLICY), path.name) as fields:
        return EgressPolicy.read(fields)


def _json(rules: EgressPolicy, told: OdometerTold, entry: OdometerEntry | None) -> Json:
    total = told.total
    bound = theft_bound(rules, spent=total)
    return {
        "policy": rules.to_json(),
        "digest": str(rules.digest),
        "frozen": told.frozen,
        "log_index": told.index,
        "run": entry.run if entry else 0,
        "at": format_instant(entry.at) if entry else None,
        "spent": total,
        "tokens": entry.tokens if entry else 0,
        "verified": entry.verified if entry else 0,
        "recent": told.recent,
        "lifetime_bits": rules.lifetime_bits,
        "life_left": max(0, rules.lifetime_bits - total),
        "tokens_left": max(0, rules.lifetime_bits - total) * MILLI // rules.token_millibits,
        "tokens_per_day": bound.tokens_per_day,
        "warnings": list(_warnings(rules, told, total)),
    }


def _lines(rules: EgressPolicy, told: OdometerTold, entry: OdometerEntry | None) -> tuple[str, ...]:
    total = told.total
    left = max(0, rules.lifetime_bits - total)
    share = total * MILLI // rules.lifetime_bits if rules.lifetime_bits else MILLI
    where = "nothing is in the log yet"
    if entry is not None:
        where = f"log entry {told.index}, {format_instant(entry.at)}, run {entry.run}"
    bound = theft_bound(rules, spent=total)
    return (
        f"model    {rules.model}{', FROZEN' if told.frozen else ''}; policy {rules.digest}",
        f"life     {total:,} of {rules.lifetime_bits:,} bits are spent ({share // 10}.{share % 10} %): {where}",
        *_tokens(rules, entry),
        f"left     {left:,} bits, {left * MILLI // rules.token_millibits:,} tokens",
        f"day      {rules.model_day_bits:,} bits, {bound.tokens_per_day:,} tokens; in the last {told.recent:,} bits",
        f"theft    in {bound.seconds // DAY:,} days at the size that is counted; demanded: {rules.min_days_to_steal:,}",
        *(f"warning  {text}" for text in _warnings(rules, told, total)),
    )


def _tokens(rules: EgressPolicy, entry: OdometerEntry | None) -> tuple[str, ...]:
    if entry is None:
        return ()
    who = f"verified by `{rules.verified_by.image}`" if rules.verified_by else "verified"
    rest = entry.tokens - entry.verified
    return (f"tokens   {entry.tokens:,} in this run, by its gateway: {entry.verified:,} {who}, {rest:,} not",)


def _warnings(rules: EgressPolicy, told: OdometerTold, total: int) -> tuple[str, ...]:
    passed = [mark for mark in rules.warn_permille if total * MILLI >= mark * rules.lifetime_bits]
    found = []
    if told.frozen:
        found.append("the model is frozen: nothing leaves it until its quorum resumes it")
    if passed:
        found.append(f"{passed[-1]} of 1,000 of the model's life are passed: see who had what")
    if rules.verified_by is not None and rules.residual_millibits_per_token < rules.token_millibits:
        times = rules.token_millibits // rules.residual_millibits_per_token
        found.append(
            f"a gateway that lies about what was verified gets {times:,} times as many tokens out for its bits"
        )
    if theft_bound(rules).small:
        found.append("a cap that holds serves less than one busy stream: caps alone can't protect this model")
    return tuple(found)
