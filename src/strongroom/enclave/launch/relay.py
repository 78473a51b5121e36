"""The relay between an agent and the broker. It sees ciphertext and signed bytes, and can only withhold them.

While the command runs, three things may happen at any time: the agent says something, the broker answers a renewal,
and the broker says that the lease ended. Each has a thread that waits for it and puts it in one queue; one loop takes
them out, and it alone sends to the agent. Nothing that waits holds up another, and the agent trusts none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread, Timer
from typing import Final, Protocol

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId, platform_id
from strongroom.enclave.agent.messages import Order, failed, unless_failed
from strongroom.enclave.runner import ExitStatus, Running
from strongroom.release.delivery import Delivery
from strongroom.release.dossier import MAX_EVIDENCE
from strongroom.release.lease import (
    LeaseAsk,
    LeaseEndedError,
    LeaseProof,
    ReattestationDueError,
    Sampling,
    accept_lease,
)

AGENT_SECONDS: Final = 600.0
WAIT_SECONDS: Final = 25
"""How long one call waits for the word that the lease ended."""
PAUSE_SECONDS: Final = 5.0
"""After a call that failed: the broker has no room for one more that waits, or isn't there."""


@dataclass(frozen=True, slots=True)
class Challenged:
    """A challenge as the broker handed it on."""

    challenge: str
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Released:
    """A release as the broker handed it on. The result is a token (EAR) for whoever wants to know what runs here."""

    delivery: Envelope
    result: str


