"""``strongroom reseal``: the current version's weights as the next version, under another data key."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from strongroom.access.request import Action, Purpose, Request
from strongroom.cli.asking import Why, asking, why_options
from strongroom.cli.output import progress_bar
from strongroom.cli.publishing import is_unfinished, require_free, show_published, waiting_for_approvals
from strongroom.cli.sealed import identity_option, read_recipient
from strongroom.cli.session import as_wallet, ask_passphrase, json_option, passphrase_option, read_file, session
from strongroom.client.publish import Published, publish
from strongroom.client.resealing import exported_key, forget_exported
from strongroom.client.trust import Trust
from strongroom.client.wiring import reseal_to_directory
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.ids import ModelId, model_id
from strongroom.keys.adapters.identity_file import open_identity
from strongroom.sealing.adapters.directory import read_envelope
from strongroom.sealing.canary import MAX_CANARY_FILE, read_canaries


@click.command("reseal")
@click.argument("digest")
@click.argument("sealed", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The sealed directory to make.")
@click.option("--replace", is_flag=True, help="Exchange what is at --out, in one step.")
@click.option("--wait", is_flag=True, help="Where the sealing needs approvals, wait for them.")
@click.option(
    "--to",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with a recipient's public key. Those of SEALED aren't taken along.",
)
@click.option("--for", "copy", help="Make the next version of this marked copy instead, as the policy has it.")
@click.option(
    "--canaries",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --for: what the copy must answer, instead of what the original must.",
)
@click.option("--window", help="How long the request to seal holds, e.g. 8h.")
@why_options(Purpose.PUBLISH)
@identity_option
@as_wallet
@passphrase_option
@json_option
def reseal(
    *,
    digest: str,
    sealed: Path,
    out: Path,
    window: str | None,
    why: Why,
    to: tuple[Path, ...],
    copy: str | None,
    canaries: Path | None,
    identity: Path,
    wallet: Path,
    passphrase_fd: int | None,
    replace: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Use the export grant of request DIGEST: seal the weights in SEALED anew, and register the next version.

    With --for they become a version of another model, with that recipient's mark in their low bits: it has keys, grants
    and an end of its own, and `strongroom attribute` tells whose copy a leaked one is.

    Nothing is written in clear, and a few segments are in memory at once. Interrupted, by whatever: run it again with
    the same DIGEST and --out, and it goes on where it was.
    """
    place = out.absolute()
    recipient = open_identity(identity, ask_passphrase(passphrase_fd))
    recipients = [read_recipient(file) for file in to]
    if canaries and not copy:
        raise UsageError("the same weights answer as they did", remedy="give --canaries with --for")
    with session(wallet, passphrase_fd) as person, progress_bar("sealing") as progress:
        review = person.review(person.find(digest))
        request = review.request
        require_export(request, sealed, recipient.digest)
        made_of = model_id(copy) if copy else request.model
        if not is_unfinished(person, made_of, place):
            _require_current(request, review.trust)
            if not replace:
                require_free(out)
        made = publish(
            person,
            reseal_to_directory(
                sealed,
                place,
                exported=partial(exported_key, person, request, recipient),
                recipients=recipients,
                canaries=read_canaries(read_file(canaries, most=MAX_CANARY_FILE)) if canaries else None,
                progress=progress,
                replace=replace,
            ),
            model=made_of,
            place=str(place),
            asking=asking(person, why, window=window),
            waiting=waiting_for_approvals() if wait else None,
            copy_of=_marked_from(made_of, request.model, review.trust),
        )
        forget_exported(person, request)
    first, more = _told(made, request.model, sealed, out)
    show_published(made, out, first, more, as_json=as_json)


def _told(made: Published, original: ModelId, sealed: Path, out: Path) -> tuple[str, str]:
    """Return what was made, and what becomes of the sealed directory that it was made of."""
    if made.model == original:
        return (
            f"sealed `{made.model}` anew as version {made.version} at {out}",
            f"  delete     {sealed} and its copies: the old data key still opens them",
        )
    return (
        f"sealed a marked copy of `{original}` as `{made.model}` version {made.version} at {out}",
        f"  keep       {sealed}: without it nobody can tell whose copy a leaked one is",
    )


def _marked_from(made_of: ModelId, original: ModelId, trust: Trust) -> ModelId | None:
    if made_of != original:
        return original
    # A copy that is sealed anew under its own name keeps the mark that it has.
    _roster, policy = trust.require_documents()
    return policy.terms(original).copy_of


def _require_current(request: Request, trust: Trust) -> None:
    current = trust.models.get(request.model)
    if current is None or current.manifest != request.manifest:
        raise UsageError(
            f"`{request.model}` has a newer version than the one of that request",
            remedy="ask for an export of the current one",
        )


def require_export(request: Request, sealed: Path, recipient: Digest) -> None:
    """Refuse a request that gives nobody the key of ``sealed``.

    :raises UsageError: it isn't for an export, for another recipient, or about another version.
    """
    # Before anybody is asked for anything: the export may be good for one use.
    if request.action is not Action.EXPORT_PLAINTEXT:
        raise UsageError(
            f"that request is for `{request.action.value}`",
            remedy="the current version's data key is handed out for exports alone: "
            "strongroom request create --action export-plaintext --to FILE.pub",
        )
    if request.recipient != recipient:
        raise UsageError("that request names another recipient than the identity given")
    if request.manifest != read_envelope(sealed).digest:
        raise UsageError(f"`{sealed}` isn't the version that the request is about")
