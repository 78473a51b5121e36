"""Whatever bytes come as a token, and whatever a believed key signed: it is read, or refused with one of our errors."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation.ear import OUR_PROFILE, issue, verify
from strongroom.core.errors import StrongroomError
from strongroom.core.signature import Ed25519Signer
from support.attestation_results import AT, wanted

SIGNER = Ed25519Signer.from_seed(bytes(32))
TOKEN = issue(wanted(), SIGNER, AT)
CLAIMS = json.loads(base64.urlsafe_b64decode(TOKEN.split(".")[1] + "=="))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=8), one, max_size=3)
)


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def total(token: str) -> None:
    try:
        verify(token, [SIGNER.public_key], AT)
    except StrongroomError:
        return


@given(st.text(max_size=200) | st.lists(st.text(max_size=40), min_size=3, max_size=3).map(".".join))
def test_any_text(token: str) -> None:
    total(token)


@given(st.lists(st.binary(max_size=60).map(text), min_size=3, max_size=3).map(".".join))
def test_any_three_parts(token: str) -> None:
    total(token)


@given(st.integers(0, len(TOKEN) - 1), st.text(max_size=4))
def test_any_change(at: int, put: str) -> None:
    total(TOKEN[:at] + put + TOKEN[at + 1 :])


@given(st.data(), JSON)
def test_any_signed_claims(data: st.DataObject, value: object) -> None:
    claims = json.loads(json.dumps(CLAIMS))
    at = claims
    for step in data.draw(st.sampled_from([(), ("submods",), ("submods", "cpu0"), (OUR_PROFILE,)])):
        at = at[step]
    at[data.draw(st.sampled_from([*at, "more"]))] = value
    message = f"{TOKEN.split('.')[0]}.{text(json.dumps(claims).encode())}"
    total(f"{message}.{text(SIGNER.sign(message.encode()))}")
