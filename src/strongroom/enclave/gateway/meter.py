"""The governor's end of the metered channel: what was asked for, what came, and whether one explains the other. Pure.

Every frame is judged before it goes on: its answer must be under way and of that kind, its token one of the vocabulary,
and the governor must agree to it. Beside that the conservation check compares what the kernel delivered with what the
frames explain. The first thing that doesn't fit freezes the model for good; nothing is ever skipped.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError, UsageError
from strongroom.core.ids import ModelId
from strongroom.egress.bits import Output
from strongroom.egress.conservation import Sample, judge
from strongroom.egress.governor import Governor, Reservation, Settled
from strongroom.egress.marks import Crossing
from strongroom.enclave.gateway.errors import ChannelBreachError, EngineGoneError, ReplayLackingError
from strongroom.enclave.gateway.replay import Kept, Replays, Verdict
from strongroom.enclave.metered import (
    ENDS,
    HALVES,
    MAX_ANSWERS,
    MAX_BACKLOG,
    MILLI,
    OPENING,
    SHAPE,
    Code,
    Frame,
    Frames,
    Kind,
    Order,
)
from strongroom.release.lease import Sampling

ANSWER_SECONDS: Final = 1800
"""How long an answer may take before it is cancelled: well within its reservation."""
CANCEL_SECONDS: Final = 30
"""How long an engine may take to end an answer that was cancelled."""
MAX_UNHEARD: Final = MAX_BACKLOG // 2
"""Bytes of orders of which nothing came back: an engine that is busy may not have read one of them. What is above is
refused to whoever asks, for the engine would be ended for it, and everybody's answers with it."""
_KINDS: Final = {Output.TOKENS: Kind.GENERATE, Output.VALUES: Kind.EMBED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a client asks of the model, in tokens."""

    prompt: tuple[int, ...]
    most: int
    """Tokens, or the numbers of a vector."""
    temperature: int = 0
    """In thousandths."""
    top_p: int = MILLI
    """In thousandths."""
    output: Output = Output.TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An answer that was reserved, and the order to send."""

    answer: int
    order: bytes
    crossed: tuple[Crossing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One frame that was judged and counted. It may go on."""

    answer: int
    token: int | None = None
    """A token, or half a number of a vector."""
    end: Code | None = None
    settled: Settled | None = None
    """What was charged, with an end; None while the answer waits for a replay."""


@dataclass(slots=True)
class _Under:
    reservation: Reservation
    begun: Instant
    size: int
    """Bytes of its order."""
    frames: int = 0
    """That carried a token, or half a value."""
    cancelled: Instant | None = None
    kept: Kept | None = None
    """What a replay needs of it."""

    @property
    def values(self) -> bool:
        return self.reservation.output is Output.VALUES

    @property
    def most(self) -> int:
        """Frames that it may have, without its end."""
        return self.reservation.most * (HALVES if self.values else 1)


@dataclass(slots=True)
class _Totals:
    frames: int = 0
    units: int = 0
    """Tokens and halves of values: what each frame has one place for."""
    ends: int = 0
    read: int = 0
    """Bytes."""


@dataclass(slots=True)
class Meter:
    """One model's channel, from its opening to its end. ``model`` is one that ``governor`` serves."""

    governor: Governor
    model: ModelId
    vocabulary: int
    replays: Replays | None = None
    """Where a second engine replays answers. What waits for it stays reserved, and its end goes on at once."""
    sampling: Sampling = Sampling.POLICY
    """What the keeper's newest lease asks for; changed by :meth:`sample`."""
    ready: bool = False
    """Whether the engine has said that the model is open."""
    broken: str | None = None
    """What froze it."""
    _frames: Frames = field(default_factory=Frames)
    _under: dict[int, _Under] = field(default_factory=dict)
    _free: list[int] = field(default_factory=lambda: list(range(MAX_ANSWERS)))
    _totals: _Totals = field(default_factory=_Totals)
    _demand: int = 1
    """Answers under way at any time since the last sample. Opening the model counts as one."""
    _before: Sample = field(default_factory=lambda: Sample(frames=0, units=0, ends=0, counted=0, demand=1))

    def begin(self, principal: str, ask: Ask, *, seed: int, now: Instant) -> Begun:
        """Reserve an answer everywhere and return the order for it.

        :raises ChannelBreachError: the channel is broken.
        :raises UnavailableError: the model isn't open yet, or too many answers are under way.
        :raises ReplayLackingError: every answer is to be replayed, and this one couldn't be.
        :raises StrongroomError: as :meth:`strongroom.egress.governor.Governor.reserve`.
        """
        self._check()
        if not self.ready:
            raise EngineGoneError("the model isn't open yet", remedy="ask again in a moment")
        if not self._free:
            raise UnavailableError("too many answers are under way", reason="egress-answers")
        if any(not 0 <= token < self.vocabulary for token in ask.prompt):
            raise UsageError("the prompt has a token that the model's vocabulary hasn't")
        number = self._free[0]
        # Made before anything is reserved: what can't be asked costs nothing.
        order = Order(
            kind=_KINDS[ask.output],
            answer=number,
            most=ask.most,
            temperature=ask.temperature,
            top_p=ask.top_p,
            # A vector leaves nothing to chance.
            seed=seed if ask.output is Output.TOKENS else 0,
            prompt=ask.prompt,
        )
        self._check_replay(order)
        data = order.to_bytes()
        if len(data) + sum(one.size for one in self._under.values() if not one.frames) > MAX_UNHEARD:
            raise UnavailableError(
                "too much waits for the engine", reason="egress-answers", remedy="ask again in a moment"
            )
        reservation = self.governor.reserve(principal, self.model, ask.most, now, output=ask.output)
        heapq.heappop(self._free)
        kept = self.replays.keep(reservation.number, order) if self.replays and ask.output is Output.TOKENS else None
        self._under[number] = _Under(reservation, now, len(data), kept=kept)
        self._demand += 1
        return Begun(answer=number, order=data, crossed=reservation.crossed)

    def sample(self, sampling: Sampling) -> None:
        """Replay as many answers as the keeper asks for now; those under way are drawn when they end."""
        self.sampling = sampling
        if self.replays is not None:
            self.replays.sampling = sampling

    def cancel(self, answer: int, now: Instant) -> bytes | None:
        """Return the order that ends an answer; None if it ended already or is being cancelled.

        Its number and its reservation stay taken until the engine says that it ended: what still comes is counted.
        """
        under = self._under.get(answer)
        if under is None or under.cancelled is not None:
            return None
        under.cancelled = now
        return Order(kind=Kind.CANCEL, answer=answer).to_bytes()

    def overdue(self, now: Instant) -> tuple[int, ...]:
        """Return the answers to cancel because they take too long."""
        return tuple(
            number for number, one in self._under.items() if one.cancelled is None and now - one.begun > ANSWER_SECONDS
        )

    def received(self, data: bytes, now: Instant) -> tuple[Heard, ...]:
        """Judge what was read from the channel; returns the frames that may go on, all of them counted.

        :raises ChannelBreachError: one may not. None of ``data`` goes on then, and the model is frozen.
        """
        self._check()
        self._totals.read += len(data)
        try:
            return tuple(one for frame in self._frames.feed(data) if (one := self._heard(frame, now)) is not None)
        except MalformedError as error:
            raise self.breach("malformed", error.message) from None
        except ChannelBreachError:
            raise
        except StrongroomError as error:
            raise self.breach(error.code, error.message) from None

    def check(self, *, pending: int, now: Instant) -> None:
        """Compare what the kernel delivered with what the frames explain. To be called a few times a second.

        ``pending`` is how many bytes the kernel holds that weren't read yet, asked for last.

        :raises ChannelBreachError: bytes that nothing explains, or an engine that doesn't end what was cancelled.
        """
        self._check()
        totals = self._totals
        sample = Sample(
            frames=totals.frames,
            units=totals.units,
            ends=totals.ends,
            counted=totals.read + pending,
            demand=self._demand,
        )
        verdict = judge(self._before, sample, SHAPE, slack_bytes=self._slack())
        self._before, self._demand = sample, len(self._under) + (not self.ready)
        if verdict.finding is not None:
            raise self.breach(
                verdict.finding.value, f"{verdict.seen} bytes left beyond those explained; {verdict.allowed} may"
            )
        if any(one.cancelled is not None and now - one.cancelled > CANCEL_SECONDS for one in self._under.values()):
            raise self.breach("cancel-ignored", "the engine didn't end an answer that was cancelled")

    def _slack(self) -> int:
        """Return how many bytes may be there that weren't read: all that the answers under way may still send."""
        left = sum(one.most - one.frames + 1 for one in self._under.values()) + (not self.ready)
        return SHAPE.bytes_of(frames=left, units=left)

    def replayed(self, verdict: Verdict, now: Instant) -> Settled:
        """Settle an answer that waited for a replay."""
        return self.governor.settle(verdict.number, now, verified=verdict.verified)

    def breach(self, found: str, message: str) -> ChannelBreachError:
        """Freeze the model; returns what to raise."""
        if self.broken is None:
            self.broken = found
            self.governor.freeze(self.model, found)
        return ChannelBreachError(self.broken, message)

    def _check_replay(self, order: Order) -> None:
        # Fail closed: else whoever has the engine would only have to end the one that looks at it, or fill its queue.
        if self.sampling is not Sampling.WHOLE or order.kind is not Kind.GENERATE:
            return
        if self.governor.policy(self.model).verified_by is None:
            return
        if self.replays is None or not self.replays.has_room(order):
            raise ReplayLackingError(
                f"every answer of `{self.model}` is to be replayed for now, and this one couldn't be",
                remedy="ask again in a moment, or for less; without a second engine, people lower the sampling first",
            )

    def _check(self) -> None:
        if self.broken is not None:
            raise ChannelBreachError(self.broken, f"the metered channel of `{self.model}` was closed: {self.broken}")

    def _heard(self, frame: Frame, now: Instant) -> Heard | None:
        self._totals.frames += 1
        if frame.answer == OPENING:
            if self.ready:
                raise self.breach("opened-twice", "the engine said twice that the model is open")
            self.ready = True
            self._totals.ends += 1
            return None
        under = self._under.get(frame.answer)
        if under is None:
            raise self.breach("no-demand", "a frame came for an answer that nobody is waiting for")
        if frame.code in ENDS:
            return self._ended(frame, under, now)
        if frame.code is not (Code.VALUE if under.values else Code.TOKEN):
            raise self.breach("other-output", "a frame carries another kind of output than was asked for")
        if not under.values and frame.token >= self.vocabulary:
            raise self.breach("no-token", "a frame has a token that the model's vocabulary hasn't")
        # Counted before it goes on; more than was reserved, or too late, and the governor refuses. A number counts
        # whole with its first half.
        self.governor.emit(under.reservation.number, int(not under.values or under.frames % HALVES == 0), now)
        under.frames += 1
        self._totals.units += 1
        if under.kept is not None:
            under.kept.said.append(frame.token)
        return Heard(answer=frame.answer, token=frame.token)

    def _ended(self, frame: Frame, under: _Under, now: Instant) -> Heard:
        whole = under.frames == under.most
        if (frame.code is Code.LENGTH and not whole) or (frame.code is Code.CANCELLED and under.cancelled is None):
            raise self.breach("false-end", "an answer ended in a way that can't be")
        if frame.code is Code.STOPPED and under.values:
            raise self.breach("false-end", "a vector ended before it was whole")
        if frame.code is Code.FAILED and under.frames:
            raise self.breach("false-end", "an answer failed after it had begun")
        waits = self.replays is not None and under.kept is not None and self.replays.ended(under.kept, now)
        settled = None if waits else self.governor.settle(under.reservation.number, now)
        del self._under[frame.answer]
        heapq.heappush(self._free, frame.answer)
        self._totals.ends += 1
        return Heard(answer=frame.answer, end=frame.code, settled=settled)
