"""``strongroom policy``: drafts of the release policy, for the root quorum to sign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from strongroom.access.engine import CedarEngine
from strongroom.access.policy import ModelTerms, Policy
from strongroom.attestation.isolation import IsolationClass
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, open_wallet, read_file, session, write_file
from strongroom.client.default_policy import default_policy
from strongroom.client.documents import summary
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import ConflictError, MalformedError, UsageError
from strongroom.core.ids import model_id
from strongroom.framework.levels import SecurityLevel
from strongroom.release.documents import DocumentKind

_DRAFT: Final = click.Path(path_type=Path, dir_okay=False)


@click.group("policy")
def policy() -> None:
    """Draft and read the release policy; the root quorum signs it."""


@policy.command("new")
@click.argument("file", type=_DRAFT)
@click.option("--next", "following", is_flag=True, help="Begin with the policy in force.")
@as_wallet
@json_option
def new(file: Path, wallet: Path, *, following: bool, as_json: bool) -> None:
    """Begin a draft in FILE: the default policy, or the successor of the one in force."""
    if file.exists():
        raise ConflictError(f"`{file}` is there already", remedy="choose another name")
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
@click.option("--level", type=click.Choice([level.value for level in SecurityLevel]), help="Its security level.")
@click.option(
    "--least-isolation",
    type=click.Choice([one.value for one in IsolationClass]),
    help="The weakest isolation that may hold it.",
)
@json_option
def model(
    file: Path, name: str | None, removed: str | None, level: str | None, least_isolation: str | None, *, as_json: bool
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
    terms = ModelTerms(model=gone, level=SecurityLevel(level), least_isolation=least_isolation)
    _save(file, replace(draft, models=(*kept, terms)), as_json=as_json)


@policy.command("show")
@click.argument("file", type=_DRAFT, required=False)
@as_wallet
@json_option
def show_policy(file: Path | None, wallet: Path, *, as_json: bool) -> None:
    """Show a draft or a signed policy, or without FILE the one in force."""
    if file is not None:
        shown = _load(file, signed=True)
    else:
        with session(wallet) as person:
            _roster, shown = person.refresh().require_documents()
    show(parse(shown.to_bytes()), summary(DocumentKind.POLICY, shown), as_json=as_json)


def _load(file: Path, *, signed: bool = False) -> Policy:
    data = read_file(file, most=2 * MAX_PAYLOAD)
    value = parse(data, max_bytes=2 * MAX_PAYLOAD)
    if isinstance(value, dict) and "payloadType" in value:
        if not signed:
            raise MalformedError(
                f"`{file.name}` is signed already; a change would make the signatures worthless",
                remedy="begin the next one: strongroom policy new --next",
            )
        return Policy.parse(Envelope.parse(data).payload)
    return Policy.parse(encode(value))


def _save(file: Path, draft: Policy, *, as_json: bool) -> None:
    checked = Policy.parse(draft.to_bytes())
    CedarEngine(checked)
    write_file(file, checked.to_bytes())
    data: Json = {"file": str(file), "epoch": checked.epoch, "digest": str(Digest.of(checked.to_bytes()))}
    text = f"{file}: epoch {checked.epoch}, {len(checked.rules)} rules, {len(checked.models)} models"
    show(data, text, as_json=as_json)
