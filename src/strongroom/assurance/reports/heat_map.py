"""The 38 attack vectors by the five classes of attacker, as a table that reads without colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.attack_results import Outcome
from strongroom.assurance.findings import State
from strongroom.assurance.reports.markup import add, table
from strongroom.assurance.reports.matrix import Cell, row
from strongroom.assurance.reports.words import STATES
from strongroom.framework.catalogue import Catalogue

if TYPE_CHECKING:
    from strongroom.assurance.reports.markup import Node

LEGEND: Final = (
    "Each cell: the weakest measure against that vector, of the level that RAND made for that class of attacker "
    "and of the levels below it; how many of those measures hold; which don't; and RAND's score of how feasible "
    "the attack is where nothing is done, from 1 to 5. A cell through which an attack got says so first."
)
_NAMED: Final = 3
"""Measures that a cell names before it counts; the list of measures has them all."""


def put_map(part: Node, assessment: Assessment, catalogue: Catalogue) -> None:
    """Put the map there.

    A row is a vector, a column a class of attacker. A cell's state is the weakest of the measures that counter the
    vector, of the level that RAND made for that class and of those below it: strength elsewhere makes up for nothing.
    """
    add(part, "p", LEGEND, cls="soft")
    classes = [f"{one.id} {one.title}" for one in catalogue.capacities.values()]
    body = table(part, f"{len(catalogue.vectors)} attack vectors by class of attacker", ("Vector", *classes), "map")
    for category in catalogue.categories.values():
        bar = add(add(body, "tr"), "td", category.name, cls="bar")
        bar.set("colspan", str(len(classes) + 1))
        for vector in catalogue.vectors_in(category.id):
            line = add(body, "tr")
            head = add(line, "th", scope="row")
            add(head, "b", vector.id)
            add(head, "span", vector.name)
            for cell in row(vector, assessment, catalogue):
                _cell(line, cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellWords:
    """How a cell is said.

    :ivar cls: a state's value, or ``nothing``: the colour. ``word``: the same as text. ``lines``: the rest.
    """

    cls: str
    word: str
    lines: tuple[str, ...]


def words_of(cell: Cell) -> CellWords:
    """Say a cell."""
    cls, word = ("nothing", "no measure") if cell.state is None else (cell.state.value, STATES[cell.state])
    if cell.got_through:
        # Whatever the measures say: here is somebody who came past them.
        cls, word = State.NOT_MET.value, "got through"
    return CellWords(cls=cls, word=word, lines=tuple(_lines(cell)))


def _lines(cell: Cell) -> Iterator[str]:
    if cell.measures:
        yield f"{len(cell.measures) - len(cell.open)} of {len(cell.measures)} hold"
    if cell.open:
        # The newest first: what this class of attacker adds.
        named, more = cell.open[::-1][:_NAMED], len(cell.open) - _NAMED
        yield f"open: {', '.join(named)}{f' and {more} more' if more > 0 else ''}"
    yield f"feasible: {cell.feasibility} of 5"
    if cell.attacks:
        blocked = sum(attack.outcome is Outcome.BLOCKED for attack in cell.attacks)
        yield f"attacks: {blocked} of {len(cell.attacks)} blocked"


def _cell(line: Node, cell: Cell) -> None:
    said = words_of(cell)
    box = add(line, "td", cls=said.cls, data_head=cell.capacity.value)
    add(box, "b", said.word)
    for text in said.lines:
        add(box, "span", text)
