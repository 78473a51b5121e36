"""``strongroom audit verify``: verify a published log, offline, with its folder, its key, and what was gathered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from strongroom.audit.adapters.workers import workers
from strongroom.audit.cosignature import CosignatureKind, CosignerKey, read_cosignatures
from strongroom.audit.errors import QuorumMissingError, WrongKeyError
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.replay import EntryChecks
from strongroom.audit.spans import BUNDLES
from strongroom.audit.succession import Succession, is_published
from strongroom.audit.tiles import CHECKPOINT, COSIGNED, WIDTH, ShardSource, TileSource
from strongroom.audit.verify import EntriesRead, published_head
from strongroom.audit.verify_shards import LogReport, verified_shard_entries, verify_shards
from strongroom.audit.witness_policy import MAX_POLICY, WitnessPolicy, check_note
from strongroom.cli.audit_files import FILE, FOLDER, read_key, read_small, source_option
from strongroom.cli.files import json_option, read_file
from strongroom.cli.output import end
from strongroom.core.clock import Instant, SystemClock, format_instant
from strongroom.core.encoding import to_base64
from strongroom.core.errors import ExitCode, StrongroomError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.printable import printable

if TYPE_CHECKING:
    from strongroom.release.retrial import Verdict

SHOWN: Final = 20
"""Findings printed as text; JSON has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the caller asked for."""

    source: TileSource
    key: VerifierKey
    genesis: Genesis | None
    policy: WitnessPolicy | None
    previous: tuple[Path, ...]
    evidence: Path | None
    tree_only: bool
    jobs: int


@dataclass(slots=True)
class _Found:
    """What came of it."""

    report: LogReport
    cosigned: dict[str, Instant] = field(default_factory=dict)
    cosigned_size: int | None = None
    """How many of the entries the quorum cosigned; None without a policy."""
    own_cosignature: bool | None = None
    """Whether the log's own ML-DSA-44 key cosigned; None where no genesis names one."""
    verdict: Verdict | None = None

    def not_checked(self) -> Iterator[str]:
        """Yield what this run leaves open, and what would close it."""
        entries, verdict = self.report.entries, self.verdict
        if entries is None:
            yield "what stands in the entries (leave --tree-only out)"
        elif entries.signatures is None:
            yield "the keeper's signatures, and whether each act follows from those before it (give --genesis)"
        for number, count in self.report.pruned.items():
            yield f"what the first {count} entries of shard {number} said, which were pruned; and whether acts follow"
        if not self.cosigned:
            yield "whether others saw the same log (give --policy, or --previous)"
        if self.own_cosignature is False:
            yield "the log's own ML-DSA-44 cosignature: this checkpoint has none (the published folder's has)"
        if verdict is not None and verdict.exhibits is None:
            yield "what the log only names: requests, approvals, documents, decisions, evidence (give --evidence)"
        for kind, tally in (verdict.exhibits or {}).items() if verdict is not None else ():
            if tally["missing"]:
                yield f"{tally['missing']} of {tally['named']} objects `{kind}`: not in the folder"
            if tally["unjudged"]:
                yield f"{tally['unjudged']} of {tally['named']} objects `{kind}`: what they are judged by is missing"

    def to_json(self) -> dict[str, object]:
        """Return everything as one JSON object."""
        return {
            **self.report.to_json(),
            "cosigned": {name: format_instant(at) for name, at in sorted(self.cosigned.items())},
            "cosigned_size": self.cosigned_size,
            "own_cosignature": self.own_cosignature,
            "retrial": None if self.verdict is None else self.verdict.to_json(),
            "not_checked": list(self.not_checked()),
        }


@click.command("verify")
@source_option
@click.option("--key", type=FILE, required=True, help="A file with the log's verifier key, one line.")
@click.option("--policy", type=FILE, help="A C2SP tlog-policy: which witnesses must have cosigned.")
@click.option("--previous", type=FILE, multiple=True, help="A checkpoint that you kept: the log must continue it.")
@click.option("--genesis", type=FILE, help="The deployment's genesis: also checks the keeper's signatures and acts.")
@click.option("--evidence", type=FOLDER, help="What `audit gather` fetched: also judges what the log only names.")
@click.option("--tree-only", is_flag=True, help="Only hashes, tiles, roots and checkpoints; not what entries say.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes (default: one for each core).")
@json_option
def verify(
    source: TileSource,
    key: Path,
    policy: Path | None,
    previous: tuple[Path, ...],
    genesis: Path | None,
    evidence: Path | None,
    jobs: int | None,
    *,
    tree_only: bool,
    as_json: bool,
) -> None:
    """Recompute the whole log from its entries, compare it with what was signed, and judge what it says.

    Needs no deployment, and no network but where the log is hosted. What it couldn't check is listed as such.
    """
    if genesis is None and evidence is not None:
        raise UsageError("what was gathered is judged by the genesis", remedy="give --genesis")
    asked = _Asked(
        source=source,
        key=read_key(key),
        genesis=None if genesis is None else Genesis.parse(read_small(genesis)),
        policy=None if policy is None else WitnessPolicy.parse(read_file(policy, most=MAX_POLICY)),
        previous=previous,
        evidence=evidence,
        tree_only=tree_only,
        jobs=jobs or os.cpu_count() or 1,
    )
    try:
        found = _verify(asked)
    except StrongroomError as error:
        if not as_json:
            raise
        click.echo(json.dumps(_failure(error), sort_keys=True))
        end(error.exit_code)
    _print(found, as_json=as_json)


