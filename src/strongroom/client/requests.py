"""Building, signing, approving and denying requests. Only bytes that were parsed here are ever signed here.

A server's summary or hash of a request is never signed: an approval signs the payload itself, after it was read, held
against this client's own view of the deployment, and shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.access.facts import delay_of
from strongroom.access.policy import Rule
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, NONCE_BYTES, REQUEST_TYPE, Action, Purpose, Request
from strongroom.attestation.platform_record import PLATFORM_TYPE, PlatformRecord
from strongroom.client.state import ModelStatus
from strongroom.client.told import RequestFile
from strongroom.client.trust import Prove, Trust, check_witnessed
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign, verify
from strongroom.core.errors import ConflictError, DeniedError, NotFoundError, StrongroomError, TamperedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId
from strongroom.core.signature import PublicKey, Signer
from strongroom.keys.wrapping import RandomBytes
from strongroom.personnel.roster import Person
from strongroom.release.documents import DocumentKind

CLOCK_SLACK: Final = 60
"""Seconds by which a window begins before now: a keeper whose clock is a little behind must not refuse it."""
DEFAULT_WINDOW: Final = 86400


class StaleRequestError(ConflictError):
    """The request was made under documents that aren't in force any more."""

    code = "stale-request"


class ForeignRequestError(TamperedError):
    """The bytes aren't a request of this deployment, or not the one that was asked for."""

    code = "foreign-request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks, why, when, and for how long: what requests for every action share."""

    requester: PersonId
    purpose: Purpose
    ticket: str
    now: Instant
    window: int | None = None
    """Seconds; None for the least of a day and what the rule allows."""
    justification: Digest | None = None
    random_bytes: RandomBytes


def ask_to_open(
    trust: Trust,
    asking: Asking,
    *,
    model: ModelId,
    image: ImageId,
    platforms: Sequence[PlatformId],
    uses: int,
    action: Action = Action.OPEN_IN_ENCLAVE,
) -> Request:
    """Ask for a model's current version to be opened in one enclave image on named platforms, or by break-glass.

    :raises NotFoundError: no version is registered, or the reference values don't list the image.
    :raises UsageError: beyond what the rule allows.
    """
    current = _current(trust, model)
    return _request(
        trust,
        asking,
        action,
        model,
        version=current.version,
        manifest=current.manifest,
        image=image,
        measurement=measurement(trust, image),
        platforms=tuple(platforms),
        max_uses=uses,
    )


def ask_to_export(trust: Trust, asking: Asking, *, model: ModelId, recipient: Digest) -> Request:
    """Ask for the data key of a model's current version, delivered to one recipient identity: for a copy in clear."""
    current = _current(trust, model)
    return _request(
        trust,
        asking,
        Action.EXPORT_PLAINTEXT,
        model,
        version=current.version,
        manifest=current.manifest,
        recipient=recipient,
    )


def _current(trust: Trust, model: ModelId) -> ModelStatus:
    current = trust.models.get(model)
    if current is None:
        raise NotFoundError(
            f"no version of `{model}` is registered", remedy=f"seal one: strongroom seal --model {model}"
        )
    return current


def ask_to_seal(trust: Trust, asking: Asking, *, model: ModelId, recipient: Digest) -> Request:
    """Ask for a data key for a model's next version, to be delivered to one recipient key."""
    current = trust.models.get(model)
    version = current.version + 1 if current else 1
    return _request(trust, asking, Action.SEAL, model, version=version, recipient=recipient)


def ask_to_freeze(trust: Trust, asking: Asking, *, model: ModelId) -> Request:
    """Ask to stop every release of a model."""
    return _request(trust, asking, Action.FREEZE, model)


def ask_to_resume(trust: Trust, asking: Asking, *, model: ModelId) -> Request:
    """Ask to allow releases of a frozen model again."""
    return _request(trust, asking, Action.RESUME, model)


def ask_to_rotate(trust: Trust, asking: Asking, *, model: ModelId) -> Request:
    """Ask for a new key-encryption key of a model."""
    return _request(trust, asking, Action.ROTATE, model)


def ask_to_revoke_grant(trust: Trust, asking: Asking, *, model: ModelId, target: Digest) -> Request:
    """Ask that a request's grant falls."""
    return _request(trust, asking, Action.REVOKE_GRANT, model, target=target)


def ask_to_lift(trust: Trust, asking: Asking, *, model: ModelId, precaution: Digest) -> Request:
    """Return a request to lift a precaution, for the quorum of a model's rule."""
    return _request(trust, asking, Action.LIFT, model, target=precaution)


