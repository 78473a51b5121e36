"""``strongroom egress``: how much may leave a model, and how long its theft through its own answers takes. Offline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import click

from strongroom.cli.egress_model import Count, ModelFacts, model_facts
from strongroom.cli.files import json_option, read_file
from strongroom.cli.lazy import LazyGroup
from strongroom.cli.output import end, show, table
from strongroom.client.render import lasting
from strongroom.core.canonical import Json, parse
from strongroom.core.errors import ExitCode, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.egress.bits import MILLI
from strongroom.egress.bound import SMALL_TOKENS, TheftBound, theft_bound
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import BoundBrokenError
from strongroom.egress.policy import DEFAULT_MILLIBITS, MAX_POLICY, STRICT_MILLIBITS, EgressPolicy

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_UNNAMED: Final = ModelId("unnamed")


class EgressCommands(LazyGroup):
    """What is offline is imported without what talks to a deployment."""

    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "bound": ("egress", "bound", "How long it takes to steal a model through its answers."),
        "policy": ("egress", "policy", "An egress policy, as JSON to start from."),
        "propose": ("egress_deployment", "propose", "Write the next egress policies, for the root quorum to sign."),
        "show": ("egress_deployment", "show_model", "A model's policy in force, and how much of its life is spent."),
    }


@click.command("egress", cls=EgressCommands)
def egress() -> None:
    """See what may leave a model: its policy, and how long its theft takes."""


@click.command("policy")
@click.option("--model", required=True, help="The model's name.")
@click.option("--parameters", required=True, type=Count(), help="How many: 8B, 1.5T, ...")
@click.option("--vocabulary", required=True, type=Count(), help="How many tokens there are.")
@click.option("--strict", is_flag=True, help="Count 0.16 bits a weight (published compression) and not 0.4 (RAND).")
def policy(model: str, parameters: int, vocabulary: int, *, strict: bool) -> None:
    """Print an egress policy, as JSON to start from. Every rule is there and none has a default."""
    millibits = STRICT_MILLIBITS if strict else DEFAULT_MILLIBITS
    made = EgressPolicy.template(
        model_id(model), parameters=parameters, vocabulary=vocabulary, millibits_per_weight=millibits
    )
    show(made.to_json(), "", as_json=True)


@click.command("bound")
@click.argument("model", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--parameters", type=Count(), help="How many, without MODEL: 8B, 1.5T, ...")
@click.option("--vocabulary", type=Count(), help="How many tokens there are; MODEL's config.json says it too.")
@click.option("--stored-bits", type=click.IntRange(1, 64), help="Bits of a stored weight, for a sealed MODEL: 16, ...")
@click.option("--policy", "file", type=_FILE, help="The egress policy; the template, if left out.")
@click.option("--budget", type=Count(), help="Bits a day to try in place of the policy's.")
@click.option("--spent", type=click.IntRange(min=0), default=0, help="The odometer's total so far, in bits.")
@json_option
def bound(
    model: Path | None,
    parameters: int | None,
    vocabulary: int | None,
    stored_bits: int | None,
    file: Path | None,
    budget: int | None,
    spent: int,
    *,
    as_json: bool,
) -> None:
    """Print how long it takes to steal a model through its answers: MODEL, or one of so many --parameters.

    MODEL is a safetensors file, a folder of them, or a sealed directory. Ends with code 3 if the policy is broken.
    """
    if model is not None and parameters is not None:
        raise UsageError("MODEL and --parameters both say how large it is", remedy="give one of them")
    facts = model_facts(model, stored_bits) if model else None
    if parameters is not None:
        facts = ModelFacts(parameters=parameters, vocabulary=vocabulary)
    elif facts is not None and vocabulary is not None:
        facts = replace(facts, vocabulary=vocabulary)
    rules = _template(facts) if file is None else _read(file, facts)
    if budget is not None:
        least = min(rules.principal_day_bits, budget)
        rules = replace(rules, model_day_bits=budget, fleet_day_bits=budget, principal_day_bits=least)
    found = theft_bound(rules, spent=spent)
    show(_json(found), _text(found), as_json=as_json)
    if not found.holds:
        end(ExitCode.DENIED)


def _template(facts: ModelFacts | None) -> EgressPolicy:
    if facts is None or facts.vocabulary is None:
        raise UsageError(
            "the bound needs the number of parameters and of tokens",
            remedy="give a MODEL with its config.json, --parameters and --vocabulary, or --policy",
        )
    return EgressPolicy.template(_UNNAMED, parameters=facts.parameters, vocabulary=facts.vocabulary)


def _read(file: Path, facts: ModelFacts | None) -> EgressPolicy:
    with Fields(parse(read_file(file, most=MAX_POLICY), max_bytes=MAX_POLICY), "policy") as fields:
        rules = EgressPolicy.read(fields)
    if facts is not None and facts.parameters < rules.parameters:
        raise BoundBrokenError(
            f"the policy counts {rules.parameters} parameters; the model has {facts.parameters}",
            remedy="a model that is counted too large gets too large a budget: correct the policy",
        )
    if facts is not None and facts.vocabulary is not None and facts.vocabulary > rules.vocabulary:
        raise BoundBrokenError(
            f"the policy counts {rules.vocabulary} tokens; the model has {facts.vocabulary}",
            remedy="each of its tokens would be charged too little: correct the policy",
        )
    return rules


def _json(found: TheftBound) -> Json:
    rules = found.policy
    return {
        "parameters": rules.parameters,
        "vocabulary": rules.vocabulary,
        "token_millibits": rules.token_millibits,
        "effective_millibits_per_weight": rules.effective_millibits_per_weight,
        "min_days_to_steal": rules.min_days_to_steal,
        "day_bits": rules.model_day_bits,
        "tokens_per_day": found.tokens_per_day,
        "lifetime_bits": rules.lifetime_bits,
        "spent": found.spent,
        "seconds_to_steal": found.seconds,
        "holds": found.holds,
        "too_small": found.small,
        "rows": [
            {
                "millibits_per_weight": row.millibits,
                "size": row.size,
                "seconds": row.seconds,
                "seconds_left": row.seconds_left,
                "before_stop_permille": row.before_stop_permille,
            }
            for row in found.rows
        ],
    }


def _text(found: TheftBound) -> Iterable[str]:
    rules = found.policy
    per_second = found.tokens_per_day // DAY
    yield f"model    {rules.parameters:,} parameters; {rules.vocabulary:,} tokens, {bits(rules.token_millibits)} each"
    yield (
        f"policy   counts {bits(rules.effective_millibits_per_weight)} a weight, demands {rules.min_days_to_steal} days"
    )
    yield (
        f"budget   {rules.model_day_bits:,} bits a day ({volume(rules.model_day_bits)}): "
        f"{found.tokens_per_day:,} tokens, {per_second:,} a second"
    )
    yield f"stop     at {rules.lifetime_bits:,} bits ({volume(rules.lifetime_bits)}) in the model's life"
    yield f"spent    {found.spent:,} bits"
    yield ""
    rows = [
        (
            bits(row.millibits),
            volume(row.size),
            lasting(row.seconds),
            lasting(row.seconds_left),
            f"{row.before_stop_permille // 10}.{row.before_stop_permille % 10} %",
        )
        for row in found.rows
    ]
    yield table(rows, ("a weight", "to move", "stolen in", "from now on", "out at the stop"))
    yield ""
    yield _verdict(found)
    if found.small:
        yield (
            f"small    a cap that holds serves fewer than {SMALL_TOKENS:,} tokens a day: caps alone can't protect\n"
            "         this model. Keep those who may ask few and known, replay answers, or reckon with its theft."
        )


def _verdict(found: TheftBound) -> str:
    days = found.policy.min_days_to_steal
    if found.holds:
        return f"verdict  holds: at the size that the policy counts, theft takes {lasting(found.seconds)}"
    most = found.policy.effective_size // (days + 1)
    return (
        f"verdict  REFUSED: theft takes {lasting(found.seconds)}, and the policy demands {days} days.\n"
        f"         At most {most:,} bits a day would do."
    )


def bits(millibits: int) -> str:
    """Write millibits as bits."""
    text = f"{millibits // MILLI}.{millibits % MILLI:03}".rstrip("0").rstrip(".")
    return f"{text} bit" if millibits == MILLI else f"{text} bits"


def volume(amount: int) -> str:
    """Write bits as bytes, rounded down to a tenth of the largest decimal unit."""
    size = amount // 8
    power = min((len(str(size)) - 1) // 3, 5)
    tenths = size * 10 // 1000**power
    unit = ("B", "kB", "MB", "GB", "TB", "PB")[power]
    return f"{tenths // 10}.{tenths % 10} {unit}" if power else f"{size} {unit}"
