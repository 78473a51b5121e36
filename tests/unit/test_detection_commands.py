"""``strongroom detection``: what it says of packs and events, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.cli.detection import detection
from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.errors import ExitCode, MalformedError, NotFoundError, StrongroomError
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import PublicKey, SignatureError
from strongroom.detection.pack import Pack
from strongroom.detection.wiring import shipped_pack, shipped_rules
from strongroom.responder.settings import PackFile, ResponderSettings
from strongroom.responder.wiring import load_pack

RULE = """
title: t
name: mine
logsource: {product: strongroom}
detection: {s: {event: 'vault:thing:did', size|gt: 5}, condition: s}
certainty: likely
playbook: insider
"""
CASES = """
mine:
  matches: [[{event: 'vault:thing:did', size: 6}]]
  passes: [[{event: 'vault:thing:did', size: %d}]]
"""


def run(*args: str, code: ExitCode = ExitCode.OK) -> str:
    result = CliRunner().invoke(main, ["detection", *args])
    assert result.exit_code == int(code), result.output
    return result.output


def folder(place: Path, passes: int = 5) -> Path:
    (place / "rules" / "cases").mkdir(parents=True)
    (place / "rules" / "mine.yml").write_text(RULE)
    (place / "rules" / "cases" / "mine.yml").write_text(CASES % passes)
    return place / "rules"


def test_a_folder_becomes_a_pack_and_a_file_is_never_replaced(tmp_path: Path) -> None:
    rules, out = folder(tmp_path), tmp_path / "pack.json"
    told = json.loads(run("compile", str(rules), "--out", str(out), "--json"))
    pack = Pack.parse(out.read_bytes())
    assert told["pack"] == str(pack.digest)
    assert [rule.about.playbook for rule in pack.rules] == ["insider"]
    run("compile", str(rules), "--out", str(out), code=ExitCode.CONFLICT)


def test_a_rule_that_breaks_its_cases_fails_the_check(tmp_path: Path) -> None:
    assert "0 failures" in run("check", str(folder(tmp_path / "good")))
    assert "story 1 should pass" in run("check", str(folder(tmp_path / "bad", passes=7)), code=ExitCode.FAILED)


def test_coverage_counts_the_shipped_rules_and_those_that_somebody_sends_events_for() -> None:
    told = json.loads(run("coverage", "--json"))
    assert (told["covered"], told["heard"], told["fed"]) == (36, 15, 33)
    assert told["vectors"]["NET-2"] == []
    assert told["senders"]["duress"] == ["feed"]
    assert told["senders"]["shard-opened-by-stranger"] == ["feed", "guard"]
    shown = run("coverage")
    assert "36 of 38 vectors have a rule" in shown
    assert "15 of 38 have one whose event" in shown
    assert "33 of 38 have one if the feeds" in shown


def test_recorded_events_are_run_past_a_pack(tmp_path: Path) -> None:
    rules, out = folder(tmp_path), tmp_path / "pack.json"
    run("compile", str(rules), "--out", str(out))
    events = tmp_path / "events.jsonl"
    events.write_text('{"event": "vault:thing:did", "size": 9}\n{"event": "vault:thing:did", "size": 1}\n')
    (line,) = run("try", str(events), "--pack", str(out)).splitlines()
    assert json.loads(line) == {"line": 1, "rule": "mine", "certainty": "likely", "group": {}}


def test_what_is_not_an_event_is_named_by_its_line(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    for text in ("{}", "[1]", "{", '{"event": "e", "now": -1}', '{"event": "e", "now": "x"}'):
        events.write_text('{"event": "e"}\n' + text + "\n")
        run("try", str(events), code=ExitCode.TAMPERED)


SUM = """
title: t
name: much
correlation:
  type: value_sum
  rules: [mine]
  group-by: [who]
  timespan: 1h
  condition: {gte: 100, field: size}
