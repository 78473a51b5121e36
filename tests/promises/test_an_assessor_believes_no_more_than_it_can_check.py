"""A deployment, a local user or a report that lies to the assessor makes nothing look better than it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from strongroom.assessor.adapters import broker_tls
from strongroom.assessor.deployment import checked_standings
from strongroom.assessor.logged import LogFold
from strongroom.assessor.proofs import attack_looks
from strongroom.assurance.attack_results import AttackRun
from strongroom.assurance.findings import State
from strongroom.assurance.observations import Fact
from strongroom.cli import assess_home
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import PersonId
from strongroom.framework.ids import MeasureId
from strongroom.intake.adapters.register_folder import RegisterFolder
from strongroom.intake.copies.register import CopyKind, Step, Terms
from strongroom.release.ledger import Ledger
from strongroom.release.ledger_parts import Adopted
from support.assessing import DAY, GENESIS, MODEL, NOW, World, deployment, suite
from support.deployment import signer

SAM = PersonId("sam")


def ledger() -> Ledger:
    """Return a log in which everybody was vetted."""
    made = Ledger()
    made.vetting = {one.person: Adopted(epoch=1, document=Digest.of(b"record")) for one in deployment().standings}
    return made


def test_who_was_suspended_isnt_brought_back_by_a_word() -> None:
    seen, log = deployment(), ledger()
    assert all(one.cleared(NOW) for one in checked_standings(seen.standings, seen.roster, log))
    log.suspended.add(SAM)
    assert {one.person for one in checked_standings(seen.standings, seen.roster, log) if one.suspended} == {SAM}
    del log.vetting[SAM]
    (sam,) = (one for one in checked_standings(seen.standings, seen.roster, log) if one.person == SAM)
    assert not sam.cleared(NOW)


def test_who_is_left_out_is_there_and_unvetted() -> None:
    seen = deployment()
    (sam,) = (one for one in checked_standings((), seen.roster, ledger()) if one.person == SAM)
    assert (sam.roles, sam.unit, sam.cleared(NOW)) == (("approver-security",), "security", False)


def test_roles_and_keys_are_the_signed_rosters() -> None:
    seen = deployment()
    raised = tuple(replace(one, roles=("attestor",), hardware_keys=2, kind="agent") for one in seen.standings)
    for one in checked_standings(raised, seen.roster, ledger()):
        assert (one.hardware_keys, one.kind) == (0, "human"), "their keys are in files"
        assert "attestor" not in one.roles


def test_rules_that_arent_there_are_no_strict_ones(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.policy(rules=())
    found = world.findings()
    for name in ("SL2-WAC-01", "SL3-WAC-01", "SL3-PAT-01", "SL1-NAC-04", "SL5-WPH-02"):
        assert found[MeasureId(name)].state is State.NOT_ASSESSED, name


def test_one_attack_is_counted_once() -> None:
    run = suite()
    with pytest.raises(MalformedError):
        replace(run, results=run.results * 2)
    with pytest.raises(MalformedError):
        replace(run, trials=run.trials[:1] * 8)


def test_a_report_of_other_software_or_of_tomorrow_shows_nothing() -> None:
    run: AttackRun = suite()
    assert all(look.facts for look in attack_looks(run, NOW, version="1"))
    for false, version in ((run, "2"), (replace(run, at=NOW + 1), "1")):
        assert not any(look.facts for look in attack_looks(false, NOW, version=version))


def test_an_entry_of_the_future_is_no_new_one() -> None:
    log = LogFold()
    log.drilled = NOW + 86400
    facts = {look.collector: look.facts for look in log.looks(None, NOW)}
    assert facts["response.incidents"] is not None
    assert facts["response.incidents"]["drill_days"] == -1


@dataclass(frozen=True)
class Told:
    """What an entry on an incident's record says."""

    at: int
    facts: Mapping[str, str | int]

    def text(self, name: str) -> str:
        """Return a text."""
        return str(self.facts[name])

    def integer(self, name: str) -> int:
        """Return a number."""
        return int(self.facts[name])


