"""The pages about incidents name every action, entry, fact, clock and playbook that there is."""

from __future__ import annotations

from pathlib import Path

from strongroom.response.action_list import ACTIONS
from strongroom.response.clocks import DUTIES
from strongroom.response.entries import FACTS, SERVES
from strongroom.response.limits import PER_SUBJECT, SUBJECTS_PER_SOURCE
from strongroom.response.wiring import shipped_playbooks

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPEC = (DOCS / "spec" / "incident-record.md").read_text(encoding="utf-8")
PAGE = (DOCS / "operate" / "incidents.md").read_text(encoding="utf-8")


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_action_is_told_as_it_is() -> None:
    told = rows(SPEC)
    for name, action in ACTIONS.items():
        takes, wave, authority, inverse, probe = told[name.value]
        assert takes.split(", ") == sorted(kind.value for kind in action.takes)
        assert (wave, authority) == (action.wave.name.lower(), action.authority.value)
        assert inverse.strip("`") == (action.inverse.value if action.inverse else "none")
        assert probe == f"{action.probe.value}: {action.wanted}"


def test_every_entry_and_fact_is_told() -> None:
    told = rows(SPEC)
    for happened, facts in FACTS.items():
        category, listed = told[happened.value]
        assert category == SERVES[happened].value
        assert listed == ", ".join(f"`{name}` ({kind.value})" for name, kind in facts.items())


def test_every_clock_is_told() -> None:
    told = rows(SPEC)
    for duty in DUTIES.values():
        requirement, begins, within = told[duty.id]
        assert requirement == f"{duty.requirement}, {duty.reference}"
        assert begins == duty.begins.value
        count, unit = within.split(" ")
        assert int(count) * {"hours": 3600, "days": 86400}[unit] == duty.within


def test_every_playbook_is_told() -> None:
    assert rows(PAGE).keys() == {book.name for book in shipped_playbooks().values()}


def test_the_budget_is_told() -> None:
    assert f"cause {PER_SUBJECT} a day for one subject, and for {SUBJECTS_PER_SOURCE} subjects" in " ".join(
        SPEC.split()
    )
