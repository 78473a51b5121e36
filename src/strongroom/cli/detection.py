"""``strongroom detection``: build rule packs, check them, and try them on recorded events."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import click

from strongroom.audit.facts import SCHEMA
from strongroom.cli.output import end, show, table
from strongroom.cli.session import as_wallet, open_wallet, passphrase_option
from strongroom.core.canonical import Json
from strongroom.core.envelope import sign
from strongroom.core.errors import ConflictError, ExitCode, MalformedError, NotFoundError
from strongroom.detection.cases import Failure, coverage, failures
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.pack import MAX_PACK, PACK_TYPE, Pack
from strongroom.detection.senders import FED, heard_from
from strongroom.detection.sensors.readers import READERS
from strongroom.detection.wiring import cases_of, compile_folder, linear_regex, shipped_pack, shipped_rules
from strongroom.framework.catalogue import load

_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_folder: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_pack: Final = click.option(
    "--pack",
    "pack_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Another pack than the one that comes with the program.",
)
SHOWN: Final = "strongroom"


@click.group("detection")
def detection() -> None:
    """Build rule packs, check them, and try them on recorded events."""


@detection.command("compile")
@click.argument("folder", type=_folder)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A file that isn't there yet."
)
@click.option("--name", default=SHOWN, show_default=True, help="What the pack is called.")
@_json
def compile_pack(folder: Path, out: Path, name: str, *, as_json: bool) -> None:
    """Turn a folder of Sigma rules into a pack. Needs the extra `rules`."""
    pack = compile_folder(folder, name)
    _write_new(out, pack.to_bytes())
    told: dict[str, Json] = {
        "pack": str(pack.digest),
        "rules": len(pack.rules),
        "correlations": len(pack.correlations),
    }
    show(told, f"{len(pack.rules)} rules and {len(pack.correlations)} correlations\n{pack.digest}", as_json=as_json)


@detection.command("sign")
@click.argument("pack_file", metavar="PACK", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A file that isn't there yet."
)
@as_wallet
@passphrase_option
@_json
def sign_pack(pack_file: Path, out: Path, wallet: Path, passphrase_fd: int | None, *, as_json: bool) -> None:
    """Sign a pack with your wallet's key, for responders whose settings name that key."""
    pack, opened = _opened(pack_file), open_wallet(wallet, passphrase_fd)
    envelope = sign(PACK_TYPE, pack.to_bytes(), opened.signer())
    _write_new(out, envelope.to_bytes())
    key = str(opened.identity.key)
    show({"pack": str(pack.digest), "key": key}, f"{pack.digest}\nsigned by {key}", as_json=as_json)


@detection.command("check")
@click.argument("folder", type=_folder, required=False)
@_json
def check(folder: Path | None, *, as_json: bool) -> None:
    """Play every rule's cases: its own under FOLDER, or those that come with the program. Exit code 1: one failed."""
    pack = shipped_pack() if folder is None else compile_folder(folder, SHOWN)
    cases = cases_of(folder or shipped_rules())
    failed = failures(pack, cases, linear_regex)
    told: list[Json] = [{"rule": failure.rule, "what": failure.what} for failure in failed]
    lines = [f"{failure.rule}: {failure.what}" for failure in failed]
    lines.append(f"{len(pack.every)} rules, {len(cases)} cases, {len(failed)} failures")
    show({"rules": len(pack.every), "cases": len(cases), "failures": told}, lines, as_json=as_json)
    if failed:
        end(ExitCode.FAILED)


@detection.command("coverage")
@_json
def show_coverage(*, as_json: bool) -> None:
    """Say which of RAND's attack vectors have a rule whose cases all pass, and who sends what it waits for."""
    catalogue, pack = load(), shipped_pack()
    failed: tuple[Failure, ...] = failures(pack, cases_of(shipped_rules()), linear_regex)
    covered = coverage(pack, failed, catalogue)
    facts = {event.value: facts.keys() for event, facts in SCHEMA.items()}
    without, senders = heard_from(pack, facts), heard_from(pack, facts, FED)
    heard, fed = covered.heard(without), covered.heard(senders)
    rows = [
        (vector, catalogue.vector(vector).name, ", ".join(rules) or "-", ", ".join(_senders(rules, senders)) or "-")
        for vector, rules in covered.rules.items()
    ]
    rules_heard = [sum(map(bool, each.values())) for each in (without, senders)]
    total = [
        f"{len(covered.covered)} of {len(covered.rules)} vectors have a rule that holds its cases",
        f"{len(heard)} of {len(covered.rules)} have one whose event something here or a sensor that is read sends",
        f"{len(fed)} of {len(covered.rules)} have one if the feeds of your own systems are connected",
        f"{rules_heard[0]} of {len(senders)} rules have a sender, {rules_heard[1]} with feeds",
    ]
    told: dict[str, Json] = {
        "covered": len(covered.covered),
        "heard": len(heard),
        "fed": len(fed),
        "vectors": {vector: list(rules) for vector, rules in covered.rules.items()},
        "senders": {rule: list(names) for rule, names in senders.items()},
    }
    show(told, [table(rows, ("vector", "name", "rules", "sent by")), *total], as_json=as_json)


