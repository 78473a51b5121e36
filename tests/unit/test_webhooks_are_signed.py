"""A webhook's message is proved by its headers, in the standard's form, and has one id for good."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from simulators.receiver import signature
from strongroom.broker.webhooks import Message, message_of, read_secret, secret_text, signed_headers, trial
from support.logs import AT, GENESIS
from support.notices import notice


def test_the_standards_own_example() -> None:
    # The example of the Standard Webhooks libraries' own tests.
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message = Message(id="msg_p5jXN8AQM9LWM0D4loKWxJek", body=b'{"test": 2432232314}')
    headers = signed_headers(message, secret, 1614265330)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.binary(min_size=24, max_size=64), st.binary(max_size=200), st.integers(0, 2**33))
def test_an_independent_implementation_agrees(secret: bytes, body: bytes, at: int) -> None:
    text = secret_text(secret)
    headers = signed_headers(Message(id="sr-1", body=body), read_secret(text), at)
    assert headers["webhook-signature"] == signature(text, headers, body)
    assert headers["webhook-signature"] != signature(text, headers, body + b" ")


def test_an_id_is_the_notices_own() -> None:
    message = message_of(GENESIS.digest, notice(7))
    assert message == message_of(GENESIS.digest, notice(7))
    others = [
        message_of(GENESIS.digest, notice(8)),
        message_of(replace(GENESIS, deployment="other").digest, notice(7)),
        trial(GENESIS.digest, AT),
    ]
    assert len({message.id, *(other.id for other in others)}) == 4
    assert "." not in message.id


def test_the_body_has_the_standards_three_members() -> None:
    body = json.loads(message_of(GENESIS.digest, notice(7)).body)
    assert body.keys() == {"type", "timestamp", "data"}
    assert (body["type"], body["timestamp"]) == ("request-created", "2026-11-23T22:08:37Z")
    assert body["data"] == notice(7).to_json()
