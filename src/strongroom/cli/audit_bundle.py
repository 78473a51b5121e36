"""``strongroom audit bundle`` and ``verify-bundle``: an assessment, and the log that vouches for it, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.audit.adapters.sources import open_source
from strongroom.audit.replay import EntryChecks
from strongroom.audit.succession import Succession
from strongroom.audit.verify_shards import verified_shard_entries, verify_shards
from strongroom.cli.assess_files import read_envelope, statement_files
from strongroom.cli.audit_files import FILE, FOLDER, read_small
from strongroom.cli.files import json_option, read_file
from strongroom.cli.output import end, show
from strongroom.client.adapters.bundle_file import pack, unpack
from strongroom.client.adapters.gathered_folder import GatheredFolder
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ExitCode, MalformedError, NotFoundError
from strongroom.core.genesis import Genesis
from strongroom.core.printable import printable
from strongroom.framework.catalogue import load
from strongroom.release.retrial import Retrial, Verdict
from strongroom.release.statements import StatementKind
from strongroom.release.vouched import AssessmentNotVouchedError, Vouched, names, vouch

_OUT = click.Path(path_type=Path, dir_okay=False)
_OPEN = (
    "whether the observations were true when they were made: who had them recorded answers for that",
    "whether the attestors were vetted then: the roster tells their role, not that",
    "what documents that statements rest on say: only their digests are here",
    "whether others saw the same log: unpack it, and run strongroom audit verify --policy",
)


@click.command("bundle")
@click.argument("gathered", type=FOLDER)
@click.option("--assessment", "file", type=FILE, required=True, help="The assessment that was recorded, as JSON.")
@click.option("--statements", type=FOLDER, help="The folder with the signed statements that it counts.")
@click.option("--out", type=_OUT, required=True, help="The file to write.")
@json_option
def bundle(gathered: Path, file: Path, statements: Path | None, out: Path, *, as_json: bool) -> None:
    """Put what `audit gather` left in GATHERED, an assessment and its statements into one file for an auditor."""
    made = Assessment.parse(read_file(file, most=MAX_ASSESSMENT))
    more = {"assessment.json": made.to_bytes()}
    counted = {one.digest for one in made.statements}
    for path in () if statements is None else statement_files(statements):
        envelope = read_envelope(path)
        if envelope.digest in counted:
            more[f"statements/{envelope.digest.value.hex()}.json"] = envelope.to_bytes()
    missing = len(counted) - len(more) + 1
    if missing:
        raise NotFoundError(f"{missing} statements that the assessment counts aren't there", remedy="give --statements")
    size = pack(gathered, more, out)
    show(
        {"file": str(out), "files": size}, [f"{out}: {size} files, for strongroom audit verify-bundle"], as_json=as_json
    )


@click.command("verify-bundle")
@click.argument("file", type=FILE)
@click.option("--genesis", type=FILE, required=True, help="The deployment's genesis, as you know it from elsewhere.")
@json_option
def verify_bundle(file: Path, genesis: Path, *, as_json: bool) -> None:
    """Verify FILE: the whole log, what it names, and the assessment that it vouches for. Needs no server.

    Of FILE nothing is believed: the genesis says whose log it has to be.
    """
    known = Genesis.parse(read_small(genesis))
    with TemporaryDirectory(prefix="strongroom-bundle-") as name:
        folder = Path(name)
        unpack(file, folder)
        made = _assessment(folder)
        vouched, verdict = _judge(folder, known, made)
    wrong, left = verdict.findings, (*_OPEN, *_absent(verdict))
    held = "no level" if made.held is None else made.held.value
    lines = [
        f"{printable(made.deployment)} held {held} at {format_instant(made.at)}, says {vouched.person}",
        f"log entry {vouched.index} of {verdict.judged} names it, and its findings follow from its observations",
        f"{vouched.statements} statements are signed by attestors of that time",
        *(f"WRONG     entry {one.index}: {one.message} [{one.code}]" for one in wrong),
        *(f"not checked: {what}" for what in left),
    ]
    data: dict[str, Json] = {
        "ok": not wrong,
        "assessment": str(made.digest),
        "held": None if made.held is None else made.held.value,
        "at": format_instant(made.at),
        "person": vouched.person,
        "log_index": vouched.index,
        "entries": verdict.judged,
        "statements": vouched.statements,
        "wrong": [{"index": one.index, "code": one.code} for one in wrong],
        "not_checked": [*left],
    }
    show(data, lines, as_json=as_json)
    if wrong:
        end(ExitCode.TAMPERED)


def _absent(verdict: Verdict) -> Iterator[str]:
    for kind, tally in (verdict.exhibits or {}).items():
        open_ = tally["missing"] + tally["unjudged"]
        if open_:
            yield f"{open_} of {tally['named']} objects `{kind}`, which aren't there or couldn't be judged"


def _assessment(folder: Path) -> Assessment:
    file = folder / "assessment.json"
    if not file.exists():
        raise MalformedError("the bundle holds no assessment")
    return Assessment.parse(read_file(file, most=MAX_ASSESSMENT))


def _judge(folder: Path, genesis: Genesis, made: Assessment) -> tuple[Vouched, Verdict]:
    place = GatheredFolder(folder)
    source = open_source(str(place.log))
    report = verify_shards(
        source,
        Succession.of(genesis),
        entries=EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest),
        keeper_key=genesis.keeper_key,
        cosigned=False,
    )
    retrial, vouched, root = Retrial(genesis, place.exhibits), None, None
    statements = dict(_statements(folder))
    for index, entry, at in verified_shard_entries(source, report):
        retrial.take(index, entry, at)
        root = at if index + 1 == made.log_size else root
        if vouched is None and names(entry, made):
            if place.exhibits.find(StatementKind.ASSESSMENT, entry.digest("statement")) is None:
                raise AssessmentNotVouchedError("what the assessor signed isn't there", reason="notice-missing")
            vouched = vouch(
                made,
                entry,
                index,
                roster=retrial.roster,
                root=root,
                statements=statements,
                genesis=genesis,
                catalogue=load(),
            )
    if vouched is None:
        raise AssessmentNotVouchedError(
            "no entry of the log names this assessment",
            reason="assessment-not-named",
            remedy="if nothing was changed, have it recorded first: strongroom assess --record",
        )
    return vouched, retrial.verdict()


def _statements(folder: Path) -> Iterator[tuple[Digest, Envelope]]:
    place = folder / "statements"
    for path in statement_files(place) if place.exists() else ():
        envelope = read_envelope(path)
        yield envelope.digest, envelope
