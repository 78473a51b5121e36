"""``strongroom up --console`` gives the console what the deployment's folder has, and says what isn't there."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.cli.console import serve
from strongroom.cli.up_console import ConsoleFound
from strongroom.core.errors import StrongroomError

PROVIDER = 'issuer = "https://login.example"\nclient_id = "rooms"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "broker").mkdir(parents=True)
    return tmp_path / "home"


def test_what_is_there_is_given_as_console_serve_takes_it(home: Path, tmp_path: Path) -> None:
    (home / "assessments").mkdir()
    (home / "quarantine").mkdir()
    # A responder has its folder wherever its guard runs: a link leads there.
    (tmp_path / "warden").mkdir()
    (home / "responder").symlink_to(tmp_path / "warden")
    (home / "broker" / "oidc.toml").write_text(PROVIDER + 'authority_file = "login-ca.pem"\n')
    found = ConsoleFound.look(home)
    given = dict(one.removeprefix("--").split("=", 1) for one in found.arguments())
    assert given == {
        "responder": str(tmp_path / "warden" / "desk.sock"),
        "assessments": str(home / "assessments"),
        "quarantine": str(home / "quarantine"),
        "issuer": "https://login.example",
        "issuer-ca": str(home / "broker" / "login-ca.pem"),
    }
    taken = {option for parameter in serve.params for option in parameter.opts}
    assert {f"--{name}" for name in given} <= taken
    assert [*found.lacks()] == []


def test_what_is_missing_is_said_with_what_adds_it(home: Path) -> None:
    found = ConsoleFound.look(home)
    assert found.arguments() == []
    told = [*found.lacks()]
    for line, named in zip(told, ("responder", "assessments", "quarantine", "broker/oidc.toml"), strict=True):
        assert str(home / named) in line


def test_a_file_in_a_folders_place_is_not_given(home: Path) -> None:
    for name in ("responder", "assessments", "quarantine"):
        (home / name).write_text("no folder")
    assert ConsoleFound.look(home).arguments() == []


def test_a_deployment_without_a_provider_asks_none(home: Path) -> None:
    (home / "broker" / "oidc.toml").write_text("required = false\n")
    found = ConsoleFound.look(home)
    assert (found.issuer, found.issuer_authority) == ("", None)
    assert not any("sign in" in line for line in found.lacks())


@pytest.mark.parametrize(
    "text", ["issuer = ", "issuer = 5\n", PROVIDER + "required = false\n", "\xff", "a = " + "[" * 20_000]
)
def test_settings_that_cannot_be_read_start_no_console(home: Path, text: str) -> None:
    """Else people would be let in past the provider that somebody meant to name."""
    (home / "broker" / "oidc.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(StrongroomError):
        ConsoleFound.look(home)