def _verify(asked: _Asked) -> _Found:
    genesis, key, source = asked.genesis, asked.key, asked.source
    if genesis is not None and (genesis.log_origin, genesis.log_key) != (key.name, key.public_key):
        raise WrongKeyError("the verifier key isn't the one that the genesis names for its log")
    first = Succession.from_key(key) if genesis is None else Succession.of(genesis)
    checks = EntryChecks(
        keeper_key=None if genesis is None else genesis.keeper_key, genesis=None if genesis is None else genesis.digest
    )
    # One span is done before a second process has started.
    one = not is_published(source, 2)
    small = one and published_head(source, key).size <= BUNDLES * WIDTH
    with workers(1 if small else asked.jobs) as spread:
        report = verify_shards(
            source,
            first,
            entries=None if asked.tree_only else checks,
            keeper_key=checks.keeper_key,
            kept=[read_small(path) for path in asked.previous],
            cosigned=asked.policy is not None,
            spread=spread,
        )
    found = _Found(report)
    _cosignatures(asked, found)
    if genesis is not None and not asked.tree_only and not report.pruned:
        # Imported when used: what judges acts takes three times as long to import as all that checks hashes.
        from strongroom.client.adapters.gathered_folder import GatheredFolder  # noqa: PLC0415
        from strongroom.release.retrial import Retrial  # noqa: PLC0415

        exhibits = None if asked.evidence is None else GatheredFolder(asked.evidence).exhibits
        retrial = Retrial(genesis, exhibits)
        for index, entry, root in verified_shard_entries(source, report):
            retrial.take(index, entry, root)
        found.verdict = retrial.verdict()
    return found


def _cosignatures(asked: _Asked, found: _Found) -> None:
    own = True
    for shard, report in found.report.shards():
        source = ShardSource(asked.source, shard.folder)
        # The file may have been replaced by a newer checkpoint since; only one of the verified tree counts.
        if published_head(source, shard.verifier) != report.checkpoint:
            raise UsageError("the log grew while it was verified", remedy="verify a copy of the folder, or try again")
        if shard.cosigner is not None:
            key = CosignerKey(shard.origin, CosignatureKind.ML_DSA_44, shard.cosigner)
            own = own and bool(read_cosignatures(_note(source), report.checkpoint, (key,)))
    found.own_cosignature = own if asked.genesis is not None else None
    if asked.policy is not None:
        _quorum(asked, asked.policy, found)


def _quorum(asked: _Asked, policy: WitnessPolicy, found: _Found) -> None:
    """Find the newest checkpoint that a quorum cosigned; a shard that was just begun may have none yet."""
    now, none = SystemClock().now(), QuorumMissingError("no checkpoint of the log is cosigned by a quorum")
    for shard in reversed(found.report.succession.shards):
        source = ShardSource(asked.source, shard.folder)
        for note in (source.read(CHECKPOINT), source.read(COSIGNED)):
            try:
                witnessed = check_note(note or b"", policy, now=now, log=shard.verifier) if note else None
            except QuorumMissingError as error:
                none = error
                continue
            if witnessed is not None:
                found.cosigned = dict(witnessed.counted)
                found.cosigned_size = shard.base + witnessed.checkpoint.size
                return
    raise none


def _note(source: TileSource) -> Note:
    return Note.parse(source.read(CHECKPOINT) or b"")


def _failure(error: StrongroomError) -> dict[str, object]:
    # Of a LogError, and of what the retrial found.
    index = getattr(error, "index", None)
    return {"ok": False, "code": error.reason, "message": error.message, "index": index}


def _print(found: _Found, *, as_json: bool) -> None:
    findings = () if found.verdict is None else found.verdict.findings
    if as_json:
        first = _failure(findings[0].error()) if findings else {}
        click.echo(json.dumps({**found.to_json(), **first}, sort_keys=True))
    else:
        _print_report(found)
    if findings:
        end(ExitCode.TAMPERED)


def _print_report(found: _Found) -> None:
    head, entries, verdict = found.report.newest.checkpoint, found.report.entries, found.verdict
    click.echo(f"ok: {found.report.size} entries of `{printable(head.origin)}`, root {to_base64(head.root)}")
    for shard, report in found.report.shards() if len(found.report.reports) > 1 else ():
        click.echo(f"shard {shard.number}: {report.checkpoint.size} entries from {shard.base} on")
    for one in found.report.seen:
        click.echo(f"continues the earlier checkpoint of {one.size} entries")
    for name, at in sorted(found.cosigned.items()):
        click.echo(f"{found.cosigned_size} entries cosigned by {printable(name)} at {format_instant(at)}")
    if found.own_cosignature:
        click.echo("cosigned by the log's own ML-DSA-44 key")
    if entries is not None:
        _print_entries(entries)
    if verdict is not None:
        _print_verdict(verdict)
    for what in found.not_checked():
        click.echo(f"not checked: {what}")


def _print_entries(entries: EntriesRead) -> None:
    if entries.first_at is not None and entries.last_at is not None:
        click.echo(f"from {format_instant(entries.first_at)} to {format_instant(entries.last_at)}")
    for event, count in sorted(entries.events.items()):
        click.echo(f"{count:>8}  {event.value}")
    if entries.signatures is not None:
        click.echo(f"{entries.signatures} signatures of the keeper are good")


def _print_verdict(verdict: Verdict) -> None:
    for kind, tally in (verdict.exhibits or {}).items():
        click.echo(f"{tally['verified']:>8}  {kind}: verified, of {tally['named']} that the log names")
    for index, message in verdict.disputes:
        click.echo(f"DISPUTED  entry {index}: {message}")
    for finding in verdict.findings[:SHOWN]:
        click.echo(f"WRONG     entry {finding.index}: {finding.message} [{finding.code}]")
    if len(verdict.findings) > SHOWN:
        click.echo(f"WRONG     and {len(verdict.findings) - SHOWN} more: --json lists them")
    if not verdict.findings:
        click.echo(f"{verdict.judged} entries judged: each act follows from what was logged before it")
