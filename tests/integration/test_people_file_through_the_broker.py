"""``strongroom people import`` shows what a CSV file would change, and carries it out through the running broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from strongroom.broker.people.adapters.files import TokenFile
from strongroom.cli.people import people
from strongroom.core.errors import UnavailableError, UsageError
from support.people import PERSON, USER, lab
from support.people_server import PeopleServer, people_server, prepared

pytestmark = pytest.mark.integration
FILE = """person,employment,unit
dana,left,research
sam,active,security
rina,leave,
olga,notice,research
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleServer]:
    with people_server(prepared(tmp_path_factory.mktemp("home"))) as running:
        yield running


def run(server: PeopleServer, file: Path, *more: str) -> Result:
    command = ["import", str(file), "--home", str(server.lab.home), "--url", server.url, *more]
    return CliRunner().invoke(people, command)


def kinds(result: Result) -> dict[str, str]:
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.output)
    return {change["person"]: change["kind"] for change in told["changes"]}


def test_a_file_is_shown_then_carried_out_once(server: PeopleServer, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(FILE)
    with server.client() as client:
        body = {"schemas": [USER], "userName": "dana@example.org", "active": True}
        dana = client.post("/Users", json=body).json()["id"]
    shown = run(server, file)
    assert "3 would be suspended" in shown.output
    assert server.suspended == []
    assert kinds(run(server, file, "--json")) == {"dana": "lower", "sam": "same", "rina": "lower", "olga": "lower"}
    done = run(server, file, "--apply")
    assert "3 suspended" in done.output
    assert sorted(server.suspended) == ["dana left", "olga notice", "rina leave"]
    # The same file again finds all of it said already.
    again = run(server, file, "--apply", "--json")
    assert kinds(again) == {"dana": "same", "sam": "same", "rina": "same", "olga": "same"}
    assert len(server.suspended) == 3
    with server.client() as client:
        user = client.get(f"/Users/{dana}").json()
        assert (user["active"], user[PERSON]["employment"]) == (False, "left")
    # No later file brings anybody back.
    file.write_text(FILE.replace("left", "active"))
    assert kinds(run(server, file, "--apply", "--json"))["dana"] == "not-raised"
    assert len(server.suspended) == 3
    # The token that the command made for itself is gone.
    assert [token.name for token in TokenFile(server.lab.folder).load().tokens] == ["provider"]


def test_a_mover_is_shown_and_left_alone(server: PeopleServer, tmp_path: Path) -> None:
    enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    with server.client() as client:
        body = {"schemas": [USER, enterprise], "userName": "mo", enterprise: {"department": "research"}}
        assert client.post("/Users", json=body).status_code == 201
    before = server.suspended
    file = tmp_path / "people.csv"
    file.write_text("person,employment,unit\nmo,active,sales\n")
    assert kinds(run(server, file, "--apply", "--json")) == {"mo": "moved"}
    assert server.suspended == before


def test_a_bad_line_refuses_the_whole_file(server: PeopleServer, tmp_path: Path) -> None:
    before = server.suspended
    file = tmp_path / "people.csv"
    file.write_text(FILE + "ann,gone,x\nbob,left,=cmd()\n")
    result = run(server, file, "--apply")
    assert result.exit_code != 0
    assert "line 6" in str(result.exception)
    assert "line 7" in str(result.exception)
    assert "cmd" not in str(result.exception)
    assert server.suspended == before


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(FILE)
    made = prepared(tmp_path / "home-1")
    with people_server(made) as server:
        url = server.url
    command = ["import", str(file), "--home", str(made.home), "--url", url, "--apply"]
    assert isinstance(CliRunner().invoke(people, command).exception, UnavailableError)
    with lab(tmp_path / "home-2") as bare:
        (bare.folder / "scim-tokens.json").unlink()
        command[3] = str(bare.home)
        assert isinstance(CliRunner().invoke(people, command).exception, UsageError)


def test_the_verbs_of_people_load_none_of_the_directory() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from strongroom.cli.people import people\n"
        "print(CliRunner().invoke(people, ['--help']).output)\n"
        "print('loaded', *(name for name in ('sqlalchemy', 'scim2_server') if name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "scim-token" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "loaded"
