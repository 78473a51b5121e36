"""Which answer is continued next: one token for each that is under way, round after round. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.core.errors import MalformedError
from strongroom.enclave.metered import Code, Frame, Kind, Order, halves_of


class Generating(Protocol):
    """An answer under way."""

    def step(self) -> int | None:
        """Return the next token's id, or None where the model stops."""
        ...


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector that is ready."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Agreed:
    """How much of an answer was replayed, and is the same."""

    tokens: int


class Model(Protocol):
    """An opened model."""

    def begin(self, order: Order) -> Generating | Vector | Agreed | None:
        """Begin an answer, make the vector of an ``EMBED``, or compare what a ``REPLAY`` shows; None if it can't."""
        ...


@dataclass(slots=True)
class _Under:
    order: Order
    generating: Generating | Vector | Agreed
    tokens: int = 0


class Schedule:
    """The answers of one engine."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._under: dict[int, _Under] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under

    def take(self, order: Order) -> tuple[Frame, ...]:
        """Take an order; returns what there is to say about it at once.

        :raises MalformedError: an answer's number that is taken.
        """
        if order.kind is Kind.CANCEL:
            # It may have ended while the word was on its way.
            gone = self._under.pop(order.answer, None)
            return (Frame(order.answer, Code.CANCELLED),) if gone else ()
        if order.answer in self._under:
            raise MalformedError("an order names an answer that is under way")
        generating = self._model.begin(order)
        if generating is None or not _fits(order, generating):
            return (Frame(order.answer, Code.FAILED),)
        self._under[order.answer] = _Under(order, generating)
        return ()

    def round(self) -> tuple[Frame, ...]:
        """Continue every answer by one token; a vector, and what was compared, are said as a whole."""
        said: list[Frame] = []
        for number, under in tuple(self._under.items()):
            if isinstance(under.generating, Vector):
                said += (Frame(number, Code.VALUE, half) for half in halves_of(under.generating.values))
                said.append(Frame(number, Code.LENGTH))
                del self._under[number]
                continue
            if isinstance(under.generating, Agreed):
                said += (Frame(number, Code.AGREED, under.generating.tokens), Frame(number, Code.LENGTH))
                del self._under[number]
                continue
            token = under.generating.step()
            if token is None:
                said.append(Frame(number, Code.STOPPED))
                del self._under[number]
                continue
            under.tokens += 1
            said.append(Frame(number, Code.TOKEN, token))
            if under.tokens == under.order.most:
                said.append(Frame(number, Code.LENGTH))
                del self._under[number]
        return tuple(said)


def _fits(order: Order, made: Generating | Vector | Agreed) -> bool:
    # A model that knows one kind only mustn't answer the other: its tokens would be charged as numbers, or not at all.
    if isinstance(made, Vector):
        return order.kind is Kind.EMBED and len(made.values) == order.most
    if isinstance(made, Agreed):
        return order.kind is Kind.REPLAY and made.tokens <= order.most
    return order.kind is Kind.GENERATE
