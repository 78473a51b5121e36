"""What comes back from an identity provider, read before anybody is asked: here nobody can be."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.client.adapters.oidc import MAX_FIELDS, OidcClient
from strongroom.client.login import LoginFailedError, ProviderTold

STATE = "s" * 43
TOLD = ProviderTold(issuer="https://login.example", client_id="strongroom", scopes=("openid",))
MADE_UP = (
    "",
    "code=c",
    "code=c&state=another",
    f"code=c&state={STATE}&state=another",
    f"error=access_denied&state={STATE}",
    f"state={STATE}" + "&x=1" * MAX_FIELDS,
)


def _redeem(query: str) -> None:
    with OidcClient(TOLD, secret=None, authority=None) as client:
        client.redeem(query, verifier="v" * 43, state=STATE, redirect="https://console.example/sign-in/back")


@pytest.mark.parametrize("query", MADE_UP)
def test_an_answer_to_another_login_is_refused_before_the_provider_is_asked(query: str) -> None:
    with pytest.raises(LoginFailedError):
        _redeem(query)


@given(st.text(max_size=200).filter(lambda text: STATE not in text))
def test_any_query_without_the_state_is_refused(query: str) -> None:
    with suppress(LoginFailedError):
        _redeem(query)
        pytest.fail("it was taken")
