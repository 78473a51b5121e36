"""``strongroom policy``: drafts of the release policy: written, tested, explained and compared before anybody signs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from strongroom.access.cases import CaseResult, read_cases, run_case
from strongroom.access.engine import CedarEngine
from strongroom.access.policy import (
    HEARTBEAT_SECONDS,
    WITNESS_SECONDS,
    DeadMan,
    LevelAge,
    ModelTerms,
    Policy,
    Weights,
    Witnesses,
)
from strongroom.access.request import Action
from strongroom.access.self_test import Vector, failures, safe_engine, vectors
from strongroom.attestation.isolation import IsolationClass
from strongroom.audit.witness_policy import MAX_POLICY, WitnessPolicy
from strongroom.cli import comparing
from strongroom.cli.drafts import read_document, read_draft
from strongroom.cli.files import require_new
from strongroom.cli.output import end, show, table
from strongroom.cli.session import as_wallet, json_option, open_wallet, read_file, session, write_file
from strongroom.client.decisions import MOST, kept_decisions, to_file
from strongroom.client.default_policy import default_policy
from strongroom.client.documents import summary
from strongroom.client.policy_words import explained
from strongroom.core.canonical import Json, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD
from strongroom.core.errors import ConflictError, ExitCode, UsageError
from strongroom.core.ids import model_id, person_id
from strongroom.framework.levels import SecurityLevel
from strongroom.release.documents import DocumentKind, isolation_rank

_DRAFT: Final = click.Path(path_type=Path, dir_okay=False)
_LEVEL: Final = click.Choice([level.value for level in SecurityLevel])
_COUNT: Final = click.IntRange(1, MOST)


@click.group("policy")
def policy() -> None:
    """Draft, test, explain and compare the release policy; the root quorum signs it."""


# --- writing ----------------------------------------------------------------------------------------------------------


@policy.command("new")
@click.argument("file", type=_DRAFT)
@click.option("--next", "following", is_flag=True, help="Begin with the policy in force.")
@as_wallet
@json_option
def new(file: Path, wallet: Path, *, following: bool, as_json: bool) -> None:
    """Begin a draft in FILE: the default policy, or the successor of the one in force."""
    require_new(file)
    if not following:
        _save(file, default_policy(open_wallet(wallet).genesis().digest), as_json=as_json)
        return
    with session(wallet) as person:
        trust = person.refresh()
    if trust.policy is None:
        raise UsageError("no policy is in force", remedy="leave out --next")
    before = trust.digests[DocumentKind.POLICY]
    _save(file, replace(trust.policy, epoch=trust.policy.epoch + 1, predecessor=before), as_json=as_json)


@policy.command("model")
@click.argument("file", type=_DRAFT)
@click.option("--add", "name", help="The model that is added or changed.")
@click.option("--remove", "removed", help="The model that is taken out; nothing of it is released then.")
@click.option("--level", type=_LEVEL, help="Its security level.")
@click.option(
    "--least-isolation",
    type=click.Choice([one.value for one in IsolationClass]),
    help="The weakest isolation that may hold it.",
)
@click.option(
    "--weights",
    type=click.Choice([one.value for one in Weights]),
    default=Weights.PRODUCTION.value,
    show_default=True,
    help="`test`: worth nothing to anybody, so that simulated evidence will do, at any level.",
)
@click.option("--owner", default="", help="The organisation unit that owns it.")
@click.option("--collection", default="", help="A set of models that Cedar policies can speak of.")
@click.option("--export", "exported", is_flag=True, help="Its data key may be handed to a person, by the export rule.")
@click.option("--irrecoverable", is_flag=True, help="No custodian can ever open it: lost with the key service.")
@click.option("--copy-of", help="The model whose weights it bears with a recipient's mark (`reseal --for`).")
@json_option
def model(
    file: Path,
    name: str | None,
    removed: str | None,
    level: str | None,
    least_isolation: str | None,
    weights: str,
    owner: str,
    collection: str,
    *,
    copy_of: str | None,
    exported: bool,
    irrecoverable: bool,
    as_json: bool,
) -> None:
    """Say what a model demands."""
    draft = _load(file)
    gone = model_id(name or removed or "")
    kept = tuple(terms for terms in draft.models if terms.model != gone)
    if removed is not None:
        if name is not None or len(kept) == len(draft.models):
            raise UsageError(f"the draft has no model `{gone}` to remove, or --add was given too")
        _save(file, replace(draft, models=kept), as_json=as_json)
        return
    if level is None or least_isolation is None:
        raise UsageError("a model needs --level and --least-isolation")
    terms = ModelTerms(
        model=gone,
        level=SecurityLevel(level),
        least_isolation=least_isolation,
        weights=Weights(weights),
        owner=owner,
        collection=collection,
        export=exported,
        recoverable=not irrecoverable,
        copy_of=model_id(copy_of) if copy_of else None,
    )
    _save(file, replace(draft, models=(*kept, terms)), as_json=as_json)


@policy.command("witnesses")
@click.argument("file", type=_DRAFT)
@click.option("--policy", "text", type=_DRAFT, help="A C2SP trust policy: witnesses, groups and their quorum.")
@click.option("--remove", "removed", is_flag=True, help="Nobody else has to have seen the log any more.")
@click.option(
    "--max-age",
    type=click.IntRange(10, 86400),
    default=WITNESS_SECONDS,
    show_default=True,
    help="Seconds for which the quorum's word on the log counts.",
)
@click.option("--at", "levels", type=(_LEVEL, int), multiple=True, metavar="LEVEL SECONDS", help="Less at a level.")
@json_option
def witnesses(
    file: Path,
    text: Path | None,
    max_age: int,
    levels: tuple[tuple[str, int], ...],
    *,
    removed: bool,
    as_json: bool,
) -> None:
    """Say which witnesses must have seen the log lately before anything is released."""
    draft = _load(file)
    if removed is not (text is None):
        raise UsageError("give --policy or --remove")
    section = None
    if text is not None:
        data = read_file(text, most=MAX_POLICY)
        WitnessPolicy.parse(data)
        ages = tuple(LevelAge(level=SecurityLevel(level), max_age_seconds=seconds) for level, seconds in levels)
        section = Witnesses(policy=_text(data), max_age_seconds=max_age, levels=ages)
    _save(file, replace(draft, witnesses=section), as_json=as_json)


@policy.command("dead-man")
@click.argument("file", type=_DRAFT)
@click.option("--responder", "names", multiple=True, help="Who must have been heard; each of several.")
@click.option("--remove", "removed", is_flag=True, help="Nobody has to be heard any more.")
@click.option(
    "--max-age",
    type=click.IntRange(10, 3600),
    default=HEARTBEAT_SECONDS,
    show_default=True,
    help="Seconds for which a heartbeat counts.",
)
@json_option
def dead_man(file: Path, names: tuple[str, ...], max_age: int, *, removed: bool, as_json: bool) -> None:
    """Say which responders must have been heard lately before anything is released, or a lease is prolonged."""
    draft = _load(file)
    if removed is bool(names):
        raise UsageError("give --responder or --remove")
    section = DeadMan(responders=tuple(map(person_id, names)), max_age_seconds=max_age) if names else None
    _save(file, replace(draft, dead_man=section), as_json=as_json)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("the witness policy must be UTF-8 to stand in a signed document") from None


# --- reading ----------------------------------------------------------------------------------------------------------


@policy.command("show")
@click.argument("file", type=_DRAFT, required=False)
@as_wallet
@json_option
def show_policy(file: Path | None, wallet: Path, *, as_json: bool) -> None:
    """Show a draft or a signed policy, or without FILE the one in force."""
    shown = _named(file, wallet)
    show(parse(shown.to_bytes()), summary(DocumentKind.POLICY, shown), as_json=as_json)


@policy.command("explain")
@click.argument("file", type=_DRAFT, required=False)
@click.option("--action", type=click.Choice([action.value for action in Action]), help="Only this action.")
@click.option("--level", type=_LEVEL, help="Only this level.")
@as_wallet
@json_option
def explain(file: Path | None, action: str | None, level: str | None, wallet: Path, *, as_json: bool) -> None:
    """Say in words who may do what: by FILE, or without it by the policy in force."""
    shown = _named(file, wallet)
    engine = CedarEngine(shown)
    actions = [Action(action)] if action else list(Action)
    levels = [SecurityLevel(level)] if level else list(SecurityLevel)
    told = {(one, at): explained(shown, engine, one, at) for one in actions for at in levels}
    data: list[Json] = [{"action": one.value, "level": at.value, "text": [*text]} for (one, at), text in told.items()]
    show({"epoch": shown.epoch, "explained": data}, [line for text in told.values() for line in text], as_json=as_json)


# --- trying -----------------------------------------------------------------------------------------------------------


@policy.command("test")
@click.argument("file", type=_DRAFT)
@click.option("--cases", type=_DRAFT, help="Your own cases, in JSON.")
@json_option
def test(file: Path, cases: Path | None, *, as_json: bool) -> None:
    """Check FILE against what every policy must allow and deny, and against your own cases.

    Ends with code 3 when something came out otherwise than it must.
    """
    draft = _shown(file)
    engine = CedarEngine(draft)
    asked = len(tuple(vectors(draft)))
    failed = tuple(failures(draft, engine))
    read = () if cases is None else read_cases(parse(read_file(cases, most=MAX_PAYLOAD), max_bytes=MAX_PAYLOAD))
    results = tuple(run_case(case, draft, engine) for case in read)
    bad = [result for result in results if not result.passed]
    data: Json = {
        "vectors": asked,
        "failed": [{"name": one.name, "must": "allow" if one.allow else "deny"} for one in failed],
        "cases": [_case_json(result) for result in results],
        "ok": not failed and not bad,
    }
    text = [
        f"{asked - len(failed)} of {asked} vectors that every policy must pass",
        *(_vector_text(one) for one in failed),
        *_cases_text(results),
    ]
    show(data, text, as_json=as_json)
    if failed or bad:
        end(ExitCode.DENIED)


@policy.command("diff")
@click.argument("file", type=_DRAFT)
@click.option("--decisions", type=_DRAFT, help="Decisions that an auditor wrote to a file, where you may see none.")
@click.option("--last", type=_COUNT, default=comparing.LAST, show_default=True, help="How many decisions to try.")
@click.option("--fail-on-looser", is_flag=True, help="End with code 3 unless nothing can be looser.")
@as_wallet
@json_option
def diff(file: Path, decisions: Path | None, last: int, wallet: Path, *, fail_on_looser: bool, as_json: bool) -> None:
    """Compare FILE with the policy in force, and say what it would have done to the last recorded decisions.

    Decisions are made again on the facts of their day, and only those count whose digest the log holds.
    """
    draft = _shown(file)
    with session(wallet) as person:
        compared = comparing.compare(person, person.refresh(), draft, decisions, last)
    show(comparing.to_json(compared), comparing.lines(compared), as_json=as_json)
    if fail_on_looser and compared.looser:
        end(ExitCode.DENIED)


@policy.command("decisions")
@click.option("--out", "file", type=_DRAFT, required=True, help="The file to write; others can't read it.")
@click.option("--last", type=_COUNT, default=comparing.LAST, show_default=True, help="How many.")
@as_wallet
@json_option
def decisions(file: Path, last: int, wallet: Path, *, as_json: bool) -> None:
    """Write the last recorded decisions to a file, for a root holder to try a draft on. For auditors.

    They say how people are vetted: hand the file to root holders alone. It can't be altered unseen.
    """
    with session(wallet) as person:
        records = kept_decisions(person.api, last)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConflictError(f"`{file}` is there already", remedy="choose another name") from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(to_file(records))
    fewer = len(records) < last
    show(
        {"file": str(file), "decisions": len(records), "all_kept": fewer},
        f"{file}: {len(records)} decisions{', and no older one is kept' if fewer else ''}",
        as_json=as_json,
    )


def _vector_text(one: Vector) -> str:
    return f"  FAIL  must {'be possible, and is not' if one.allow else 'be denied, and is allowed'}: {one.name}"


def _cases_text(results: tuple[CaseResult, ...]) -> tuple[str, ...]:
    if not results:
        return ()
    rows = [
        (
            "pass" if result.passed else "FAIL",
            result.case.name,
            f"{result.case.expect.value} {result.case.reason}".strip(),
            " ".join(("allow" if result.allowed else "deny", ", ".join(result.reasons))).strip(),
        )
        for result in results
    ]
    good = sum(result.passed for result in results)
    return (f"{good} of {len(results)} cases", table(rows, ("", "CASE", "EXPECTED", "CAME OUT")))


def _case_json(result: CaseResult) -> Json:
    return {
        "name": result.case.name,
        "passed": result.passed,
        "expected": result.case.expect.value,
        "expected_reason": result.case.reason or None,
        "allowed": result.allowed,
        "reasons": [*result.reasons],
    }


# --- files ------------------------------------------------------------------------------------------------------------


def _named(file: Path | None, wallet: Path) -> Policy:
    if file is not None:
        return _shown(file)
    with session(wallet) as person:
        _roster, in_force = person.refresh().require_documents()
    return in_force


def _load(file: Path) -> Policy:
    return _checked(Policy.parse(read_draft(file, begin="strongroom policy new --next")))


def _shown(file: Path) -> Policy:
    return _checked(Policy.parse(read_document(file)))


def _checked(read: Policy) -> Policy:
    for terms in read.models:
        isolation_rank(terms.least_isolation)
    return read


def _save(file: Path, draft: Policy, *, as_json: bool) -> None:
    checked = Policy.parse(draft.to_bytes())
    safe_engine(checked)
    write_file(file, checked.to_bytes())
    data: Json = {"file": str(file), "epoch": checked.epoch, "digest": str(Digest.of(checked.to_bytes()))}
    text = f"{file}: epoch {checked.epoch}, {len(checked.rules)} rules, {len(checked.models)} models"
    show(data, text, as_json=as_json)
