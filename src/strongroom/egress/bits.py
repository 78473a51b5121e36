"""Exact arithmetic of what leaves, in whole bits. No float decides anything: costs are rounded up, sizes down.

An answer of n units, of at most N, is one of at most (2^(bits of a unit))^n sequences, and its length and its ending
are a message too. The costs, :func:`end_bits` included, are lengths of a prefix code (Kraft's sum is at most 1): no
compromised engine can say more in an answer than it is charged for, on average over what it might want to say.
What the time between frames says isn't in it: frames of one size at a fixed tick are the gateway's task.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

from strongroom.core.errors import UsageError

MILLI: Final = 1000
"""Millibits in a bit: the unit of costs per token and of sizes per weight."""
MAX_VOCABULARY: Final = 1 << 24
MAX_UNITS: Final = 1 << 24
"""Units in one reservation."""
ENDINGS: Final = 4
"""Ways to end an answer that the enclave may choose between: a stop token, a stop sequence, the length, an error."""
VALUE_BITS: Final = 32
"""A number of a vector, as it crosses the channel: float32, whatever precision the model computes with."""
BYTE_BITS: Final = 8


class Output(StrEnum):
    """What leaves, and in which unit it is counted."""

    TOKENS = "tokens"
    """Token ids, each one of the vocabulary."""
    VALUES = "values"
    """Numbers of a vector (an embedding), 32 bits each."""
    BYTES = "bytes"
    """Text or files, 8 bits a byte: a workspace's drop."""


@lru_cache(maxsize=64)
def token_millibits(vocabulary: int) -> int:
    """Return log2 of the vocabulary in millibits, rounded up exactly: the smallest m with 2^m >= vocabulary^1000.

    :raises UsageError: fewer than 2 tokens, or more than :data:`MAX_VOCABULARY`.
    """
    if not 2 <= vocabulary <= MAX_VOCABULARY:
        raise UsageError(f"a vocabulary has 2 to {MAX_VOCABULARY} tokens")
    return int((vocabulary**MILLI - 1).bit_length())


def end_bits(most: int) -> int:
    """Return what the end of an answer of at most ``most`` units tells: its length and its ending, in whole bits."""
    return (ENDINGS * (most + 1) - 1).bit_length()


def verdict_bits(most: int) -> int:
    """Return what it tells how many tokens of an answer of at most ``most`` were reproduced, in whole bits."""
    return most.bit_length()


def whole_bits(millibits: int) -> int:
    """Return millibits as bits, rounded up: a cost."""
    return -(-millibits // MILLI)


def effective_bits(parameters: int, millibits_per_weight: int) -> int:
    """Return the size that an attacker must move, in bits, rounded down: the smaller it is, the smaller the budget."""
    return parameters * millibits_per_weight // MILLI
