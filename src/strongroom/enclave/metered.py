"""The metered channel between a governor and the engine beside the weights: docs/spec/metered-channel.md. Pure.

Out of the enclave comes one form only, five bytes long: an answer's number, a code from a closed list, and a token id,
half a number of a vector or a count. There is no room for text, for a reason or for padding: every byte sequence that
isn't such a frame is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.egress.bits import MAX_UNITS, MAX_VOCABULARY
from strongroom.egress.conservation import FrameShape

OUTPUT: Final = ("STRONGROOM_OUTPUT", "metered")
"""In an image's environment, which is measured: its command gets the metered channel and no other way to speak."""
FRAME: Final = 5
"""Bytes of a frame: 12 bits answer, 4 bits code, 24 bits token or half a value."""
SHAPE: Final = FrameShape(header_bytes=2, unit_bytes=3, slots=1)
MAX_ANSWERS: Final = 1024
"""Answers under way at once."""
OPENING: Final = 0xFFF
"""The number in the one frame that says that the model is open."""
ORDER: Final = 24
"""Bytes of an order, without its prompt."""
TOKEN: Final = 3
MAX_PROMPT: Final = 1 << 17
"""Tokens in one prompt."""
MAX_BACKLOG: Final = 16 << 20
"""Bytes of orders that an engine hasn't read: whoever carries more to it ends it. A gateway keeps far below."""
MILLI: Final = 1000
MAX_TEMPERATURE: Final = 2 * MILLI
HALVES: Final = 2
"""Frames that carry one number of a vector: float32, 16 bits in each, the high ones first."""
HALF: Final = 1 << 16


class Code(IntEnum):
    """What a frame says. The last four end an answer: as many ends as the budget counts."""

    TOKEN = 0
    READY = 1
    VALUE = 2
    """Half a number of a vector."""
    AGREED = 3
    """How many tokens of an answer that another engine gave this one gives too, from the first on."""
    STOPPED = 8
    """The model said its stop token, which isn't sent."""
    LENGTH = 9
    """All tokens that were asked for are there."""
    CANCELLED = 10
    FAILED = 11
    """The order can't be carried out: too long for the model. Nothing says why."""


ENDS: Final = frozenset({Code.STOPPED, Code.LENGTH, Code.CANCELLED, Code.FAILED})
_ROOM: Final = {Code.TOKEN: MAX_VOCABULARY, Code.VALUE: HALF, Code.AGREED: MAX_UNITS}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame out of the enclave."""

    answer: int
    code: Code
    token: int = 0
    """The token's id with ``TOKEN``, 16 bits with ``VALUE``, a count with ``AGREED``, else 0."""

    def to_bytes(self) -> bytes:
        """Return the five bytes."""
        return (self.answer << 28 | self.code << 24 | self.token).to_bytes(FRAME, "big")

    @classmethod
    def parse(cls, data: bytes) -> Frame:
        """Read five bytes.

        :raises MalformedError: another length, an unknown code, an answer's number out of range, or bits that mean
            nothing and aren't zero: each could carry something.
        """
        if len(data) != FRAME:
            raise MalformedError(f"a frame of the metered channel has {FRAME} bytes")
        value = int.from_bytes(data, "big")
        answer, code, token = value >> 28, value >> 24 & 0xF, value & 0xFFFFFF
        try:
            known = Code(code)
        except ValueError:
            raise MalformedError("a frame has a code that isn't on the list") from None
        if (answer != OPENING) if known is Code.READY else (answer >= MAX_ANSWERS):
            raise MalformedError("a frame has an answer's number that there can't be")
        if token >= _ROOM.get(known, 1):
            raise MalformedError("a frame has bits that mean nothing and aren't zero")
        return cls(answer, known, token)


