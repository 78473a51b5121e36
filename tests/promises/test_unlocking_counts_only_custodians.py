"""A locked keeper counts a share once, from its custodian, for its own offer and generation; it says what is wrong."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import ConflictError, StrongroomError, UsageError
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.keys.escrow import Custodian, Escrow, EscrowError, EscrowPlan, SealedShare, open_share, plan_again
from strongroom.keys.recipient import DeliveryError
from strongroom.keys.slip39 import ShareError
from strongroom.keys.unlocking import (
    ANSWER_TYPE,
    MAX_WRONG,
    OFFER_SECONDS,
    OFFER_TYPE,
    AnswerError,
    OfferError,
    UnlockAnswer,
    Unlocking,
    answer_offer,
    verify_offer,
)
from support.escrows import AT, UNLOCK, Holder, escrow_of, holder, holders, seen

ROOT = bytes(range(32))


def locked(escrow: Escrow, now: int = AT) -> Unlocking:
    return Unlocking(escrow, UNLOCK, now=now, random_bytes=os.urandom)


def answered(unlocking: Unlocking, held: Holder, escrow: Escrow | None = None) -> Envelope:
    escrow = escrow or unlocking.escrow
    offer = verify_offer(unlocking.envelope, unlocking.escrow, AT)
    share = escrow.share_of(held.custodian.person)
    words = open_share(escrow, held.custodian.person, held.identity)
    return answer_offer(replace(offer, escrow=escrow.digest), share, words, held.signer)


def test_m_custodians_give_the_root_and_the_offer_ends() -> None:
    held = holders(3)
    unlocking = locked(escrow_of(held, 2))
    late = answered(unlocking, held[1])
    for one in (held[2], held[0]):
        assert unlocking.take(answered(unlocking, one), AT) == one.custodian.person
    assert unlocking.complete
    assert unlocking.answered == ("ada", "cy")
    with pytest.raises(ConflictError):
        unlocking.take(late, AT)
    assert seen(unlocking.combine()) == ROOT
    with pytest.raises(OfferError):
        unlocking.take(late, AT)


def test_m_minus_one_give_nothing_and_are_wiped() -> None:
    held = holders(3)
    unlocking = locked(escrow_of(held, 3))
    for one in held[:2]:
        unlocking.take(answered(unlocking, one), AT)
    with pytest.raises(ShareError, match="2 shares are there; 3 are needed"):
        unlocking.combine()
    assert unlocking.answered == ()
    assert unlocking.over(AT)


def test_a_share_counts_once_and_not_to_another_offer_or_after_the_end() -> None:
    held = holders(3)
    unlocking = locked(escrow_of(held, 2))
    answer = answered(unlocking, held[0])
    unlocking.take(answer, AT)
    for again in (answer, answered(unlocking, held[0])):
        with pytest.raises(ConflictError) as caught:
            unlocking.take(again, AT)
        assert caught.value.reason == "share-known"
    other = locked(unlocking.escrow)
    with pytest.raises(AnswerError) as replayed:
        other.take(answer, AT)
    assert replayed.value.reason == "offer-differs"
    with pytest.raises(OfferError):
        other.take(answered(other, held[1]), AT + OFFER_SECONDS)


def test_nobody_speaks_for_a_custodian() -> None:
    held, stranger = holders(3), Ed25519Signer.from_seed(b"s" * 32)
    unlocking = locked(escrow_of(held, 2))
    good = answered(unlocking, held[0])
    for forged in (
        sign(ANSWER_TYPE, good.payload, stranger),
        sign(ANSWER_TYPE, good.payload, held[1].signer),
        sign(OFFER_TYPE, good.payload, held[0].signer),
    ):
        with pytest.raises(SignatureError):
            unlocking.take(forged, AT)
    swapped = replace(UnlockAnswer.parse(good.payload), person=held[1].custodian.person)
    with pytest.raises(AnswerError) as caught:
        unlocking.take(sign(ANSWER_TYPE, swapped.to_bytes(), held[1].signer), AT)
    assert caught.value.reason == "custodian-unknown"
    # None of that used up an attempt.
    assert unlocking.take(good, AT) == "ada"


def test_wrong_shares_are_named_and_use_up_only_their_givers_attempts() -> None:
    held = holders(3)
    unlocking = locked(escrow_of(held, 2))
    other = escrow_of(held, 2, root=bytes(32))
    offer = unlocking.offer
    share, words = other.shares[0], open_share(other, held[0].custodian.person, held[0].identity)
    wrong = answer_offer(offer, share, words, held[0].signer)
    for _ in range(MAX_WRONG):
        with pytest.raises(AnswerError) as caught:
            unlocking.take(wrong, AT)
        assert caught.value.reason == "share-wrong"
        assert "`ada`" in caught.value.message
        assert not {word.decode() for word in seen(words).split()} & set(caught.value.diagnosis().split())
    with pytest.raises(AnswerError) as spent:
        unlocking.take(answered(unlocking, held[0]), AT)
    assert spent.value.reason == "too-many-attempts"
    for one in held[1:]:
        unlocking.take(answered(unlocking, one), AT)
    assert seen(unlocking.combine()) == ROOT


def test_shares_of_an_old_generation_are_refused() -> None:
    held = holders(2)
    old, new = escrow_of(held, 2), escrow_of(held, 2, generation=2)
    unlocking = locked(new)
    with pytest.raises(AnswerError) as caught:
        unlocking.take(answered(unlocking, held[0], old), AT)
    assert caught.value.reason == "escrow-differs"
    assert plan_again(old) == plan_again(new)


def test_a_custodian_answers_only_the_keepers_own_offer() -> None:
    held = holders(2)
    escrow = escrow_of(held, 2)
    unlocking, man = locked(escrow), Ed25519Signer.from_seed(b"m" * 32)
    mine = replace(unlocking.offer, recipient=holder("mallory").identity.public)
    with pytest.raises(SignatureError):
        verify_offer(sign(OFFER_TYPE, mine.to_bytes(), man), escrow, AT)
    named = sign(OFFER_TYPE, replace(mine, unlock_key=man.public_key).to_bytes(), man)
    for told in (None, UNLOCK.public_key.key_id):
        with pytest.raises(OfferError) as other:
            verify_offer(named, escrow, AT, told=told)
        assert other.value.reason == "unlock-key-differs"
    # A keeper on another machine: its operator read the id out.
    assert verify_offer(named, escrow, AT, told=man.public_key.key_id).unlock_key == man.public_key
    with pytest.raises(OfferError, match="another escrow"):
        verify_offer(unlocking.envelope, escrow_of(held, 2, generation=2), AT)
    with pytest.raises(OfferError, match="over"):
        verify_offer(unlocking.envelope, escrow, AT + OFFER_SECONDS)


def test_a_share_opens_for_its_custodian_in_its_place_alone() -> None:
    held = holders(3)
    escrow = escrow_of(held, 2)
    with pytest.raises(EscrowError):
        open_share(escrow, held[0].custodian.person, held[1].identity)
    with pytest.raises(EscrowError) as nobody:
        open_share(escrow, holder("mallory").custodian.person, held[1].identity)
    assert nobody.value.reason == "custodian-unknown"
    later = replace(escrow, generation=2)
    with pytest.raises(DeliveryError):
        open_share(later, held[0].custodian.person, held[0].identity)
    first = escrow.shares[0]
    promised = replace(escrow, shares=(replace(first, proof=escrow.shares[1].proof), *escrow.shares[1:]))
    with pytest.raises(ShareError):
        open_share(promised, held[0].custodian.person, held[0].identity)


def test_two_custodians_who_are_one_are_refused() -> None:
    one, two = holders(2)
    same_key = Custodian(person=two.custodian.person, key=one.custodian.key, recipient=two.custodian.recipient)
    same_recipient = replace(two.custodian, recipient=one.custodian.recipient)
    for second, what in (
        (one.custodian, "person"),
        (same_key, "signing key"),
        (same_recipient, "recipient key"),
    ):
        with pytest.raises(UsageError, match=what):
            EscrowPlan(genesis=escrow_of((one, two), 2).genesis, threshold=2, custodians=(one.custodian, second))
    for threshold in (1, 3):
        with pytest.raises(UsageError):
            escrow_of((one, two), threshold)


def test_a_card_shows_that_its_keys_have_one_holder() -> None:
    one, two = holders(2)
    assert Custodian.of_card(one.custodian.card(one.signer)) == one.custodian
    with pytest.raises(SignatureError):
        Custodian.of_card(replace(one.custodian, key=two.custodian.key).card(one.signer))


def test_an_escrow_is_read_back_or_refused() -> None:
    escrow = escrow_of(holders(3), 2)
    assert Escrow.parse(escrow.to_bytes()) == escrow
    assert EscrowPlan.parse(plan_again(escrow).to_bytes()) == plan_again(escrow)
    assert len({len(share.sealed) for share in escrow.shares}) == 1, "a share's length says nothing"
    shares: tuple[SealedShare, ...] = escrow.shares
    with pytest.raises(StrongroomError):
        replace(escrow, shares=shares[::-1])
