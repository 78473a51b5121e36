"""A meter inside the measured machine: it lets out no more bits than the deployment's log vouches for. Pure.

The governor, which bounds what leaves, stands outside, on the host. Whoever takes the host over has it too. This meter
stands inside, outside of the engine's sandbox, and believes neither side: not the engine's frames, and not the host's
word for what the log says. What it believes are entries of the log that bear the signature of the keeper that the
measured genesis names, for this very release (request and use), this model, and one run of its odometer.

It needs no policy. The host says of how many tokens the vocabulary is, once: a frame with another token is refused, and
the ones that pass cost that vocabulary's logarithm each. A lie makes the meter dearer or the tokens fewer, and nothing
else. The costs are those of :mod:`strongroom.egress.bits`, so an honest governor's orders always pass.

Which answer's frame comes next would tell up to ten bits more, with a thousand answers under way. So frames leave in
rounds: each answer has its turn, in the order in which the orders came, and nobody's second comes before everybody's
first. What is said is then the same bytes however the engine interleaves; what time tells isn't counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError, TamperedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId
from strongroom.egress.bits import MILLI, VALUE_BITS, end_bits, token_millibits, whole_bits
from strongroom.enclave.metered import ENDS, HALVES, OPENING, Code, Frame, Frames, Kind, Order, Orders
from strongroom.release.metering import Metered, OdometerForgedError, read_reading

PREFIX: Final = "taximeter"


class TaximeterError(TamperedError):
    """Something would have crossed that the log doesn't vouch for. The machine ends. ``reason`` says what it was."""

    code = PREFIX

    def __init__(self, found: str, message: str) -> None:
        super().__init__(
            message,
            remedy="the engine, or the host's gateway, isn't what it should be; people must look",
            reason=f"{PREFIX}.{found}",
        )


@dataclass(slots=True)
class _Under:
    order: Order
    held: int
    """Bits that the whole answer may cost."""
    frames: int = 0
    """That came, with tokens or halves of numbers."""
    ended: bool = False
    cancelled: bool = False
    waiting: deque[Frame] = field(default_factory=deque)
    """What came and hasn't had its turn."""

    @property
    def vector(self) -> bool:
        """Whether it is one."""
        return self.order.kind is Kind.EMBED

    @property
    def most(self) -> int:
        """Frames that it may have, without its end."""
        return self.order.most * (HALVES if self.vector else 1)

    def turn(self) -> int:
        """Return how many frames its next turn has; 0 if not all of them are there.

        A token, or the end. What is certain to follow goes along: the end after the last token, a whole vector.
        """
        if self.vector:
            return len(self.waiting) if self.ended else 0
        if self.frames == self.most and len(self.waiting) == 1 + self.ended:
            return 2 if self.ended else 0
        return 1 if self.waiting else 0


