"""Whether the opened model answers as it did when it was sealed: compared inside, before the engine says READY. Pure.

It finds a model that was damaged or exchanged on its way into memory, and a machine that computes garbage without an
error. It isn't meant for an engine that lies: that one would say READY all the same, and is kept out by being measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from strongroom.core.errors import MalformedError, UsageError
from strongroom.enclave.engine.schedule import Agreed, Generating, Model, Vector
from strongroom.enclave.metered import Kind, Order
from strongroom.sealing.canary import Canary, CanaryKind
from strongroom.sealing.errors import CanaryMismatchError

CANARY_FILE: Final = ".strongroom-canaries.json"
"""Beside the opened weights, where only the command reads it. The agent writes it; no model's file may be so named."""
MISMATCH_EXIT: Final = 86
"""How an engine ends whose model answers otherwise. The agent makes the error of it; no other number says anything."""
TOLERANCE: Final = 100
"""Largest cosine distance that is recorded for a vector, in millionths: far above what kernels differ by."""
RECORDED_TOKENS: Final = 16


def compare(model: Model, canaries: Sequence[Canary]) -> None:
    """Ask the model what it was asked when it was sealed.

    :raises CanaryMismatchError: it answers otherwise, or can't answer at all.
    """
    for canary in canaries:
        try:
            if canary.kind is CanaryKind.TOKENS:
                canary.check_tokens(_tokens(model, canary.input, len(canary.output)))
            else:
                canary.check_vector(_vector(model, canary.input, len(canary.vector) // 4))
        except MalformedError:
            raise CanaryMismatchError("a canary's question isn't one for this model") from None


def record_tokens(model: Model, name: str, given: Sequence[int]) -> Canary:
    """Return what the model answers, the likeliest token each time, :data:`RECORDED_TOKENS` at most.

    :raises UsageError: it says nothing, or can't take the question.
    """
    output = _tokens(model, given, RECORDED_TOKENS)
    if not output:
        raise UsageError(f"canary `{name}`: the model answers nothing to it", remedy="ask it something else")
    return Canary.of_tokens(name, given, output)


def record_vector(model: Model, name: str, given: Sequence[int], values: int) -> Canary:
    """Return the vector of ``values`` numbers that the model makes.

    :raises UsageError: it can't take the question.
    """
    output = _vector(model, given, values)
    if not output:
        raise UsageError(f"canary `{name}`: the model makes no vector of it", remedy="ask it something else")
    return Canary.of_vector(name, given, output, tolerance=TOLERANCE)


def _tokens(model: Model, given: Sequence[int], most: int) -> tuple[int, ...]:
    begun = model.begin(Order(kind=Kind.GENERATE, answer=0, most=most, prompt=tuple(given)))
    if begun is None or isinstance(begun, Vector | Agreed):
        return ()
    return tuple(_until_stop(begun, most))


def _until_stop(begun: Generating, most: int) -> list[int]:
    said: list[int] = []
    while len(said) < most and (token := begun.step()) is not None:
        said.append(token)
    return said


def _vector(model: Model, given: Sequence[int], values: int) -> tuple[float, ...]:
    made = model.begin(Order(kind=Kind.EMBED, answer=0, most=values, prompt=tuple(given)))
    return made.values if isinstance(made, Vector) else ()
