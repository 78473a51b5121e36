"""Enrolments of security keys as a vetting officer meets them: checked, laid out, signed.

The keeper checks all of this again. An officer's client does it first, so that nobody signs for keys that nobody's
maker vouches for; and it signs the bytes that it parsed, as with requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.client.requests import require_own_key
from strongroom.client.trust import StateMismatchError, Trust
from strongroom.core.clock import format_instant
from strongroom.core.envelope import Envelope, pae
from strongroom.core.errors import DeniedError, MalformedError
from strongroom.core.ids import PersonId
from strongroom.core.signature import Signer
from strongroom.personnel.enrolment import ENROLMENT_TYPE, AttestedKey, Enrolment, check_attested
from strongroom.personnel.roster import UnknownPersonError


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedEnrolment:
    """An enrolment whose keys are attested, and who signed for it so far."""

    envelope: Envelope
    enrolment: Enrolment
    keys: tuple[AttestedKey, ...]
    signers: tuple[PersonId, ...]


def check_enrolment(envelope: Envelope, trust: Trust) -> CheckedEnrolment:
    """Parse an enrolment and check its keys against the roster in force.

    :raises MalformedError: another form, or a signed object of another kind.
    :raises StateMismatchError: of another deployment.
    :raises KeyNotAttestedError: a key isn't a security key of an allowed model, made for this person.
    :raises SignatureError: a signature by somebody of the roster doesn't verify.
    """
    if envelope.kind != ENROLMENT_TYPE:
        raise MalformedError("the file doesn't hold an enrolment of security keys")
    enrolment = Enrolment.parse(envelope.payload)
    if enrolment.genesis != trust.genesis.digest:
        raise StateMismatchError("the enrolment belongs to another deployment than the one pinned in this wallet")
    roster, _policy = trust.require_documents()
    keys = check_attested(enrolment, roster.authenticators)
    signers: list[PersonId] = []
    for signature in envelope.signatures:
        try:
            person, key = roster.holder(signature.key_id)
        except UnknownPersonError:
            continue
        key.verify(signature.value, pae(envelope.kind, envelope.payload))
        signers.append(person.id)
    return CheckedEnrolment(envelope=envelope, enrolment=enrolment, keys=keys, signers=tuple(dict.fromkeys(signers)))


def sign_enrolment(checked: CheckedEnrolment, trust: Trust, signer: Signer, *, person: PersonId) -> Envelope:
    """Add an officer's signature.

    :raises DeniedError: one's own keys, or a key that the roster doesn't list under the officer.
    """
    if checked.enrolment.person == person:
        raise DeniedError("nobody vouches for keys of their own", reason="self-enrolment")
    require_own_key(trust, person, signer.public_key)
    return checked.envelope.signed_by(signer)


def lines(checked: CheckedEnrolment) -> Iterator[str]:
    """Lay an enrolment out, a line each."""
    enrolment = checked.enrolment
    yield f"person         {enrolment.person}"
    yield f"made at        {format_instant(enrolment.at)}"
    yield f"relying party  {enrolment.rp_id}"
    for attested in checked.keys:
        model = attested.authenticator
        yield f"security key   {attested.key.key_id}  {model.name} ({model.aaguid})"
    yield f"signed by      {', '.join(checked.signers) or 'nobody yet'}"
