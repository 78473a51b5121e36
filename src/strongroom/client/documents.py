"""The documents of the root quorum, as a root holder meets them: what is about to be signed, and whether to."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.access.invariants import describe
from strongroom.access.policy import Policy, Weights
from strongroom.attestation.claims import said
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.client.trust import DocumentForkError, DocumentRolledBackError, StateMismatchError
from strongroom.client.wallet import Seen
from strongroom.client.witness_words import dead_man_line, witness_lines
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, pae
from strongroom.core.errors import DeniedError
from strongroom.core.genesis import Genesis
from strongroom.core.signature import PublicKey, SignatureError
from strongroom.egress.bound import theft_bound
from strongroom.egress.buckets import DAY
from strongroom.egress.policies import EgressPolicies
from strongroom.personnel.roster import Person, Roster
from strongroom.release.documents import Document, DocumentKind


def check_signable(
    kind: DocumentKind, document: Document, envelope: Envelope, genesis: Genesis, key: PublicKey, seen: Seen
) -> None:
    """Check what a root holder is about to sign against what this client pinned and saw.

    :raises StateMismatchError: for another deployment.
    :raises DeniedError: the key is no root key.
    :raises SignatureError: a root signature that is on it already is bad.
    :raises DocumentRolledBackError: of an epoch that is over.
    :raises DocumentForkError: another document of the epoch in force, or one that doesn't follow it.
    """
    if document.genesis != genesis.digest:
        raise StateMismatchError(f"the {kind.value} belongs to another deployment than the one pinned in this wallet")
    if key not in genesis.root_keys:
        raise DeniedError("this wallet's key isn't a root key of the deployment", reason="not-a-root-key")
    _check_signed(envelope, genesis)
    before = seen.documents.get(kind)
    if before is None:
        return
    if document.epoch < before.epoch:
        raise DocumentRolledBackError(
            f"the {kind.value} is of epoch {document.epoch}; this client saw epoch {before.epoch} in force",
            remedy=f"draft one of epoch {before.epoch + 1}",
        )
    again = document.epoch == before.epoch and envelope.digest != before.digest
    if again or (document.epoch == before.epoch + 1 and document.predecessor != before.digest):
        raise DocumentForkError(
            f"the {kind.value} of epoch {document.epoch} doesn't follow the one in force",
            remedy=f"draft one of epoch {before.epoch + 1} whose predecessor is {before.digest}",
        )


def _check_signed(envelope: Envelope, genesis: Genesis) -> None:
    known = {key.key_id: key for key in genesis.root_keys}
    message = pae(envelope.kind, envelope.payload)
    for signature in envelope.signatures:
        if signature.key_id not in known:
            raise SignatureError(f"the document carries a signature by `{signature.key_id}`, which is no root key")
        known[signature.key_id].verify(signature.value, message)


def summary(kind: DocumentKind, document: Document) -> tuple[str, ...]:
    """Return what a root holder must see before signing: every person, rule, model, image and root."""
    head = (
        f"{kind.value}, epoch {document.epoch}, after {document.predecessor or 'nothing'}",
        f"  digest      {Digest.of(document.to_bytes())}",
        f"  deployment  {document.genesis}",
    )
    match document:
        case Roster():
            body = _roster(document)
        case Policy():
            body = _policy(document)
        case ReferenceValues():
            body = _values(document)
        case EgressPolicies():
            body = _egress(document)
    return (*head, *body)


def person_line(person: Person) -> str:
    """Return a person of a roster on one line."""
    standing = "" if person.active else " NOT ACTIVE"
    agent = "" if person.sponsor is None else f" (AI agent on the account of {person.sponsor})"
    keys = ", ".join(f"{key.algorithm.value} {key.key_id}" for key in person.keys)
    return (
        f"  {person.id} of {person.org}{agent}{standing}: {', '.join(sorted(person.roles)) or 'no role'}; keys {keys}"
    )


def _roster(roster: Roster) -> Iterator[str]:
    yield from (person_line(person) for person in roster.people)
    for model in roster.authenticators:
        roots = ", ".join(str(Digest.of(root)) for root in model.roots)
        yield f"  security keys {model.name}, AAGUID {model.aaguid}, under {roots}"


def _policy(policy: Policy) -> Iterator[str]:
    caps = policy.caps
    yield f"  at most {caps.output} people with output, {caps.isolated} with isolated, {caps.copy} with copy access"
    for terms in policy.models:
        more = [text for text in (terms.owner and f"owned by {terms.owner}", terms.collection) if text]
        export = "; MAY BE EXPORTED" if terms.export else ""
        lost = "" if terms.recoverable else "; IRRECOVERABLE: no custodian can open it"
        copy = f"; a marked copy of {terms.copy_of}" if terms.copy_of else ""
        test = "; TEST WEIGHTS, served to simulated evidence" if terms.weights is Weights.TEST else ""
        told = f" ({', '.join(more)})" if more else ""
        head = f"  model {terms.model}{told}: {terms.level.value}"
        yield f"{head}, isolation at least {terms.least_isolation}{test}{export}{lost}{copy}"
    for rule in policy.rules:
        people = " and ".join(f"{factor.count} x {describe(factor)}" for factor in rule.factors) or "nobody else"
        wants = [text for text in ("security keys" if rule.hardware else "", "NDA" if rule.nda else "") if text]
        wants += [f"course {course}" for course in rule.courses]
        yield (
            f"  {rule.level.value} {rule.action.value}: asked by {rule.requester_role} (tier {rule.requester_tier}),"
            f" approved by {people} (tier {rule.approver_tier}, at most {rule.approval_life} s before);"
            f" after {rule.delay} s; at most {rule.max_window} s and {rule.max_uses} uses"
            f"{'; wants ' + ', '.join(wants) if wants else ''}"
        )
    yield from witness_lines(policy)
    yield dead_man_line(policy)
    yield f"  Cedar policies: {len(policy.cedar)} characters, {Digest.of(policy.cedar.encode())}"


def _values(values: ReferenceValues) -> Iterator[str]:
    yield f"  good until {format_instant(values.not_after)}"
    for image in values.images:
        yield f"  image {image.image}{' REVOKED' if image.revoked else ''}: measurement {image.measurement}"
        for kind, alternatives in image.measured.items():
            for number, one in enumerate(alternatives, 1):
                yield f"    on {kind}, alternative {number} of {len(alternatives)}"
                yield from (f"      {name} {value}" for name, value in one.items())
    for root in values.anchors:
        yield f"  believes {root.vendor} under {root.digest} up to class {root.isolation.value}"
    for custody in values.custody:
        yield f"  {custody.platform} in custody until {format_instant(custody.until)}, record {custody.record}"
    policy = values.appraisal
    yield f"  appraisal policy {policy.digest}: new evidence at least every {policy.reattest_seconds} s"
    for kind, rules in policy.kinds.items():
        yield f"  takes {kind}: " + "; ".join(f"{name} {said(wanted)}" for name, wanted in rules.to_json().items())


def _egress(policies: EgressPolicies) -> Iterator[str]:
    for one in policies.policies:
        days = theft_bound(one).seconds // DAY
        yield (
            f"  model {one.model}: {one.parameters:,} parameters at {one.effective_millibits_per_weight:,} millibits, "
            f"{one.vocabulary:,} tokens; lets {', '.join(output.value for output in one.outputs)} leave"
        )
        yield (
            f"    bits a day: {one.principal_day_bits:,} one principal, {one.model_day_bits:,} the model, "
            f"{one.fleet_day_bits:,} the fleet; stolen in {days:,} days, {one.min_days_to_steal:,} are demanded"
        )
        yield (
            f"    its life ends at {one.lifetime_bits:,} bits ({one.lifetime_permille} of 1,000); warned at "
            f"{', '.join(map(str, one.warn_permille))} of 1,000"
        )
        if one.verified_by is not None:
            yield (
                f"    image {one.verified_by.image} replays {one.verified_by.replay_permille} of 1,000 answers; a "
                f"token that it reproduces costs {one.residual_millibits_per_token:,} millibits instead of "
                f"{one.token_millibits:,}"
            )
        yield (
            f"    workspace: {one.workspace_person_bits:,} bits a year for each of {one.quota_holders} people, "
            f"{one.workspace_year_bits:,} for all"
        )
