"""The log writer's side of witnessing: at a fixed rhythm, asks every witness to cosign what is published.

The rhythm is a clock's, not the log's: from when it asks nobody learns when something happened. Witnesses are asked at
once, each with its own time limit; one that is down is one that didn't cosign, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

import httpx2
import structlog

from strongroom.audit.adapters.witness_http import Answer, call, held_checkpoint, witness_client
from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.cosignature import CosignerKey
from strongroom.audit.errors import ForkError, LogRolledBackError
from strongroom.audit.merkle import EMPTY_ROOT
from strongroom.audit.note import Note, NoteSignature, VerifierKey
from strongroom.audit.witness import Submission
from strongroom.audit.witness_policy import MAX_POLICY, Witness, WitnessPolicy
from strongroom.audit.witnessing import MAX_ANSWER, ROUND_SECONDS, Gathered, conflict_size, read_cosignature
from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError, UnavailableError

ANSWER_SECONDS: Final = 5.0
_ROLLED_BACK: Final = "This log was rolled back, or its key signs elsewhere: treat it as an incident; append nothing."

T = TypeVar("T")
_log = structlog.get_logger("strongroom.audit")


class Log(Protocol):
    """The log that is witnessed."""

    async def flush(self) -> int:
        """Publish now; returns the published size."""
        ...

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``old`` entries is a prefix of the one of ``new``."""
        ...

    async def root_at(self, size: int) -> bytes:
        """Return the root over the first ``size`` entries."""
        ...


class Notes(Protocol):
    """The published checkpoints."""

    def published_note(self) -> bytes | None:
        """Return the newest."""
        ...

    def cosigned_checkpoint(self) -> bytes | None:
        """Return the one that a quorum cosigned last."""
        ...

    def publish_cosigned(self, note: bytes) -> None:
        """Make a cosigned one durable."""
        ...

    def add_cosignatures(self, note: bytes) -> None:
        """Show cosignatures on the newest."""
        ...


