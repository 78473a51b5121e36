"""Hostile text for what is read of webhooks: it is taken or refused, and nothing else happens."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.broker.webhooks import check_address, read_secret, read_url, read_webhooks
from strongroom.core.errors import StrongroomError

URL_TEXT = st.text(alphabet="htps:/@[]%.#?\\ \t\n012479afx-é\x00", max_size=60)
TOML = st.lists(
    st.sampled_from(
        [
            "[[webhook]]\n",
            "webhook",
            "name",
            "url",
            " = ",
            '"file:x"',
            '"https://x/"',
            "[",
            "]",
            "\n",
            "1.5",
            "{",
            "}",
            "=",
        ]
    ),
    max_size=30,
).map("".join)


@given(st.one_of(st.binary(max_size=300), TOML.map(str.encode)))
@example(b"webhook = 1979-05-27T07:32:00Z\n")
@example(b"[webhook]\nname = nan\n")
def test_any_list_is_read_or_refused(data: bytes) -> None:
    with suppress(StrongroomError):
        read_webhooks(data)


@given(st.one_of(st.text(max_size=80), URL_TEXT, URL_TEXT.map(lambda text: f"https://{text}")))
@example("https://[::1]]/")
@example("https://[/")
@example("https://x:٣/")
def test_any_address_is_read_or_refused(text: str) -> None:
    with suppress(StrongroomError):
        target = read_url(text)
        # What is left is one host, one port and one path, in plain text.
        assert target.host.isascii()
        assert 0 < target.port < 65536
        assert target.path.startswith("/")
        assert not set(target.host + target.path) & set(" \t\n\r\\#")
        assert "@" not in target.host


@given(st.one_of(st.ip_addresses().map(str), st.text(max_size=40)))
def test_no_address_of_the_forbidden_kinds_passes(text: str) -> None:
    target = read_url("https://hooks.example/")
    with suppress(StrongroomError):
        check_address(text, target)
        address = ipaddress.ip_address(text)
        for kind in ("link_local", "loopback", "multicast", "unspecified"):
            assert not getattr(address, f"is_{kind}")


@given(st.text(max_size=120))
def test_any_secret_is_read_or_refused(text: str) -> None:
    with suppress(StrongroomError):
        assert 24 <= len(read_secret(text)) <= 64
