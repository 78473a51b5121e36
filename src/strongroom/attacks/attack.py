"""What an attack is: who could do it, by which of RAND's vectors, what should stop it, and how it may be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.framework.ids import MeasureId, VectorId, measure_id, vector_id
from strongroom.framework.levels import OperationalCapacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack.

    :ivar refusals: the stable codes with which it may be refused; any other end is `broken`.
    :ivar outside: it needs nobody's key and changes nothing, so that it can be tried on a running deployment.
    """

    id: str
    title: str
    vectors: tuple[VectorId, ...]
    capacity: OperationalCapacity
    measures: tuple[MeasureId, ...]
    layer: Layer
    refusals: frozenset[str]
    outside: bool
    act: Callable[[Trial], None]


_ATTACKS: Final[dict[str, Attack]] = {}
MAX_TITLE: Final = 110


def attack(
    *,
    vectors: str,
    capacity: str,
    measures: str,
    layer: Layer,
    refusals: str,
    outside: bool = False,
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Register a function as an attack: its name is the id, the first line of its docstring the title.

    Lists are words with blanks between them.
    """

    def register(act: Callable[[Trial], None]) -> Callable[[Trial], None]:
        name = act.__name__.replace("_", "-")
        title = (act.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        if name in _ATTACKS or not title or len(title) > MAX_TITLE:
            raise UsageError(f"attack `{name}` is registered twice, or has no title of at most {MAX_TITLE} characters")
        _ATTACKS[name] = Attack(
            id=name,
            title=title,
            vectors=tuple(vector_id(text) for text in vectors.split()),
            capacity=OperationalCapacity(capacity),
            measures=tuple(measure_id(text) for text in measures.split()),
            layer=layer,
            refusals=frozenset(refusals.split()),
            outside=outside,
            act=act,
        )
        return act

    return register


def registered() -> tuple[Attack, ...]:
    """Return every attack, in the order in which they stand in their modules."""
    return tuple(_ATTACKS.values())


def chosen(ids: Iterable[str]) -> tuple[Attack, ...]:
    """Return the attacks with these ids, or all if there are none.

    :raises NotFoundError: no such attack.
    """
    wanted = tuple(ids)
    for name in wanted:
        if name not in _ATTACKS:
            raise NotFoundError(f"there is no attack `{name[:64]}`", remedy="list them: strongroom attack ls")
    return tuple(one for one in registered() if not wanted or one.id in wanted)
