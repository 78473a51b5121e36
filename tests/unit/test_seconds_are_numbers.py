"""What says how long a command goes on is a number within its bounds."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from strongroom.cli.seconds import Seconds


@click.command
@click.option("--wait", type=Seconds(1, 600))
def waits(wait: float) -> None:
    click.echo(wait)


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "inf", "0", "601", "x", ""])
def test_what_is_no_such_number_is_refused(text: str) -> None:
    result = CliRunner().invoke(waits, [f"--wait={text}"])
    assert result.exit_code == 2
    assert "Invalid value for '--wait'" in result.output


def test_a_number_is_taken() -> None:
    assert CliRunner().invoke(waits, ["--wait=1.5"]).output == "1.5\n"
