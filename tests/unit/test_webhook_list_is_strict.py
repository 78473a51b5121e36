"""The list of webhooks: no unknown key, no address where nothing may be sent, no second reading of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.notices import NoticeKind
from strongroom.broker.webhooks import (
    AddressRefusedError,
    Target,
    Webhook,
    WebhookConfigError,
    check_address,
    read_secret,
    read_url,
    read_webhooks,
    write_webhooks,
)
from strongroom.core.errors import MalformedError

GOOD = '[[webhook]]\nname = "pager"\nurl = "https://hooks.example/x"\nsecret = "file:webhooks/pager.secret"\n'
URLS = ("https://hooks.example/a?b=c", "https://10.0.0.7:8443/", "http://127.0.0.1:9/x", "https://[2001:db8::1]/p")

webhooks = st.lists(
    st.builds(
        Webhook,
        name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
        url=st.sampled_from(URLS),
        kinds=st.frozensets(st.sampled_from(NoticeKind)),
        secret=st.sampled_from(["webhooks/a.secret", "/etc/strongroom/é.secret"]),
        authority=st.sampled_from([None, "webhooks/a.pem"]),
    ),
    max_size=4,
    unique_by=lambda webhook: webhook.name,
)


@given(webhooks)
def test_what_is_written_is_read_again(listed: list[Webhook]) -> None:
    assert read_webhooks(write_webhooks(listed)) == tuple(listed)


def test_no_file_content_is_no_webhook() -> None:
    assert read_webhooks(b"") == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (GOOD + 'retries = "3"\n', "members that this version doesn't know"),
        ('proxy = "http://x"\n' + GOOD, "members that this version doesn't know"),
        (GOOD + GOOD, "two webhooks of one name"),
        (GOOD.replace("pager.secret", "pager.secret").replace("file:", ""), "secret"),
        (GOOD.replace('secret = "file:webhooks/pager.secret"\n', ""), "secret` is missing"),
        (GOOD + 'kinds = ["everything"]\n', "doesn't exist"),
        (GOOD + 'kinds = "released"\n', "kinds"),
        (GOOD.replace('"pager"', '"../pager"'), "name"),
        (GOOD.replace("https:", "http:"), "HTTPS"),
        ("webhook = 3\n", "webhook"),
        ("[[webhook]\n", "isn't TOML"),
        ("a = " + "[" * 20_000, "isn't TOML"),
        ("#" * 70_000, "larger"),
    ],
)
def test_another_list_is_refused(text: str, named: str) -> None:
    with pytest.raises(WebhookConfigError) as raised:
        read_webhooks(text.encode())
    assert named in raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/",
        "https:///x",
        "https://user:secret@hooks.example/",
        "https://hooks.example/#x",
        "https://hooks.example:0/",
        "https://hooks.example:99999/",
        "https://Hooks.example/",
        "https://hooks.example\\@127.0.0.1/",
        "https://hooks.example/\n",
        "https://hooks_example/",
        "https://[::1/",
        "https://[v1.x]/",
        "http://hooks.example/",
        "http://10.0.0.1/",
        "https://höoks.example/",
        "https://hooks%2eexample/",
        "https://hooks.example/" + "x" * 2048,
    ],
)
def test_an_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(MalformedError):
        read_url(url)


def test_an_address_is_read_once_into_parts() -> None:
    assert read_url("https://hooks.example/a/b?c=d") == Target(True, "hooks.example", 443, "/a/b?c=d")  # noqa: FBT003
    assert read_url("https://[2001:DB8::1]:8443".lower()).origin == "https://[2001:db8::1]:8443"
    assert read_url("http://localhost:80").path == "/"


FORBIDDEN = (
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "not an address",
    "",
)


@pytest.mark.parametrize("address", FORBIDDEN)
@pytest.mark.parametrize("url", ["https://hooks.example/", "https://localhost/", "http://127.0.0.1/"])
def test_link_local_and_metadata_addresses_are_refused(address: str, url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_address(address, read_url(url))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_only_this_machines_own_names_lead_to_it(address: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_address(address, read_url("https://hooks.example/"))
    for url in ("http://localhost/", "https://127.0.0.1/", "http://[::1]/"):
        check_address(address, read_url(url))


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.1", "93.184.216.34", "2001:db8::1", "fd12::1"])
def test_private_and_public_addresses_are_allowed_to_names(address: str) -> None:
    if address != "2001:db8::1":
        check_address(address, read_url("https://hooks.example/"))
    with pytest.raises(AddressRefusedError):
        check_address(address, read_url("http://localhost/"))


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_é", "x" * 99])
def test_a_file_without_a_secret_is_refused(text: str) -> None:
    with pytest.raises(WebhookConfigError):
        read_secret(text)