def test_an_incident_is_open_until_its_record_is_closed_and_a_drill_is_none() -> None:
    log = LogFold()

    def days(*told: tuple[int, str, str, int]) -> tuple[object, object]:
        for at, name, phase, drill in told:
            log._incident(Told(at, {"incident": name, "phase": phase, "drill": drill}))  # type: ignore[arg-type]
        facts = next(look.facts or {} for look in log.looks(None, NOW) if look.collector == "response.incidents")
        return facts["open_days"], facts["drill_days"]

    assert days() == (0, -1)
    assert days((NOW - 9 * DAY, "a", "detected", 0), (NOW - 8 * DAY, "a", "contained", 0)) == (9, -1)
    assert days((NOW - 5 * DAY, "b", "detected", 1)) == (9, 5)
    assert days((NOW - DAY, "a", "closed", 0)) == (0, 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_a_process_that_calls_itself_the_responder_isnt_it() -> None:
    command = ["/bin/sh", "-c", "read line", "responder", "run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, user=65533) as process:
        try:
            assert assess_home._running(65533)
            assert not assess_home._running(65532), "the folder's owner runs none"
        finally:
            process.kill()


def registered(folder: Path, place: Path, host: str) -> str:
    """Register a copy for a day; returns its id."""
    terms = Terms(
        model=MODEL,
        version=1,
        kind=CopyKind.SEALED,
        host=host,
        place=str(place),
        holder="ops",
        reason="serving",
        expires=NOW + 365 * DAY,
        prove_seconds=DAY,
        files=Digest.of(b"files"),
    )
    with RegisterFolder(folder, signer("olga").public_key, GENESIS).writing() as writing:
        said = writing.register.next(Digest.of(host.encode()).value.hex()[:32], Step.ADDED, NOW, terms=terms)
        writing.register.take(said)
        writing.append(said.signed_by(signer("olga")))
    return said.copy


def test_every_copy_that_the_register_has_here_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assess_home, "registrar_key", lambda name: signer(name).public_key)
    folder, here, there = tmp_path / "register", tmp_path / "here", tmp_path / "there"

    def seen(*sealed: Path, now: int = NOW, key: str = "olga") -> Mapping[str, Fact]:
        place = assess_home.RegisterPlace(folder=folder, key=key)
        return assess_home.register_look(place, GENESIS, sealed, now).facts or {}

    assert not seen(), "a register that isn't there has no copies to be proud of"
    registered(folder, here, os.uname().nodename)
    registered(folder, there, "another-host")
    assert seen()["unlooked"] == (str(here),)
    assert (seen(here)["unlooked"], seen(here)["elsewhere"], seen(here)["troubled"]) == ((), 1, ())
    late = seen(here, now=NOW + 2 * DAY)["troubled"]
    assert isinstance(late, tuple)
    assert len(late) == 2
    assert not seen(here, key="sam"), "another's register is none"
    lines = (folder / "copies.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "copies.jsonl").write_bytes(b"".join(lines[1:]))
    assert not seen(there), "one of which a statement was taken out is none"


def test_a_broker_that_went_away_refused_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = iter([("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)])

    def honest(*_given: object) -> tuple[str, str, int]:
        try:
            return next(agreed)
        except StopIteration:
            raise ConnectionRefusedError from None

    monkeypatch.setattr(broker_tls, "_agreed", honest)
    monkeypatch.setattr(broker_tls, "mutual_tls", lambda **_files: type("Context", (), {})())
    monkeypatch.setattr(broker_tls, "one_sided_tls", lambda **_files: None)
    monkeypatch.setattr(broker_tls, "_handshakes", lambda *_given: False)
    monkeypatch.setattr(broker_tls, "_answered", lambda *_given: False)
    look = broker_tls.broker_look("https://127.0.0.1:1", authority=Path(), certificate=Path(), key=Path())
    assert look.facts is None


@pytest.mark.parametrize(
    "text",
    ["issuer = ", "issuer = 5\n", 'issuer = "https://a"\nrequired = false\n', "a = " + "[" * 20_000, "a" * 300_000],
)
def test_login_settings_that_cannot_be_read_are_not_taken_for_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    assert assess_home._login(tmp_path).facts == {"provider": False, "provisioned": False}
    (tmp_path / "broker" / "oidc.toml").write_text(text)
    told = assess_home._login(tmp_path)
    assert (told.facts, told.missing) == (None, "`oidc.toml` can't be read")