def ask_to_revoke_platforms(
    trust: Trust, asking: Asking, *, model: ModelId, platforms: Sequence[PlatformId]
) -> Request:
    """Ask that enrolled platforms are never served again. The model chooses the rule: its level applies."""
    return _request(trust, asking, Action.REVOKE_PLATFORM, model, platforms=tuple(platforms))


def ask_to_destroy(trust: Trust, asking: Asking, *, model: ModelId) -> Request:
    """Ask that the keys of every version of a model are destroyed for good."""
    return _request(trust, asking, Action.DESTROY, model)


def measurement(trust: Trust, image: ImageId) -> Digest:
    """Return the digest of what the reference values in force let an image measure.

    :raises NotFoundError: they don't list it, or revoke it.
    """
    values = trust.reference_values
    for listed in values.images if values else ():
        if listed.image == image and not listed.revoked:
            return listed.measurement
    raise NotFoundError(
        f"the reference values in force don't list the image `{image}`", remedy="have the root quorum sign ones that do"
    )


def known_platforms(genesis: Genesis, records: Sequence[Envelope]) -> tuple[PlatformRecord, ...]:
    """Verify the keeper's enrolment records.

    :raises SignatureError: the keeper didn't sign one.
    """
    found = []
    for envelope in records:
        verify(envelope, PLATFORM_TYPE, [genesis.keeper_key], threshold=1)
        found.append(PlatformRecord.parse(envelope.payload))
    return tuple(found)


def _request(
    trust: Trust,
    asking: Asking,
    action: Action,
    model: ModelId,
    *,
    version: int = 0,
    manifest: Digest | None = None,
    image: ImageId | None = None,
    measurement: Digest | None = None,
    platforms: tuple[PlatformId, ...] = (),
    recipient: Digest | None = None,
    target: Digest | None = None,
    max_uses: int = 1,
) -> Request:
    _roster, policy = trust.require_documents()
    level = policy.terms(model).level
    rule = policy.rule(action, level)
    # What waits needs its waiting on top: for people to agree, and then to carry it out.
    ordinary = DEFAULT_WINDOW if not delay_of(rule, level) else 2 * DEFAULT_WINDOW + delay_of(rule, level)
    window = min(ordinary, rule.max_window) if asking.window is None else asking.window
    _within(rule, window, max_uses)
    begin = asking.now - CLOCK_SLACK
    request = Request(
        genesis=trust.genesis.digest,
        action=action,
        requester=asking.requester,
        model=model,
        version=version,
        manifest=manifest,
        purpose=asking.purpose,
        ticket=asking.ticket,
        justification=asking.justification,
        image=image,
        measurement=measurement,
        platforms=platforms,
        recipient=recipient,
        target=target,
        not_before=begin,
        expires=begin + window,
        max_uses=max_uses,
        nonce=asking.random_bytes(NONCE_BYTES),
        roster=trust.digests[DocumentKind.ROSTER],
        policy=trust.digests[DocumentKind.POLICY],
        log=trust.head,
    )
    # What is signed must be what every reader parses: members that don't fit the action are refused here.
    return Request.parse(request.to_bytes())


def _within(rule: Rule, window: int, uses: int) -> None:
    if not CLOCK_SLACK < window <= rule.max_window:
        raise UsageError(
            f"a window of {window} seconds isn't allowed", remedy=f"ask for at most {rule.max_window} seconds"
        )
    if not 1 <= uses <= rule.max_uses:
        raise UsageError(f"{uses} uses aren't allowed", remedy=f"ask for at most {rule.max_uses}")


def sign_request(request: Request, signer: Signer, trust: Trust) -> Envelope:
    """Step 1: sign a request's bytes with the requester's own key.

    :raises DeniedError: the roster doesn't list this key under the requester.
    """
    require_own_key(trust, request.requester, signer.public_key)
    return sign(REQUEST_TYPE, request.to_bytes(), signer)


def require_own_key(trust: Trust, person: PersonId, key: PublicKey, *, called: str = "key") -> Person:
    """Return who a key belongs to; ``called`` names it in the refusal.

    :raises DeniedError: the roster in force doesn't list it under this person, or the person left.
    """
    roster, _policy = trust.require_documents()
    found = next((listed for listed in roster.people if listed.id == person), None)
    if found is None or key not in found.keys or not found.active:
        raise DeniedError(
            f"the roster in force doesn't list this wallet's {called} under an active `{person}`",
            reason="not-in-roster",
            remedy="have the root quorum sign a roster that does",
        )
    return found


