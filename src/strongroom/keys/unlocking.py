"""Unlocking by shares: the locked keeper's offer, a custodian's answer, and the keeper's count of them.

1  the keeper makes a recipient key for this one unlocking and signs an offer with its unlock key
2  a custodian verifies the offer against the escrow, whose unlock key the keeper signed while it was unlocked
3  the custodian decrypts their share, encrypts it to the offer's key, and signs that
4  the keeper verifies each answer; with enough of them it has the root key, and the offer is over

What carries offers and answers learns no share, and can't put a key of its own in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type, sign, verify
from strongroom.core.errors import ConflictError, DeniedError, MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.ids import KeyId, PersonId, person_id
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey, Signer
from strongroom.keys.escrow import MAX_GENERATION, MAX_SEALED, Escrow, SealedShare, check_words, unlock_key
from strongroom.keys.recipient import IDENTITY_BYTES, RECIPIENT_KEY_BYTES, RecipientIdentity, encrypt_to
from strongroom.keys.slip39 import MOST_SHARES, ShareError, combine
from strongroom.keys.uri import MAX_URI, KeyUri
from strongroom.keys.wrapping import RandomBytes

OFFER_TYPE: Final = payload_type("unlock-offer.v1")
ANSWER_TYPE: Final = payload_type("unlock-share.v1")
OFFER_SECONDS: Final = 3600
"""Custodians sit in different places: they have an hour to answer one offer."""
MAX_PROVIDERS: Final = 1
MAX_WRONG: Final = 3
"""Wrong shares of one custodian that an offer bears. Others' answers to it aren't touched by them."""


class OfferError(DeniedError):
    """An unlocking's offer is over, another's, or not from the keeper. ``reason`` says which."""

    code = "unlock-offer-refused"


class AnswerError(DeniedError):
    """A custodian's answer isn't counted. ``reason`` says why; no secret is in it."""

    code = "unlock-share-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockOffer:
    """What a locked keeper asks custodians for. ``recipient`` (1,216 bytes) is a key that ends with the offer."""

    genesis: Digest
    escrow: Digest
    generation: int
    recipient: bytes
    made: Instant
    expires: Instant
    unlock_key: PublicKey
    """Signs the offer. The escrow names it, unless the keeper's machine was lost and another one stands in."""
    providers: tuple[str, ...]
    """Key services under which the root key is put once it is there; none, to unlock and no more."""

    @classmethod
    def parse(cls, data: bytes) -> UnlockOffer:
        """Read canonical bytes.

        :raises MalformedError: another form. :raises KeyUriError: a provider's URI isn't one.
        """
        with Fields(decode(data), "unlock offer") as fields:
            fields.constant("v", 1)
            offer = cls(
                genesis=fields.digest("genesis"),
                escrow=fields.digest("escrow"),
                generation=fields.integer("generation", least=1, most=MAX_GENERATION),
                recipient=fields.binary("recipient", max_length=RECIPIENT_KEY_BYTES),
                made=fields.instant("made"),
                expires=fields.instant("expires"),
                unlock_key=fields.parsed("unlock_key", unlock_key, max_length=MAX_KEY_TEXT),
                providers=fields.texts("providers", most=MAX_PROVIDERS, max_length=MAX_URI),
            )
        for provider in offer.providers:
            KeyUri.parse(provider)
        if len(offer.recipient) != RECIPIENT_KEY_BYTES or not 0 < offer.expires - offer.made <= OFFER_SECONDS:
            raise MalformedError(f"an unlock offer has a recipient key, and lasts at most {OFFER_SECONDS} seconds")
        return offer

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        providers: list[Json] = [*self.providers]
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "escrow": str(self.escrow),
                "generation": self.generation,
                "recipient": to_base64(self.recipient),
                "made": format_instant(self.made),
                "expires": format_instant(self.expires),
                "unlock_key": str(self.unlock_key),
                "providers": providers,
            }
        )

    @property
    def digest(self) -> Digest:
        """What an answer names."""
        return Digest.of(self.to_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockAnswer:
    """A custodian's share, encrypted to an offer's key."""

    offer: Digest
    escrow: Digest
    person: PersonId
    number: int
    sealed: bytes

    @classmethod
    def parse(cls, data: bytes) -> UnlockAnswer:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data), "unlock share") as fields:
            fields.constant("v", 1)
            return cls(
                offer=fields.digest("offer"),
                escrow=fields.digest("escrow"),
                person=fields.parsed("person", person_id),
                number=fields.integer("number", least=1, most=MOST_SHARES),
                sealed=fields.binary("sealed", max_length=MAX_SEALED),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "offer": str(self.offer),
                "escrow": str(self.escrow),
                "person": self.person,
                "number": self.number,
                "sealed": to_base64(self.sealed),
            }
        )


def verify_offer(envelope: Envelope, escrow: Escrow, now: Instant, *, told: KeyId | None = None) -> UnlockOffer:
    """Check an offer as a custodian: it is the keeper's, for this escrow, and not over.

    ``told`` is the id of another unlock key than the escrow's, which the keeper's operator read out.

    :raises SignatureError: the key that it names didn't sign it.
    :raises OfferError: it names another unlock key than the escrow does: somebody may want the share for themselves;
        or it is for another escrow or deployment, or over.
    :raises MalformedError: another form.
    """
    offer = UnlockOffer.parse(envelope.payload)
    if offer.unlock_key != escrow.unlock_key and offer.unlock_key.key_id != told:
        raise OfferError(
            f"the offer is signed by `{offer.unlock_key.key_id}`, which isn't the unlock key that the escrow names",
            remedy="if the keeper's machine was replaced, have its operator read the id out by voice, and give it with"
            " --unlock-key; else somebody wants your share for themselves",
            reason="unlock-key-differs",
        )
    verify(envelope, OFFER_TYPE, [offer.unlock_key], threshold=1)
    if (offer.genesis, offer.escrow, offer.generation) != (escrow.genesis, escrow.digest, escrow.generation):
        raise OfferError(
            f"the offer is for another escrow than that of generation {escrow.generation}", reason="escrow-differs"
        )
    if now >= offer.expires:
        raise OfferError("the offer is over", remedy="ask for a new one", reason="offer-ended")
    return offer


