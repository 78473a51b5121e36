"""Reading and writing what people sign for an assessment: statements and the security plan."""

from __future__ import annotations

from pathlib import Path

from strongroom.assurance.plan import MAX_PLAN, SecurityPlan, verify_plan
from strongroom.assurance.statements import (
    MAX_STATEMENT,
    MAX_STATEMENTS,
    Attested,
    Attestors,
    verify_statement,
)
from strongroom.cli.files import read_file
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.printable import printable


def statement_files(folder: Path) -> list[Path]:
    """Return the statements' files in a folder: regular ones, for a pipe among them would keep everybody waiting.

    :raises UsageError: more than an assessment takes.
    """
    found = sorted(path for path in folder.glob("*.json") if path.is_file())
    if len(found) > MAX_STATEMENTS:
        raise UsageError(f"`{folder}` has more than {MAX_STATEMENTS} files", remedy="take those out that expired")
    return found


def read_statements(
    folder: Path, attestors: Attestors, *, genesis: Digest, now: Instant
) -> tuple[tuple[Attested, ...], tuple[str, ...]]:
    """Return a folder's statements that count now, and why others don't. Of two on one claim the newer counts."""
    found: dict[tuple[str, str], Attested] = {}
    refused = []
    for path in statement_files(folder):
        try:
            one = verify_statement(read_envelope(path), attestors, genesis=genesis, now=now)
        except StrongroomError as error:
            refused.append(f"{printable(path.name)}: {error.message} [{error.reason}]")
            continue
        name = one.statement.measure, one.statement.claim.value
        if name not in found or found[name].statement.at < one.statement.at:
            found[name] = one
    return tuple(found.values()), tuple(refused)


def read_envelope(path: Path) -> Envelope:
    """Read a signed file.

    :raises MalformedError: it isn't one. :raises UsageError: it isn't there, can't be read, or is too large.
    """
    try:
        data = read_file(path, most=2 * max(MAX_STATEMENT, MAX_PLAN))
    except OSError as error:
        raise UsageError(f"`{printable(path.name)}` can't be read: {error.strerror}") from None
    return Envelope.parse(data)


def file_digest(path: Path) -> Digest:
    """Return the digest of a document's bytes.

    :raises UsageError: it isn't there.
    """
    try:
        with path.open("rb") as file:
            return Digest.of_file(file)
    except OSError as error:
        raise UsageError(f"`{printable(str(path))}` can't be read: {error.strerror}") from None


def read_plan(path: Path, attestors: Attestors, *, genesis: Digest) -> SecurityPlan:
    """Read a signed security plan.

    :raises StatementInvalidError: too few attestors signed it, or it is another deployment's.
    :raises SignatureError: a signature doesn't verify. :raises MalformedError: another form.
    """
    return verify_plan(read_envelope(path), attestors, genesis=genesis)