class ReleasePort(Protocol):
    """The broker, as an enclave's launcher sees it."""

    def challenge(self, request: Digest, platform: PlatformId) -> Challenged:
        """Ask for a challenge.

        :raises StrongroomError: the keeper refuses.
        """
        ...

    def release(self, request: Digest, platform: PlatformId, challenge: str, evidence: bytes) -> Released:
        """Hand in the evidence and receive the signed delivery and attestation result.

        :raises StrongroomError: the keeper refuses.
        """
        ...

    def renew(self, request: Digest, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope:
        """Have a release judged again and receive its next lease. Called from another thread than the rest.

        :raises LeaseEndedError: it doesn't hold any more. :raises ReattestationDueError: not without new evidence.
        :raises StrongroomError: no answer.
        """
        ...

    def lease_end(self, request: Digest, use: int, *, wait: int) -> str:
        """Wait up to ``wait`` seconds for a lease's end; returns why, or nothing. Called from a thread of its own.

        :raises StrongroomError: no answer.
        """
        ...


class Aside(Protocol):
    """Takes what isn't about the release and its lease."""

    def hear(self, told: Fields, delivery: Envelope, tell: Callable[[Json], None]) -> bool:
        """Take a message and return True, or leave it unread and return False. ``delivery`` answered the release.

        Whatever waits must wait in a thread of its own; ``tell`` may be called from it, and answers the agent.

        :raises StrongroomError: the agent can't be served any more.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the agent says of the model that it opened."""

    files: int
    bytes: int
    canaries: int
    """Answers that are compared before the model serves, where its output is metered; otherwise by the command."""
    log_index: int
    use: int
    checkpoint: str
    result: str
    """The keeper's attestation result, for whoever wants to know; the launcher passes it on unread."""
    delivery: Envelope
    """What answered the release, as it came: to whoever shows it the keeper lets the model's odometer go on."""


def relay(
    running: Running,
    order: Order,
    broker: ReleasePort,
    *,
    opened: Callable[[Opened], None],
    seconds: float,
    aside: Aside | None = None,
    sampling: Callable[[Sampling], None] = lambda _sampling: None,
) -> ExitStatus:
    """Carry one agent from its order to the end of its command.

    :param seconds: how long the command may run once the key is delivered.
    :param sampling: hears what the delivery and then each lease asks for, as far as the agent accepts it; called from
        other threads too.
    :raises LeaseEndedError: the release doesn't hold any more, and the agent ended the command.
    :raises LeaseLostError: no lease reached the agent in time, and it ended the command.
    :raises StrongroomError: the keeper refused, or the agent failed; the reason is the one that it gave.
    """
    running.send(order.to_json(), timeout=AGENT_SECONDS)
    with unless_failed(running.receive(timeout=AGENT_SECONDS)) as asked, asked.child("ask") as ask:
        platform = ask.parsed("platform", platform_id)
    try:
        challenged = broker.challenge(order.request, platform)
        running.send({"challenge": challenged.challenge, "nonce": to_base64(challenged.nonce)}, timeout=AGENT_SECONDS)
        with unless_failed(running.receive(timeout=AGENT_SECONDS)) as answer:
            evidence = answer.binary("evidence", max_length=MAX_EVIDENCE)
        released = broker.release(order.request, platform, challenged.challenge, evidence)
    except StrongroomError as error:
        running.send(failed(error), timeout=AGENT_SECONDS)
        raise
    running.send({"delivery": released.delivery.to_json()}, timeout=AGENT_SECONDS)
    leased = _Leased(running, broker, order, platform, released, seconds=seconds, aside=aside, sampling=sampling)
    try:
        return leased.carry(opened)
    finally:
        leased.over.set()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What somebody else has to tell the agent."""

    message: Json


@dataclass(frozen=True, slots=True)
class _Fell:
    """The lease ended, said the deployment; or ``reason`` is empty, and time is up."""

    reason: str


class _Leased:
    """What goes on between agent and broker while a lease is held."""

    def __init__(
        self,
        running: Running,
        broker: ReleasePort,
        order: Order,
        platform: PlatformId,
        released: Released,
        *,
        seconds: float,
        aside: Aside | None,
        sampling: Callable[[Sampling], None],
    ) -> None:
        self._running = running
        self._aside = aside
        self._broker = broker
        self._request, self._genesis = order.request, order.genesis
        self._sampling = sampling
        self._platform = platform
        delivery = Delivery.parse(released.delivery.payload)
        self._use = delivery.use
        # Not checked here: of one that isn't the keeper's, the agent opens nothing.
        sampling(delivery.sampling or Sampling.POLICY)
        self._delivery = released.delivery
        self._result = released.result
        self._seconds = seconds
        self._happened: SimpleQueue[Json | Envelope | Challenged | _Answer | _Fell | StrongroomError] = SimpleQueue()
        self._asking = False
        self.over = Event()

    def carry(self, opened: Callable[[Opened], None]) -> ExitStatus:
        """Serve the agent until it says how its command ended."""
        timer = Timer(self._seconds, lambda: self._happened.put(_Fell("")))
        timer.daemon = True
        timer.start()
        _begin(self._listen)
        _begin(self._watch)
        try:
            while True:
                match self._happened.get():
                    case StrongroomError() as error:
                        raise error
                    case Envelope() as lease:
                        self._tell({"lease": lease.to_json()})
                    case _Answer(message=answer):
                        self._tell(answer)
                    case Challenged(challenge=challenge, nonce=nonce):
                        self._tell({"prove": {"challenge": challenge, "nonce": to_base64(nonce)}})
                    case _Fell(reason=""):
                        raise UnavailableError(
                            "the command ran longer than it may and was ended", reason="enclave.timeout"
                        )
                    case _Fell(reason=reason):
                        self._tell({"fell": reason})
                    case message:
                        status = self._heard(unless_failed(message), opened)
                        if status is not None:
                            return status
        finally:
            timer.cancel()

    def _heard(self, told: Fields, opened: Callable[[Opened], None]) -> ExitStatus | None:
        with told:
            if told.optional("renew"):
                with told.child("renew") as renew:
                    ask, proof = LeaseAsk.read(renew), None
                if told.optional("proof"):
                    with told.child("proof") as child:
                        proof = LeaseProof.read(child)
                self._renew(ask, proof)
                return None
            if told.optional("opened"):
                opened(_opened(told, self._result, self._delivery))
                return None
            if self._aside is not None and self._aside.hear(told, self._delivery, self._answer_with):
                return None
            with told.child("ended") as ended:
                code = ended.integer("code", most=255) if ended.optional("code") else None
                signal = ended.integer("signal", most=64) if ended.optional("signal") else None
        return ExitStatus(code, signal)

    def _answer_with(self, message: Json) -> None:
        self._happened.put(_Answer(message))

    def _tell(self, message: Json) -> None:
        # An agent that is gone has said why, or its channel is closed: both come out of the queue next.
        with suppress(UnavailableError):
            self._running.send(message, timeout=AGENT_SECONDS)

    def _renew(self, ask: LeaseAsk, proof: LeaseProof | None) -> None:
        # An agent asks again when an answer is late. While one call hangs, no second one helps.
        if not self._asking:
            self._asking = True
            _begin(lambda: self._fetch(ask, proof))

    def _fetch(self, ask: LeaseAsk, proof: LeaseProof | None) -> None:
        answer = self._answer(ask, proof)
        # Before the agent hears of it: what it asks next must find the way free.
        self._asking = False
        if isinstance(answer, Envelope):
            self._note(answer, ask)
        if answer is not None:
            self._happened.put(answer)

    def _answer(self, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope | Challenged | _Fell | None:
        try:
            return self._broker.renew(self._request, ask, proof)
        except LeaseEndedError as error:
            return _Fell(error.reason)
        except ReattestationDueError:
            return self._challenge()
        except StrongroomError:
            # No answer is none: the agent asks again, until its deadline.
            return None

    def _note(self, envelope: Envelope, ask: LeaseAsk) -> None:
        # What isn't the lease that was asked for says nothing here, and doesn't prolong anything there.
        with suppress(StrongroomError):
            lease = accept_lease(envelope, self._genesis, request=self._request, platform=self._platform, ask=ask)
            self._sampling(lease.sampling)

    def _challenge(self) -> Challenged | None:
        try:
            return self._broker.challenge(self._request, self._platform)
        except StrongroomError:
            return None

    def _listen(self) -> None:
        try:
            while not self.over.is_set():
                self._happened.put(self._running.receive(timeout=self._seconds + AGENT_SECONDS))
        except StrongroomError as error:
            self._happened.put(error)

    def _watch(self) -> None:
        while not self.over.is_set():
            try:
                reason = self._broker.lease_end(self._request, self._use, wait=WAIT_SECONDS)
            except StrongroomError:
                self.over.wait(PAUSE_SECONDS)
                continue
            if reason:
                self._happened.put(_Fell(reason))
                return


def _begin(work: Callable[[], None]) -> Thread:
    # Daemons: a call that hangs must not keep the launcher's process when its command has ended.
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


def _opened(told: Fields, result: str, delivery: Envelope) -> Opened:
    with told.child("opened") as counts:
        files, size, canaries = counts.integer("files"), counts.integer("bytes"), counts.integer("canaries")
    checkpoint = told.value("checkpoint")
    return Opened(
        files=files,
        bytes=size,
        canaries=canaries,
        log_index=told.integer("log_index"),
        use=told.integer("use"),
        checkpoint=str(checkpoint),
        result=result,
        delivery=delivery,
    )
