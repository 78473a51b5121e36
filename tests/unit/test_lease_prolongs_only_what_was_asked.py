"""A lease prolongs what its agent asked for, and nothing else; time is the agent's own, from when it asked."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.enclave.agent.hold import ASKINGS, EvidenceDue, Hold
from strongroom.release.lease import (
    LEASE_TYPE,
    LEAST_SECONDS,
    MOST_SECONDS,
    Lease,
    LeaseAsk,
    LeaseEndedError,
    LeaseLostError,
    LeaseMismatchError,
    LeaseProof,
    Sampling,
    accept_lease,
)
from unit.test_delivery_fits_together import GENESIS, KEEPER, REQUEST, THIEF

PLATFORM = PlatformId("tpm-" + "5a" * 32)
ASK = LeaseAsk(use=3, recipient=Digest.of(b"recipient"), serial=7, nonce=b"n" * 32)
LEASE = Lease(
    genesis=GENESIS.digest,
    request=REQUEST,
    platform=PLATFORM,
    ask=ASK,
    issued=1_795_000_000,
    period=60,
    sampling=Sampling.POLICY,
)
# What comes in from the keeper, or from a launcher that makes it up.
NONCES = st.binary(min_size=32, max_size=32)
ASKS = st.builds(
    LeaseAsk,
    use=st.integers(1, 1_000_000),
    recipient=st.binary(max_size=4).map(Digest.of),
    serial=st.integers(1, 2**53 - 1),
    nonce=NONCES,
)


def taken(lease: Lease, ask: LeaseAsk = ASK, signer: Ed25519Signer = KEEPER) -> Lease:
    envelope = sign(LEASE_TYPE, lease.to_bytes(), signer)
    return accept_lease(envelope, GENESIS, request=REQUEST, platform=PLATFORM, ask=ask)


def test_step_7_the_lease_that_was_asked_for_is_accepted() -> None:
    assert taken(LEASE) == LEASE


CHANGES: dict[str, object] = {
    "genesis": Digest.of(b"x"),
    "request": Digest.of(b"x"),
    "platform": PlatformId("tpm-" + "5b" * 32),
}
ASK_CHANGES: dict[str, object] = {"use": 4, "recipient": Digest.of(b"x"), "serial": 8, "nonce": b"m" * 32}


def test_every_member_that_must_match_is_tried_here() -> None:
    assert {field.name for field in fields(Lease)} == {*CHANGES, "ask", "issued", "period", "sampling"}
    assert {field.name for field in fields(LeaseAsk)} == set(ASK_CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_step_7_a_genuine_lease_for_another_is_refused(name: str) -> None:
    with pytest.raises(LeaseMismatchError):
        taken(replace(LEASE, **{name: CHANGES[name]}))  # type: ignore[arg-type]  # each has its field's type


@pytest.mark.parametrize("name", ASK_CHANGES)
def test_step_7_a_lease_for_an_earlier_asking_is_refused(name: str) -> None:
    with pytest.raises(LeaseMismatchError):
        taken(LEASE, replace(ASK, **{name: ASK_CHANGES[name]}))  # type: ignore[arg-type]


def test_step_7_only_the_keeper_s_signature_will_do() -> None:
    payload = LEASE.to_bytes()
    for envelope in (
        sign(LEASE_TYPE, payload, THIEF),
        sign(LEASE_TYPE.replace("lease", "delivery"), payload, KEEPER),
        Envelope(LEASE_TYPE, payload, ()),
        replace(sign(LEASE_TYPE, payload, KEEPER), payload=payload.replace(b'"period":60', b'"period":3600')),
        replace(
            sign(LEASE_TYPE, replace(LEASE, sampling=Sampling.WHOLE).to_bytes(), KEEPER),
            payload=payload,
        ),
    ):
        with pytest.raises(SignatureError):
            accept_lease(envelope, GENESIS, request=REQUEST, platform=PLATFORM, ask=ASK)


@given(ASKS, st.integers(LEAST_SECONDS, MOST_SECONDS), st.integers(0, 4_000_000_000), st.sampled_from(Sampling))
def test_written_and_read_back(ask: LeaseAsk, period: int, issued: int, sampling: Sampling) -> None:
    lease = replace(LEASE, ask=ask, period=period, issued=issued, sampling=sampling)
    assert Lease.parse(lease.to_bytes()) == lease
    with Fields(dict(ask.to_json()), "ask") as told:
        assert LeaseAsk.read(told) == ask


def edited(**members: Json) -> bytes:
    body = decode(LEASE.to_bytes())
    assert isinstance(body, dict)
    return encode({**body, **members})


@pytest.mark.parametrize(
    "payload",
    [
        edited(period=LEAST_SECONDS - 1),
        edited(period=MOST_SECONDS + 1),
        edited(period=None),
        edited(use=0),
        edited(serial=0),
        edited(nonce="AAAA"),
        edited(platform="tpm-1"),
        edited(v=2),
        edited(extra=1),
        edited(sampling="none"),
        edited(sampling=None),
        b"{}",
    ],
)
def test_another_form_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        Lease.parse(payload)


# --- the agent's hold -------------------------------------------------------------------------------------------------


def hold(since: float = 1000.0, period: int = 60) -> Hold:
    return Hold(
        genesis=GENESIS,
        request=REQUEST,
        platform=PLATFORM,
        use=3,
        recipient=ASK.recipient,
        period=period,
        since=since,
    )


def asked(held: Hold, now: float, nonce: bytes) -> LeaseAsk:
    message = held.ask(now, nonce)
    with Fields(message, "message") as told, told.child("renew") as renew:
        return LeaseAsk.read(renew)


def answer(ask: LeaseAsk, *, period: int = 60, signer: Ed25519Signer = KEEPER) -> Json:
    return {"lease": sign(LEASE_TYPE, replace(LEASE, ask=ask, period=period).to_bytes(), signer).to_json()}


def test_a_lease_counts_from_the_asking_and_not_from_its_answer() -> None:
    held = hold()
    ask = asked(held, 1020.0, b"1" * 32)
    held.hear(answer(ask))
    assert held.until == 1080.0
    assert held.due() == 1020.0 + 60 / ASKINGS


def test_the_issuing_time_means_nothing_to_the_agent() -> None:
    held = hold()
    ask = asked(held, 1020.0, b"1" * 32)
    future = replace(LEASE, ask=ask, issued=4_000_000_000)
    held.hear({"lease": sign(LEASE_TYPE, future.to_bytes(), KEEPER).to_json()})
    assert held.until == 1080.0


def test_a_lease_played_again_prolongs_nothing() -> None:
    held = hold()
    first = answer(asked(held, 1020.0, b"1" * 32))
    held.hear(first)
    asked(held, 1040.0, b"2" * 32)
    held.hear(first)
    assert (held.until, held.refused) == (1080.0, 1)
    held.check(1079.9)
    with pytest.raises(LeaseLostError):
        held.check(1080.0)


def test_the_answer_to_an_asking_that_was_given_up_prolongs_nothing() -> None:
    held = hold()
    late = answer(asked(held, 1020.0, b"1" * 32))
    asked(held, 1040.0, b"2" * 32)
    held.hear(late)
    assert (held.until, held.refused) == (1060.0, 1)


def test_a_lease_without_an_asking_prolongs_nothing() -> None:
    held = hold()
    held.hear(answer(ASK))
    assert (held.until, held.refused) == (1060.0, 1)


def test_a_word_that_the_lease_ended_ends_it() -> None:
    with pytest.raises(LeaseEndedError) as caught:
        hold().hear({"fell": "model-frozen"})
    assert caught.value.reason == "model-frozen"


def test_a_word_that_evidence_is_due_prolongs_nothing_and_is_answered_with_a_new_asking() -> None:
    held = hold()
    late = answer(asked(held, 1020.0, b"1" * 32))
    due = held.hear({"prove": {"challenge": "c", "nonce": to_base64(b"n" * 32)}})
    assert due == EvidenceDue("c", b"n" * 32)
    assert held.until == 1060.0
    proof = LeaseProof(challenge="c", evidence=b"evidence")
    with Fields(held.ask(1021.0, b"2" * 32, proof), "message") as told:
        with told.child("renew") as renew:
            ask = LeaseAsk.read(renew)
        with told.child("proof") as sent:
            assert LeaseProof.read(sent) == proof
    # What was asked before the evidence was begun isn't waited for any more.
    held.hear(late)
    assert held.until == 1060.0
    held.hear(answer(ask))
    assert held.until == 1081.0


@pytest.mark.parametrize(
    "said", [{}, {"challenge": "c"}, {"challenge": "c" * 65, "nonce": "AAAA"}, {"challenge": "c", "nonce": "!"}]
)
def test_another_form_of_challenge_is_refused(said: Json) -> None:
    with pytest.raises(MalformedError):
        hold().hear({"prove": said})


STEP = st.one_of(
    st.tuples(st.just("ask"), NONCES, st.integers(5, 120)),
    st.tuples(st.just("answer"), st.integers(0, 5), st.integers(5, 120)),
    st.tuples(st.just("forge"), st.integers(0, 5), st.integers(5, 120)),
)


@given(st.lists(st.tuples(STEP, st.floats(0, 30)), max_size=12))
def test_no_order_of_messages_outlives_the_newest_asking_that_was_answered(
    steps: list[tuple[tuple[str, object, int], float]],
) -> None:
    """A launcher may hold back, repeat, reorder and invent; it holds answers to every asking."""
    held, now = hold(), 1000.0
    askings: list[tuple[LeaseAsk, float]] = []
    best = held.until
    for (kind, which, period), pause in steps:
        now += pause
        if kind == "ask":
            assert isinstance(which, bytes)
            askings.append((asked(held, now, which), now))
        elif askings:
            assert isinstance(which, int)
            ask, at = askings[-1 - which % len(askings)]
            genuine = kind == "answer"
            held.hear(answer(ask, period=period, signer=KEEPER if genuine else THIEF))
            if genuine and (ask, at) == askings[-1]:
                best = max(best, at + period)
        assert held.until <= best


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["fell", "lease", "prove", "challenge", "nonce", "payload", "payloadType", "signatures", "x"]
                ),
                inner,
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_the_launcher_says_is_heard_or_refused(message: Json) -> None:
    held = hold()
    asked(held, 1010.0, b"1" * 32)
    try:
        held.hear(message)
    except StrongroomError:
        return
    assert held.until == 1060.0


@given(st.binary(max_size=300))
def test_whatever_claims_to_be_a_lease_is_read_or_refused(data: bytes) -> None:
    try:
        lease = Lease.parse(data)
    except MalformedError:
        return
    assert lease.to_bytes() == data
