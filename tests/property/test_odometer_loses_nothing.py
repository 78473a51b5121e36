"""Killed at any step, restored to any older state: the log, or what is beside it, knows of every bit that left."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from strongroom.core.errors import StrongroomError
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import LimitReachedError, MirrorBehindError
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import Block, LocalRecord, Odometer, OdometerEntry
from support.egress import ATLAS, LOTS
from support.examples import examples
from support.logs import AT

LIMIT = 5000


class Deployment(RuleBasedStateMachine):
    """A log, a local record, and a process that may die between any two steps of the protocol.

    Either the disk beside the log is restored to older states, or the log is: not both, which nothing here could see.
    """

    @initialize(log_goes_back=st.booleans())
    def begin(self, *, log_goes_back: bool) -> None:
        self.log_goes_back = log_goes_back
        self.log: list[OdometerEntry] = []
        self.disk: list[LocalRecord | None] = [None]
        """Every state that the local record had; the last one is there now."""
        self.process: Odometer | None = None
        self.ghosts: list[Block] = []
        self.held: list[int] = []
        self.out = 0
        self.emissions: list[tuple[int, int]] = []
        self.now = AT

    @property
    def mirror(self) -> Mirror:
        found = Mirror(ATLAS)
        for entry in self.log:
            found = found.after(entry)
        return found

    @rule(block=st.integers(1, 600), upto=st.sampled_from([1, 2, 2, 2]))
    @precondition(lambda self: self.process is None)
    def start(self, block: int, upto: int) -> None:
        """Step 1, then step 4; ``upto`` says after how many of them the process dies, if it does."""
        opening = self.mirror.open(epoch=1, limit=LIMIT, day=LOTS, seen=self.disk[-1], now=self.now)
        self.log.append(opening)
        if upto < 2:
            return
        self.disk.append(opening.record.over(self.disk[-1]))
        self.process = Odometer(opening, block_bits=block)
        assert self.process.total >= self.out

    @rule(upto=st.sampled_from([2, 3, 4, 5, 5, 5, 5]))
    @precondition(lambda self: self.process is not None)
    def mirror_a_block(self, upto: int) -> None:
        """Steps 2 to 5; ``upto`` is the last one that is done, and before 5 it is the process's last."""
        assert self.process is not None
        block = self.process.wanted(self.now)
        if block is None:
            return
        if upto < 3:
            self.ghosts.append(block)
            self.kill()
            return
        entry = self.written(block)
        if entry is None or upto < 4:
            self.kill()
            return
        self.disk.append(entry.record.over(self.disk[-1]))
        if upto < 5:
            self.kill()
            return
        try:
            self.process.take(entry)
        except StrongroomError:
            self.kill()

    def written(self, block: Block) -> OdometerEntry | None:
        try:
            entry = self.mirror.advance(block, epoch=1, limit=LIMIT, day=LOTS, now=self.now)
        except StrongroomError:
            return None
        self.log.append(entry)
        return entry

    @rule(bits=st.integers(1, 700), kept=st.booleans(), part=st.sampled_from([0, 10, 100, 100]))
    @precondition(lambda self: self.process is not None)
    def answer(self, bits: int, part: int, *, kept: bool) -> None:
        """Hold bits, after mirroring a block if that is needed; settle now or later."""
        process = self.process
        assert process is not None
        for _ in range(2):
            try:
                process.hold(bits, self.now)
            except MirrorBehindError:
                self.mirror_a_block(5)
            except LimitReachedError:
                return
            else:
                self.held.append(bits)
                break
            if self.process is not process:
                return
        if not kept and self.held:
            self.let_out(part)

    @rule(part=st.integers(0, 100))
    @precondition(lambda self: self.process is not None and self.held)
    def let_out(self, part: int) -> None:
        assert self.process is not None
        held = self.held.pop()
        used = held * part // 100
        self.out += used
        self.emissions.append((self.now, used))
        self.process.settle(held, used)

    @rule()
    def kill(self) -> None:
        if self.held:
            # All that was held may have left just before.
            self.emissions.append((self.now, sum(self.held)))
        self.out += sum(self.held)
        self.held = []
        self.process = None

    @rule(which=st.integers(0, 100))
    @precondition(lambda self: self.ghosts)
    def a_dead_process_is_heard_late(self, which: int) -> None:
        self.written(self.ghosts[which % len(self.ghosts)])

    @rule(which=st.integers(0, 1000))
    @precondition(lambda self: not self.log_goes_back)
    def restore_the_disk(self, which: int) -> None:
        self.kill()
        self.disk.append(self.disk[which % len(self.disk)])

    @rule(which=st.integers(0, 1000))
    @precondition(lambda self: self.log_goes_back)
    def restore_the_log(self, which: int) -> None:
        self.kill()
        self.log = self.log[: which % (len(self.log) + 1)]

    @rule(seconds=st.sampled_from([1, 900, 1800, 3600, 7200, DAY // 2, DAY]))
    def wait(self, seconds: int) -> None:
        if seconds >= 3600:
            # Answers are over within the hour.
            for _ in range(len(self.held)):
                self.let_out(100)
        self.now += seconds

    @invariant()
    def every_bit_is_known(self) -> None:
        if not hasattr(self, "log"):
            return
        stored = self.disk[-1]
        known = max(self.mirror.total, stored.total if stored else 0)
        assert self.out + sum(self.held) <= known <= LIMIT
        if not self.log_goes_back:
            assert self.out + sum(self.held) <= self.mirror.total

    @invariant()
    def the_last_day_is_never_made_smaller(self) -> None:
        if hasattr(self, "log") and not self.log_goes_back:
            left = sum(bits for at, bits in self.emissions if at > self.now - DAY)
            assert left + sum(self.held) <= self.mirror.recent(self.now)


Deployment.TestCase.settings = settings(max_examples=examples(200), stateful_step_count=60, deadline=None)
TestDeployment = Deployment.TestCase
