"""Precautions by command: a responder takes one, everybody sees it, and two people lift it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.core.clock import SystemClock
from support.place import Place

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment with everything in force."""
    with Place.opened(tmp_path, monkeypatch, SystemClock()) as made:
        yield made


def test_a_hold_is_taken_shown_and_lifted_by_two(place: Place) -> None:
    place.json("precaution", "take", "hold", "minilm", "--cause", "legal", by="sam")
    again = place.json("precaution", "take", "hold", "minilm", "--cause", "legal", by="sam", code=9)
    assert again["code"] in {"precaution-stands", "statement-known"}
    (one,) = place.json("precaution", "ls", by="rina")["precautions"]
    assert (one["kind"], one["subject"], one["until"], one["person"]) == ("hold", "minilm", None, "sam")
    assert "nothing destroyed of minilm" in place.run("status", by="rina").output
    asked = place.json("precaution", "lift", one["precaution"], by="dana", code=4)
    for name in ("sam", "rina"):
        place.json("approve", asked["request"], "--yes", by=name)
    place.json("precaution", "lift", "--request", asked["request"], by="dana")
    assert place.json("precaution", "ls", by="rina")["precautions"] == []
