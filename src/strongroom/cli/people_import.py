"""``strongroom people import|scim-token|unmatched|erase-record``: the directory of people, on its host."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import httpx2

from strongroom.broker.people.adapters.files import TokenFile
from strongroom.broker.people.directory import Directory
from strongroom.broker.people.listing import (
    MAX_FILE,
    Change,
    ChangeKind,
    Line,
    changes,
    patch_of,
    read_listing,
    user_of,
)
from strongroom.broker.people.records import RecordKind
from strongroom.broker.people.scim_users import text_of
from strongroom.broker.people.tokens import SECRET_BYTES, ScimTokens
from strongroom.broker.people.wiring import SCIM, open_directory
from strongroom.cli.output import show, table
from strongroom.cli.session import json_option, read_file, yes_option
from strongroom.client.adapters.http import one_sided_tls
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.errors import ConflictError, NotFoundError, StrongroomError, UnavailableError, UsageError
from strongroom.core.ids import person_id

IMPORT_SECONDS: Final = 900
PAGE: Final = 100
TRIES: Final = 5
DAY: Final = 86400
_HOME: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_MEANS: Final[Mapping[ChangeKind, str]] = {
    ChangeKind.LOWER: "suspend",
    ChangeKind.SAME: "nothing to do",
    ChangeKind.NOT_RAISED: "stays out: officers reinstate",
    ChangeKind.MOVED: "moved: tell a vetting officer",
}
_home = click.option("--home", type=_HOME, required=True, help="The deployment's folder: run this on its host.")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_home
@click.option("--url", default="https://127.0.0.1:8444", show_default=True, help="The identity listener's address.")
@click.option("--apply", is_flag=True, help="Carry it out; without this it's only shown.")
@json_option
def import_people(file: Path, home: Path, url: str, *, apply: bool, as_json: bool) -> None:
    """Suspend whom FILE says has left, is on leave or on notice. Nobody is ever brought back by it.

    FILE is CSV (UTF-8) with the columns person, employment (active, leave, notice, left) and unit. The running broker
    does it: one process writes the directory, and everybody suspended is on the log before the command ends.
    """
    lines = read_listing(read_file(file, most=MAX_FILE))
    with _scim(home, url) as scim:
        found = changes(lines, scim.users())
        if apply:
            for change in found:
                scim.carry_out(change)
    rows = [(change.line.person, change.line.employment.value, _MEANS[change.kind]) for change in found]
    lowered = sum(change.kind is ChangeKind.LOWER for change in found)
    said = f"{lowered} {'suspended' if apply else 'would be suspended; carry it out with --apply'}"
    data: Json = {
        "applied": apply,
        "suspended": lowered,
        "changes": [
            {"person": change.line.person, "line": change.line.number, "kind": change.kind.value} for change in found
        ],
    }
    show(data, (table(rows, ("PERSON", "EMPLOYMENT", "EFFECT")), said), as_json=as_json)


@click.command("scim-token")
@_home
@click.option("--name", default="provider", show_default=True, help="What the token is called.")
@click.option("--days", type=click.IntRange(1, 3650), help="How long it holds; without this, until it is removed.")
@click.option("--remove", is_flag=True, help="Take the token of this name away.")
@json_option
def scim_token(home: Path, name: str, days: int | None, *, remove: bool, as_json: bool) -> None:
    """Make a bearer token for an identity provider. It is shown once; only its digest is kept."""
    tokens = TokenFile(home / "broker")
    if remove:
        tokens.change(lambda known: known.without(name))
        show({"removed": name}, f"`{name}` opens nothing from now on", as_json=as_json)
        return
    first = not tokens.exists()
    text = _new_token(tokens, name, seconds=None if days is None else days * DAY)
    said = (text, *(("start the deployment again: the SCIM server begins with its first token",) if first else ()))
    show({"name": name, "token": text, "restart": first}, said, as_json=as_json)


@click.command("unmatched")
@_home
@json_option
def unmatched(home: Path, *, as_json: bool) -> None:
    """List the directory's users who stand for nobody in the roster: what happens to them suspends nobody."""
    with _directory(home) as directory:
        _total, records = directory.page(RecordKind.USER, offset=0, limit=None)
    users = [json.loads(record.resource) for record in records if not record.persons]
    rows = [(str(user["id"]), _printable(text_of(user, "userName"))) for user in users]
    data: Json = {"users": [{"id": name, "user_name": user} for name, user in rows]}
    show(data, table(rows, ("RECORD", "USER NAME")) if rows else "everybody is matched", as_json=as_json)


