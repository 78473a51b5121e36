"""What the broker answers about the keys that open models: their ages, their escrow, an unlocking, their end."""

from __future__ import annotations

from strongroom.broker.answers import Answer
from strongroom.broker.bodies import DigestText, EnvelopeBody, InstantText


class EscrowAnswer(Answer):
    """The escrow of the root key, signed by the keeper. Its shares open for their custodians alone."""

    escrow: EnvelopeBody


class EscrowPlanAnswer(Answer):
    """The digest of a plan that was handed in."""

    plan: DigestText


class OfferAnswer(Answer):
    """A locked keeper's escrow, and its offer, signed with the unlock key that the escrow names."""

    escrow: EnvelopeBody
    offer: EnvelopeBody


class UnlockedAnswer(Answer):
    """Whose shares are there, how many are needed, and whether the keeper has opened its keyring."""

    answered: list[str]
    needed: int
    unlocked: bool


class EpochShown(Answer):
    """An epoch key: under which tree it stands, its state (SP 800-57), and since when it is there."""

    epoch: int
    escrowed: bool
    state: str
    created: InstantText


class KekShown(Answer):
    """A model's KEK: the epoch that it stands under, its state, its age, and how many data keys stand under it."""

    model: str
    kek: str
    epoch: int
    escrowed: bool
    state: str
    created: InstantText
    data_keys: int


class KeysAnswer(Answer):
    """The keys that open models. ``since``: when the root key's generation began; ``more``: further models follow."""

    generation: int
    since: InstantText
    epochs: list[EpochShown]
    keks: list[KekShown]
    more: bool


class CertificateAnswer(Answer):
    """A destruction certificate, signed by the keeper."""

    certificate: EnvelopeBody
