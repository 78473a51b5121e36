"""The policy's section on witnesses, and the log's post-quantum key in the genesis: one form, bounds on everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.access.policy import LevelAge, Policy, Witnesses
from strongroom.core.canonical import decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.genesis import Genesis
from strongroom.framework.levels import SecurityLevel
from support.cosigners import witness
from support.logs import GENESIS
from support.policies import policy

TEXT = f"witness W {witness(1).key}\nquorum W\n"
SECTION = Witnesses(policy=TEXT, max_age_seconds=600, levels=(LevelAge(level=SecurityLevel.SL4, max_age_seconds=60),))


def test_a_section_reads_back_and_its_absence_leaves_no_trace() -> None:
    named = replace(policy(), witnesses=SECTION)
    assert Policy.parse(named.to_bytes()) == named
    assert Policy.parse(policy().to_bytes()).witnesses is None
    assert b"witnesses" not in policy().to_bytes()
    assert [SECTION.max_age(level) for level in SecurityLevel] == [600, 600, 600, 60, 600]
    assert Witnesses(policy=TEXT).max_age_seconds == 900


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no text": lambda section: section.pop("policy"),
    "text of another type": lambda section: section.update(policy=["x"]),
    "too long": lambda section: section.update(policy="#" * 131_073),
    "no age": lambda section: section.pop("max_age_seconds"),
    "an age of nothing": lambda section: section.update(max_age_seconds=9),
    "an age of two days": lambda section: section.update(max_age_seconds=172_800),
    "no levels": lambda section: section.pop("levels"),
    "a level twice": lambda section: section.update(levels=section["levels"] * 2),
    "older at a level": lambda section: section["levels"][0].update(max_age_seconds=601),
    "an unknown level": lambda section: section["levels"][0].update(level="SL6"),
    "something else": lambda section: section.update(more=1),
    "something else at a level": lambda section: section["levels"][0].update(more=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_form_is_refused(change: str) -> None:
    value: Any = decode(replace(policy(), witnesses=SECTION).to_bytes())
    CHANGES[change](value["witnesses"])
    with pytest.raises(MalformedError):
        Policy.parse(encode(value))


@pytest.mark.parametrize("key", [b"", bytes(1311), bytes(1313), bytes(32)])
def test_a_genesis_names_a_whole_post_quantum_key(key: bytes) -> None:
    value: Any = decode(GENESIS.to_bytes())
    assert Genesis.parse(encode(value)) == GENESIS
    value["log_cosigner"] = to_base64(key)
    with pytest.raises(MalformedError):
        Genesis.parse(encode(value))
    del value["log_cosigner"]
    with pytest.raises(MalformedError):
        Genesis.parse(encode(value))