@click.command("erase-record")
@_home
@click.option("--person", "name", required=True, help="The person's id.")
@yes_option
@json_option
def erase_record(home: Path, name: str, *, yes: bool, as_json: bool) -> None:
    """Destroy what the directory holds of a person: unreadable from then on, in old copies of the database too.

    It raises nobody: a suspension stays on the log, under the person's id.
    """
    person = person_id(name)
    if not yes:
        click.confirm(f"destroy every record of `{person}` in the directory, for good?", abort=True, err=True)
    with _directory(home) as directory:
        erased = directory.erase(person)
    if not erased:
        raise NotFoundError(f"the directory has no record of `{person}`")
    data: Json = {"person": person, "records": list(erased)}
    show(data, f"{len(erased)} records of `{person}` destroyed", as_json=as_json)


@contextmanager
def _directory(home: Path) -> Iterator[Directory]:
    directory, store, _keys = open_directory(home)
    try:
        yield directory
    finally:
        store.close()


def _new_token(tokens: TokenFile, name: str, *, seconds: int | None) -> str:
    now, made = SystemClock().now(), ""

    def add(known: ScimTokens) -> ScimTokens:
        nonlocal made
        expires = None if seconds is None else now + seconds
        changed, made = known.adding(name, os.urandom(SECRET_BYTES), at=now, expires=expires)
        return changed

    tokens.change(add)
    return made


@contextmanager
def _scim(home: Path, url: str) -> Iterator[ScimCaller]:
    """Call the running broker with a token that lives as long as the call: who may read the folder may make one."""
    tokens = TokenFile(home / "broker")
    if not tokens.exists():
        raise UsageError(
            "this deployment's SCIM server isn't set up",
            remedy="strongroom people scim-token, then start the deployment with --identity-port",
        )
    name = f"import-{os.urandom(4).hex()}"
    token = _new_token(tokens, name, seconds=IMPORT_SECONDS)
    client = httpx2.Client(
        base_url=url,
        verify=one_sided_tls(authority=home / "broker" / "ca" / "ca.pem"),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(60.0, connect=5.0),
        headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
    )
    try:
        with client:
            yield ScimCaller(client)
    finally:
        tokens.change(lambda known: known.without(name))


class ScimCaller:
    """The few calls of the SCIM server that the import needs."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def users(self) -> list[dict[str, Any]]:
        """Return all users."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._call("GET", f"/Users?startIndex={len(found) + 1}&count={PAGE}")
            found.extend(page.get("Resources", []))
            if len(found) >= page["totalResults"] or not page.get("Resources"):
                return found

    def carry_out(self, change: Change) -> None:
        """Lower whom a change lowers; again is harmless.

        :raises UnavailableError: the broker didn't do it; the lines before are done.
        """
        if change.kind is not ChangeKind.LOWER:
            return
        for record in change.records:
            self._call("PATCH", f"/Users/{record}", patch_of(change.line), about=change.line)
        if not change.records:
            self._call("POST", "/Users", user_of(change.line), about=change.line)

    def _call(self, method: str, path: str, body: Json = None, *, about: Line | None = None) -> dict[str, Any]:
        where = f" at line {about.number}" if about else ""
        for _try in range(TRIES):
            try:
                answer = self._client.request(method, SCIM + path, json=body)
            except httpx2.HTTPError as error:
                raise UnavailableError(
                    f"no answer from the identity listener{where} ({type(error).__name__})",
                    remedy="see whether the deployment is up with --identity-port; then give the file again",
                ) from None
            if answer.status_code not in {429, 503}:
                break
            time.sleep(min(10.0, float(answer.headers.get("retry-after", "1"))))
        if answer.is_success:
            return _json(answer)
        raise _refusal(answer.status_code, where)


def _json(answer: httpx2.Response) -> dict[str, Any]:
    value = json.loads(answer.content) if answer.content else {}
    if not isinstance(value, dict):
        raise UnavailableError("the identity listener's answer isn't SCIM's")
    return value


def _refusal(status: int, where: str) -> StrongroomError:
    if status == 409:
        return ConflictError(f"the directory has another user of this name{where}", remedy="look: people unmatched")
    return UnavailableError(
        f"the broker didn't do it{where} (status {status}); the lines before are done",
        remedy="see its program log; then give the file again",
    )


def _printable(text: str | None) -> str:
    return "".join(character if character.isprintable() else "?" for character in text or "")[:80]
