"""The commands around a gateway that need no deployment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.cli.main import main
from strongroom.core.errors import ExitCode
from strongroom.enclave.gateway.keys import PREFIX, ApiKeys
from support.gateways import words


def call(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["enclave", "serve", *words])
    return done.exit_code, done.stdout, done.stderr


def test_a_drawn_key_is_known_by_its_entry() -> None:
    files = []
    for _ in range(2):
        code, entry, key = call("key", "research-team")
        assert code == ExitCode.OK
        assert key.startswith(PREFIX)
        assert key.strip() not in entry
        files.append((json.loads(entry), key.strip()))
    keys = ApiKeys.parse(json.dumps({"v": 1, "keys": [entry for entry, _key in files]}).encode())
    for _entry, key in files:
        assert keys.principal(f"Bearer {key}") == "research-team"


def test_a_principal_that_cannot_be_one_is_refused() -> None:
    for name in ("", "two words", "x" * 65, "-x"):
        code, out, _err = call("key", "--", name)
        assert code != ExitCode.OK
        assert "sha256" not in out


def test_serving_takes_every_rule_and_has_no_default_for_any() -> None:
    for needed in (
        "--sealed",
        "--image",
        "--request",
        "--tpm",
        "--api-keys",
        "--tokenizer",
        "--state",
    ):
        assert f"{needed} " in call("run", "--help")[1]
    assert call("run", "atlas")[0] == ExitCode.USAGE


def test_a_second_engine_takes_all_of_its_options_or_none(tmp_path: Path) -> None:
    shown = call("run", "--help")[1]
    options = ("--replay-image", "--replay-request", "--replay-tpm")
    assert all(f"{name} " in shown for name in options)
    (tmp_path / "keys.json").write_text("{}")
    needed = {"--sealed": tmp_path, "--api-keys": tmp_path / "keys.json", "--tokenizer": tmp_path, "--state": tmp_path}
    given = [f"{name}={value}" for name, value in needed.items()]
    for name in options:
        code, _out, err = call("run", "atlas", *given, "--image=a", "--request=b", "--tpm=c", f"{name}=d")
        assert code == ExitCode.USAGE
        assert "--replay-image, --replay-request and --replay-tpm" in err


def test_canaries_are_recorded_of_a_few_questions_into_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(words()._tokenizer.to_str())
    questions, out = tmp_path / "questions.txt", tmp_path / "canaries.json"
    asked = ("canaries", str(tmp_path), "--questions", str(questions), "--out", str(out))
    for text in ("", "\n \n", "w1\n" * 33):
        questions.write_text(text)
        assert call(*asked)[0] == ExitCode.USAGE
        assert not out.exists()
    questions.write_text("w1\n")
    out.write_text("what was there")
    assert call(*asked)[0] == ExitCode.CONFLICT
    assert out.read_text() == "what was there"


def test_a_model_that_cannot_be_read_leaves_no_file_of_canaries(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(words()._tokenizer.to_str())
    (tmp_path / "questions.txt").write_text("w1\n")
    out = tmp_path / "canaries.json"
    code, _out, _err = call(
        "canaries", str(tmp_path), "--questions", str(tmp_path / "questions.txt"), "--out", str(out)
    )
    assert code == ExitCode.TAMPERED
    assert not out.exists()
