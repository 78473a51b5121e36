"""What the verbs of incidents share: the responder's door, an incident read from it, and acts that are signed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.cli.session import open_wallet
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.envelope import sign
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.fields import Fields
from strongroom.ipc.adapters.client import UnixClient
from strongroom.responder.desk import MAX_LISTED, PAGE
from strongroom.response.acts import ACT_TYPE, NONCE_BYTES, Act, ActKind
from strongroom.response.drills import DrillToken
from strongroom.response.entries import IncidentEntry
from strongroom.response.incident import MAX_ENTRIES, BrokenRecordError, Incident, fold
from strongroom.response.run import MAX_RUN, Pending, Run, RunStatus

F = TypeVar("F", bound=Callable[..., Any])
DESK_VARIABLE: Final = "STRONGROOM_DESK"
MAX_RUNS: Final = 64
MIN_PREFIX: Final = 4
MAX_KEPT: Final = 1 << 20


def desk_option(function: F) -> F:
    """Add ``--desk``, the responder's door; passed as ``desk``."""
    return click.option(
        "--desk",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=DESK_VARIABLE,
        required=True,
        help=f"The responder's socket, `desk.sock` in its folder (or {DESK_VARIABLE}).",
    )(function)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An incident as the responder shows it; its entries are one chain, checked here."""

    incident: Incident
    entries: tuple[IncidentEntry, ...]
    runs: Mapping[str, Run]
    token: DrillToken | None
    held: bool

    @property
    def waiting(self) -> tuple[Pending, ...]:
        """Everything that waits: commands, and what people are asked."""
        return tuple(one for run in self.runs.values() if run.status is RunStatus.RUNNING for one in run.pending)

    def find(self, text: str) -> Pending:
        """Return what waits: named by the beginning of its key, by its action, or by some words of its question.

        :raises NotFoundError: nothing. :raises UsageError: several.
        """
        found = [one for one in self.waiting if one.key.startswith(text) or text in (one.action or one.text)]
        if not found:
            raise NotFoundError("nothing like that waits", remedy="see what does: strongroom incident show")
        if len(found) > 1:
            raise UsageError(f"{len(found)} things like that wait", remedy="give a key: strongroom incident show")
        return found[0]


def call(desk: Path, operation: str, **members: Json) -> Fields:
    """Ask the responder something.

    :raises UnavailableError: it doesn't answer. :raises StrongroomError: what it refused with.
    """

    async def ask() -> Fields:
        client = UnixClient(desk)
        try:
            return await client.call(operation, **members)
        finally:
            await client.close()

    return asyncio.run(ask())


def incidents(desk: Path) -> tuple[list[dict[str, Json]], dict[str, str]]:
    """Return the incidents, newest first, and those whose records can't be read."""
    with call(desk, "incidents") as fields:
        listed = fields.value("incidents")
        with fields.child("broken") as child:
            broken = {name: child.text(name) for name in child.names(most=MAX_LISTED)}
    rows = listed if isinstance(listed, list) else []
    return [row for row in rows if isinstance(row, dict)], broken


def find(desk: Path, text: str) -> str:
    """Return the id of the incident that begins so; the only one, whole or by a few characters.

    :raises NotFoundError: none. :raises UsageError: several, or too little text.
    """
    wanted = text if text.startswith("inc-") else f"inc-{text}"
    if len(wanted) < len("inc-") + MIN_PREFIX:
        raise UsageError(f"give at least {MIN_PREFIX} characters of the incident's id")
    listed, _broken = incidents(desk)
    found = [str(row["incident"]) for row in listed if str(row.get("incident", "")).startswith(wanted)]
    if not found:
        raise NotFoundError("no incident's id begins like that", remedy="list them: strongroom incident ls")
    if len(found) > 1:
        raise UsageError(f"{len(found)} incidents' ids begin like that", remedy="give more characters")
    return found[0]


def fetch(desk: Path, text: str) -> Shown:
    """Return an incident, read page by page and checked to be one chain.

    :raises BrokenRecordError: the responder shows something else.
    """
    name = find(desk, text)
    entries: list[IncidentEntry] = []
    while len(entries) <= MAX_ENTRIES:
        with call(desk, "incident", incident=name, after=len(entries)) as fields:
            page = fields.texts("entries", most=PAGE, max_length=16384)
            with fields.child("runs") as child:
                names = child.names(most=MAX_RUNS)
                runs = {one: Run.parse(child.binary(one, max_length=MAX_RUN)) for one in names}
            drill = fields.binary("drill", max_length=16384) if fields.optional("drill") else None
            held = fields.boolean("held")
        entries += [IncidentEntry.parse(from_base64(one)) for one in page]
        if len(page) < PAGE:
            break
    incident = fold(entries)
    if incident.id != name:
        # Else a responder that lies could have somebody sign for an incident that they didn't ask for.
        raise BrokenRecordError(f"the responder shows another incident than `{name}`")
    return Shown(
        incident=incident,
        entries=tuple(entries),
        runs=runs,
        token=None if drill is None else DrillToken.parse(drill),
        held=held,
    )


def kept(desk: Path, incident: str, name: str) -> bytes:
    """Return evidence, a draft or words that the responder keeps."""
    with call(desk, "kept", incident=incident, name=name) as fields:
        return fields.binary("data", max_length=MAX_KEPT)


def act(
    desk: Path,
    wallet: Path,
    passphrase_fd: int | None,
    incident: str,
    kind: ActKind,
    facts: Mapping[str, str | int],
    *,
    found: Mapping[str, str] | None = None,
) -> int:
    """Sign an act with a wallet's key and hand it in; returns how many entries the record has then."""
    opened = open_wallet(wallet, passphrase_fd)
    genesis: Digest = opened.genesis().digest
    made = Act(
        genesis=genesis,
        incident=incident,
        person=opened.identity.person,
        at=SystemClock().now(),
        kind=kind,
        nonce=os.urandom(NONCE_BYTES),
        facts=facts,
        found=found or {},
    )
    # What is signed is what every reader parses: an act that nobody could read is refused here.
    payload = made.to_bytes()
    Act.parse(payload)
    with call(desk, "act", envelope=sign(ACT_TYPE, payload, opened.signer()).to_json()) as fields:
        return fields.integer("entries")
