"""Escrow: the root key in shares, each encrypted to one custodian, so that any M of N open what the provider opened.

The same root key is wrapped twice: by its providers, and here. With every rotation of the root key a new escrow is made
for the same custodians; their public keys are enough for that. What is signed by the keeper can't be made by who holds
the keeper's folder alone: its signing key is under the root key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import MAX_PAYLOAD, Envelope, payload_type, sign, verify
from strongroom.core.errors import MalformedError, TamperedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId, person_id
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import MAX_KEY_TEXT, SIGNING_ALGORITHMS, PublicKey, SignatureAlgorithm, Signer
from strongroom.keys.recipient import RECIPIENT_KEY_BYTES, RecipientIdentity, encrypt_to
from strongroom.keys.slip39 import LEAST_THRESHOLD, MOST_SHARES, PADDED, ShareError, read_share, split

CUSTODIAN_TYPE: Final = payload_type("custodian.v1")
ESCROW_TYPE: Final = payload_type("escrow.v1")
MAX_GENERATION: Final = 1 << 31
MAX_SEALED: Final = 2048
"""Bytes: what ML-KEM-768 and X25519 add (1,120), the padded words, and a tag of 16."""
_PROOF_LABEL: Final = b"strongroom/escrow-share/v1\0"


class EscrowError(TamperedError):
    """An escrow, or a share in it, isn't what it says: changed, another deployment's, or another custodian's."""

    code = "escrow-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Custodian:
    """Who keeps a share, the key that they sign with, and the recipient key (1,216 bytes) of the share."""

    person: PersonId
    key: PublicKey
    recipient: bytes

    @classmethod
    def read(cls, fields: Fields) -> Custodian:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            person=fields.parsed("person", person_id),
            key=fields.parsed("key", _signing_key, max_length=MAX_KEY_TEXT),
            recipient=_recipient(fields),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {"person": self.person, "key": str(self.key), "recipient": to_base64(self.recipient)}

    def card(self, signer: Signer) -> Envelope:
        """Sign what a ceremony takes: it shows that the two keys belong to one holder, who agreed."""
        return sign(CUSTODIAN_TYPE, encode({"v": 1, **self.to_json()}), signer)

    @classmethod
    def of_card(cls, card: Envelope) -> Custodian:
        """Read and verify a card.

        :raises MalformedError: another form.
        :raises SignatureError: not signed by the key that it names.
        """
        with Fields(decode(card.payload), "custodian") as fields:
            fields.constant("v", 1)
            found = cls.read(fields)
        verify(card, CUSTODIAN_TYPE, [found.key], threshold=1)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShare:
    """One custodian's share. ``sealed`` opens with the custodian's recipient key.

    ``proof`` is a SHA-256 over the words: who has them is told right from wrong at once, and by name. A share has 256
    random bits, so its digest gives nothing away.
    """

    number: int
    custodian: Custodian
    proof: Digest
    sealed: bytes

    @classmethod
    def read(cls, fields: Fields) -> SealedShare:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        number = fields.integer("number", least=1, most=MOST_SHARES)
        with fields.child("custodian") as child:
            custodian = Custodian.read(child)
        return cls(
            number=number,
            custodian=custodian,
            proof=fields.digest("proof"),
            sealed=fields.binary("sealed", max_length=MAX_SEALED),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "number": self.number,
            "custodian": self.custodian.to_json(),
            "proof": str(self.proof),
            "sealed": to_base64(self.sealed),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Escrow:
    """All shares of one generation of the root key. Nothing in it is secret.

    :raises MalformedError: not 2 <= threshold <= shares <= 16, or shares out of order.
    :raises UsageError: two custodians who are one.
    """

    genesis: Digest
    generation: int
    threshold: int
    made: Instant
    unlock_key: PublicKey
    """Verifies the offers of a locked keeper, whose signing key is locked too."""
    shares: tuple[SealedShare, ...]

    def __post_init__(self) -> None:
        if not LEAST_THRESHOLD <= self.threshold <= len(self.shares) <= MOST_SHARES:
            raise MalformedError(f"{self.threshold} of {len(self.shares)} custodians is no escrow")
        if [share.number for share in self.shares] != [*range(1, len(self.shares) + 1)]:
            raise MalformedError("the escrow's shares aren't numbered from 1")
        check_distinct(self.custodians)

    @classmethod
    def parse(cls, data: bytes) -> Escrow:
        """Read canonical bytes. It proves nothing: see :func:`verify_escrow`.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_PAYLOAD), "escrow") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                generation=fields.integer("generation", least=1, most=MAX_GENERATION),
                threshold=fields.integer("threshold", least=LEAST_THRESHOLD, most=MOST_SHARES),
                made=fields.instant("made"),
                unlock_key=fields.parsed("unlock_key", unlock_key, max_length=MAX_KEY_TEXT),
                shares=fields.objects("shares", SealedShare.read, most=MOST_SHARES),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "generation": self.generation,
                "threshold": self.threshold,
                "made": format_instant(self.made),
                "unlock_key": str(self.unlock_key),
                "shares": [share.to_json() for share in self.shares],
            }
        )

    @property
    def digest(self) -> Digest:
        """How the log names it."""
        return Digest.of(self.to_bytes())

    @property
    def custodians(self) -> tuple[Custodian, ...]:
        """Who keeps the shares, in their order."""
        return tuple(share.custodian for share in self.shares)

    def share_of(self, person: PersonId) -> SealedShare:
        """Return a custodian's share.

        :raises EscrowError: the person keeps none.
        """
        for share in self.shares:
            if share.custodian.person == person:
                return share
        raise EscrowError(
            f"`{person}` keeps no share of generation {self.generation}",
            remedy="the custodians are named in the log: strongroom audit ls",
            reason="custodian-unknown",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowPlan:
    """Who shall be custodian, as the root quorum signs it: its digest is the subject of an order to adopt an escrow.

    :raises UsageError: not 2 <= threshold <= custodians <= 16, or two custodians who are one.
    """

    genesis: Digest
    threshold: int
    custodians: tuple[Custodian, ...]

    def __post_init__(self) -> None:
        if not LEAST_THRESHOLD <= self.threshold <= len(self.custodians) <= MOST_SHARES:
            raise UsageError(
                f"{self.threshold} of {len(self.custodians)} custodians is no escrow",
                remedy=f"name 2 to {MOST_SHARES} custodians, of whom at least {LEAST_THRESHOLD} are needed",
                reason="custodian-threshold",
            )
        check_distinct(self.custodians)

    @classmethod
    def parse(cls, data: bytes) -> EscrowPlan:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_PAYLOAD), "escrow plan") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                threshold=fields.integer("threshold", least=LEAST_THRESHOLD, most=MOST_SHARES),
                custodians=fields.objects("custodians", Custodian.read, most=MOST_SHARES),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "threshold": self.threshold,
                "custodians": [custodian.to_json() for custodian in self.custodians],
            }
        )

    @property
    def digest(self) -> Digest:
        """What an order names."""
        return Digest.of(self.to_bytes())


def make_escrow(root: SecretBytes, plan: EscrowPlan, *, generation: int, unlock_key: PublicKey, at: Instant) -> Escrow:
    """Split a root key, and encrypt each share to its custodian. The caller signs what comes back.

    The shares are put together again in this process before they are encrypted (:func:`slip39.split`).

    :raises MissingExtraError: the library of shares isn't installed.
    :raises MalformedError: a recipient key isn't one.
    """
    shares = split(root, threshold=plan.threshold, count=len(plan.custodians))
    sealed = []
    for number, (custodian, words) in enumerate(zip(plan.custodians, shares, strict=True), 1):
        with words:
            context = share_context(plan.genesis, generation, custodian.person, number)
            sealed.append(
                SealedShare(
                    number=number,
                    custodian=custodian,
                    proof=proof_of(words),
                    sealed=encrypt_to(custodian.recipient, words, context),
                )
            )
    return Escrow(
        genesis=plan.genesis,
        generation=generation,
        threshold=plan.threshold,
        made=at,
        unlock_key=unlock_key,
        shares=tuple(sealed),
    )


def plan_again(escrow: Escrow) -> EscrowPlan:
    """Return the plan that an escrow followed: the same custodians get the shares of the next generation."""
    return EscrowPlan(genesis=escrow.genesis, threshold=escrow.threshold, custodians=escrow.custodians)


def verify_escrow(envelope: Envelope, genesis: Genesis) -> Escrow:
    """Check that the keeper of this deployment signed an escrow.

    :raises SignatureError: it didn't. :raises EscrowError: another deployment's. :raises MalformedError: another form.
    """
    verify(envelope, ESCROW_TYPE, [genesis.keeper_key], threshold=1)
    escrow = Escrow.parse(envelope.payload)
    if escrow.genesis != genesis.digest:
        raise EscrowError("the escrow is another deployment's")
    return escrow


def open_share(escrow: Escrow, person: PersonId, identity: RecipientIdentity) -> SecretBytes:
    """Decrypt a custodian's share; returns the padded words.

    :raises EscrowError: the person keeps no share, or it was made for another recipient key, or isn't the one promised.
    :raises ShareError: it isn't a share.
    """
    share = escrow.share_of(person)
    if share.custodian.recipient != identity.public:
        raise EscrowError(
            "the share was encrypted to another recipient key than this one",
            remedy="use the key whose card the ceremony was given",
        )
    context = share_context(escrow.genesis, escrow.generation, person, share.number)
    words = identity.open(share.sealed, context)
    check_words(escrow, share, words)
    return words


def check_words(escrow: Escrow, share: SealedShare, words: SecretBytes) -> None:
    """Check that words are the ones of this share; they are wiped if not.

    :raises ShareError: they aren't.
    """
    try:
        if len(words) != PADDED or not proof_of(words).matches(share.proof):
            raise ShareError(
                f"these aren't the words of share {share.number} of generation {escrow.generation}",
                reason="share-wrong",
            )
        facts = read_share(words)
        if (facts.number, facts.threshold) != (share.number, escrow.threshold):
            raise ShareError(f"share {share.number} says that it is another one", reason="share-wrong")
    except ShareError:
        words.wipe()
        raise


def share_context(genesis: Digest, generation: int, person: PersonId, number: int) -> bytes:
    """Return what the encryption of a share is bound to."""
    return encode(
        {
            "v": 1,
            "type": "strongroom/escrow-share",
            "genesis": str(genesis),
            "generation": generation,
            "custodian": person,
            "number": number,
        }
    )


def proof_of(words: SecretBytes) -> Digest:
    """Return the digest by which a share's words are recognised."""
    return Digest.of(_PROOF_LABEL + bytes(words.reveal(TOKEN)))


def check_distinct(custodians: Sequence[Custodian]) -> None:
    """Refuse two custodians who are one: the same person, signing key or recipient key.

    :raises UsageError: they are.
    """
    for what, found in (
        ("person", {one.person for one in custodians}),
        ("signing key", {str(one.key) for one in custodians}),
        ("recipient key", {one.recipient for one in custodians}),
    ):
        if len(found) != len(custodians):
            raise UsageError(
                f"two custodians have the same {what}",
                remedy="a share for each of different people: one who holds two counts for two",
                reason="custodian-twice",
            )


def _signing_key(text: str) -> PublicKey:
    key = PublicKey.parse(text)
    if key.algorithm not in SIGNING_ALGORITHMS:
        raise MalformedError(f"a custodian doesn't sign with a key of the form `{key.algorithm.value}`")
    return key


def unlock_key(text: str) -> PublicKey:
    """Read the public half of a keeper's unlock key.

    :raises MalformedError: another form, or another algorithm than Ed25519.
    """
    key = PublicKey.parse(text)
    if key.algorithm is not SignatureAlgorithm.ED25519:
        raise MalformedError("an unlock key is of the form `ed25519:<base64>`")
    return key


def _recipient(fields: Fields) -> bytes:
    raw = fields.binary("recipient", max_length=RECIPIENT_KEY_BYTES)
    if len(raw) != RECIPIENT_KEY_BYTES:
        raise MalformedError(f"a recipient key has {RECIPIENT_KEY_BYTES} bytes, not {len(raw)}")
    return raw
