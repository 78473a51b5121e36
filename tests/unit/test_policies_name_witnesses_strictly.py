"""The policy's sections on witnesses and the dead man, and the genesis' post-quantum key: one form, bounds on all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from strongroom.access.policy import DeadMan, LevelAge, Policy, Witnesses
from strongroom.cli.main import main
from strongroom.core.canonical import decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
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


def test_a_dead_man_s_section_reads_back_and_its_absence_leaves_no_trace() -> None:
    named = replace(policy(), dead_man=DeadMan(responders=(PersonId("warden"), PersonId("other"))))
    assert Policy.parse(named.to_bytes()) == named
    assert named.dead_man is not None
    assert named.dead_man.max_age_seconds == 60
    assert b"dead_man" not in policy().to_bytes()


@pytest.mark.parametrize(
    "section",
    [
        {"responders": [], "max_age_seconds": 60},
        {"responders": ["warden", "warden"], "max_age_seconds": 60},
        {"responders": ["not a name"], "max_age_seconds": 60},
        {"responders": ["warden"], "max_age_seconds": 9},
        {"responders": ["warden"], "max_age_seconds": 3601},
        {"responders": ["warden"]},
        {"responders": ["warden"], "max_age_seconds": 60, "more": 1},
        ["warden"],
    ],
)
def test_a_dead_man_of_another_form_is_refused(section: Any) -> None:
    value: Any = decode(policy().to_bytes())
    with pytest.raises(MalformedError):
        Policy.parse(encode(value | {"dead_man": section}))


def test_a_draft_is_given_a_dead_man_and_a_root_holder_reads_of_it(tmp_path: Path) -> None:
    draft = tmp_path / "policy.json"
    draft.write_bytes(policy().to_bytes())

    def run(*words: str) -> int:
        return CliRunner().invoke(main, ["policy", "dead-man", str(draft), *words]).exit_code

    assert run("--responder", "warden", "--responder", "other", "--max-age", "30") == 0
    section = Policy.parse(draft.read_bytes()).dead_man
    assert section == DeadMan(responders=(PersonId("warden"), PersonId("other")), max_age_seconds=30)
    shown = CliRunner().invoke(main, ["policy", "show", str(draft)]).output
    assert "each of `warden`, `other` must have been heard at most 30 s before" in shown
    assert run() != 0
    assert run("--responder", "warden", "--remove") != 0
    assert run("--remove") == 0
    assert Policy.parse(draft.read_bytes()).dead_man is None
    assert "whether or not anybody watches" in CliRunner().invoke(main, ["policy", "show", str(draft)]).output


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
