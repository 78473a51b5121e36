"""Which answers a second engine replays, and what follows from what it says of them. Pure. docs/spec/sampling.md.

A token that another engine reproduces from the same prompt and the same seed can't have been chosen to carry anything:
it costs the policy's residual. Which answers are replayed is drawn after they ended, so that no engine can know it.
What the second engine says is one number for each answer, goes nowhere but here, and is charged with that answer.

While a precaution asks for it, every answer is replayed, and one that can't be isn't begun. Nor is one for which the
second engine, as fast as it was so far, has no time: most are sized for a share, and one that falls behind is ended.

Everything that goes wrong ends in the full price: an engine that is gone, slow, or disagrees more often than the policy
says that honest ones do. The discount then stays off until the gateway is started anew.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId
from strongroom.egress.bits import MILLI
from strongroom.egress.policy import MILLION, VerifiedBy
from strongroom.enclave.gateway.errors import ChannelBreachError
from strongroom.enclave.metered import MAX_PROMPT, OPENING, Code, Frame, Frames, Kind, Order
from strongroom.release.lease import Sampling

MAX_KEPT: Final = 1 << 20
"""Tokens of prompts and answers that are kept for a replay, those under way at their longest: at most 40 MiB."""
REPLAY_SECONDS: Final = 600
"""How long an answer may wait for its replay: with the time that it may take, well within its reservation."""
AT_ONCE: Final = 8192
"""Tokens that may be kept while every answer is replayed, however slow the second engine seems."""
_SIGMAS: Final = 6
_FREE: Final = 5
"""Differences that are allowed beside the measured rate's and six times its spread: one alone says nothing."""


