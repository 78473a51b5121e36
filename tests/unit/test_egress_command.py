"""``strongroom egress`` counts models in their files, tells the bound, and its exit code says whether that holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from strongroom.cli.egress import bits, volume
from strongroom.cli.main import main
from strongroom.client.render import lasting
from strongroom.core.errors import ExitCode
from strongroom.core.safetensors_header import make_header
from strongroom.egress.buckets import DAY
from strongroom.egress.policy import EgressPolicy
from support.egress import ATLAS
from support.sealed import FILES, seal_model, write_model

SIZE = ("--parameters", "70B", "--vocabulary", "128256")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["egress", *arguments])


def told(*arguments: str, code: ExitCode = ExitCode.OK) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def write_weights(path: Path, *shapes: tuple[str, tuple[int, ...], int]) -> None:
    tensors = [(f"t{number}", kind, shape, size) for number, (kind, shape, size) in enumerate(shapes)]
    header, _order = make_header(tensors, None)
    path.write_bytes(header + bytes(sum(size for *_rest, size in tensors)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder with 3,000,000 weights in two shards, and things that aren't weights."""
    write_weights(tmp_path / "a.safetensors", ("BF16", (1000, 2000), 4_000_000), ("I64", (512,), 4096))
    write_weights(tmp_path / "b.safetensors", ("F8_E4M3", (1000, 1000), 1_000_000), ("BOOL", (64, 64), 4096))
    (tmp_path / "config.json").write_text('{"vocab_size": 32000, "rope_theta": 1e4}', encoding="utf-8")
    return tmp_path


def test_a_folder_is_counted_in_its_headers(model: Path) -> None:
    found = told("bound", str(model))
    assert (found["parameters"], found["vocabulary"], found["token_millibits"]) == (3_000_000, 32000, 14966)
    assert found["too_small"]
    assert told("bound", str(model / "b.safetensors"))["parameters"] == 1_000_000
    assert told("bound", str(model), "--vocabulary", "64K")["vocabulary"] == 64_000


def test_a_vocabulary_may_stand_beside_an_encoder(model: Path) -> None:
    (model / "config.json").write_text('{"text_config": {"vocab_size": 77}}', encoding="utf-8")
    assert told("bound", str(model))["vocabulary"] == 77
    (model / "config.json").write_text("{}", encoding="utf-8")
    assert run("bound", str(model)).exit_code == ExitCode.USAGE
    for broken in ("[]", '{"text_config": []}', "{"):
        (model / "config.json").write_text(broken, encoding="utf-8")
        assert run("bound", str(model)).exit_code == ExitCode.TAMPERED


def test_a_sealed_directory_is_worked_out_from_its_size(tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    plain = tmp_path / "model"
    plain.mkdir()
    seal_model(write_model(plain), sealed)
    sizes = [len(data) for _mode, data in FILES.values()]
    expected = sum(size for size in sizes if size * 100 >= max(sizes))
    assert expected < sum(sizes)
    found = told("bound", str(sealed), "--stored-bits", "16", "--vocabulary", "1000")
    assert found["parameters"] == expected // 2
    result = run("bound", str(sealed), "--vocabulary", "1000")
    assert result.exit_code == ExitCode.USAGE
    assert "--stored-bits" in result.output


def test_a_budget_that_breaks_the_bound_ends_as_denied() -> None:
    result = run("bound", *SIZE, "--budget", "1B")
    assert result.exit_code == ExitCode.DENIED
    assert "REFUSED: theft takes 27.0 days, and the policy demands 365 days." in result.output
    assert "At most 76,502,732 bits a day" in result.output
    assert not told("bound", *SIZE, "--budget", "76502733", code=ExitCode.DENIED)["holds"]
    assert told("bound", *SIZE, "--budget", "76502732")["holds"]


def test_what_was_spent_shortens_what_is_left() -> None:
    rows = told("bound", *SIZE, "--spent", "14000000000")["rows"]
    assert rows[3]["seconds_left"] < rows[3]["seconds"] // 2
    assert rows[4]["seconds_left"] == 0


def test_a_policy_is_printed_edited_and_tried(tmp_path: Path, model: Path) -> None:
    printed = run("policy", "--model", "atlas", "--parameters", "3M", "--vocabulary", "32K")
    assert printed.exit_code == ExitCode.OK
    file = tmp_path / "policy.json"
    file.write_text(printed.output, encoding="utf-8")
    assert told("bound", "--policy", str(file)) == told("bound", str(model), "--policy", str(file))
    file.write_text(printed.output.replace("400", "160", 1), encoding="utf-8")
    assert told("bound", "--policy", str(file), code=ExitCode.DENIED)["seconds_to_steal"] < 365 * DAY
    file.write_text(printed.output.replace('"v": 1,', ""), encoding="utf-8")
    assert run("bound", "--policy", str(file)).exit_code == ExitCode.TAMPERED


def test_strict_is_two_and_a_half_times_smaller() -> None:
    budgets = [
        json.loads(run("policy", "--model", "atlas", *SIZE, *more).output)["model_day_bits"]
        for more in ((), ("--strict",))
    ]
    assert budgets[0] * 2 // 5 == budgets[1]


@pytest.mark.parametrize(("parameters", "vocabulary"), [(3_000_001, 32000), (3_000_000, 31999)])
def test_a_policy_that_counts_a_model_wrong_is_refused(
    tmp_path: Path, model: Path, parameters: int, vocabulary: int
) -> None:
    file = tmp_path / "policy.json"
    made = EgressPolicy.template(ATLAS, parameters=parameters, vocabulary=vocabulary)
    file.write_text(json.dumps(made.to_json()), encoding="utf-8")
    result = run("bound", str(model), "--policy", str(file))
    assert result.exit_code == ExitCode.DENIED
    assert "[egress-bound]" in result.output


def test_without_numbers_there_is_no_bound(model: Path) -> None:
    for arguments in ((), ("--parameters", "8B"), ("--vocabulary", "8"), (str(model), "--parameters", "8B")):
        assert run("bound", *arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("text", ["", "B", "0", "-1", "1/2", "1e9", "0.5", "1.23K4", "8 B", "8Q", "1.5.2B", "\u0661"])
def test_what_is_no_count_is_refused(text: str) -> None:
    assert run("bound", "--parameters", text, "--vocabulary", "10").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "count"), [("8B", 8 * 10**9), ("1.5t", 15 * 10**11), ("70_000", 70_000), ("1.024K", 1024)]
)
def test_counts_are_read_exactly(text: str, count: int) -> None:
    result = run("bound", "--parameters", text, "--vocabulary", "10", "--json")
    assert json.loads(result.output)["parameters"] == count


def test_numbers_are_written_down_and_never_up() -> None:
    assert [bits(one) for one in (16000, 1000, 160, 16969)] == ["16 bits", "1 bit", "0.16 bits", "16.969 bits"]
    assert [volume(8 * one) for one in (0, 999, 1000, 999_999, 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "999.9 kB",
        "1.0 TB",
    ]
    assert [lasting(one) for one in (0, 2 * DAY - 1, 2 * DAY, 365 * DAY - 1, 730 * DAY)] == [
        "0.0 hours",
        "47.9 hours",
        "2.0 days",
        "364.9 days",
        "2.0 years",
    ]
