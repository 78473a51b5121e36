"""Tokens are renewed by putting other files in their place: a keeper behind its walls reads the new ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SHUT_IN = """
import sys
from pathlib import Path
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.keeper.adapters import walls
from strongroom.keys.adapters.secret_file import read_credential
from strongroom.keys.uri import KeyUri

home, token, projected, beside = sys.argv[1:]
uri = KeyUri.parse(f"transit:https://localhost:8200/transit/one?token-file={token}")
version = walls.enter(Path(home), [uri], [])
print(version, flush=True)
sys.stdin.readline()
with read_credential(token) as secret:
    print(bytes(secret.reveal(TOKEN)).decode(), Path(projected).read_text(), flush=True)
try:
    Path(beside).read_text()
except PermissionError:
    print("shut", flush=True)
"""


def replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.rename(path)


def test_a_token_that_an_agent_put_in_place_of_the_old_one_is_read(tmp_path: Path) -> None:
    home, token = tmp_path / "home", tmp_path / "agent" / "token"
    for folder in (home / "keeper", home / "run", token.parent, tmp_path / "beside"):
        folder.mkdir(parents=True)
    beside = tmp_path / "beside" / "token"
    for path in (token, beside):
        replace(path, "old")
    # As an orchestrator projects one: a link to a folder that is swapped.
    pod = tmp_path / "pod"
    for name in ("first", "second"):
        (pod / name).mkdir(parents=True)
        (pod / name / "token").write_text(name)
    (pod / "data").symlink_to("first")
    (pod / "token").symlink_to("data/token")
    environment = {**os.environ, "AWS_WEB_IDENTITY_TOKEN_FILE": str(pod / "token")}
    arguments = [str(path) for path in (home, token, pod / "token", beside)]
    with subprocess.Popen(
        [sys.executable, "-c", SHUT_IN, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        if child.stdout.readline().strip() == "0":
            child.kill()
            pytest.skip("this kernel has no wall around files")
        replace(token, "renewed")
        (pod / "data.new").symlink_to("second")
        (pod / "data.new").rename(pod / "data")
        told, _nothing = child.communicate("\n", timeout=20)
    assert told.split() == ["renewed", "second", "shut"]
