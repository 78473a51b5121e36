"""tools/open_sealed.py, which shares no code with us, opens what we seal and refuses whatever we refuse."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.sealed import FILES, GENESIS, SIGNER, data_key, seal_model, write_model
from support.sealed_vectors import files_of, load, written

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "open_sealed.py"
DOCUMENT = load()
CASES: list[dict[str, Any]] = DOCUMENT["cases"]
AS_RIGHT = {"segment-reordered": {"segment-tampered"}, "segment-duplicated": {"segment-tampered"}}
"""Where our message is more precise than a reader's has to be."""

IN_ONE_PROCESS = """
import io, json, runpy, sys
from contextlib import redirect_stderr, redirect_stdout

tool = sys.argv[1]
for line in sys.stdin.read().splitlines():
    sys.argv = [tool, *json.loads(line)]
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_path(tool, run_name="__main__")
    except SystemExit as end:
        print(json.dumps([end.code, out.getvalue(), err.getvalue()]))
assert "strongroom" not in sys.modules
"""


def _tool(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    # -I: neither this folder nor PYTHONPATH is searched, so that only `cryptography` can be imported.
    command = [sys.executable, "-I", TOOL, *arguments]
    return subprocess.run(command, input=given, check=False, capture_output=True, text=True, timeout=60)


def _expected(case: dict[str, Any], publisher: Path) -> list[str]:
    expect = case["expect"]
    found = ["--publisher", str(publisher), "--version", str(expect["version"])]
    for name in ("genesis", "model", "digest"):
        if expect[name]:
            found += [f"--{name}", expect[name]]
    return found


def test_every_vector_has_its_outcome(tmp_path: Path) -> None:
    publishers = {}
    for name, text in DOCUMENT["publishers"].items():
        publishers[name] = tmp_path / f"{name}.pub"
        publishers[name].write_text(text)
    lines: list[list[str]] = []
    wanted: list[tuple[dict[str, Any], str, Path | None]] = []
    for number, case in enumerate(CASES):
        place = written(files_of(case), tmp_path / f"{number}.sealed")
        key = tmp_path / f"{number}.key"
        key.write_text(case["data_key"])
        expected = _expected(case, publishers[case["publisher"]])
        lines.append(["verify", str(place), *expected])
        wanted.append((case, case["outcomes"]["verify"], None))
        to = tmp_path / f"{number}.plain"
        lines.append(["unseal", str(place), "--to", str(to), "--key-file", str(key), *expected])
        wanted.append((case, case["outcomes"]["whole"], to))
    done = subprocess.run(
        [sys.executable, "-I", "-c", IN_ONE_PROCESS, TOOL],
        input="\n".join(map(json.dumps, lines)),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (case, outcome, made), (status, _out, err) in zip(wanted, answers, strict=True):
        assert status == (0 if outcome == "ok" else 1), (case["name"], outcome, err)
        if outcome != "ok":
            code = re.match(r"refused: ([a-z-]+): ", err)
            assert code, (case["name"], err)
            assert code[1] in {outcome, *AS_RIGHT.get(outcome, set())}, (case["name"], outcome, err)
            assert made is None or not made.exists(), case["name"]
        elif made is not None and "files" in case:
            assert {
                path.relative_to(made).as_posix(): {
                    "mode": path.stat().st_mode & 0o777,
                    "size": path.stat().st_size,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                }
                for path in made.rglob("*")
                if path.is_file()
            } == case["files"]
    # Nothing half-written stays.
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed")
    return tmp_path / "m.sealed"


def test_a_model_that_we_seal_is_verified_listed_and_unsealed(sealed: Path, tmp_path: Path) -> None:
    publisher, key = tmp_path / "publisher.pub", tmp_path / "data.key"
    publisher.write_text(f"{SIGNER.public_key}\n")
    key.write_text("07" * 32 + "\n")
    assert len(data_key()) == 32
    verified = _tool("verify", sealed, "--publisher", publisher, "--genesis", str(GENESIS), "--version", "1")
    assert (verified.returncode, verified.stderr) == (0, "")
    # The data key from standard input: it never stands on a command line.
    listed = _tool("list", sealed, given="07" * 32 + "\n")
    assert listed.returncode == 0
    assert "nobody's signature" in listed.stderr
    assert {line.split()[2]: int(line.split()[1]) for line in listed.stdout.splitlines()} == {
        name: len(data) for name, (_mode, data) in FILES.items()
    }
    done = _tool("unseal", sealed, "--to", tmp_path / "again", "--key-file", key, "--publisher", publisher)
    assert done.returncode == 0, done.stderr
    for name, (mode, data) in FILES.items():
        path = tmp_path / "again" / name
        assert (path.stat().st_mode & 0o777, path.read_bytes()) == (mode, data)
    assert _tool("unseal", sealed, "--to", tmp_path / "again", "--key-file", key).returncode == 2


def test_it_takes_no_key_on_the_command_line_and_imports_nothing_of_ours() -> None:
    text = TOOL.read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|from) strongroom", text, re.MULTILINE)
    assert '--key"' not in text
    # Short enough to be read at one sitting.
    assert len([line for line in text.splitlines() if line.strip()]) < 300


def test_a_link_in_the_directory_is_not_followed(sealed: Path, tmp_path: Path) -> None:
    path = next((sealed / "objects").iterdir())
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    done = _tool("verify", sealed)
    assert done.returncode == 1
    assert "object-unexpected" in done.stderr
