"""From a folder of weights to a registered version: request, data key, sealed directory, signed manifest, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strongroom.client.delivery import accept_for_sealing
from strongroom.client.requests import Asking, ask_to_seal
from strongroom.client.service import Session
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import PendingError
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.keys.recipient import RecipientKey

Progress = Callable[[int, int], object]


class SealedResult(Protocol):
    """What sealing gives."""

    @property
    def envelope(self) -> Envelope:
        """The signed manifest."""
        ...


class SealDirectory(Protocol):
    """Seals a directory; :func:`strongroom.sealing.adapters.directory.seal_directory` with its randomness given."""

    def __call__(
        self,
        source: Path,
        destination: Path,
        *,
        model: ModelId,
        version: int,
        predecessor: Digest | None,
        genesis: Digest,
        data_key: SecretBytes,
        data_key_id: str,
        signer: Signer,
        publisher: PersonId,
        progress: Progress | None,
        replace: bool,
    ) -> SealedResult:
        """Seal ``source`` into ``destination``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How to wait for approvals: ``sleep`` in seconds, and whom to tell what is missing."""

    sleep: Callable[[float], None]
    submitted: Callable[[Digest, int], None]
    missing: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A sealed and registered version."""

    model: ModelId
    version: int
    manifest: Digest
    request: Digest
    log_index: int
    """Where its registration stands in the log."""


def publish(
    session: Session,
    source: Path,
    destination: Path,
    *,
    model: ModelId,
    asking: Asking,
    seal_directory: SealDirectory,
    progress: Progress | None,
    replace: bool,
    waiting: Waiting | None,
) -> Published:
    """Seal ``source`` as the next version of ``model`` and register it.

    The recipient key lives in this process alone. So where approvals are needed the process has to wait for them; with
    ``waiting`` None it doesn't begin.

    :raises PendingError: approvals are needed and nobody may wait, or they didn't come in time.
    :raises DeniedError: the keeper refuses.
    :raises TamperedError: an answer isn't what this deployment's keeper or log signed.
    """
    trust = session.refresh()
    recipient = RecipientKey()
    request = ask_to_seal(trust, asking, model=model, recipient=recipient.digest)
    needed = session.approvals_needed(request, trust)
    if needed and waiting is None:
        raise PendingError(
            f"sealing `{model}` takes the approval of {needed} people; nothing was submitted",
            reason="approvals-needed",
            remedy="run it again with --wait: the key that receives the data key lives only while it runs",
        )
    session.submit(request, trust)
    if needed and waiting is not None:
        waiting.submitted(request.digest, needed)
        session.wait_for_approvals(request, sleep=waiting.sleep, told=waiting.missing)
    envelope = session.api.seal(request.digest, recipient.public)
    delivery, data_key = accept_for_sealing(envelope, trust.genesis, recipient, request)
    current = trust.models.get(model)
    with data_key:
        sealed = seal_directory(
            source,
            destination,
            model=model,
            version=request.version,
            predecessor=current.manifest if current else None,
            genesis=trust.genesis.digest,
            data_key=data_key,
            data_key_id=delivery.data_key,
            signer=session.wallet.signer(),
            publisher=session.wallet.identity.person,
            progress=progress,
            replace=replace,
        )
    recorded = session.api.register(sealed.envelope, request.digest)
    return Published(
        model=model,
        version=request.version,
        manifest=sealed.envelope.digest,
        request=request.digest,
        log_index=recorded.index,
    )
