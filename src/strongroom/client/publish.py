"""From a folder of weights to a registered version: request, data key, sealed directory, signed manifest, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from strongroom.client.delivery import accept_for_sealing
from strongroom.client.requests import Asking, ask_to_seal, require_own_key
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.client.unfinished import Unfinished, unfinished_name
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, PendingError
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.keys.recipient import RecipientKey
from strongroom.sealing.write import VersionFacts


class SealedResult(Protocol):
    """What sealing gives."""

    @property
    def envelope(self) -> Envelope:
        """The signed manifest."""
        ...


class NotAsNamedError(DeniedError):
    """A marked copy would be sealed that the policy doesn't name, or an unmarked one where it names a copy."""

    code = "not-as-named"


SealVersion = Callable[[VersionFacts, SecretBytes, Signer], SealedResult]
"""Seals the weights as the version that the facts describe, under the data key, and signs the manifest. Called again
with the same facts and key after an interruption, it may go on where it was, or return what it had finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Whom to tell that a request waits for approvals, and what is missing."""

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
    seal: SealVersion,
    *,
    model: ModelId,
    place: str,
    asking: Asking,
    waiting: Waiting | None,
    copy_of: ModelId | None = None,
) -> Published:
    """Have ``seal`` seal the next version of ``model`` to ``place``, and register it.

    The data key is kept in the wallet until then: called again for the same model and place, it goes on. Until the key
    is there, the recipient key lives in this process alone. So where approvals are needed the process has to wait for
    them; with ``waiting`` None it doesn't begin. ``copy_of`` is the model of which ``seal`` makes a marked copy.

    :raises NotAsNamedError: the policy names ``model`` as a marked copy of another, or of none.
    :raises PendingError: approvals are needed and nobody may wait, or they didn't come in time.
    :raises DeniedError: the roster doesn't list the wallet's publishing key, or the keeper refuses.
    :raises TamperedError: an answer isn't what this deployment's keeper or log signed.
    """
    trust = session.refresh()
    # Asked before anything is submitted or sealed: the keeper would refuse the manifest when all the work is done.
    identity = session.wallet.identity
    require_own_key(trust, identity.person, identity.require_publishing_key(), called="publishing key")
    _require_named(trust, model, copy_of)
    name = unfinished_name(model, place)
    unfinished, data_key = _kept(session, trust, name) or _begin(session, trust, name, model, asking, waiting)
    with data_key:
        sealed = seal(unfinished.facts, data_key, session.wallet.publishing_signer())
    try:
        recorded = session.api.register(sealed.envelope, unfinished.request)
    except DeniedError:
        # Refused for good, e.g. because another version came first: the next call begins anew.
        session.wallet.forget(name)
        raise
    session.wallet.forget(name)
    return Published(
        model=model,
        version=unfinished.facts.version,
        manifest=sealed.envelope.digest,
        request=unfinished.request,
        log_index=recorded.index,
    )


def _require_named(trust: Trust, model: ModelId, copy_of: ModelId | None) -> None:
    _roster, policy = trust.require_documents()
    named = next((terms.copy_of for terms in policy.models if terms.model == model), None)
    if named is not None and copy_of is None:
        # Weights without the mark would go out as that recipient's, and a leak of them be nobody's.
        raise NotAsNamedError(
            f"the policy names `{model}` as a marked copy of `{named}`",
            remedy="make it from the sealed original: strongroom reseal --for",
        )
    if named != copy_of:
        raise NotAsNamedError(
            f"the policy doesn't name `{model}` as a marked copy of `{copy_of}`",
            remedy="name it with `strongroom policy model --copy-of`, and have the policy signed",
        )


def _kept(session: Session, trust: Trust, name: str) -> tuple[Unfinished, SecretBytes] | None:
    kept = session.wallet.kept(name)
    if kept is None:
        return None
    unfinished, data_key = Unfinished.parse(kept[0]), kept[1]
    current = trust.models.get(unfinished.facts.model)
    # The version itself may be registered already, and only the answer lost: registering it again gives that answer.
    if (current.version if current else 0) in {unfinished.facts.version - 1, unfinished.facts.version}:
        return unfinished, data_key
    data_key.wipe()
    session.wallet.forget(name)
    return None


def _begin(
    session: Session, trust: Trust, name: str, model: ModelId, asking: Asking, waiting: Waiting | None
) -> tuple[Unfinished, SecretBytes]:
    """Ask, wait for approvals, receive the data key, and keep it."""
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
        session.wait_for_approvals(request, told=waiting.missing)
    envelope = session.api.seal(request.digest, recipient.public)
    delivery, data_key = accept_for_sealing(envelope, session.log, recipient, request)
    current = trust.models.get(model)
    facts = VersionFacts(
        genesis=trust.genesis.digest,
        model=model,
        version=request.version,
        predecessor=current.manifest if current else None,
        data_key_id=delivery.data_key,
        publisher=session.wallet.identity.person,
    )
    unfinished = Unfinished(facts, request.digest)
    session.wallet.keep(name, data_key, unfinished.to_bytes())
    return unfinished, data_key