def answer_offer(offer: UnlockOffer, share: SealedShare, words: SecretBytes, signer: Signer) -> Envelope:
    """Encrypt a custodian's words to an offer's key, and sign them."""
    answer = UnlockAnswer(
        offer=offer.digest,
        escrow=offer.escrow,
        person=share.custodian.person,
        number=share.number,
        sealed=encrypt_to(offer.recipient, words, _context(offer.digest, share.number)),
    )
    return sign(ANSWER_TYPE, answer.to_bytes(), signer)


class Unlocking:
    """One offer and the shares that came. ``end`` wipes both; a new offer takes a new object.

    ``unlock_signer`` is the keeper's unlock key.
    """

    def __init__(
        self,
        escrow: Escrow,
        unlock_signer: Signer,
        *,
        now: Instant,
        random_bytes: RandomBytes,
        providers: tuple[str, ...] = (),
    ) -> None:
        with SecretBytes(bytearray(random_bytes(IDENTITY_BYTES))) as seed:
            self._identity: RecipientIdentity | None = RecipientIdentity(seed)
            public = self._identity.public
        self.escrow = escrow
        self.offer = UnlockOffer(
            genesis=escrow.genesis,
            escrow=escrow.digest,
            generation=escrow.generation,
            recipient=public,
            made=now,
            expires=now + OFFER_SECONDS,
            unlock_key=unlock_signer.public_key,
            providers=providers,
        )
        self.envelope = sign(OFFER_TYPE, self.offer.to_bytes(), unlock_signer)
        self._digest = self.offer.digest
        self._words: dict[PersonId, SecretBytes] = {}
        self._wrong: dict[PersonId, int] = {}

    @property
    def answered(self) -> tuple[PersonId, ...]:
        """Whose shares are there, sorted."""
        return tuple(sorted(self._words))

    @property
    def complete(self) -> bool:
        """Whether as many shares are there as are needed."""
        return len(self._words) >= self.escrow.threshold

    def over(self, now: Instant) -> bool:
        """Tell whether the offer has ended."""
        return self._identity is None or now >= self.offer.expires

    def take(self, envelope: Envelope, now: Instant) -> PersonId:
        """Verify an answer and keep its share; returns whose it is.

        :raises OfferError: the offer has ended.
        :raises AnswerError: for another offer or generation, by nobody who keeps a share, a wrong share, or too many.
        :raises ConflictError: the custodian's share is there, or all are that are needed.
        :raises SignatureError: the custodian didn't sign it.
        :raises MalformedError: another form.
        """
        identity = self._identity
        if identity is None or self.over(now):
            raise OfferError("the offer is over", remedy="ask for a new one", reason="offer-ended")
        answer = UnlockAnswer.parse(envelope.payload)
        share = self._share(answer)
        person = share.custodian.person
        # From here on it is known who speaks: nobody can use up another's attempts, or fill the count.
        verify(envelope, ANSWER_TYPE, [share.custodian.key], threshold=1)
        if person in self._words or self.complete:
            raise ConflictError(f"the share of `{person}` isn't needed again", reason="share-known")
        if self._wrong.get(person, 0) >= MAX_WRONG:
            raise AnswerError(
                f"`{person}` gave {MAX_WRONG} wrong shares to this offer",
                remedy="check the share, and wait for the next offer: strongroom custodian check",
                reason="too-many-attempts",
            )
        try:
            words = identity.open(answer.sealed, _context(self._digest, share.number))
            check_words(self.escrow, share, words)
        except StrongroomError:
            self._wrong[person] = self._wrong.get(person, 0) + 1
            raise AnswerError(
                f"what `{person}` gave isn't share {share.number} of generation {self.escrow.generation}",
                remedy="check it: strongroom custodian check",
                reason="share-wrong",
            ) from None
        self._words[person] = words
        return person

    def _share(self, answer: UnlockAnswer) -> SealedShare:
        if answer.escrow != self.escrow.digest:
            raise AnswerError(
                f"the share belongs to another escrow than that of generation {self.escrow.generation}",
                remedy="fetch the one in force: strongroom custodian check",
                reason="escrow-differs",
            )
        if answer.offer != self._digest:
            raise AnswerError("the answer is to another offer", remedy="answer the present one", reason="offer-differs")
        share = self.escrow.shares[answer.number - 1] if answer.number <= len(self.escrow.shares) else None
        if share is None or share.custodian.person != answer.person:
            raise AnswerError("nobody of that name keeps the share", reason="custodian-unknown")
        return share

    def combine(self) -> SecretBytes:
        """Return the root key, which the keyring still has to prove, and end the offer.

        :raises ShareError: shares are missing, or give no secret.
        """
        try:
            if not self.complete:
                raise ShareError(
                    f"{len(self._words)} shares are there; {self.escrow.threshold} are needed", reason="shares-missing"
                )
            return combine([*self._words.values()])
        finally:
            self.end()

    def end(self) -> None:
        """Wipe the shares and let go of the offer's key."""
        self._identity = None
        for words in self._words.values():
            words.wipe()
        self._words.clear()


def _context(offer: Digest, number: int) -> bytes:
    return encode({"v": 1, "type": "strongroom/unlock-share", "offer": str(offer), "number": number})