@dataclass(slots=True)
class Kept:
    """An answer as far as a replay needs it."""

    number: int
    """The governor's, of its reservation."""
    asked: Order
    room: int
    """Tokens that are set aside for it."""
    said: array[int] = field(default_factory=lambda: array("I"))
    ended: Instant = 0

    @property
    def order(self) -> Order:
        """What to ask the second engine. It has one answer under way, and no principal, no limit and no name of it."""
        asked = self.asked
        return Order(
            kind=Kind.REPLAY,
            answer=0,
            most=len(self.said),
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
            prompt=(*asked.prompt, *self.said),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an answer that was to be replayed."""

    number: int
    """The governor's, of its reservation."""
    verified: int | None
    """Tokens that were reproduced, from the first on; None if nobody replayed it."""


@dataclass(slots=True)
class Replays:
    """The answers of one model that wait for a replay, and how often the two engines differed.

    ``draw`` returns a number below a thousand that nobody else can foresee.
    """

    model: ModelId
    rules: VerifiedBy
    draw: Callable[[], int]
    sampling: Sampling = Sampling.POLICY
    """What the keeper's newest lease asks for."""
    ready: bool = False
    """Whether the second engine has said that its model is open."""
    stopped: str | None = None
    """Why nothing is replayed any more."""
    compared: int = 0
    """Tokens that the second engine looked at."""
    differed: int = 0
    """Of these, those that it would not have said: at most one in an answer, since it stops there."""
    _kept: int = 0
    """Tokens that are set aside."""
    _replayed: int = 0
    """Tokens of prompts and answers that the second engine has gone through, in ``_busy`` seconds."""
    _busy: int = 0
    _frames: Frames = field(default_factory=Frames)
    _waiting: deque[Kept] = field(default_factory=deque)
    _asked: Kept | None = None
    _agreed: int | None = None

    def keep(self, number: int, asked: Order) -> Kept | None:
        """Set room aside for an answer that begins; None where it isn't replayed whatever is drawn."""
        if not self.has_room(asked):
            return None
        room = _room_of(asked)
        self._kept += room
        return Kept(number, asked, room)

    def has_room(self, asked: Order) -> bool:
        """Tell whether an answer that began now could be replayed."""
        return self.ready and self.stopped is None and _room_of(asked) <= min(self._free(), MAX_PROMPT)

    def took(self, seconds: int) -> None:
        """Take how long the last replay took."""
        self._busy += seconds

    def ended(self, kept: Kept, now: Instant) -> bool:
        """Decide, now that it ended, whether an answer waits for a replay. False is to be settled at its full price."""
        drawn_in = self.sampling is Sampling.WHOLE or self.draw() < self.rules.replay_permille
        if self.stopped is not None or not kept.said or not drawn_in:
            self._kept -= kept.room
            return False
        kept.ended = now
        self._waiting.append(kept)
        return True

    def next(self) -> bytes | None:
        """Return the order for the next replay; None while one is under way, or none waits."""
        if self._asked is not None or not self._waiting or self.stopped is not None:
            return None
        self._asked, self._agreed = self._waiting.popleft(), None
        return self._asked.order.to_bytes()

    def received(self, data: bytes) -> tuple[Verdict, ...]:
        """Judge what the second engine says; none of it goes on.

        :raises ChannelBreachError: what it may not say, or the engines have nothing to do with each other.
        """
        try:
            frames = self._frames.feed(data)
        except MalformedError as error:
            raise self._breach("malformed", error.message) from None
        found = [verdict for frame in frames if (verdict := self._heard(frame)) is not None]
        return (*found, *(self.stop("differs") if self._too_often() else ()))

    def overdue(self, now: Instant) -> bool:
        """Tell whether an answer waits for too long: the second engine is too slow, or stands still."""
        first = self._asked or (self._waiting[0] if self._waiting else None)
        return first is not None and now - first.ended > REPLAY_SECONDS

    def stop(self, why: str) -> tuple[Verdict, ...]:
        """Replay nothing any more; returns what waited, at its full price."""
        self.stopped = self.stopped or why
        left = (*((self._asked,) if self._asked else ()), *self._waiting)
        self._asked = None
        self._waiting.clear()
        return tuple(self._done(kept, None) for kept in left)

    def _free(self) -> int:
        if self.sampling is not Sampling.WHOLE or not self._kept:
            return MAX_KEPT - self._kept
        # Half of the time: seconds are whole ones, and no two answers take the same.
        in_time = self._replayed * (REPLAY_SECONDS // 2) // (self._busy + 1)
        return min(MAX_KEPT, max(AT_ONCE, in_time)) - self._kept

    def _heard(self, frame: Frame) -> Verdict | None:
        if frame.answer == OPENING:
            if self.ready:
                raise self._breach("opened-twice", "the replaying engine said twice that the model is open")
            self.ready = True
            return None
        kept = self._asked
        if kept is None or frame.answer != 0:
            raise self._breach("no-demand", "a frame came for a replay that nobody asked for")
        if frame.code is Code.AGREED and self._agreed is None and frame.token <= len(kept.said):
            self._agreed = frame.token
            return None
        if frame.code is Code.FAILED and self._agreed is None:
            self._asked = None
            return self._done(kept, None)
        if frame.code is not Code.LENGTH or self._agreed is None:
            raise self._breach("false-end", "the replaying engine said what isn't the outcome of a replay")
        self._asked, agreed = None, self._agreed
        self._replayed += len(kept.asked.prompt) + len(kept.said)
        differs = agreed < len(kept.said)
        self.compared += agreed + differs
        self.differed += differs
        if self._too_often() and 2 * self.differed > self.compared:
            # Most of what was compared: that is no rounding of floats any more.
            raise self._breach("diverged", "what the model says is hardly ever what a second engine says in its place")
        return self._done(kept, agreed)

    def _done(self, kept: Kept, verified: int | None) -> Verdict:
        self._kept -= kept.room
        return Verdict(number=kept.number, verified=verified)

    def _too_often(self) -> bool:
        """Tell whether the engines differ more often than the policy's measurement explains."""
        expected = self.compared * self.rules.differences_per_million
        beyond = (self.differed - _FREE) * MILLION - expected
        # Beyond six standard deviations of a count with that mean; in integers, squared.
        return self.stopped is None and beyond > 0 and beyond**2 > _SIGMAS**2 * expected * MILLION

    def _breach(self, found: str, message: str) -> ChannelBreachError:
        self.stopped = self.stopped or found
        return ChannelBreachError(f"replay-{found}", f"model `{self.model}`: {message}")


def _room_of(asked: Order) -> int:
    return len(asked.prompt) + asked.most


def drawn(word: int) -> int:
    """Return a number below a thousand out of 64 random bits."""
    return word * MILLI >> 64
