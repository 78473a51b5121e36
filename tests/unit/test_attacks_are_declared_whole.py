"""Every attack says what it acts out, what should stop it, and how it may be refused; every vector is answered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strongroom.attacks import acts  # noqa: F401 - registers them
from strongroom.attacks.attack import Attack, attack, chosen, registered
from strongroom.attacks.lab import weakened
from strongroom.attacks.lab.weakened import SWITCHES
from strongroom.attacks.layers import BEHIND, Layer
from strongroom.attacks.suite import tried_without
from strongroom.attacks.summary import PEOPLE_TEST
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.framework.catalogue import load

ATTACKS = registered()
CATALOGUE = load()
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate" / "attack-suite.md"


def test_there_are_enough_for_the_mission() -> None:
    assert len(ATTACKS) >= 60
    assert len({vector for one in ATTACKS for vector in one.vectors}) >= 24


@pytest.mark.parametrize("one", ATTACKS, ids=lambda one: one.id)
def test_what_an_attack_names_exists(one: Attack) -> None:
    assert one.vectors
    assert set(one.vectors) <= set(CATALOGUE.vectors)
    assert one.measures
    assert set(one.measures) <= set(CATALOGUE.measures)
    assert one.refusals
    # Nobody for whom RAND's experts found every one of its vectors out of reach is said to be able to do it.
    first = min(CATALOGUE.vectors[vector].first_feasible_oc.rank for vector in one.vectors)
    assert one.capacity.rank >= first


def test_each_vector_is_acted_out_or_people_are_told_what_to_test() -> None:
    acted = {vector for one in ATTACKS for vector in one.vectors}
    assert set(PEOPLE_TEST) == set(CATALOGUE.vectors) - acted


def test_each_switch_turns_off_a_layer_that_stops_some_attack() -> None:
    for layer in SWITCHES.keys() - BEHIND:
        assert tried_without(layer, ATTACKS), layer


def test_a_switch_that_finds_nothing_to_turn_off_says_so() -> None:
    for place in ("strongroom.release.chronicle:Chronicle", "strongroom.release.chronicle"):
        with pytest.raises(UsageError, match="to turn off"):
            weakened._replace(place, "renamed_since", None)


def test_every_layer_stops_some_attack() -> None:
    assert {one.layer for one in ATTACKS} == set(Layer) - BEHIND
    assert SWITCHES.keys() >= BEHIND


def test_those_from_outside_are_few_and_change_nothing() -> None:
    outside = [one for one in ATTACKS if one.outside]
    assert {one.layer for one in outside} <= {Layer.TRANSPORT, Layer.WALLS}


def test_an_attack_that_isn_t_there_is_refused_by_name() -> None:
    with pytest.raises(NotFoundError, match="no-such-attack"):
        chosen(["no-such-attack"])


def test_an_attack_is_registered_once_and_has_a_title() -> None:
    declare = attack(vectors="CEC-4", capacity="OC2", measures="SL2-WAC-01", layer=Layer.EGRESS, refusals="x")

    def nobody_agreed(_trial: object) -> None:
        """Taken."""

    def untitled(_trial: object) -> None:
        pass

    for act in (nobody_agreed, untitled):
        with pytest.raises(UsageError):
            declare(act)
    assert registered() == ATTACKS


def test_the_page_lists_what_is_registered() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \| (.+?) \| (.+?) \| (OC\d) \| (.+?) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    told = {row[0]: row[1:] for row in rows}
    assert told == {one.id: (one.title, ", ".join(one.vectors), one.capacity.value, one.layer.value) for one in ATTACKS}
