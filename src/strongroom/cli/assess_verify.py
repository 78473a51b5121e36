"""``strongroom assess verify``: an assessment judged again from what it says was seen. Needs no deployment."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.cli.assess_show import lines
from strongroom.cli.files import json_option, read_file
from strongroom.cli.output import show
from strongroom.framework.catalogue import load


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--all", "everything", is_flag=True, help="List every gap up to its level.")
@json_option
def verify(file: Path, *, everything: bool, as_json: bool) -> None:
    """Judge the assessment in FILE again, and refuse one that says more than its observations carry.

    Whether the observations are true isn't shown by that: its signature and the log say who answers for them.
    """
    made, catalogue = Assessment.parse(read_file(file, most=MAX_ASSESSMENT)), load()
    made.check(catalogue)
    data = {"digest": str(made.digest), "held": None if made.held is None else made.held.value}
    text = [*lines(made, catalogue, everything=everything), "", f"founded: {made.digest}"]
    show({**data}, text, as_json=as_json)