@dataclass(slots=True)
class Taximeter:
    """One machine's meter, from its start to its end. After the first error nothing passes any more."""

    genesis: Genesis
    """The measured one."""
    request: Digest
    model: ModelId
    use: int | None = None
    """Of the release; the agent says it, once it holds the key."""
    vocabulary: int | None = None
    run: int | None = None
    """Of the odometer: that of the first entry."""
    through: int = 0
    """Bits that the log vouches for."""
    settled: int = 0
    """Bits that ended answers cost."""
    broken: TaximeterError | None = None
    _held: int = 0
    _ready: bool = False
    _under: dict[int, _Under] = field(default_factory=dict)
    _orders: Orders = field(default_factory=Orders)
    _frames: Frames = field(default_factory=Frames)

    def released(self, use: int) -> None:
        """Take from the agent which use of the request it holds the key for."""
        if self.use is None:
            self.use = use

    def begin(self, vocabulary: int) -> None:
        """Take from the host how many tokens there are.

        :raises TaximeterError: it was said before: tokens would be cheaper after the dear ones have left.
        :raises UsageError: there is no such vocabulary.
        """
        self._check()
        if self.vocabulary is not None:
            raise self._breach("begun-twice", "the host said twice of how many tokens the vocabulary is")
        token_millibits(vocabulary)
        self.vocabulary = vocabulary

    def vouch(self, data: bytes) -> None:
        """Take an entry of the log. One that says no more than was known changes nothing.

        :raises TaximeterError: the keeper didn't sign it, or it is of something else than this release's run.
        """
        self._check()
        if self.use is None:
            raise self._breach("foreign-entry", "an odometer entry came before the model was released")
        metered = Metered(request=self.request, use=self.use, model=self.model)
        try:
            entry = read_reading(data, self.genesis.keeper_key, metered=metered).entry
        except OdometerForgedError as error:
            raise self._breach("foreign-entry", error.message) from None
        except StrongroomError as error:
            raise self._breach("forged-entry", error.message) from None
        # The first one binds the meter to its run: what other runs of this release were given isn't added up.
        if entry.run != (self.run or entry.run):
            raise self._breach("foreign-entry", "an odometer entry is of another run")
        self.run = entry.run
        self.through = max(self.through, entry.through)

    def ordered(self, data: bytes) -> bytes:
        """Judge what the host sends to the engine; returns what goes on: whole orders, each vouched for in full.

        :raises TaximeterError: one isn't an order, or may cost more than the log vouches for.
        """
        self._check()
        try:
            return b"".join(self._admit(order) for order in self._orders.feed(data))
        except MalformedError as error:
            raise self._breach("malformed-order", error.message) from None

    def said(self, data: bytes) -> bytes:
        """Judge what the engine says; returns what goes on: whole frames of answers that are under way.

        :raises TaximeterError: one isn't such a frame. None of ``data`` goes on then.
        """
        self._check()
        try:
            frames = self._frames.feed(data)
        except MalformedError as error:
            raise self._breach("malformed", error.message) from None
        ready = [frame for frame in frames if self._take(frame)]
        return b"".join(frame.to_bytes() for frame in (*ready, *self._rounds()))

    def _rounds(self) -> Iterator[Frame]:
        """Yield what may leave, as long as everybody has something for their turn."""
        while self._under and all(under.turn() for under in self._under.values()):
            for number, under in tuple(self._under.items()):
                for _ in range(under.turn()):
                    frame = under.waiting.popleft()
                    yield frame
                    if frame.code in ENDS:
                        self._settle(number, under)

    def _admit(self, order: Order) -> bytes:
        under = self._under.get(order.answer)
        if order.kind is Kind.CANCEL:
            # It may have ended while the word was on its way.
            if under is not None:
                under.cancelled = True
            return order.to_bytes()
        if order.kind is Kind.REPLAY:
            # Asked with one answer after the other, what it tells would be the model, and no entry vouches for it.
            raise self._breach("malformed-order", "an order to replay came to a machine that answers")
        if under is not None:
            raise self._breach("answer-taken", "an order names an answer that is under way")
        held = self._cost(order, order.most)
        if self.settled + self._held + held > self.through:
            raise self._breach("not-vouched", "the log doesn't vouch for what an order asks for")
        self._held += held
        self._under[order.answer] = _Under(order, held)
        return order.to_bytes()

    def _cost(self, order: Order, units: int) -> int:
        """Return what an answer of so many tokens or numbers costs, in bits, its end included."""
        if order.kind is Kind.EMBED:
            each = VALUE_BITS * MILLI
        elif self.vocabulary is None:
            raise self._breach("not-begun", "an order came before the host said how many tokens there are")
        else:
            each = token_millibits(self.vocabulary)
        return whole_bits(units * each) + end_bits(order.most)

    def _take(self, frame: Frame) -> bool:
        """Judge a frame, and let it wait for its turn; True for the one that isn't any answer's."""
        if frame.answer == OPENING:
            if self._ready:
                raise self._breach("opened-twice", "the engine said twice that the model is open")
            self._ready = True
            return True
        under = self._under.get(frame.answer)
        if under is None or under.ended:
            raise self._breach("no-demand", "a frame came for an answer that nobody asked for")
        if frame.code in ENDS:
            self._check_end(frame, under)
            under.ended = True
        else:
            if frame.code is not (Code.VALUE if under.vector else Code.TOKEN) or (
                not under.vector and frame.token >= (self.vocabulary or 0)
            ):
                raise self._breach("no-token", "a frame has what this answer can't have")
            under.frames += 1
            if under.frames > under.most:
                raise self._breach("overspent", "an answer has more than was ordered")
        under.waiting.append(frame)
        return False

    def _check_end(self, frame: Frame, under: _Under) -> None:
        if (
            (frame.code is Code.LENGTH and under.frames != under.most)
            or (frame.code is Code.CANCELLED and not under.cancelled)
            or (frame.code is Code.FAILED and under.frames)
        ):
            raise self._breach("false-end", "an answer ended in a way that can't be")

    def _settle(self, number: int, under: _Under) -> None:
        del self._under[number]
        self._held -= under.held
        units = -(-under.frames // HALVES) if under.vector else under.frames
        self.settled += self._cost(under.order, units)

    def _breach(self, found: str, message: str) -> TaximeterError:
        self.broken = self.broken or TaximeterError(found, message)
        return self.broken

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken
