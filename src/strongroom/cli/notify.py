"""``strongroom notify``: whom the deployment tells what happens, on the host where the broker runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import click

from strongroom.broker.adapters.webhooks import FOLDER, LIST, MAX_AUTHORITY, WebhookFiles, replace_file
from strongroom.broker.notices import NoticeKind
from strongroom.broker.webhooks import (
    MAX_WEBHOOKS,
    SECRET_BYTES,
    Webhook,
    read_url,
    secret_text,
    trial,
    webhook_name,
    write_webhooks,
)
from strongroom.cli.output import show, table
from strongroom.cli.session import json_option, read_file
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.errors import ConflictError, NotFoundError, UsageError
from strongroom.core.genesis import Genesis

_MAX_GENESIS: Final = 64 * 1024
_home = click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The deployment's folder."
)


@click.group("notify")
def notify() -> None:
    """Tell receivers over signed webhooks what happens. A running broker sees changes within a second."""


@notify.command("add")
@click.argument("name")
@click.option("--url", required=True, help="Where to send: HTTPS, or HTTP to this machine.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in NoticeKind]),
    help="Of what to tell; give it again for more, leave it out for everything.",
)
@click.option(
    "--authority",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="PEM certificates of the receiver's authority, if not one of the system's.",
)
@_home
@json_option
def add(name: str, url: str, kinds: tuple[str, ...], authority: Path | None, home: Path, *, as_json: bool) -> None:
    """Add a receiver. Its secret is printed once, for the receiver to check signatures with."""
    files, folder = _open(home)
    webhook_name(name)
    read_url(url)
    told = secret_text(os.urandom(SECRET_BYTES))
    webhook = Webhook(
        name=name,
        url=url,
        kinds=frozenset(NoticeKind(kind) for kind in kinds),
        secret=f"{FOLDER}/{name}.secret",
        authority=None if authority is None else f"{FOLDER}/{name}.pem",
    )
    with files.alone():
        listed = files.webhooks()
        if any(webhook.name == name for webhook in listed):
            raise ConflictError(f"there is a webhook `{name}` already", remedy="remove it first, or take another name")
        if len(listed) >= MAX_WEBHOOKS:
            raise UsageError(f"there can be at most {MAX_WEBHOOKS} webhooks")
        # What an earlier webhook of this name left must not be taken for its own.
        _place(folder, name).unlink(missing_ok=True)
        replace_file(folder / webhook.secret, f"{told}\n".encode())
        if webhook.authority is not None and authority is not None:
            replace_file(folder / webhook.authority, read_file(authority, most=MAX_AUTHORITY))
        files.sender(webhook)
        replace_file(folder / LIST, write_webhooks((*listed, webhook)))
    text = (
        f"added `{name}`",
        f"secret, shown this once: {told}",
        f"try it: strongroom notify test {name} --home {home}",
    )
    show({"webhook": name, "secret": told}, text, as_json=as_json)


@notify.command("ls")
@_home
@json_option
def ls(home: Path, *, as_json: bool) -> None:
    """List the receivers. Of an address only the host is shown: the rest may be a password."""
    files, _folder = _open(home)
    listed = [(webhook, files.place(webhook.name)) for webhook in files.webhooks()]
    rows = [
        (
            webhook.name,
            webhook.target.origin,
            ", ".join(sorted(webhook.kinds)) or "everything",
            "-" if place is None else str(place),
        )
        for webhook, place in listed
    ]
    data: Json = {
        "webhooks": [
            {
                "name": webhook.name,
                "origin": webhook.target.origin,
                "kinds": [*sorted(webhook.kinds)],
                "told_up_to": place,
            }
            for webhook, place in listed
        ]
    }
    show(data, table(rows, ("NAME", "HOST", "KINDS", "TOLD UP TO")) if rows else "no webhook", as_json=as_json)


@notify.command("test")
@click.argument("name")
@_home
@json_option
def test(name: str, home: Path, *, as_json: bool) -> None:
    """Send a receiver a signed message of type `test`, now and once."""
    files, _folder = _open(home)
    clock = SystemClock()
    message = trial(_genesis(home).digest, clock.now())
    asyncio.run(files.sender(_named(files, name)).send(message))
    show({"webhook": name, "sent": message.id}, f"`{name}` took it: {message.id}", as_json=as_json)


@notify.command("rm")
@click.argument("name")
@_home
@json_option
def rm(name: str, home: Path, *, as_json: bool) -> None:
    """Remove a receiver, with its secret."""
    files, folder = _open(home)
    with files.alone():
        webhook = _named(files, name)
        replace_file(folder / LIST, write_webhooks(other for other in files.webhooks() if other != webhook))
        own = [f"{FOLDER}/{name}.secret", f"{FOLDER}/{name}.pem"]
        for file in {webhook.secret, webhook.authority or webhook.secret} & set(own):
            (folder / file).unlink(missing_ok=True)
        _place(folder, name).unlink(missing_ok=True)
    show({"webhook": name}, f"removed `{name}`", as_json=as_json)


def _open(home: Path) -> tuple[WebhookFiles, Path]:
    _genesis(home)
    folder = home / "broker"
    return WebhookFiles(folder, SystemClock()), folder


def _genesis(home: Path) -> Genesis:
    return Genesis.parse(read_file(home / "genesis.json", most=_MAX_GENESIS))


def _named(files: WebhookFiles, name: str) -> Webhook:
    for webhook in files.webhooks():
        if webhook.name == name:
            return webhook
    raise NotFoundError(f"there is no webhook `{webhook_name(name)}`", remedy="list them: strongroom notify ls")


def _place(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"{name}.place"