class Frames:
    """Cuts what arrives into frames. It never holds more than four bytes back."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> tuple[Frame, ...]:
        """Return the frames that are whole now.

        :raises MalformedError: one isn't a frame.
        """
        data = self._rest + data
        whole = len(data) - len(data) % FRAME
        self._rest = data[whole:]
        return tuple(Frame.parse(data[at : at + FRAME]) for at in range(0, whole, FRAME))


class Kind(IntEnum):
    """What an order asks for."""

    GENERATE = 1
    CANCEL = 2
    EMBED = 3
    """The vector of a text: ``most`` numbers, all or none."""
    REPLAY = 4
    """How many of the last ``most`` tokens of the prompt, which another engine said, this one says after the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order into the enclave: everything that a request may set, and nothing else.

    :raises MalformedError: (construction) a member out of its range.
    """

    kind: Kind
    answer: int
    most: int = 0
    """Tokens that the answer may have, numbers that its vector must have, or tokens that are replayed."""
    temperature: int = 0
    """In thousandths; 0 takes the likeliest token each time."""
    top_p: int = MILLI
    """In thousandths."""
    seed: int = 0
    """The governor's, never the client's: 0 to 2^64 - 1."""
    prompt: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.answer < MAX_ANSWERS:
            raise MalformedError("an order has an answer's number that there can't be")
        if self.kind is Kind.CANCEL:
            if (self.most, self.temperature, self.top_p, self.seed, self.prompt) != (0, 0, MILLI, 0, ()):
                raise MalformedError("an order to cancel carries nothing else")
            return
        if not 1 <= self.most < MAX_UNITS or not 1 <= len(self.prompt) <= MAX_PROMPT:
            raise MalformedError(f"an order has 1 to {MAX_PROMPT} tokens of prompt and asks for at least one")
        if not 0 <= self.temperature <= MAX_TEMPERATURE or not 1 <= self.top_p <= MILLI or not 0 <= self.seed < 1 << 64:
            raise MalformedError("an order's sampling is out of range")
        if self.kind is Kind.EMBED and (self.temperature, self.top_p, self.seed) != (0, MILLI, 0):
            raise MalformedError("an order for a vector leaves nothing to chance")
        if self.kind is Kind.REPLAY and self.most >= len(self.prompt):
            raise MalformedError("an order to replay has a question before the answer")
        if any(not 0 <= token < MAX_VOCABULARY for token in self.prompt):
            raise MalformedError("an order's prompt has a token that no vocabulary has")

    @property
    def replayed(self) -> tuple[int, ...]:
        """The answer that an order to replay is about."""
        return self.prompt[-self.most :]

    def to_bytes(self) -> bytes:
        """Return the order and its prompt."""
        return b"".join(
            (
                self.kind.to_bytes(1, "big"),
                self.answer.to_bytes(2, "big"),
                self.most.to_bytes(3, "big"),
                self.temperature.to_bytes(2, "big"),
                self.top_p.to_bytes(2, "big"),
                self.seed.to_bytes(8, "big"),
                len(self.prompt).to_bytes(6, "big"),
                tokens_to_bytes(self.prompt),
            )
        )


class Orders:
    """Cuts what arrives at the engine into orders."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> tuple[Order, ...]:
        """Return the orders that are whole now.

        :raises MalformedError: one isn't an order; its length is looked at before its prompt is waited for.
        """
        self._rest += data
        found = []
        while len(self._rest) >= ORDER:
            length = ORDER + TOKEN * _prompt_length(self._rest)
            if len(self._rest) < length:
                break
            found.append(_order(bytes(self._rest[:length])))
            del self._rest[:length]
        return tuple(found)


def tokens_to_bytes(tokens: Sequence[int]) -> bytes:
    """Return token ids as three bytes each."""
    return b"".join(token.to_bytes(TOKEN, "big") for token in tokens)


def halves_of(values: Sequence[float]) -> tuple[int, ...]:
    """Return numbers as they cross: each as float32, rounded to it, in two halves of 16 bits.

    :raises MalformedError: one is too large for float32.
    """
    try:
        data = struct.pack(f">{len(values)}f", *values)
    except OverflowError:
        raise MalformedError("a vector has a number that is too large for float32") from None
    return struct.unpack(f">{len(values) * HALVES}H", data)


def values_of(halves: Sequence[int]) -> tuple[float, ...]:
    """Return the numbers that :func:`halves_of` cut: the same float32, to the bit.

    :raises MalformedError: half a number is left over, or a half is no 16 bits.
    """
    try:
        data = struct.pack(f">{len(halves)}H", *halves)
        return struct.unpack(f">{len(halves) // HALVES}f", data)
    except struct.error:
        raise MalformedError("halves of numbers are of 16 bits and come in pairs") from None


def _prompt_length(data: bytes | bytearray) -> int:
    length = int.from_bytes(data[18:24], "big")
    if length > MAX_PROMPT:
        raise MalformedError(f"an order announces {length} tokens of prompt; at most {MAX_PROMPT} are read")
    return length


def _order(data: bytes) -> Order:
    try:
        kind = Kind(data[0])
    except ValueError:
        raise MalformedError("an order asks for something that isn't on the list") from None
    whole = [int.from_bytes(data[low:high], "big") for low, high in ((1, 3), (3, 6), (6, 8), (8, 10), (10, 18))]
    return Order(
        kind=kind,
        answer=whole[0],
        most=whole[1],
        temperature=whole[2],
        top_p=whole[3],
        seed=whole[4],
        prompt=tuple(int.from_bytes(data[at : at + TOKEN], "big") for at in range(ORDER, len(data), TOKEN)),
    )
