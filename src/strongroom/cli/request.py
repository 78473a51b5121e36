"""``strongroom request``: ask for access to a model, and see what is asked."""

from __future__ import annotations

import json
from pathlib import Path

import click

from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, Action
from strongroom.cli.asking import Why, asking, why_options
from strongroom.cli.output import show, table
from strongroom.cli.review import review_break_glass
from strongroom.cli.sealed import read_recipient
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.api import NOTICE_SECONDS
from strongroom.client.render import as_text, render
from strongroom.client.requests import ask_to_export, ask_to_open, voices
from strongroom.client.service import Review
from strongroom.client.told import NoticeTold
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.ids import image_id, model_id
from strongroom.core.printable import printable


@click.group("request")
def request() -> None:
    """Ask for access to a model, and see what is asked."""


@request.command("create")
@click.option("--model", required=True, help="The model.")
@click.option(
    "--action",
    type=click.Choice([Action.OPEN_IN_ENCLAVE.value, Action.BREAK_GLASS.value, Action.EXPORT_PLAINTEXT.value]),
    default=Action.OPEN_IN_ENCLAVE.value,
    show_default=True,
    help="What for: in an emergency, or for a copy in clear.",
)
@click.option("--image", help="The enclave image that may open it, as the reference values name it.")
@click.option("--on", "platforms", multiple=True, help="An enrolled platform, or how its id begins; may repeat.")
@click.option(
    "--to",
    "recipient",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With export-plaintext: the public key of the identity that gets the data key.",
)
@click.option("--for", "window", help="For how long, e.g. 4h; as long as the rule allows, up to a day, if left out.")
@click.option("--uses", type=click.IntRange(min=1), default=1, show_default=True, help="How often it may be opened.")
@why_options(None)
@as_wallet
@passphrase_option
@json_option
def create(
    *,
    model: str,
    action: str,
    image: str | None,
    platforms: tuple[str, ...],
    recipient: Path | None,
    window: str | None,
    uses: int,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Ask for access to a model's current version, and have the request recorded."""
    exports = Action(action) is Action.EXPORT_PLAINTEXT
    if exports is not (recipient is not None) or exports is not (image is None) or (exports and platforms):
        raise UsageError("an enclave needs --image, and perhaps --on; export-plaintext needs --to alone")
    with session(wallet, passphrase_fd) as person:
        trust = person.refresh()
        asked = asking(person, why, window=window)
        if recipient is not None:
            named = Digest.of(read_recipient(recipient))
            made = ask_to_export(trust, asked, model=model_id(model), recipient=named)
        else:
            made = ask_to_open(
                trust,
                asked,
                model=model_id(model),
                image=image_id(image or ""),
                platforms=person.platform(platforms),
                uses=uses,
                action=Action(action),
            )
        needed = person.approvals_needed(made, trust)
        envelope, recorded = person.submit(made, trust)
        lines = render(envelope.payload, trust, person.standings(), now=person.clock.now())
    data: Json = {"request": str(envelope.digest), "log_index": recorded.index, "approvals_needed": needed}
    text = (as_text(lines), f"\nrecorded: log entry {recorded.index}; {needed} people must approve it")
    show(data, text, as_json=as_json)


@request.command("ls")
@click.option("--all", "everything", is_flag=True, help="Closed and expired ones too.")
@as_wallet
@json_option
def ls(wallet: Path, *, everything: bool, as_json: bool) -> None:
    """List requests, newest first. This is the server's summary: look at one with `show` before you act on it."""
    with session(wallet) as person:
        listed = person.api.requests(everything=everything)
    rows = [
        (
            item.digest.value.hex()[:12],
            printable(item.action),
            printable(item.model),
            printable(item.requester),
            format_instant(item.created),
            f"{item.approvals}/{item.denials}",
        )
        for item in listed
    ]
    data: list[Json] = [
        {
            "request": str(item.digest),
            "action": item.action,
            "model": item.model,
            "requester": item.requester,
            "created": format_instant(item.created),
            "expires": format_instant(item.expires) if item.expires is not None else None,
            "approvals": item.approvals,
            "denials": item.denials,
        }
        for item in listed
    ]
    text = table(rows, ("REQUEST", "ACTION", "MODEL", "BY", "CREATED", "YES/NO")) if rows else "no request is open"
    show({"requests": data}, text, as_json=as_json)


@request.command("show")
@click.argument("digest")
@as_wallet
@json_option
def show_request(digest: str, wallet: Path, *, as_json: bool) -> None:
    """Show a request from its own bytes, and whose approvals and denials verify. DIGEST may be cut short."""
    with session(wallet) as person:
        review = person.review(person.find(digest))
    show(review_json(review), (as_text(review.lines), *_said(review)), as_json=as_json)


@request.command("watch")
@click.option("--after", type=click.IntRange(min=0), help="Begin behind this log entry; at the log's end if left out.")
@as_wallet
@json_option
def watch(wallet: Path, *, after: int | None, as_json: bool) -> None:
    """Print what is recorded of requests, grants, models and people, a line each, until interrupted.

    A line is a reason to look, not something to decide by: `approve` shows the signed bytes. With --json, JSON lines.
    """
    with session(wallet) as person:
        place = person.api.notices().after if after is None else after
        while True:
            page = person.api.notices(place, wait=NOTICE_SECONDS)
            for notice in page.notices:
                click.echo(json.dumps(notice_json(notice)) if as_json else notice_line(notice))
            place = page.after


def notice_line(notice: NoticeTold) -> str:
    """Return a notice as one line for a terminal."""
    loud = "PAGE  " if notice.priority == "page" else ""
    return f"{format_instant(notice.at)}  {loud}{printable(notice.text)}"


def notice_json(notice: NoticeTold) -> dict[str, Json]:
    """Return a notice as JSON."""
    return {
        "kind": notice.kind,
        "index": notice.index,
        "at": format_instant(notice.at),
        "priority": notice.priority,
        "request": None if notice.request is None else str(notice.request),
        "action": notice.action or None,
        "model": notice.model or None,
        "requester": notice.requester or None,
    }


def review_json(review: Review) -> dict[str, Json]:
    """Return a reviewed request as JSON: its own members, and who spoke about it."""
    approved, bad_approvals = voices(review.file, APPROVAL_TYPE, review.trust)
    denied, bad_denials = voices(review.file, DENIAL_TYPE, review.trust)
    return {
        "request": str(review.digest),
        "body": parse(review.envelope.payload),
        "approved_by": [*approved],
        "denied_by": [*denied],
        "unverified": bad_approvals + bad_denials,
    }


def _said(review: Review) -> list[str]:
    approved, bad_approvals = voices(review.file, APPROVAL_TYPE, review.trust)
    denied, bad_denials = voices(review.file, DENIAL_TYPE, review.trust)
    lines = ["", f"approved by {', '.join(approved) or 'nobody'}; denied by {', '.join(denied) or 'nobody'}"]
    if bad_approvals + bad_denials:
        lines.append(f"{bad_approvals + bad_denials} stored signatures don't verify against the roster in force")
    return lines


request.add_command(review_break_glass)
