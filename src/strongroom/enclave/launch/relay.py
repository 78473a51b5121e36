"""The relay between an agent and the broker. It sees ciphertext and signed bytes, and can only withhold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PlatformId, platform_id
from strongroom.enclave.agent.messages import Order, failed, unless_failed
from strongroom.enclave.runner import ExitStatus, Running
from strongroom.release.dossier import MAX_EVIDENCE

AGENT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Challenged:
    """A challenge as the broker handed it on."""

    challenge: str
    nonce: bytes


class ReleasePort(Protocol):
    """The broker, as an enclave's launcher sees it."""

    def challenge(self, request: Digest, platform: PlatformId) -> Challenged:
        """Ask for a challenge.

        :raises StrongroomError: the keeper refuses.
        """
        ...

    def release(self, request: Digest, platform: PlatformId, challenge: str, evidence: bytes) -> Envelope:
        """Hand in the evidence and receive the signed delivery.

        :raises StrongroomError: the keeper refuses.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the agent says of the model that it opened."""

    files: int
    bytes: int
    log_index: int
    use: int
    checkpoint: str


def relay(
    running: Running, order: Order, broker: ReleasePort, *, opened: Callable[[Opened], None], seconds: float
) -> ExitStatus:
    """Carry one agent from its order to the end of its command.

    :param seconds: how long the command may run once the weights are open.
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
        delivery = broker.release(order.request, platform, challenged.challenge, evidence)
    except StrongroomError as error:
        running.send(failed(error), timeout=AGENT_SECONDS)
        raise
    running.send({"delivery": delivery.to_json()}, timeout=AGENT_SECONDS)
    with unless_failed(running.receive(timeout=AGENT_SECONDS)) as told:
        with told.child("opened") as counts:
            files, size = counts.integer("files"), counts.integer("bytes")
        checkpoint = told.value("checkpoint")
        opened(
            Opened(
                files=files,
                bytes=size,
                log_index=told.integer("log_index"),
                use=told.integer("use"),
                checkpoint=str(checkpoint),
            )
        )
    with unless_failed(running.receive(timeout=seconds)) as told, told.child("ended") as ended:
        code = ended.integer("code", most=255) if ended.optional("code") else None
        signal = ended.integer("signal", most=64) if ended.optional("signal") else None
    return ExitStatus(code, signal)
