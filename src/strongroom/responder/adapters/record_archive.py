"""Old files of the responder's record are put aside: into another folder, and only then out of its own.

Only by hand, while the responder stands still. What may still be needed stays: everything while something is on hold,
what isn't in an incident yet, alerts of open incidents, and what is younger than was asked.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, UnavailableError
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.precautions import PrecautionKind
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.adapters.known import read_precautions
from strongroom.responder.adapters.record_file import RecordFile, hold_folder
from strongroom.responder.cases import Stored
from strongroom.responder.decoys import newest_guarded
from strongroom.responder.record import Line
from strongroom.responder.signalling import signalled_again
from strongroom.response.entries import Happened
from strongroom.response.incident import fold

_ALERTS: Final = frozenset({Happened.OPENED, Happened.ALERT_ADDED})


class RecordHeldError(ConflictError):
    """The record is kept whole: something is on hold, or nobody can tell."""

    code = "responder-record-held"


def require_nothing_held(home: Path) -> None:
    """Refuse while the keeper says that anything of the deployment is on hold.

    :raises RecordHeldError: something is. :raises UnavailableError: the keeper doesn't answer.
    """
    if any(kind is PrecautionKind.HOLD for kind, _subject in asyncio.run(_standing(home))):
        raise RecordHeldError("the deployment, or a model of it, is on hold", remedy="have people lift the hold first")


async def _standing(home: Path) -> frozenset[tuple[PrecautionKind, str | None]]:
    client = UnixClient(home / "run" / "keeper.sock")
    try:
        return read_precautions(await client.call("status"))
    finally:
        await client.close()


def archive_record(state: Path, to: Path, *, before: Instant) -> tuple[str, ...]:
    """Put aside the oldest files whose every line is older than ``before`` and isn't needed; returns their names.

    What was copied stays in ``to`` if this ends in the middle; a second time goes on.

    :raises RecordTakenError: a responder runs, or ``to`` is the record's own folder, or another's that is in use.
    :raises RecordBrokenError: the record isn't what was written.
    :raises RecordHeldError: an incident here is on hold, or can't be read.
    :raises ConflictError: another file has that name in ``to``.
    :raises UnavailableError: a disk refuses.
    """
    with closing(RecordFile(state)) as record, _held_alone(to):
        cases = CaseFiles(state)
        needed, heard, gone = _needed(cases), cases.heard(), list[str]()
        # An older list of decoys mustn't be guarded again because the newest one's line is elsewhere.
        guarded: dict[str, Json] = {"guarded": newest} if (newest := newest_guarded(record.facts())) else {}
        for path, lines in record.old_files():
            if not all(_may_go(line, heard, before, needed) for line in lines):
                break
            _keep(path, to)
            record.put_aside(path, guarded)
            gone.append(path.name)
    return tuple(gone)


def _needed(cases: CaseFiles) -> frozenset[str]:
    """Return the alerts of open incidents, by the digests of their lines."""
    found, broken = cases.load()
    if broken or any(one.held for one in found):
        raise RecordHeldError(
            "an incident is on hold, or can't be read: the record stays whole",
            remedy="see `strongroom incident ls`; have people lift the hold first",
        )
    return frozenset(name for one in found for name in _alerts(one))


def _alerts(stored: Stored) -> list[str]:
    if not fold(stored.entries).is_open:
        return []
    return [str(one.facts["event"]) for one in stored.entries if one.happened in _ALERTS]


def _may_go(line: bytes, heard: int, before: Instant, needed: Collection[str]) -> bool:
    read, digest = json.loads(line), Digest.of(line)
    serial, facts = int(read["serial"]), read["facts"]
    if str(digest) in needed or ("at" in facts and parse_instant(str(facts["at"])) >= before):
        return False
    # What only hints, or was done, belongs in no incident; any other alert may still wait for its own.
    return serial < heard or signalled_again(Line(serial=serial, digest=digest), line, host="") is None


@contextmanager
def _held_alone(to: Path) -> Iterator[None]:
    # Held as a record's folder is: never the record's own, where taking a file away takes its copy along.
    handle = hold_folder(to)
    try:
        # Its own name must be on the disk, too, before anything goes.
        sync_folder(to.resolve().parent)
        yield
    except OSError as error:
        raise UnavailableError(f"`{to}` can't be written: {error.strerror}", reason="record-archive") from None
    finally:
        os.close(handle)


def _keep(path: Path, to: Path) -> None:
    kept, data = to / path.name, path.read_bytes()
    try:
        if kept.exists() and kept.read_bytes() != data:
            raise ConflictError(f"`{kept}` is another record's", remedy="name a folder of this record's own")
        write_durably(kept, data)
    except OSError as error:
        raise UnavailableError(f"`{to}` can't be written: {error.strerror}", reason="record-archive") from None