def read_request(envelope: Envelope, trust: Trust, *, wanted: Digest | None = None) -> Request:
    """Parse a request that a server handed over, and check that it is one: its requester's, of this deployment.

    :param wanted: the digest that was asked for.
    :raises ForeignRequestError: another request or deployment, or a requester whom the roster doesn't know.
    :raises SignatureError: the requester didn't sign these bytes.
    """
    if wanted is not None and envelope.digest != wanted:
        raise ForeignRequestError("the server handed over another request than the one asked for")
    request = Request.parse(envelope.payload)
    if request.genesis != trust.genesis.digest:
        raise ForeignRequestError("the request belongs to another deployment")
    roster, _policy = trust.require_documents()
    person = next((listed for listed in roster.people if listed.id == request.requester), None)
    if person is None:
        raise ForeignRequestError(f"the roster in force has nobody called `{request.requester}`")
    verify(envelope, REQUEST_TYPE, person.keys, threshold=1)
    return request


def check_approvable(
    envelope: Envelope, trust: Trust, *, person: PersonId, key: PublicKey, now: Instant, prove: Prove
) -> Request:
    """Check that everything a request's bytes claim agrees with what this client saw itself.

    :raises ForeignRequestError: not a request of this deployment.
    :raises SignatureError: not its requester's.
    :raises StaleRequestError: roster, policy or measurement isn't the one in force, or the window is over.
    :raises DeniedError: one's own request, or a key that the roster doesn't list.
    :raises LogWithheldError: the requester saw more of the log.
    :raises ForkError: the requester saw another log.
    """
    request = read_request(envelope, trust)
    require_own_key(trust, person, key)
    if request.requester == person:
        raise DeniedError("nobody approves a request of their own", reason="self-approval")
    for kind, named in ((DocumentKind.ROSTER, request.roster), (DocumentKind.POLICY, request.policy)):
        if named != trust.digests[kind]:
            raise _stale(
                f"the request was made under another {kind.value} than the one in force", f"{kind.value}-changed"
            )
    if request.image is not None and measurement(trust, request.image) != request.measurement:
        raise _stale(
            f"the request names another measurement of `{request.image}` than the reference values in force",
            "measurement-changed",
        )
    if now >= request.expires:
        raise _stale(f"the request expired at {format_instant(request.expires)}", "request-expired")
    check_witnessed(request.log, trust, prove)
    return request


def approve(
    envelope: Envelope, trust: Trust, signer: Signer, *, person: PersonId, now: Instant, prove: Prove
) -> Envelope:
    """Step 2: approve a request: sign its own bytes, once :func:`check_approvable` found nothing against it."""
    check_approvable(envelope, trust, person=person, key=signer.public_key, now=now, prove=prove)
    return sign(APPROVAL_TYPE, envelope.payload, signer)


def _stale(message: str, reason: str) -> StaleRequestError:
    return StaleRequestError(message, reason=reason, remedy="let the requester make a new request")


def deny(envelope: Envelope, trust: Trust, signer: Signer, *, person: PersonId) -> Envelope:
    """Step 2: deny a request. It asks less than an approval: stopping must not depend on the newest documents.

    :raises ForeignRequestError: not a request of this deployment.
    :raises SignatureError: not its requester's.
    :raises DeniedError: a key that the roster doesn't list.
    """
    read_request(envelope, trust)
    require_own_key(trust, person, signer.public_key)
    return sign(DENIAL_TYPE, envelope.payload, signer)


def voices(file: RequestFile, kind: str, trust: Trust) -> tuple[tuple[PersonId, ...], int]:
    """Return whose approvals (or denials) verify against the roster in force, and how many don't.

    The list comes from a store that isn't believed: a name stands here only for a signature over these very bytes.
    """
    roster, _policy = trust.require_documents()
    people: list[PersonId] = []
    bad = 0
    for envelope in file.approvals if kind == APPROVAL_TYPE else file.denials:
        try:
            if envelope.payload != file.request.payload or len(envelope.signatures) != 1:
                raise ForeignRequestError("a voice about other bytes")
            person, key = roster.holder(envelope.signatures[0].key_id)
            verify(envelope, kind, [key], threshold=1)
        except StrongroomError:
            bad += 1
        else:
            people.append(person.id)
    return tuple(dict.fromkeys(people)), bad
