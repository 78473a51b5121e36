"""A refusal crosses a socket whole. A class that the other side doesn't know keeps its family: a conflict stays one."""

from __future__ import annotations

import pytest

from strongroom.core.errors import ConflictError, DeniedError, StrongroomError, TamperedError, UnavailableError
from strongroom.ipc import frames


class KnownHereError(ConflictError):
    """A class that the test defines."""

    code = "known-here-only"


def crossed(data: bytes) -> StrongroomError:
    _number, error = frames.read_answer(data)
    assert isinstance(error, StrongroomError)
    return error


@pytest.mark.parametrize("kind", [ConflictError, DeniedError, TamperedError, UnavailableError, KnownHereError])
def test_a_known_class_comes_back_as_itself(kind: type[StrongroomError]) -> None:
    told = crossed(frames.refusal(3, kind("`x` stands", remedy="look", reason="finest"))[frames.HEADER :])
    assert type(told) is kind
    assert (told.message, told.remedy, told.reason) == ("`x` stands", "look", "finest")


def test_an_unknown_class_comes_back_as_its_family() -> None:
    sent = frames.refusal(3, KnownHereError("`x` stands"))[frames.HEADER :]
    told = crossed(sent.replace(b'["known-here-only"', b'["never-seen-by"'))
    assert type(told) is ConflictError
    assert told.reason == "known-here-only"


def test_an_unknown_family_is_still_a_refusal() -> None:
    assert type(frames.told_error(["never-seen-by", "never-seen-either"], "r", "m", "")) is UnavailableError
    assert type(frames.told_error([], "r", "m", "")) is UnavailableError
