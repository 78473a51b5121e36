"""``strongroom framework`` prints the framework for people and for programs, and credits RAND."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from strongroom.cli.framework import framework
from strongroom.core.errors import NotFoundError


def run(*arguments: str, columns: int = 80) -> str:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(framework, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_show_lists_the_measures_that_a_level_adds() -> None:
    text = run("show", "SL3")
    assert "SL3-WPI-01  Copy-resistant interfaces only" in text
    assert "SL2-WST-02" not in text
    assert "45 measures." in text


def test_show_cumulative_lists_the_levels_below() -> None:
    text = run("show", "sl3", "--cumulative")
    assert "SL1-WST-01" in text
    assert "SL4-WTU-01" not in text
    assert "SL3 asks for 111 measures in all." in text


def test_vectors_can_be_narrowed_to_a_category() -> None:
    text = run("vectors", "--category", "ruc")
    assert "RUC-1  3 4 4 5 5" in text
    assert "PHY-7" not in text
    assert "PHY-7  1 1 1 1 2" in run("vectors")


def test_measure_says_what_it_asks_and_maps_to() -> None:
    text = run("measure", "SL2-WST-02", columns=100)
    for expected in ("encryption_min_bits = 256", "weight-encryption: SL1-WST-02 < SL2-WST-02", "confidence high"):
        assert expected in text


@pytest.mark.parametrize("arguments", [("show", "SL1"), ("vectors",), ("measure", "SL3-WPI-01")])
def test_rand_is_credited_at_the_end(arguments: tuple[str, ...]) -> None:
    assert "RAND Corporation, RRA2849-1" in run(*arguments, columns=120).split("\n\n")[-1]
    assert "RAND Corporation" in json.loads(run(*arguments, "--json"))["credit"]


def test_text_fits_the_terminal() -> None:
    for line in run("measure", "SL3-WPI-01", columns=60).splitlines():
        assert len(line) <= 60 or " " not in line.strip(), line


def test_json_holds_every_field() -> None:
    entry = json.loads(run("measure", "SL3-WPI-01", "--json"))["measure"]
    assert entry["automation"] == ["enforce", "verify"]
    assert {"name": "assume_bits_per_weight", "value": 4} in entry["parameters"]
    shown = json.loads(run("show", "SL3", "--cumulative", "--json"))
    assert len(shown["measures"]) == 111
    listed = json.loads(run("vectors", "--json"))
    assert (len(listed["vectors"]), len(listed["categories"])) == (38, 9)
    assert listed["vectors"][0]["feasibility"]["scores"] == [3, 4, 4, 5, 5]


def test_an_unknown_measure_is_an_error_with_a_remedy() -> None:
    result = CliRunner().invoke(framework, ["measure", "SL3-WPI-99"])
    assert isinstance(result.exception, NotFoundError)
    assert "SL3-WPI-0" in result.exception.remedy


def test_an_unknown_level_is_a_usage_error() -> None:
    assert CliRunner().invoke(framework, ["show", "SL6"]).exit_code == 2
