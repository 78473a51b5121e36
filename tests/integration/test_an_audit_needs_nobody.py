"""Gather from a deployment once, then verify where nobody has ever heard of it: by command, as an auditor does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.audit.tiles import Tile
from strongroom.cli.main import main
from strongroom.client import wiring
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from support.place import Place

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    deployment = InMemoryDeployment()
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    deployment.adopt_first()
    made = Place(tmp_path, deployment)
    made.seal()
    request = made.ask()
    for name in ("sam", "rina"):
        made.run("approve", request, "--yes", by=name)
    yield made
    deployment.close()


def gathered(place: Place, name: str = "audit") -> tuple[Path, Any]:
    folder = place.folder / name
    return folder, place.json("audit", "gather", str(folder), by="olga")


def verify(folder: Path, *more: str, code: int = 0) -> Any:
    arguments = ["audit", "verify", "--log", str(folder / "log"), "--key", str(folder / "log.key"), "--json"]
    arguments += ["--genesis", str(folder / "genesis.json"), "--evidence", str(folder)]
    result = CliRunner().invoke(main, [*arguments, *more])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_everything_gathered_is_verified_offline(place: Place) -> None:
    folder, told = gathered(place)
    place.deployment.close()
    found = verify(folder)
    assert found["ok"] is True
    assert found["size"] == told["size"]
    tallies = found["retrial"]["exhibits"]
    assert {"roster", "policy", "reference-values", "request", "approval", "manifest"} <= tallies.keys()
    assert all(tally["verified"] == tally["named"] for tally in tallies.values()), tallies
    assert found["retrial"]["findings"] == []


def test_gathering_again_fetches_only_what_is_new(place: Place) -> None:
    _folder, first = gathered(place)
    assert all(count["held"] == 0 for count in first["objects"].values())
    place.ask()
    folder, second = gathered(place)
    assert second["objects"]["request"]["fetched"] == 1
    assert second["objects"]["roster"] == {"fetched": 0, "held": 1, "missing": 0}
    assert verify(folder)["size"] == second["size"]


def test_what_was_changed_on_the_way_is_found(place: Place) -> None:
    folder, _told = gathered(place)
    for file in sorted((folder / "exhibits").iterdir()):
        good = file.read_bytes()
        file.write_bytes(good[:-1] + b" " + good[-1:])
        # The spelling of an envelope isn't signed where its payload names it; what it holds is.
        of_payload = not file.name.startswith("approval-")
        assert verify(folder, code=0 if of_payload else 6)["ok"] is of_payload
        file.write_bytes(b"{}")
        refused = verify(folder, code=6)
        assert refused["ok"] is False
        assert refused["index"] is not None
        file.unlink()
        missing = verify(folder)
        assert any("not in the folder" in line for line in missing["not_checked"])
        file.write_bytes(good)


def test_a_pipe_in_an_objects_place_holds_nobody_up(place: Place) -> None:
    folder, _told = gathered(place)
    file = next(iter(sorted((folder / "exhibits").iterdir())))
    file.unlink()
    os.mkfifo(file)
    bundle = folder / "log" / Tile(None, 0, verify(folder)["size"]).path
    bundle.unlink()
    os.mkfifo(bundle)
    assert verify(folder, code=6)["code"] == "log-rows-missing"


def test_another_object_than_the_one_asked_for_isnt_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = place.deployment.call

    def lying(method: str, path: str, **more: Any) -> Json:
        told = answer(method, path, **more)
        if path.startswith("/v1/documents/roster/") and isinstance(told, dict):
            envelope = told["envelope"]
            assert isinstance(envelope, dict)
            envelope["payload"] = to_base64(b"another roster")
        return told

    monkeypatch.setattr(place.deployment, "call", lying)
    folder = place.folder / "audit"
    told = place.json("audit", "gather", str(folder), by="olga", code=6)
    assert told["false"] == [{"index": told["false"][0]["index"], "kind": "roster"}]
    assert not list((folder / "exhibits").glob("roster-*"))


def test_another_log_than_the_signed_one_isnt_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = place.deployment.call

    def lying(method: str, path: str, **more: Any) -> Json:
        told = answer(method, path, **more)
        if path == "/v1/log/entries" and isinstance(told, dict):
            entries = told["entries"]
            assert isinstance(entries, list)
            entries[3], entries[4] = entries[4], entries[3]
        return told

    monkeypatch.setattr(place.deployment, "call", lying)
    folder = place.folder / "audit"
    assert place.json("audit", "gather", str(folder), by="olga", code=6)["code"] == "log-forked"
    assert not (folder / "log" / "checkpoint").exists()


def test_a_folder_of_another_deployment_isnt_mixed_with_this_one(place: Place) -> None:
    folder, _told = gathered(place)
    (folder / "genesis.json").write_bytes(b"{}")
    assert place.json("audit", "gather", str(folder), by="olga", code=2)["code"] == "usage"


def test_the_single_file_reads_what_was_gathered(place: Place, tmp_path: Path) -> None:
    folder, told = gathered(place)
    printed = CliRunner().invoke(main, ["audit", "verifier"])
    (tmp_path / "verifier.py").write_bytes(printed.stdout_bytes)
    assert printed.stderr.strip() == str(Digest.of(printed.stdout_bytes))
    run = [sys.executable, "-I", "verifier.py", str(folder / "log"), "--key", str(folder / "log.key"), "--json"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout)["size"] == told["size"]
    shutil.rmtree(folder / "log" / "tile" / "0")
    assert subprocess.run(run, cwd=tmp_path, capture_output=True, check=False).returncode == 6
