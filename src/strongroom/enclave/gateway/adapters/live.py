"""One model, live: the socket of the metered channel, the answers that wait for it, the odometer, and the way it ends.

All of it runs in one event loop, and nothing is awaited between what the governor is told and what it answers. Only the
log is waited for elsewhere, because a disk or another machine is behind it.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import secrets
import socket
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, StrongroomError, TamperedError, UnavailableError
from strongroom.egress.errors import LimitReachedError, MirrorBehindError
from strongroom.egress.marks import Crossing
from strongroom.egress.odometer import Block
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.gateway.adapters.governor_folder import GovernorFolder
from strongroom.enclave.gateway.adapters.replayer import OVER, Replayer
from strongroom.enclave.gateway.errors import ChannelBreachError, EgressPolicyStaleError, EngineGoneError
from strongroom.enclave.gateway.meter import Ask, Begun, Heard, Meter
from strongroom.enclave.gateway.odometer import OdometerLog
from strongroom.enclave.gateway.replay import Verdict
from strongroom.enclave.metered import MAX_BACKLOG, Code
from strongroom.enclave.taximeter import TaximeterError
from strongroom.release.lease import Sampling
from strongroom.release.metering import LoggedReading

CHECK_SECONDS: Final = 0.2
"""How often the channel is looked at, whether or not anything came."""
MIRROR_SECONDS: Final = 30.0
_READ: Final = 65536
_TRIES: Final = 16
_log = structlog.get_logger("strongroom.governor")


@dataclass(slots=True)
class Answer:
    """An answer under way. Iterate over it for tokens, as many at once as there are."""

    number: int
    end: Code | None = None
    _arrived: list[Heard] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _error: StrongroomError | None = None

    def hear(self, heard: Heard) -> None:
        """Take what the governor let through."""
        self._arrived.append(heard)
        self._more.set()

    def fail(self, error: StrongroomError) -> None:
        """End it with an error."""
        self._error = error
        self._more.set()

    async def __aiter__(self) -> AsyncIterator[list[int]]:
        """Return the tokens as they come; ``end`` says afterwards how it ended.

        :raises StrongroomError: the model is frozen, or the engine gone.
        """
        while self.end is None:
            await self._more.wait()
            self._more.clear()
            arrived, self._arrived = self._arrived, []
            tokens = [one.token for one in arrived if one.token is not None]
            if tokens:
                yield tokens
            if arrived and arrived[-1].end is not None:
                self.end = arrived[-1].end
            elif self._error is not None:
                raise self._error


class LiveModel:
    """A model behind its governor.

    ``stop`` is called once when it can't go on, and kills the engine. ``tick`` is how often answers move on, in
    seconds; 0 passes each token on as it comes, and with it the time at which the engine said it. ``opened`` is the
    entry that began the run, ``vouch`` is called with each signed entry before the governor takes it,
    and ``why`` tells, when the engine closed the channel, what else is known of that. It may take a moment: it is
    called in a thread, and the engine is killed only after it, so that an agent can say what it has to say.
    ``in_force`` fetches the model's egress policy where the log's entries name another than before, and is called in
    a thread. ``replayer`` is the second engine, where there is one; the meter has its ``replays`` then. ``sampling``
    returns what the keeper's newest lease asks for, and is looked at a few times a second.
    """

    def __init__(
        self,
        channel: socket.socket,
        meter: Meter,
        *,
        log: OdometerLog,
        folder: GovernorFolder,
        opened: LoggedReading,
        vouch: Callable[[bytes], None],
        clock: Clock,
        stop: Callable[[], None],
        why: Callable[[], StrongroomError | None],
        in_force: Callable[[], EgressPolicy],
        tick: float = 0.0,
        replayer: Replayer | None = None,
        sampling: Callable[[], Sampling] = lambda: Sampling.POLICY,
    ) -> None:
        self._sampling = sampling
        self._in_force, self._policy = in_force, opened.policy
        self._replayer = replayer
        self._channel, self._meter, self._clock, self._stop, self._tick = channel, meter, clock, stop, tick
        self._store, self._folder, self._vouch = log, folder, vouch
        self._why = why
        self._last = opened
        self._reporting: asyncio.Task[None] | None = None
        self._answers: dict[int, Answer] = {}
        self._held: list[tuple[Answer, Heard]] = []
        self._unsent = bytearray()
        self._mirroring = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = self._leaving = False
        self.opened = asyncio.Event()
        """Set when the engine has said that the model is open, or when it never will be."""
        self.over = asyncio.Event()
        self.error: StrongroomError | None = None
        """Why it is over."""

    def start(self) -> None:
        """Begin to read, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._channel.settimeout(0)
        self._loop.add_reader(self._channel, self._readable)
        if self._replayer is not None:
            self._replayer.start(self._replayed, self._replayer_breached)
        # Before the first answer begins.
        self._sample()
        for each in (self._watch(), self._mirror_always()):
            self._spawn(each)

    async def answer(self, principal: str, ask: Ask) -> Answer:
        """Reserve and begin an answer. Whoever stops iterating over it must call :meth:`let_go`.

        :raises StrongroomError: as :meth:`Meter.begin`; LimitReachedError says when it would pass.
        """
        begun = await self._begun(principal, ask)
        self._tell(begun.crossed)
        answer = self._answers[begun.answer] = Answer(begun.answer)
        self._send(begun.order)
        if not self._mirroring.locked() and self._meter.governor.wanted(self._clock.now()):
            self._spawn(self._mirror_once())
        return answer

    async def _begun(self, principal: str, ask: Ask) -> Begun:
        for last in (*[False] * _TRIES, True):
            if self.error is not None:
                raise self.error
            if self._leaving:
                raise EngineGoneError("the engine ended")
            try:
                return self._meter.begin(principal, ask, seed=secrets.randbits(64), now=self._clock.now())
            except MirrorBehindError:
                if last:
                    raise
                # The odometer isn't ahead of this answer yet. Others may take what it gets, so it tries again.
                await self.mirror()
        raise EngineGoneError("the gateway stops")

    def let_go(self, answer: Answer) -> None:
        """End an answer that nobody waits for any more. What still comes of it is counted and dropped."""
        if self._answers.get(answer.number) is answer:
            del self._answers[answer.number]
            order = self._meter.cancel(answer.number, self._clock.now())
            if order is not None and self.error is None:
                self._send(order)

    async def mirror(self) -> None:
        """Have the log mirror what the governor wants (steps 2 to 5).

        :raises StrongroomError: the log refuses or isn't there.
        """
        async with self._mirroring:
            for block in self._meter.governor.wanted(self._clock.now()):
                reading = await asyncio.to_thread(self._mirrored, block)
                self._tell(self._meter.governor.mirrored(reading.entry, self._clock.now()))
                self._last = reading
                if reading.policy != self._policy:
                    await self._adopt(reading.policy)

    async def close(self) -> None:
        """End: no answer goes on, the channel is closed and the engine killed. A breach is reported before."""
        self.end(EngineGoneError("the gateway stops"))
        if self._reporting is not None:
            await self._reporting
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def end(self, error: StrongroomError) -> None:
        """End everything, for good: the channel and the engine first, and a breach is remembered on the disk."""
        if self.error is not None:
            return
        self.error = error
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        self._stop()
        if self._replayer is not None:
            self._replayer.end(OVER)
        if isinstance(error, TamperedError):
            _log.error("model frozen", model=self._meter.model, cause=error.reason)
            with suppress(StrongroomError):
                self._folder.freeze(error.reason, self._clock.now(), seq=self._last.seq)
            self._reporting = self._loop.create_task(self._report(error.reason))
        for answer in (*self._answers.values(), *(answer for answer, _heard in self._held)):
            answer.fail(error)
        self._answers.clear()
        self.opened.set()
        self.over.set()

    async def _adopt(self, wanted: Digest) -> None:
        # A policy that tightens holds from here on, and not from the next start. The keeper's entry named it.
        try:
            policy = await asyncio.to_thread(self._in_force)
            if policy.digest != wanted:
                raise EgressPolicyStaleError("the policy that the log names wasn't shown")
            self._meter.governor.adopt(policy, self._clock.now())
        except StrongroomError as error:
            # Asked for again with the next entry.
            _log.warning(
                "another egress policy is in force: restart to serve under it",
                model=self._meter.model,
                cause=error.reason,
            )
            # The rest is as strict as it was; but whether anybody may verify tokens still, nobody knows. A broker that
            # keeps the policy to itself mustn't keep a discount alive that people took back.
            if self._replayer is not None:
                self._replayer.under(None)
            return
        self._policy = wanted
        if self._replayer is not None:
            self._replayer.under(policy.verified_by)
        _log.info("another egress policy is in force", model=self._meter.model, policy=str(wanted))

    def _mirrored(self, block: Block) -> LoggedReading:
        reading = self._store.advance(block)
        self._folder.keep(reading)
        self._vouch(reading.data)
        return reading

    async def _report(self, cause: str) -> None:
        # What is out can't be called back; every other release of the model is ended by this.
        try:
            await asyncio.to_thread(self._store.breach, cause)
        except StrongroomError as error:
            _log.error("nobody was told of the breach: freeze the model", model=self._meter.model, cause=error.reason)

    def _gone(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._loop.remove_reader(self._channel)
            self._loop.remove_writer(self._channel)
            self._spawn(self._end_for_a_reason())

    async def _end_for_a_reason(self) -> None:
        # A meter inside the machine may have ended it: that is a breach like one that is found here.
        error = await asyncio.to_thread(self._why)
        self.end(error if isinstance(error, TaximeterError) else EngineGoneError("the engine ended"))

    def _readable(self) -> None:
        try:
            data = self._channel.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._gone()
            return
        try:
            for heard in self._meter.received(data, self._clock.now()):
                # An answer that ended gives its number free at once: it is looked up now and not when the tick comes.
                end = heard.end is not None
                answer = self._answers.pop(heard.answer, None) if end else self._answers.get(heard.answer)
                if answer is not None:
                    self._held.append((answer, heard))
        except ChannelBreachError as error:
            self.end(error)
            return
        if self._meter.ready:
            self.opened.set()
        if not self._tick:
            self._flush()
        elif self._held and not self._flushing:
            self._flushing = True
            # Everybody's answers move on at the same multiples of the tick, whenever the engine spoke.
            now = self._loop.time()
            self._loop.call_at((now // self._tick + 1) * self._tick, self._flush)

    def _replayed(self, verdict: Verdict) -> None:
        self._meter.replayed(verdict, self._clock.now())

    def _replayer_breached(self, error: ChannelBreachError) -> None:
        self.end(self._meter.breach(error.found, error.message))

    def _flush(self) -> None:
        self._flushing = False
        held, self._held = self._held, []
        for answer, heard in held:
            answer.hear(heard)

    def _send(self, data: bytes) -> None:
        if len(self._unsent) + len(data) > MAX_BACKLOG:
            self.end(EngineGoneError("the engine doesn't read its orders"))
            raise EngineGoneError("the engine doesn't read its orders")
        self._unsent += data
        self._writable()

    def _writable(self) -> None:
        try:
            sent = self._channel.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._gone()
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._channel, self._writable)
        else:
            self._loop.remove_writer(self._channel)

    async def _watch(self) -> None:
        while not self.over.is_set():
            await asyncio.sleep(CHECK_SECONDS)
            self._look()

    def _look(self) -> None:
        # What there is, is read first; what the kernel then still holds is asked for last.
        if self.error is None and not self._leaving:
            self._readable()
        if self.error is not None or self._leaving:
            return
        self._sample()
        try:
            now = self._clock.now()
            self._meter.check(pending=_pending(self._channel), now=now)
            for number in self._meter.overdue(now):
                self._send(self._meter.cancel(number, now) or b"")
            if self._replayer is not None:
                self._replayer.look()
        except StrongroomError as error:
            self.end(error)

    def _sample(self) -> None:
        wanted = self._sampling()
        if wanted is not self._meter.sampling:
            self._meter.sample(wanted)
            _log.warning("how many answers are replayed changed", model=self._meter.model, sampling=wanted.value)

    async def _mirror_always(self) -> None:
        while not self.over.is_set():
            await self._mirror_once()
            await asyncio.sleep(MIRROR_SECONDS)

    async def _mirror_once(self) -> None:
        try:
            await self.mirror()
        except LimitReachedError as error:
            _log.warning("the model's life is used up", model=self._meter.model, cause=error.reason)
        except (TamperedError, ConflictError) as error:
            self.end(error)
        except StrongroomError as error:
            # Answers stop when the block is used up; nothing leaves uncounted.
            _log.warning("the odometer isn't mirrored", model=self._meter.model, cause=error.reason)

    def _tell(self, crossed: tuple[Crossing, ...]) -> None:
        for one in crossed:
            _log.warning(
                "mark passed", model=one.model, limit=one.limit.value, permille=one.permille, used=one.used, of=one.of
            )

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]  # coroutines of this class
        self._tasks.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Whatever it was: with nobody looking at the channel or the odometer, nothing may go on.
            _log.error("a part of the gateway failed", model=self._meter.model, error=type(error).__name__)
            self.end(EngineGoneError("a part of the gateway failed"))


def _pending(channel: socket.socket) -> int:
    """Return how many bytes the kernel holds that weren't read."""
    found = array.array("i", [0])
    try:
        fcntl.ioctl(channel, termios.FIONREAD, found)
    except OSError as error:
        raise UnavailableError(f"the channel can't be counted: {error.strerror}") from None
    return found[0]
