"""Each error tells a person, the shell and an HTTP client the same thing, under codes that stay."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import strongroom
from strongroom.core.errors import DeniedError, ExitCode, MalformedError, NotFoundError, StrongroomError


def all_errors(root: type[StrongroomError] = StrongroomError) -> list[type[StrongroomError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_errors(child))]


def test_a_person_reads_what_happened_and_what_to_do() -> None:
    assert MalformedError("`a.b` is missing").diagnosis() == "`a.b` is missing [malformed]"
    assert NotFoundError("no `x`", remedy="try `y`").diagnosis() == "no `x` [not-found]\ntry `y`"


def test_an_http_client_gets_a_problem() -> None:
    assert DeniedError("not yet", reason="denied.quorum", remedy="ask one more").problem() == {
        "type": "urn:strongroom:problem:denied.quorum",
        "title": "denied",
        "status": 403,
        "detail": "not yet",
        "code": "denied.quorum",
        "remedy": "ask one more",
    }
    assert "remedy" not in DeniedError("not yet").problem()


def test_exit_codes_stay() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "DENIED": 3,
        "PENDING": 4,
        "LOCKED": 5,
        "TAMPERED": 6,
        "UNAVAILABLE": 7,
        "NOT_FOUND": 8,
        "CONFLICT": 9,
    }


def test_every_error_of_every_shelf_has_a_code_and_never_exits_as_success() -> None:
    for found in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if ".migrations" not in found.name and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    errors = [error for error in all_errors() if error.__module__.startswith("strongroom.")]
    assert len(errors) >= 10
    for error in errors:
        assert re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", error.code), error
        assert error.exit_code is not ExitCode.OK, error
        assert 400 <= error.http_status <= 599, error
        assert error.__name__.endswith("Error"), error
        assert error.__doc__, error


def test_errors_are_caught_at_their_root() -> None:
    with pytest.raises(StrongroomError):
        raise DeniedError("no")
