"""What `strongroom drill` says was missed wasn't done in the end: it looks on while anything is under way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from strongroom.cli import drill
from strongroom.response.actions import Command
from strongroom.response.executor import begin, due, withheld
from strongroom.response.grading import Certainty
from strongroom.response.run import Run
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.responses import NOW, TERMS, variables_of


@dataclass
class Reader:
    """A desk that shows one run after the other."""

    runs: Iterator[Run]
    reads: int = 0

    def read(self, _name: str) -> SimpleNamespace:
        self.reads += 1
        return SimpleNamespace(entries=(), runs={"run-000": next(self.runs)})


def test_what_is_under_way_is_waited_for_also_while_people_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    book = playbook_called("weight-exfiltration-suspected")
    terms = replace(TERMS, certainty=Certainty.LIKELY)
    run = begin(
        shipped_playbooks(), book.id, incident="inc-1", variables=variables_of(book), terms=terms, now=NOW, before=0
    )
    asked = tuple(replace(one, held=True) for one in run.pending)
    begun = replace(run, terms=TERMS, pending=(asked[0], *run.pending[1:]))
    assert withheld(begun)
    assert any(isinstance(one, Command) for one in due(begun))
    reader = Reader(iter([begun, begun, replace(begun, pending=asked)]))
    monkeypatch.setattr(drill, "reader", lambda _desk: reader)
    monkeypatch.setattr(drill, "POLL_SECONDS", 0.0)
    drill._tell("inc-1", Path(), book.name, 60.0, as_json=True)
    assert reader.reads == 3