"""


@pytest.mark.parametrize("size", ["1e999", "1" + "0" * 4000, "1e308"])
def test_numbers_that_no_sum_holds_count_as_large_ones_and_spoil_nothing(size: str, tmp_path: Path) -> None:
    rules, out, events = folder(tmp_path), tmp_path / "pack.json", tmp_path / "events.jsonl"
    (rules / "much.yml").write_text(SUM)
    run("compile", str(rules), "--out", str(out))
    line = '{"event": "vault:thing:did", "who": "eve", "size": %s, "now": %d}\n'
    # What isn't a number at all is none; and what was large is forgotten after its hour.
    told = line % ("NaN", 1) + line % (size, 2) + line % ("6", 9000) + line % ("95", 9001)
    events.write_text(told)
    hits = [json.loads(hit) for hit in run("try", str(events), "--pack", str(out)).splitlines()]
    assert [hit["line"] for hit in hits if hit["rule"] == "much"] == [2, 4]


def test_what_an_attacker_wrote_into_an_event_acts_on_no_terminal(tmp_path: Path) -> None:
    rules, out, events = folder(tmp_path), tmp_path / "pack.json", tmp_path / "events.jsonl"
    (rules / "much.yml").write_text(SUM)
    run("compile", str(rules), "--out", str(out))
    events.write_text('{"event": "vault:thing:did", "who": "\\ud800\\u009b2J\\u202e", "size": 100}\n')
    assert run("try", str(events), "--pack", str(out)).isascii()


def test_one_rule_is_shown_as_it_is_matched() -> None:
    assert json.loads(run("show", "decoy-shard-opened", "--json"))["about"]["certainty"] == "sure"
    assert len(run("show").splitlines()) == len(shipped_pack().every) + 1
    run("show", "no-such-rule", code=ExitCode.NOT_FOUND)


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"[" * 1500, b"a: 2026-99-99", b"a: &a [*a]"], ids=["latin", "deep", "date", "loop"]
)
def test_files_that_hold_no_rules_or_cases_are_refused_by_name(text: bytes, tmp_path: Path) -> None:
    rules = folder(tmp_path)
    (rules / "cases" / "other.yml").write_bytes(text)
    assert isinstance(run_refused("check", str(rules)), StrongroomError)
    (rules / "cases" / "other.yml").unlink()
    (rules / "other.yml").write_bytes(text)
    assert isinstance(run_refused("check", str(rules)), StrongroomError)


def run_refused(*args: str) -> StrongroomError | None:
    """Return what a command was refused with; None where it wasn't, or something else ended it."""
    with pytest.raises(StrongroomError) as refused:
        detection.main(list(args), standalone_mode=False)
    return refused.value


def test_sources_of_the_shipped_pack_lie_beside_it() -> None:
    assert (shipped_rules() / "ais.yml").is_file()


def test_a_responder_takes_only_a_pack_that_its_key_signed(tmp_path: Path) -> None:
    """Signed by the key of its settings, or it doesn't start: unsigned rules are nobody's."""
    rules, out, signed = folder(tmp_path), tmp_path / "pack.json", tmp_path / "pack.signed"
    run("compile", str(rules), "--out", str(out))
    for name in ("warden", "thief"):
        WalletFolder.create(tmp_path / name, PersonId(name), os.urandom, passphrase=None)
    told = json.loads(run("sign", str(out), "--out", str(signed), "--as", str(tmp_path / "warden"), "--json"))
    run("sign", str(out), "--out", str(signed), "--as", str(tmp_path / "warden"), code=ExitCode.CONFLICT)
    other = json.loads(run("sign", str(out), "--out", str(tmp_path / "o"), "--as", str(tmp_path / "thief"), "--json"))

    def settings(file: Path, key: str) -> ResponderSettings:
        pack = PackFile(file=str(file), key=PublicKey.parse(key))
        return ResponderSettings(
            host="w1",
            models=(ModelId("atlas"),),
            watched=(),
            readers=(),
            gates=(),
            sensors=(),
            acting=(),
            freezes_an_hour=1,
            pack=pack,
        )

    assert load_pack(settings(signed, told["key"])) == Pack.parse(out.read_bytes())
    with pytest.raises(SignatureError):
        load_pack(settings(signed, other["key"]))
    with pytest.raises(MalformedError):
        load_pack(settings(out, told["key"]))
    with pytest.raises(NotFoundError):
        load_pack(settings(tmp_path / "gone", told["key"]))
