"""A deployment in memory whose people take deliveries in: dana receives and seals, otto and olga review."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.intake.formats.identify import check_delivery
from strongroom.personnel.roster import Person
from strongroom.quarantine import wiring as gate_wiring
from support.place import Place

REVIEWERS = ("otto", "olga")


def judge_here(patch: pytest.MonkeyPatch) -> None:
    """Have the gate judge in this process: starting a walled one for each delivery takes a second."""
    patch.setattr(gate_wiring, "judge_walled", check_delivery)


def with_reviewers(place: Place) -> Place:
    """Give the reviewers their role."""

    def change(person: Person) -> Person:
        return replace(person, roles=person.roles | {"intake-reviewer"}) if person.id in REVIEWERS else person

    place.deployment.change_roster(change)
    return place


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files as a supplier delivers them."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def receive(place: Place, source: Path, into: Path, *more: str, code: int = 0, model: str = "minilm") -> Any:
    """Take a folder in."""
    return place.json(
        "intake", "receive", str(source), "--model", model, "--into", str(into), *more, by="dana", code=code
    )


def review(place: Place, delivery: Path, name: str, word: str = "--accept", code: int = 0) -> Path:
    """Have somebody review a delivery; returns the file with the review."""
    out = place.folder / f"{delivery.name}.{name}{word}.json"
    place.json("intake", "review", str(delivery), word, "--out", str(out), "--yes", by=name, code=code)
    return out


def seal(place: Place, delivery: Path, *reviews: Path, code: int = 0) -> Any:
    """Seal a delivery."""
    named = [part for one in reviews for part in ("--review", str(one))]
    return place.json("intake", "seal", str(delivery), *named, by="dana", code=code)