@dataclass(slots=True)
class WitnessRounds:
    """Asks the witnesses that a policy file names. ``cosigned`` is the newest durable checkpoint with a quorum."""

    key: VerifierKey
    policy_file: Path
    authority: Path
    """A PEM file with the only authority that the witnesses' servers are believed by; without it, the usual ones."""
    log: Log
    notes: Notes
    executor: Executor
    clock: Clock
    seconds: float = ROUND_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    cosigned: bytes | None = None
    _sizes: dict[CosignerKey, int] = field(default_factory=dict)
    _gathered: Gathered | None = None

    def policy(self) -> WitnessPolicy | None:
        """Read the policy file; None where there is none. It is read each time: a change needs no restart.

        :raises WitnessPolicyError: it isn't a policy.
        """
        try:
            with self.policy_file.open("rb") as file:
                return WitnessPolicy.parse(file.read(MAX_POLICY + 1))
        except FileNotFoundError:
            return None

    async def run(self) -> None:
        """Ask for ever.

        :raises LogRolledBackError: a witness proved that the log's own key signed more than the log holds.
        :raises ForkError: or something else.
        """
        while True:
            await asyncio.sleep(self.seconds)
            await self.round()

    async def round(self) -> None:
        """Ask every witness once. Whatever goes wrong on this side is reported, and tried again in the next round.

        :raises LogRolledBackError: see :meth:`run`. :raises ForkError: see :meth:`run`.
        """
        with _reported():
            policy = await self._off_loop(self.policy)
            if self.cosigned is None:
                self.cosigned = await self._off_loop(self.notes.cosigned_checkpoint)
            if policy is not None:
                await self._ask_all(policy)

    async def look_before_first(self) -> None:
        """Look at what the witnesses hold of this log, which has no entry yet and has signed nothing.

        A witness that doesn't answer stops nothing: a new deployment starts without it.

        :raises LogRolledBackError: one holds a checkpoint by this log's own key.
        """
        empty = Checkpoint(self.key.name, 0, EMPTY_ROOT)
        with _reported():
            policy = await self._off_loop(self.policy)
            if policy is None:
                return
            asked = [witness for witness in policy.witnesses if witness.url is not None]
            async with self._client() as client:
                looks = (self._answered(one, self._see_what_it_holds(client, one, empty)) for one in asked)
                await asyncio.gather(*looks)

    async def _ask_all(self, policy: WitnessPolicy) -> None:
        await self.log.flush()
        published = await self._off_loop(self.notes.published_note)
        if published is None:
            return
        note = Note.parse(published)
        checkpoint = Checkpoint.parse_text(note.text)
        asked = [witness for witness in policy.witnesses if witness.url is not None]
        async with self._client() as client:
            asking = (self._answered(one, self._submit(client, one, note, checkpoint)) for one in asked)
            answers = await asyncio.gather(*asking)
        lines = {witness.key: line for witness, line in zip(asked, answers, strict=True) if line is not None}
        self._gathered = Gathered.over(note, self._gathered).with_lines(lines)
        data = self._gathered.note.to_bytes()
        if lines:
            await self._off_loop(lambda: self.notes.add_cosignatures(data))
        if lines and self._gathered.has_quorum(policy):
            # Durable first: what counts for freshness must not be forgotten by a crash.
            await self._off_loop(lambda: self.notes.publish_cosigned(data))
            self.cosigned = data
        elif asked:
            _log.warning("no quorum of witnesses", size=checkpoint.size, cosigned=len(lines), asked=len(asked))

    async def _answered(self, witness: Witness, asking: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.answer_seconds):
                return await asking
        except (LogRolledBackError, ForkError):
            raise
        except StrongroomError as error:
            _log.warning("a witness didn't cosign", witness=witness.key.shown, reason=error.reason)
        except Exception as error:  # noqa: BLE001 - an address or answer of whatever form must not stop the log writer
            _log.warning("a witness didn't answer", witness=witness.key.shown, error=type(error).__name__)
        return None

    async def _submit(
        self, client: httpx2.AsyncClient, witness: Witness, note: Note, checkpoint: Checkpoint
    ) -> NoteSignature:
        old = min(self._sizes.get(witness.key, 0), checkpoint.size)
        answer = await self._post(client, witness, old, note, checkpoint)
        if answer.status == 409:
            known = conflict_size(answer.body)
            if known is not None and known <= checkpoint.size and known != old:
                answer = await self._post(client, witness, known, note, checkpoint)
        if answer.status != 200:
            self._sizes.pop(witness.key, None)
            if answer.status in (409, 422):
                await self._see_what_it_holds(client, witness, checkpoint)
            raise UnavailableError(f"the witness answered {answer.status}", reason=f"witness-answered-{answer.status}")
        line = read_cosignature(answer.body, checkpoint, witness.key, now=self.clock.now())
        self._sizes[witness.key] = checkpoint.size
        return line

    async def _see_what_it_holds(self, client: httpx2.AsyncClient, witness: Witness, checkpoint: Checkpoint) -> None:
        """Look at the checkpoint that the witness says it cosigned. Our own key's signature on it is proof."""
        answer = await held_checkpoint(client, witness, self.key.name)
        if answer.status != 200:
            return
        try:
            theirs = read_checkpoint(answer.body, self.key)
        except StrongroomError:
            return
        if theirs.size > checkpoint.size and theirs.size > await self.log.flush():
            raise LogRolledBackError(
                f"a witness holds a checkpoint of {theirs.size} entries by this log's key; this log has fewer",
                index=checkpoint.size,
                remedy=_ROLLED_BACK,
            )
        if theirs.size <= checkpoint.size and theirs.root != await self.log.root_at(theirs.size):
            raise ForkError(
                f"a witness holds another tree of {theirs.size} entries by this log's key", remedy=_ROLLED_BACK
            )

    async def _post(
        self, client: httpx2.AsyncClient, witness: Witness, old: int, note: Note, checkpoint: Checkpoint
    ) -> Answer:
        proof = await self.log.prove_consistency(old, checkpoint.size)
        body = Submission(old=old, proof=proof, note=_of_log(note, self.key)).to_bytes()
        return await call(client, "POST", f"{str(witness.url).rstrip('/')}/add-checkpoint", body, most=MAX_ANSWER)

    def _client(self) -> httpx2.AsyncClient:
        authority = self.authority if self.authority.exists() else None
        return witness_client(authority, seconds=self.answer_seconds)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)


@contextmanager
def _reported() -> Iterator[None]:
    """Report what went wrong on this side; proof against the log is raised."""
    try:
        yield
    except (LogRolledBackError, ForkError):
        raise
    except StrongroomError as error:
        _log.error("witnesses weren't asked", reason=error.reason, detail=error.message)
    except (OSError, ssl.SSLError) as error:
        _log.error("witnesses weren't asked", error=type(error).__name__)


def _of_log(note: Note, key: VerifierKey) -> Note:
    # Other witnesses' lines are nobody's business, and some witnesses take small bodies only.
    return Note(note.text, tuple(line for line in note.signatures if line.name == key.name))
