"""The API's page names every route of the identity listener and no other; its settings' members are all explained."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from strongroom.broker.identity_listener import LOGIN, LOGIN_ROUTES, MAX_LOGIN_BODY, IdentityLimits
from strongroom.broker.login_settings import LoginSettings, Provider
from strongroom.broker.spiffe import TrustSetting
from strongroom.cli.login import login

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPEC = (DOCS / "spec" / "http-api.md").read_text(encoding="utf-8")
PAGE = (DOCS / "operate" / "identity.md").read_text(encoding="utf-8")
ROUTE = re.compile(r"^\| (GET|POST) \| `(/login/[^`]*)`", re.MULTILINE)


def test_the_page_lists_what_is_served() -> None:
    listed = ROUTE.findall(SPEC)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(LOGIN_ROUTES)
    assert all(path.startswith(LOGIN + "/") for _method, path in LOGIN_ROUTES)


def test_the_page_states_the_limits() -> None:
    limits = IdentityLimits()
    assert f"{limits.rate.per_second:.0f} a second, {limits.rate.burst} at once" in SPEC
    assert f"have {MAX_LOGIN_BODY // 1024} KiB, any other {limits.body // 1024} KiB" in SPEC


def test_every_setting_is_explained() -> None:
    wanted = {one.name for kind in (Provider, LoginSettings) for one in fields(kind)} - {"provider", "people"}
    assert {name for name in wanted | {"required"} if f"`{name}`" not in PAGE} == set()
    assert "[people]" in PAGE
    assert {one.name for one in fields(TrustSetting) if f"\n{one.name} = " not in PAGE} == set()


def test_every_option_of_a_login_is_explained() -> None:
    options = {option for parameter in login.params for option in parameter.opts if option.startswith("--")}
    elsewhere = {"--as", "--json", "--passphrase-fd", "--port"}
    assert {option for option in options - elsewhere if f"| `{option}` |" not in PAGE} == set()
