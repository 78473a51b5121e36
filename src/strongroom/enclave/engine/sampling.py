"""Which token comes next: a function of logits, sampling and seed, as docs/spec/sampling.md has it. Pure.

An engine that may roll its own dice may hide a message in what they say, and nobody could tell. So the dice are the
seed's: token i of an answer is argmax(logits / temperature + noise), where the noise is Gumbel's, drawn by Philox
from (seed, i) alone. Whoever has the weights, the prompt and the seed gets the same token, up to how floats round;
that is what a second engine compares (:func:`agreement`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from strongroom.enclave.metered import MILLI, Order

_DROPPED = 12
"""Low bits of a word that aren't used: 52 are left, so that the uniform number is never 0 and never 1."""


def noise(numpy: Any, seed: int, position: int, count: int) -> Any:
    """Return ``count`` numbers of Gumbel's distribution, float64, for the token at ``position`` of an answer.

    Philox4x64-10 (Salmon and others, 2011) with the key (seed, position), counters from 1.
    """
    words = numpy.random.Philox(key=numpy.array([seed, position], dtype="uint64")).random_raw(count)
    uniform = ((words >> numpy.uint64(_DROPPED)).astype("float64") + 0.5) * 2.0 ** (_DROPPED - 64)
    return -numpy.log(-numpy.log(uniform))


def choose(numpy: Any, logits: Any, order: Order, position: int) -> int:
    """Return the token at ``position`` of the answer to an order. ``logits`` is a vector, one number for each token.

    Of equals the lowest id is taken.
    """
    if not order.temperature:
        return int(logits.argmax())
    scores = logits.astype("float64") * MILLI / order.temperature
    noisy = scores + noise(numpy, order.seed, position, len(scores))
    if order.top_p < MILLI:
        raised = numpy.exp(scores - scores.max())
        ids = numpy.argsort(-raised, kind="stable")
        ordered = raised[ids] / raised.sum()
        # The smallest set whose chances reach top_p; the likeliest is always in it.
        noisy[ids[numpy.cumsum(ordered) - ordered >= order.top_p / MILLI]] = -numpy.inf
    return int(noisy.argmax())


def agreement(numpy: Any, rows: Iterable[Any], order: Order) -> int:
    """Return how many tokens of the answer in an order to replay, from its first on, are those that are chosen here.

    ``rows`` are the logits after the question, then after each token that was said, made only as far as they are
    looked at: after the first token that differs nothing is computed any more, and nothing told.
    """
    said: Sequence[int] = order.replayed
    return next(
        (n for n, (row, token) in enumerate(zip(rows, said, strict=False)) if choose(numpy, row, order, n) != token),
        len(said),
    )
