"""A verb loads what it needs and nothing else; the shell completes names without any help of ours."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = ("cedarpy", "httpx2", "cryptography", "fastapi", "sqlalchemy", "torch")
PROGRAM = """
import sys
from click.testing import CliRunner
from strongroom.cli.main import main
result = CliRunner().invoke(main, sys.argv[2:])
assert result.exit_code == 0, result.output
print(*(name for name in sys.argv[1].split(",") if name in sys.modules))
"""


def loaded(*arguments: str) -> set[str]:
    """Return which heavy libraries a command line loads."""
    command = [sys.executable, "-c", PROGRAM, ",".join(HEAVY), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(ran.stdout.split())


def test_the_list_of_verbs_loads_none_of_them() -> None:
    assert loaded("--help") == set()
    assert loaded("--version") == set()


def test_reading_the_framework_loads_nothing_of_the_deployment() -> None:
    assert loaded("framework", "show", "SL1") == set()


def test_a_verb_that_talks_loads_what_it_talks_with() -> None:
    # Else the two tests above would pass because nothing is ever found.
    assert {"httpx2", "cryptography"} <= loaded("status", "--help")


def test_the_shell_completes_verbs_and_options() -> None:
    def completes(words: str) -> list[str]:
        told = {"_STRONGROOM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        program = "from strongroom.cli.main import main; main(prog_name='strongroom')"
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return [line.partition(",")[2] for line in ran.stdout.splitlines()]

    assert completes("strongroom fr") == ["framework", "freeze"]
    assert "--ticket" in completes("strongroom freeze --")
