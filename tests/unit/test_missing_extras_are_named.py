"""Where a library of an extra isn't installed, the error says which extra to install, before anything is served."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from strongroom.broker.adapters.oidc import open_id_tokens
from strongroom.client.adapters.oidc import OidcClient
from strongroom.client.login import ProviderTold
from strongroom.core.errors import ExitCode
from strongroom.core.extras import MissingExtraError, need
from support.logins import PROVIDER


def test_the_broker_does_not_start_with_a_provider_that_it_cannot_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "joserfc.jwt", None)
    with pytest.raises(MissingExtraError) as caught:
        open_id_tokens(PROVIDER, tmp_path)
    assert caught.value.remedy == "pip install 'strongroom[oidc]'"
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_login_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "authlib.integrations.httpx_client", None)
    told = ProviderTold(issuer="https://login.example", client_id="strongroom", scopes=("openid",))
    with pytest.raises(MissingExtraError, match="authlib"):
        OidcClient(told, secret=None, authority=None)


def test_what_is_there_is_returned() -> None:
    assert need("json", extra="none").loads("1") == 1
