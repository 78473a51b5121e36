"""One file shows an auditor which level was held when, with nothing but the genesis; and one changed byte shows too."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulators import deployment_in_memory
from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.cli import assess_statement
from strongroom.client import wiring
from strongroom.core.clock import SystemClock
from support.clocks import FixedClock
from support.place import Place

pytestmark = pytest.mark.integration
Files = dict[str, bytes]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A deployment in which olga assesses and attests; she left a bundle, and the deployment is gone."""
    people = deployment_in_memory.PEOPLE
    monkeypatch.setitem(people, "olga", ("security", ("auditor", "assessor", "attestor")))
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    monkeypatch.setattr(wiring, "SystemClock", lambda: deployment.clock)
    monkeypatch.setattr(assess_statement, "SystemClock", lambda: deployment.clock)
    deployment.adopt_first()
    made = Place(tmp_path, deployment)
    made.seal()
    words = tmp_path / "statements"
    words.mkdir()
    said = ("--measure", "SL1-STC-01", "--says", "an officer is on call", "--covers", "all sites", "--yes")
    made.json("assess", "statement", "sign", str(words / "a.json"), *said, by="olga")
    made.json("assess", "--statements", str(words), "--record", "--to", str(tmp_path), by="olga")
    made.json("audit", "gather", str(tmp_path / "audit"), by="olga")
    deployment.close()
    return made


def bundle(place: Place, *options: str, code: int = 0) -> Any:
    arguments = ("audit", "bundle", str(place.folder / "audit"), "--assessment", str(place.folder / "assessment.json"))
    return place.json(*arguments, "--out", str(place.folder / "bundle.zip"), *options, code=code)


def verified(place: Place, code: int = 0, genesis: str = "audit/genesis.json") -> Any:
    arguments = ("audit", "verify-bundle", str(place.folder / "bundle.zip"))
    return place.json(*arguments, "--genesis", str(place.folder / genesis), code=code)


def changed(place: Place, change: Callable[[Files], object]) -> None:
    """Change the files of the bundle."""
    path = place.folder / "bundle.zip"
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as new:
        for name, data in files.items():
            new.writestr(name, data)


def test_a_bundle_shows_what_was_held_and_what_was_changed(place: Place) -> None:
    assert bundle(place, code=8)["code"] == "not-found", "a statement that counts isn't there"
    bundle(place, "--statements", str(place.folder / "statements"))
    told = verified(place)
    assert (told["ok"], told["person"], told["held"], told["statements"]) == (True, "olga", None, 1)
    whole = (place.folder / "bundle.zip").read_bytes()

    def tried(change: Callable[[Files], object]) -> str:
        (place.folder / "bundle.zip").write_bytes(whole)
        changed(place, change)
        result = place.run(
            *("audit", "verify-bundle", str(place.folder / "bundle.zip"), "--json"),
            *("--genesis", str(place.folder / "audit/genesis.json")),
        )
        assert result.exit_code == 6, result.output
        return str(json.loads(result.stdout)["code"])

    def level(files: Files) -> None:
        files["assessment.json"] = files["assessment.json"].replace(b'"held":"none"', b'"held":"SL2"')

    def word(files: Files) -> None:
        name = next(name for name in files if name.startswith("statements/"))
        files[name] = files[name].replace(b'"sig":"', b'"sig":"AAAA', 1)

    def no_word(files: Files) -> None:
        del files[next(name for name in files if name.startswith("statements/"))]

    def entry(files: Files) -> None:
        name = next(name for name in files if name.startswith("log/tile/entries/"))
        files[name] = files[name].replace(b"olga", b"otto", 1)

    def notice(files: Files) -> None:
        del files[next(name for name in files if name.startswith("exhibits/assessment-"))]

    def roster(files: Files) -> None:
        name = next(name for name in files if name.startswith("exhibits/roster-"))
        del files[name]

    assert tried(level) == "assessment-not-named", "the log names no such assessment"
    assert tried(word) != ""
    assert tried(no_word) == "statement-missing"
    assert tried(entry) != ""
    assert tried(roster) == "roster-missing", "without it nobody's signature is judged"
    assert tried(notice) == "notice-missing"
    assert tried(lambda files: files.pop("assessment.json")) == "malformed"
    assert tried(lambda files: files.update({"../out.json": b""})) == "malformed"
    assert not (place.folder.parent / "out.json").exists()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        (place.folder / "bundle.zip").write_bytes(whole[:cut])
        assert verified(place, code=6)["code"] == "malformed"


def test_reports_are_made_again_and_signed_from_the_file_alone(place: Place) -> None:
    out = place.folder / "reports"
    out.mkdir()
    options = ("--out", "html,csv,json,oscal,ciso,mappings", "--to", str(out))
    file = place.folder / "assessment.json"
    told = place.json("assess", "report", str(file), *options, "--sign", by="olga")
    assert sorted(map(str, out.iterdir())) == sorted(told["written"])
    assert (out / "assessment.json").read_bytes() == file.read_bytes()
    plain = [path for path in out.glob("oscal-*.json") if ".dsse" not in path.name]
    assert len(plain) == len(list(out.glob("oscal-*.dsse.json"))) == 9
    file.write_bytes(file.read_bytes().replace(b'"held":"none"', b'"held":"SL2"'))
    assert place.json("assess", "report", str(file), *options, code=6)["code"] == "assessment-unfounded"