def _senders(rules: Iterable[str], senders: Mapping[str, tuple[str, ...]]) -> list[str]:
    return sorted({name for rule in rules for name in senders[rule]})


@detection.command("show")
@click.argument("rule", required=False)
@_pack
@_json
def show_rules(rule: str | None, pack_file: Path | None, *, as_json: bool) -> None:
    """List the rules of a pack, or show one as it is matched."""
    pack = _opened(pack_file)
    if rule is not None:
        found = next((each for each in pack.every if each.id == rule), None)
        if found is None:
            raise NotFoundError(f"the pack has no rule `{rule}`", remedy="list them: strongroom detection show")
        show(found.to_json(), json.dumps(found.to_json(), indent=2), as_json=as_json)
        return
    rows = [(each.id, each.about.certainty.value, each.about.severity.value, each.about.title) for each in pack.every]
    listed: list[Json] = [each.to_json() for each in pack.every]
    show(
        {"pack": str(pack.digest), "rules": listed},
        table(rows, ("rule", "certainty", "severity", "title")),
        as_json=as_json,
    )


@detection.command("try")
@click.argument("events", type=click.File("rb"))
@_pack
def try_events(events: IO[bytes], pack_file: Path | None) -> None:
    """Run recorded events (JSON, one a line) past a pack; prints each hit as JSON, one a line.

    An event's `now` is the detector's time in seconds; without it, events come one second apart.
    """
    engine = Engine(_opened(pack_file), regex=linear_regex)
    for number, now, event in _events(events):
        for hit in engine.observe(read_event(event), now):
            told = {"line": number, "rule": hit.rule, "certainty": hit.about.certainty.value, "group": dict(hit.group)}
            # An attacker wrote the group's values: half a letter has no bytes, and a terminal acts on some letters.
            click.echo(json.dumps(told, ensure_ascii=True))
    if engine.forgotten:
        click.echo(f"strongroom: {engine.forgotten} groups or windows that still counted were forgotten", err=True)


@detection.command("read")
@click.argument("sensor", type=click.Choice(sorted(READERS)))
@click.argument("lines", type=click.File("rb"), default="-")
def read(sensor: str, lines: IO[bytes]) -> None:
    """Turn what another sensor recorded, a line each, into events for `detection try`. Says what it didn't know."""
    read_line, unknown = READERS[sensor](), Counter[str]()
    for line in filter(None, map(bytes.strip, lines)):
        try:
            told = read_line(line)
        except MalformedError:
            unknown["not a line of this sensor's"] += 1
            continue
        if told.unknown:
            unknown[told.unknown] += 1
        for event in told.events:
            click.echo(json.dumps(event, ensure_ascii=True))
    for kind, count in unknown.most_common():
        click.echo(f"strongroom: {count} not read: {kind}", err=True)


def _write_new(out: Path, data: bytes) -> None:
    try:
        with out.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise ConflictError(f"`{out}` is there already", remedy="name a file that isn't") from None


def _events(lines: IO[bytes]) -> Iterator[tuple[int, int, dict[str, object]]]:
    now = 0
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise MalformedError(f"line {number} isn't JSON") from None
        if not isinstance(event, dict):
            raise MalformedError(f"line {number} isn't an object")
        given = event.pop("now", now + 1)
        if not isinstance(given, int) or given < now:
            raise MalformedError(f"line {number}: `now` must be a number of seconds that doesn't fall")
        now = given
        yield number, now, event


def _opened(pack_file: Path | None) -> Pack:
    if pack_file is None:
        return shipped_pack()
    with pack_file.open("rb") as file:
        data = file.read(MAX_PACK + 1)
    return Pack.parse(data)
